"""`python -m tools.chaos`: try every fault under load, print a table, exit 1 when a promise did not hold."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from serving.interrupt import raise_when_interrupted
from serving.proxies import spare_loopback
from tools.chaos import scenarios, soak
from tools.chaos.report import SCENARIOS, Given, Result, Scenario, Skipped, markdown

__all__ = ["main", "scenarios"]


def main(arguments: list[str]) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    if unknown := set(given.only) - {scenario.name for scenario in SCENARIOS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if given.list:
        print("\n".join(f"{scenario.name:30} {scenario.promise}" for scenario in SCENARIOS))
        return 0
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        setting = Given(given.artifacts.resolve(), Path(scratch), given.scale, given.image)
        if given.soak:
            return soak.soak(setting.artifacts, given.soak, given.rate, given.every, given.json)
        results: list[Result] = []
        for scenario in SCENARIOS:
            if not given.only or scenario.name in given.only:
                results.append(_try(scenario, setting))
                _write(results, given.json, given.markdown)  # what was measured stays, whatever comes
    print(markdown(results), end="")
    return 0 if all(result.held or result.skipped for result in results) else 1


def _write(results: list[Result], as_json: Path | None, as_table: Path | None) -> None:
    if as_json:
        as_json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")
    if as_table:
        as_table.write_text(markdown(results), encoding="utf-8")


def _try(scenario: Scenario, setting: Given) -> Result:
    print(f"{scenario.name} ...", file=sys.stderr, flush=True)
    begun, skipped = time.monotonic(), ""
    broken: list[str] = []
    figures = {}
    try:
        outcome = scenario.run(setting)
        figures, broken = outcome.figures, outcome.broken + outcome.late
    except Skipped as reason:
        skipped = str(reason)
    except (AssertionError, OSError, TimeoutError) as error:  # the server did not start, answer or end
        broken = [f"{type(error).__name__}: {error}"]
    held = not broken and not skipped
    seconds = round(time.monotonic() - begun, 1)
    result = Result(scenario.name, scenario.promise, held, seconds, figures, broken, skipped)
    print(f"  {result.verdict} in {result.seconds:.0f} s {dict(figures)} {broken or ''}", file=sys.stderr, flush=True)
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.chaos", description=__doc__)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="what `pipeline train` wrote")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="how much of the promised numbers: 0.1 for a short run"
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this scenario; may be repeated")
    parser.add_argument("--list", action="store_true", help="name the scenarios and their promises")
    parser.add_argument("--image", default="", help="a featurizer image for those that need Docker; none: it is built")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    parser.add_argument(
        "--soak", type=float, default=0, metavar="SECONDS", help="instead, serve for so long with faults"
    )
    parser.add_argument("--rate", type=float, default=150, help="requests a second of a soak")
    parser.add_argument("--every", type=float, default=60, help="seconds between the faults of a soak")
    return parser


if __name__ == "__main__":
    raise_when_interrupted()
    spare_loopback(os.environ)
    sys.exit(main(sys.argv[1:]))
