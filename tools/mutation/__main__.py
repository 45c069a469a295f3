"""`python -m tools.mutation`: would the tests notice a fault? Put small faults into the code, and see which live.

A number of mutants is drawn from a seed. Each is tried in a copy of the checkout: first by the unit tests that are
nearest to its module, then by all that `make test` runs. A mutant that no test notices lives, and is shown. Read it: it
is a hole in the tests, or it changes nothing that anybody could see.

With --checks each function that refuses (`check_*`, `refuse_*`, ...) refuses nothing for once, and the test that
tests/checks.toml names for it must fail.

exit codes: 0 at least --least percent were noticed, 1 fewer, 2 wrong arguments or tests that fail without a mutant
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue

from serving.interrupt import raise_when_interrupted
from tools.mutation.mutants import Mutant, find_mutants, is_another_program, without_check

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("serving", "featurizer", "predictor", "pipeline", "local_test", "aws")
CHECKS = "tests/checks.toml"
NEAREST = 12  # unit test files that are asked first
FAILED = ("FAILED tests/", "ERROR tests/")
NOBODY = ("-c", "user.name=Nobody", "-c", "user.email=nobody@localhost", "-c", "commit.gpgsign=false")
QUICK = ("-m", "not docker and not long")
EVERY = ("-n", "auto", "--dist", "loadfile")  # as `make test`
RUNNING: set[subprocess.Popen[str]] = set()  # the tests
PATIENCE = 120  # seconds for a test, which a mutant may keep from ending
GRACE = 20  # seconds for interrupted tests to stop what they started
NO_TESTS = 5  # pytest's exit code where all are left out, as slow ones are


@dataclass(frozen=True)
class Trial:
    """A mutant, and the tests that are asked first."""

    mutant: Mutant
    tests: Sequence[str]


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant. `killed_by` is the first test that failed, `timeout`, or empty for one that lives."""

    mutant: Mutant
    killed_by: str
    seconds: float


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="mutants to draw (default: %(default)s)")
    parser.add_argument("--seed", default="1", help="the same seed draws the same mutants (default: %(default)s)")
    parser.add_argument("--since", metavar="REV", help="only lines changed since this revision")
    parser.add_argument("--paths", nargs="+", help="files or folders (default: all of the product)")
    parser.add_argument("--jobs", type=int, default=2, help="mutants tried at once (default: %(default)s)")
    parser.add_argument("--near-only", action="store_true", help="ask no others than those that are asked first")
    parser.add_argument("--tests", nargs="+", help="ask these first (default: the unit tests nearest to the module)")
    parser.add_argument("--checks", action="store_true", help=f"the checks of {CHECKS}, each with its test")
    parser.add_argument("--least", type=float, default=0, help="percent that must be noticed (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="show the mutants and try none")
    parser.add_argument("--json", type=Path, help="write the verdicts to this file")
    options = parser.parse_args(arguments)
    if options.checks:
        trials = list(named_checks(options.paths or [*PACKAGES, "tools"]))
    else:
        paths = options.paths or PACKAGES
        try:
            lines = changed_lines(options.since, paths) if options.since else None
        except subprocess.CalledProcessError:
            parser.error(f"--since: expected a revision that git knows, got {options.since}")
        drawn = draw(paths, lines, options.seed, options.count)
        trials = [Trial(mutant, options.tests or nearest_tests(mutant.path)[:NEAREST]) for mutant in drawn]
    if options.list or not trials:
        print("\n".join(describe(one.mutant) for one in trials) or "there is nothing to mutate")
        return 0
    if not options.checks and len(trials) < options.count:
        print(f"no more than {len(trials)} of these lines can hold a fault")
    verdicts = []
    for verdict in judge(trials, options.jobs, near_only=options.near_only or options.checks):
        verdicts.append(verdict)
        fate = verdict.killed_by or "LIVES"
        print(f"{len(verdicts)}/{len(trials)} {verdict.seconds:.0f} s {fate} | {describe(verdict.mutant)}", flush=True)
        if options.json:
            options.json.write_text(json.dumps([asdict(one) for one in verdicts], indent=1), encoding="utf-8")
    alive = [one for one in verdicts if not one.killed_by]
    score = 100 * (1 - len(alive) / len(verdicts))
    drawn_by = "checks" if options.checks else f"seed {options.seed}"
    print(f"\n{drawn_by}: the tests notice {len(verdicts) - len(alive)} of {len(verdicts)}: {score:.1f} %")
    print("\n".join(f"lives: {describe(one.mutant)}" for one in alive))
    return 0 if score >= options.least else 1


def draw(paths: Sequence[str], lines: dict[str, set[int]] | None, seed: str, count: int) -> list[Mutant]:
    """Draw lines at random, and of each line one mutant. `lines` by file, where only some count."""
    modules = _git("ls-files", "--", *(f"{path}/*.py" if (ROOT / path).is_dir() else path for path in paths))
    by_line: dict[tuple[str, int], list[Mutant]] = {}
    for path in sorted(modules):
        for mutant in find_mutants(ROOT, path):
            if lines is None or mutant.line in lines.get(path, ()):
                by_line.setdefault((path, mutant.line), []).append(mutant)
    chance = random.Random(seed)  # noqa: S311 - not a secret
    drawn: list[Mutant] = []
    for place in chance.sample(sorted(by_line), len(by_line)):
        if len(drawn) == count:
            break
        mutant = chance.choice(by_line[place])
        if is_another_program(mutant, _source(mutant.path)):
            drawn.append(mutant)
    return drawn


def named_checks(paths: Sequence[str]) -> Iterator[Trial]:
    """The checks of files and folders, each with its test."""
    for path, tests in tomllib.loads((ROOT / CHECKS).read_text(encoding="utf-8")).items():
        if any(Path(path).is_relative_to(one) for one in paths):
            # those of tests/docker need an engine
            quick = ((name, test) for name, test in tests.items() if not test.startswith("tests/docker/"))
            yield from (Trial(without_check(ROOT, path, name), [test]) for name, test in quick)


def changed_lines(revision: str, paths: Sequence[str]) -> dict[str, set[int]]:
    """The lines of each file that were added or changed since a revision."""
    lines: dict[str, set[int]] = {}
    path = ""
    for line in _git("diff", "--unified=0", revision, "--", *paths):
        if line.startswith("+++ b/"):
            path = line[6:]
        elif line.startswith("@@"):
            first, _, count = line.split("+", 1)[1].split(" ", 1)[0].partition(",")
            lines.setdefault(path, set()).update(range(int(first), int(first) + int(count or 1)))
    return lines


def judge(trials: Sequence[Trial], jobs: int, *, near_only: bool) -> Iterator[Verdict]:
    """Try each mutant in a copy of the checkout; as many copies as jobs. Exits where tests fail without a mutant."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory, ThreadPoolExecutor(jobs) as pool:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            copies.put(copy_checkout(Path(directory) / str(number)))
        every = ["-n0", *sorted({test for trial in trials for test in trial.tests})] if near_only else EVERY
        print(f"first {'these' if near_only else 'all'} tests without a fault", flush=True)
        begun = time.monotonic()
        if failed := first_failure(Path(directory) / "0", every, None):
            sys.exit(f"mutation: without a mutant {failed} fails")
        patience = 120 + 4 * jobs * (time.monotonic() - begun)

        def try_one(trial: Trial) -> Verdict:
            copy = copies.get()
            try:
                return _try_in(copy, trial, patience, near_only=near_only)
            finally:
                copies.put(copy)

        try:
            yield from pool.map(try_one, trials)
        finally:  # an interrupt would wait for tests that nobody asks for any more
            pool.shutdown(wait=False, cancel_futures=True)
            for run in tuple(RUNNING):
                _end(run)


def copy_checkout(to: Path) -> Path:
    """Make a repository of the files that git knows here or would add."""
    for name in _git("ls-files", "--cached", "--others", "--exclude-standard"):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    (to / ".venv").symlink_to(sys.prefix)
    for command in (["init", "--quiet"], ["add", "--all"], [*NOBODY, "commit", "--quiet", "--message", "Copy"]):
        subprocess.run(["git", *command], cwd=to, check=True)
    return to


def _try_in(copy: Path, trial: Trial, patience: float, *, near_only: bool) -> Verdict:
    mutant, begun = trial.mutant, time.monotonic()
    source = (copy / mutant.path).read_bytes()
    (copy / mutant.path).write_bytes(mutant.apply(source))
    try:
        killed_by = first_failure(copy, ["-n0", *trial.tests], patience)
        if not killed_by and not near_only:
            killed_by = _confirmed(copy, first_failure(copy, EVERY, patience), patience)
    finally:
        (copy / mutant.path).write_bytes(source)
    return Verdict(mutant, killed_by, time.monotonic() - begun)


def _confirmed(copy: Path, failed: str, patience: float) -> str:
    """Return the failed test only if it fails by itself, too: a mutant is not killed by chance."""
    return failed if failed and ("::" not in failed or first_failure(copy, ["-n0", failed], patience)) else ""


def first_failure(copy: Path, arguments: Sequence[str], patience: float | None) -> str:
    """Run tests until one fails. Return its name, or nothing when all pass."""
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", f"--timeout={PATIENCE}", *QUICK, *arguments]
    with subprocess.Popen(
        command, cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as run:
        RUNNING.add(run)
        try:
            printed, _ = run.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:  # with what the tests may have left behind
            RUNNING.discard(run)
            _end(run)
    if run.returncode in (0, NO_TESTS):
        return ""
    named = [line.partition(" ")[2].partition(" - ")[0] for line in printed.splitlines() if line.startswith(FAILED)]
    return named[0] if named else f"pytest ended with {run.returncode}"


def _end(run: subprocess.Popen[str]) -> None:
    """Let tests stop the servers that they started, or kill these too: they are in sessions of their own."""
    with contextlib.suppress(ProcessLookupError):
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(GRACE)
        for started in _descendants(run.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(started, signal.SIGKILL)
        os.killpg(run.pid, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    """The processes that a process or its children started, as Linux lists them."""
    found = []
    with contextlib.suppress(OSError):  # it has ended
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, children.read_text().split()):
                found += [child, *_descendants(child)]
    return found


@cache
def nearest_tests(path: str) -> list[str]:
    """The unit test files whose imports lead to a module: the one of its name, then by the number of steps.

    Of several with as many steps those come first that name the module too, then those that import its folder.
    """
    distance = {path: 0}
    waiting = [path]
    while waiting:
        at = waiting.pop(0)
        for other in _importers().get(at, ()):
            if other not in distance:
                distance[other] = distance[at] + 1
                waiting.append(other)
    tests = [one for one in distance if one.startswith("tests/unit/test_")]
    folder = Path(path).parent
    around = {test for module, tests in _importers().items() if Path(module).parent == folder for test in tests}
    name = Path(path).stem.rstrip("s")
    return sorted(
        tests, key=lambda one: (f"/test_{name}" not in one, distance[one], name not in one, one not in around, one)
    ) or ["tests/unit"]


@cache
def _importers() -> dict[str, list[str]]:
    """By file, the files that import it. What no module names may be imported by one that calls `import_module`."""
    files = set(_git("ls-files", "--cached", "--others", "--exclude-standard", "--", "*.py"))
    importers: dict[str, list[str]] = {}
    dynamic = []
    for file in sorted(files):
        names: set[str] = set()
        source = (ROOT / file).read_bytes()
        if b"import_module(" in source and not file.startswith("tests/"):
            dynamic.append(file)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        for name in names:
            module = name.replace(".", "/")
            for target in {f"{module}.py", f"{module}/__init__.py"} & files:
                importers.setdefault(target, []).append(file)
    for file in files:
        if all(one.startswith("tests/") for one in importers.get(file, ())):
            importers.setdefault(file, []).extend(one for one in dynamic if one.split("/")[0] == file.split("/")[0])
    return importers


@cache
def _source(path: str) -> bytes:
    return (ROOT / path).read_bytes()


def describe(mutant: Mutant) -> str:
    return mutant.describe(_source(mutant.path))


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


if __name__ == "__main__":
    raise_when_interrupted()
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("mutation: interrupted", file=sys.stderr)
        sys.exit(130)
