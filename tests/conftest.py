"""Fixtures of all tests: artifacts, trained once for all the processes that run the tests beside each other."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from xdist.workermanage import NodeManager

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # XGBoost's threads would burn the cores that other tests need
ROOT = Path(__file__).resolve().parent.parent
Once = Callable[[str, Callable[[Path], object]], Path]


def pytest_configure() -> None:
    """Give the processes of an interrupted run a minute to stop what their tests started; pytest-xdist gives 10 s."""
    NodeManager.EXIT_TIMEOUT = 60


def pytest_xdist_auto_num_workers() -> int:
    """Return the processes for `-n auto`: two for each core, because many tests wait for servers to start or end."""
    return min(8, 2 * len(os.sched_getaffinity(0)))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes that are no text after their argument: a gzip file holds the time at which it was made."""
    return argname if isinstance(val, bytes) and not (val.isascii() and val.decode().isprintable()) else None


@pytest.fixture(autouse=True)
def _signals_as_found() -> Iterator[None]:
    """Keep a test's Ctrl-C and SIGTERM from the next test: a command that is called in this process sets both."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Let one process at a time into the block."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that all processes of this run have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def once(run_directory: Path) -> Once:
    """Fill a directory once for all processes of this run: `once(name, fill)` returns it when it is full.

    Whoever comes first calls `fill(directory)`, and the others wait. Nobody may change the directory afterwards.
    """

    def once(name: str, fill: Callable[[Path], object]) -> Path:
        directory, done = run_directory / f"once-{name}", run_directory / f"once-{name}.done"
        with locked(run_directory / f"once-{name}.lock"):
            if not done.exists():
                shutil.rmtree(directory, ignore_errors=True)  # of a filling that failed or was skipped
                directory.mkdir()
                fill(directory)
                done.touch()
        return directory

    return once


@pytest.fixture(scope="session")
def artifacts(once: Once) -> Path:
    """The directory that `python -m pipeline train` writes for abalone."""

    def train(out: Path) -> None:
        subprocess.run([sys.executable, "-m", "pipeline", "train", "--out", out], cwd=ROOT, check=True)

    return once("abalone", train)


@pytest.fixture(scope="session")
def retrained(once: Once) -> Path:
    """The artifacts of another training run of abalone: a shorter search, and other rows left out."""
    from pipeline.data import load_rows, load_schema
    from pipeline.train import train

    schema = load_schema("abalone")
    quick = {"repeats": 1, "folds": 2, "rounds": 40, "grid": {"max_depth": [4], "eta": [0.1]}}
    brief = replace(schema, search=quick, references=())
    return once("abalone-retrained", lambda out: train(brief, load_rows(schema, None), out, 7))


@pytest.fixture(scope="session")
def trained(once: Once) -> Callable[[str], Path]:
    """The artifacts of a data set besides abalone, by its name; trained when a test first asks for them."""
    from tests.datasets import train_dataset

    return functools.cache(lambda name: once(name, lambda out: train_dataset(name, out)))


@pytest.fixture(scope="session")
def artifacts_of(artifacts: Path, trained: Callable[[str], Path]) -> Callable[[str], Path]:
    """The artifacts of a contract, by the name of its data set."""
    return lambda contract: artifacts if contract == "abalone" else trained(contract)
