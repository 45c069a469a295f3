"""`python -m local_test replay`: send a recording to another endpoint, and show where it answers differently."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from local_test.recording.differences import Comparison, Difference
from local_test.recording.exchanges import Answered, BadRecording, Exchange, read
from local_test.recording.record import add_target, counted, target_of
from local_test.recording.targets import Target, Unanswered

DESCRIPTION = """\
Send what was recorded to another release or another host, and show every difference beyond the tolerance and the change
in latency: what to run before `python -m pipeline deploy --update`. Exits with 0 when there is no difference, with 1
when there is one, with 2 when nothing could be compared."""
EXAMPLES = """\
examples:
  python -m local_test replay before.jsonl --url http://127.0.0.1:8080
  python -m local_test replay before.jsonl --endpoint houses-next --region us-east-1 --tolerance 0.01 --show 0
  python -m local_test replay before.jsonl --json > differences.json"""
PERCENTILES = (50, 90, 99)
TOLERANCE = 1e-6
AT_ONCE = 256  # requests that are read ahead of their answers


@dataclass
class Replay:
    """What a replay has found."""

    recording: Path
    target: str
    comparison: Comparison
    requests: int = 0
    unanswered: int = 0
    differing: list[tuple[int, Exchange, list[Difference]]] = field(default_factory=list)
    before: list[float] = field(default_factory=list)  # ms of the requests that both answered with 200
    after: list[float] = field(default_factory=list)

    def add(self, exchange: Exchange, answered: Answered | Unanswered) -> None:
        self.requests += 1
        if isinstance(answered, Unanswered):
            self.unanswered += 1
            found = [Difference(0, str(exchange.answered.status), str(answered))]
        else:
            found = self.comparison.compare(exchange.answered, answered)
            if exchange.answered.status == answered.status == 200 and exchange.answered.ms is not None:
                self.before.append(exchange.answered.ms)
                self.after.append(answered.ms or 0.0)
        if found:
            self.differing.append((self.requests, exchange, found))

    def summary(self) -> dict[str, Any]:
        """What --json prints; milliseconds by percentile."""
        found = self.comparison
        return {
            "recording": str(self.recording),
            "target": self.target,
            "requests": self.requests,
            "different_requests": len(self.differing),
            "unanswered": self.unanswered,
            "rows": found.rows,
            "different_rows": found.different_rows,
            "tolerance": found.tolerance,
            "largest_difference": found.largest,
            "mean_difference": found.sum / found.numbers if found.numbers else 0.0,
            "ms_before": percentiles(self.before),
            "ms_after": percentiles(self.after),
            "differences": [
                {"request": number, "id": exchange.id, "row": one.row, "before": one.before, "after": one.after,
                 "by": one.by}
                for number, exchange, differences in self.differing for one in differences
            ],
        }  # fmt: skip


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """p50, p90 and p99 of some times; nothing of fewer than two."""
    if len(times) < 2:
        return {f"p{at}": round(times[0], 3) for at in PERCENTILES if times}
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {f"p{at}": round(cuts[at - 1], 3) for at in PERCENTILES}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "replay",
        help="send a recording to another endpoint and show every difference",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recording", type=Path, help="what `record` wrote")
    add_target(parser)
    parser.add_argument(
        "--tolerance", type=_tolerance, default=TOLERANCE, metavar="T",
        help="two numbers are the same when they are at most T apart, or T times the one before where that is above 1 "
        "(%(default)s; 0: to the bit)",
    )  # fmt: skip
    parser.add_argument("--clients", type=int, default=1, choices=range(1, 65), metavar="N", help="at once (1)")
    parser.add_argument("--show", type=int, default=20, metavar="N", help="differences to show (%(default)s; 0: all)")
    parser.add_argument("--json", action="store_true", help="print all of them as one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    target = target_of(arguments, env)
    found = Replay(arguments.recording, target.name, Comparison(arguments.tolerance))
    try:
        for exchange, answered in _answers(arguments.recording, target, arguments.clients):
            found.add(exchange, answered)
    except (BadRecording, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if found.requests == found.unanswered:
        reason = found.differing[0][2][0].after if found.differing else "the recording has no requests"
        print(f"nothing could be compared: {reason}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(found.summary(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(report(found, arguments.show)))
    return 1 if found.differing else 0


def _answers(recording: Path, target: Target, clients: int) -> Iterator[tuple[Exchange, Answered | Unanswered]]:
    def ask(exchange: Exchange) -> Answered | Unanswered:
        try:
            return target(exchange.asked)
        except Unanswered as error:
            return error

    waiting = read(recording)
    with ThreadPoolExecutor(clients) as pool:
        while some := list(islice(waiting, AT_ONCE)):
            yield from zip(some, pool.map(ask, some), strict=True)


def report(found: Replay, show: int) -> Iterator[str]:
    """What people read: the differences, then how many there are, then the times."""
    listed = [f"request {number} ({exchange.id}): {one}" for number, exchange, some in found.differing for one in some]
    yield from listed[: show or None]
    if left := len(listed) - len(listed[: show or None]):
        yield f"... and {left} more: --show 0, or --json"
    summary = found.summary()
    yield (
        f"{counted(found.requests)} to {found.target}: {summary['different_requests']} answered differently, "
        f"{summary['different_rows']} of {summary['rows']} rows beyond {found.comparison.tolerance:g}"
        + (f", {found.unanswered} not answered" if found.unanswered else "")
    )
    if found.comparison.largest:
        yield f"numbers are {summary['mean_difference']:.6g} apart in the mean, {found.comparison.largest:.6g} at most"
    if not found.before:
        yield "no change in latency to show: the recording has no times"
        return
    for name, before in summary["ms_before"].items():
        after = summary["ms_after"][name]
        yield f"{name}  {before:9.2f} ms before  {after:9.2f} ms after  {after / before:6.2f} times"


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text}")
    return value
