"""`python -m tools.bench.hosts`: cold start and latency of the images on each host, in Docker, as a Markdown table."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from serving.settings import usable_cpus
from tools.bench import hosted
from tools.bench.check import WrongAnswer
from tools.bench.hosted import Ask, Images
from tools.bench.processes import BenchError
from tools.bench.truth import Truth

MEMORIES = (512, 1024, 2048)  # MB
HOSTS = {"chain, two containers": hosted.chain, "single container": hosted.single} | {
    f"Lambda, {memory:,} MB ({memory / hosted.MB_OF_A_CPU:.2f} CPU)": hosted.function(memory) for memory in MEMORIES
}
REQUESTS = {1: 100, 1000: 20}  # how many bodies of so many rows, after one tenth of that many which do not count
COLD = "cold start, s"
EPILOG = "Exit code: 0 measured; 1 a host answered wrongly; 2 something is missing here. Images: docker build -f \
featurizer/Dockerfile -t featurizer . and likewise predictor and pipeline."
Results = dict[str, dict[str, list[float]]]  # by host and by what was measured, one number for each run


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    images = Images(given.featurizer, given.predictor, given.pipeline)
    try:
        hosted.usable(images)
        before = hosted.load()
        results = measure(images, Truth.load(given.artifacts), given.runs)
    except WrongAnswer as error:
        print(f"bench: wrong answer: {error}", file=sys.stderr)
        return 1
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(table(results))
    print(f"\nMedians of {given.runs} runs, each of new containers (least-most); {usable_cpus()} CPUs; "
          f"load average of the machine {before:.1f} before, {hosted.load():.1f} after.")  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(images: Images, truth: Truth, runs: int) -> Results:
    """Every host in every run, so that a slow minute hits them all. Raises `WrongAnswer` and `BenchError`."""
    results: Results = defaultdict(lambda: defaultdict(list))
    for number in range(runs):
        for name, start in HOSTS.items():
            print(f"run {number + 1} of {runs}: {name}", file=sys.stderr, flush=True)
            with ExitStack() as stack:
                begun = time.perf_counter()
                ask = start(stack, images, truth.artifacts)
                ask(truth.body(1))
                results[name][COLD].append(time.perf_counter() - begun)
                for rows, times in REQUESTS.items():
                    check(name, ask, truth, rows)
                    results[name][_latency(rows)].append(_median(ask, truth.body(rows), times) * 1000)
    return results


def check(name: str, ask: Ask, truth: Truth, rows: int) -> None:
    body = truth.body(rows)
    answer = ask(body)
    owed = truth.predictions(truth.features(body))
    try:
        same = np.asarray(json.loads(answer)["result"], dtype=np.float32).tobytes() == owed.tobytes()
    except (ValueError, KeyError) as error:
        raise WrongAnswer(f"{name}: {answer[:300]!r}") from error
    if not same:
        raise WrongAnswer(f"{name}: expected the predictions of {rows} rows as the libraries compute them, got others")


def _median(ask: Ask, body: bytes, times: int) -> float:
    took = []
    for number in range(times + times // 10):
        begun = time.perf_counter()
        ask(body)
        if number >= times // 10:
            took.append(time.perf_counter() - begun)
    return statistics.median(took)


def _latency(rows: int) -> str:
    return f"{rows:,} row{'s' * (rows > 1)}, ms"


def table(results: Results) -> str:
    measured = [COLD, *map(_latency, REQUESTS)]
    lines = [["host", *measured], ["---"] * (1 + len(measured))]
    lines += [[name, *(_shown(found[what], what) for what in measured)] for name, found in results.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(values: Sequence[float], what: str) -> str:
    digits = 2 if what == COLD else 1
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.hosts", description=__doc__, epilog=EPILOG)
    parser.add_argument("--runs", type=int, default=5, help="of new containers (default %(default)s)")
    parser.add_argument(
        "--artifacts", type=Path, default=Path("artifacts"), help="of `python -m pipeline train` (default %(default)s)"
    )
    for stage in ("featurizer", "predictor", "pipeline"):
        parser.add_argument(f"--{stage}", default=stage, metavar="IMAGE", help="default %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
