"""`python -m tools.bench`: measure, check, print. No Docker; load on loopback only, bounded in time."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from serving.interrupt import raise_when_interrupted
from serving.nginx import find_nginx
from serving.settings import usable_cpus
from tools.bench import picture, report
from tools.bench.check import WrongAnswer
from tools.bench.contenders import CONTENDERS, FLOOR, SYNC_FLOOR, Contender, Setting, inherited
from tools.bench.processes import BenchError
from tools.bench.results import targets
from tools.bench.rounds import Options, measure
from tools.bench.truth import Truth

EPILOG = "Exit code: 0 measured, met or not; 1 a contender answered wrongly; 2 something is missing here."


def main(arguments: list[str], contenders: tuple[Contender, ...] = CONTENDERS) -> int:
    given = _parser().parse_args(arguments)
    options = Options(given.rounds, given.seconds, given.rows, not given.no_memory)
    nginx = find_nginx(os.environ.get("PATH", os.defpath))
    for program, found in (("wrk", shutil.which("wrk")), ("nginx", nginx)):
        if not found:
            package = {"wrk": "wrk", "nginx": "nginx-light"}[program]
            print(f"bench: expected {program} on PATH, found none; on Debian or Ubuntu: apt-get install {package}",
                  file=sys.stderr)  # fmt: skip
            return 2
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            truth = Truth.load(given.artifacts)
            setting = Setting(truth, str(nginx), given.workers, inherited(os.environ), dict(given.env), Path(scratch))
            results = measure(setting, options, contenders)
            sync_floor = FLOOR if setting.defaults.worker_class == "sync" else SYNC_FLOOR
    except WrongAnswer as error:
        print(f"bench: wrong answer: {error}", file=sys.stderr)
        return 1
    except (BenchError, FileNotFoundError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    goals = list(targets(options.large, sync_floor.name))
    print(report.text(results, goals), end="")
    for name, size in _image_sizes().items():
        print(f"image {name}: {size / 1e6:,.0f} MB")
    if given.json:
        whole = report.document(results, goals, asdict(options) | {"workers": given.workers})
        given.json.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
        print(f"wrote {given.json}")
    if given.picture:
        picture.draw(results, options.large, given.picture)
        print(f"wrote {given.picture}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__, epilog=EPILOG)
    parser.add_argument("--rounds", type=int, default=Options.rounds, help="interleaved rounds (default %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=Options.seconds, help="of each load in each round (default %(default)s)"
    )
    parser.add_argument(
        "--rows", type=_sizes, default=tuple(Options.large), metavar="N,N", help="rows in the large bodies"
    )
    parser.add_argument(
        "--workers", type=int, default=usable_cpus(), help="of every contender (default: the CPUs, %(default)s)"
    )
    parser.add_argument(
        "--artifacts", type=Path, default=Path("artifacts"), help="of `python -m pipeline train` (default %(default)s)"
    )
    parser.add_argument(
        "--env", type=_setting, action="append", default=[], metavar="NAME=VALUE", help="a setting for our containers"
    )
    parser.add_argument("--no-memory", action="store_true", help="do not weigh the processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw it")
    return parser


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def _setting(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name, value


def _image_sizes() -> dict[str, int]:
    """Bytes of the two images, where docker is and has them."""
    command = ["docker", "image", "inspect", "--format", "{{.Size}}"]
    sizes = {}
    for name in ("featurizer", "predictor"):
        try:
            asked = subprocess.run([*command, name], capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return {}
        if asked.returncode == 0:
            sizes[name] = int(asked.stdout)
    return sizes


if __name__ == "__main__":
    raise_when_interrupted()  # whatever was started is stopped on the way out
    sys.exit(main(sys.argv[1:]))
