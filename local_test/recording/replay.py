"""`python -m local_test replay`: send a recording to another endpoint, and show where it answers differently."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

from local_test.recording.differences import Comparison
from local_test.recording.exchanges import Answered, BadRecording, CutOff, Exchange, read
from local_test.recording.record import add_target, target_of
from local_test.recording.report import Replay, report
from local_test.recording.targets import ATTRIBUTES, ID, Target, Unanswered

DESCRIPTION = """\
Send what was recorded to another release or another host, and show every difference beyond the tolerance and the change
in latency: what to run before `python -m pipeline deploy --update`. Exits with 0 when there is no difference, with 1
when there is one, with 2 when nothing could be compared."""
EXAMPLES = """\
examples:
  python -m local_test replay before.jsonl --url http://127.0.0.1:8080
  python -m local_test replay before.jsonl --endpoint houses-next --region us-east-1 --tolerance 0.01 --show 0
  python -m local_test replay before.jsonl --json > differences.json"""
TOLERANCE = 1e-6
AT_ONCE = 256  # requests that are read ahead of their answers


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
    found = Replay(arguments.recording, target.name, Comparison(arguments.tolerance), arguments.clients)
    damaged = False
    try:
        for exchange, answered in _answers(arguments.recording, target, arguments.clients):
            found.add(exchange, answered)
    except CutOff as error:
        print(error, file=sys.stderr)
    except BadRecording as error:
        print(f"{error}; what was read before it is compared", file=sys.stderr)
        damaged = True
    except OSError as error:
        print(f"{arguments.recording}: {error.strerror}", file=sys.stderr)
        return 2
    if found.requests == found.unanswered:
        reason = found.differing[0][2][0].after if found.differing else "the recording has no requests"
        print(f"nothing could be compared: {reason}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(found.summary(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(report(found, arguments.show)))
    return 2 if damaged else 1 if found.differing else 0


def _answers(recording: Path, target: Target, clients: int) -> Iterator[tuple[Exchange, Answered | Unanswered]]:
    """Raises `BadRecording` once all that could be read is answered."""

    def ask(exchange: Exchange) -> Answered | Unanswered:
        # The other headers name parts of the endpoint that was recorded.
        kept = {name: value for name, value in exchange.asked.headers.items() if name in (ATTRIBUTES, ID)}
        try:
            return target(replace(exchange.asked, headers=kept))
        except Unanswered as error:
            return error

    waiting, bad = read(recording), None
    with ThreadPoolExecutor(clients) as pool:
        while not bad:
            some: list[Exchange] = []
            try:
                for exchange in islice(waiting, AT_ONCE):
                    some.append(exchange)  # one by one: what was read before a bad line counts
            except BadRecording as error:
                bad = error
            if not some:
                break
            yield from zip(some, pool.map(ask, some), strict=True)
    if bad:
        raise bad


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text}")
    return value
