"""How long to fuzz and from which seed: FUZZ_SECONDS and FUZZ_SEED of the environment. What came of it is said last.

The seconds are shared by the selected tests that take a `budget`. A seed gives the same inputs in the same order;
how far along them a run comes depends on the machine.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import configuration

from tests.servers import Server, running

SECONDS = 15.0  # of all tests together, as a part of `make test`
SEED = os.environ.get("FUZZ_SEED") or str(secrets.randbelow(10**9))
FIGURES = pytest.StashKey[list[str]]()
SHARE = pytest.StashKey[float]()

# of itself it would write into the checkout
configuration.set_hypothesis_home_dir(Path(__file__).parents[2] / ".local_test" / "hypothesis")


@dataclass
class Budget:
    """A test's seconds and its source of chance. They run from the first question."""

    seconds: float
    name: str
    figures: list[str]
    random: random.Random = field(init=False)
    ends: float = 0.0

    def __post_init__(self) -> None:
        self.random = random.Random(f"{SEED} {self.name}")

    def lasts(self) -> bool:
        self.ends = self.ends or time.monotonic() + self.seconds
        return time.monotonic() < self.ends

    def say(self, figures: str) -> None:
        self.figures.append(f"{self.name}: {figures}")


@pytest.fixture
def budget(request: pytest.FixtureRequest) -> Budget:
    config = request.config
    return Budget(config.stash[SHARE], request.node.name.removeprefix("test_"), config.stash[FIGURES])


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> list[str]:
    """What is said last, for tests that count otherwise than by seconds."""
    return request.config.stash[FIGURES]


@pytest.fixture(scope="session")
def single(artifacts: Path) -> Iterator[Server]:
    """The single container behind nginx. It answers CSV unless asked otherwise, as a featurizer does."""
    env = {"SM_MODEL_DIR": str(artifacts), "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"}
    with running("pipeline", env) as server:
        yield server


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    """pytest would keep every line of it until the test ends."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def pytest_collection_finish(session: pytest.Session) -> None:
    fuzzing = [item for item in session.items if "budget" in getattr(item, "fixturenames", ())]
    share = float(os.environ.get("FUZZ_SECONDS") or SECONDS) / max(1, len(fuzzing))
    for item in fuzzing:
        item.add_marker(pytest.mark.timeout(300 + 2 * share))
    session.config.stash[SHARE], session.config.stash[FIGURES] = share, []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if figures := config.stash.get(FIGURES, []):
        terminalreporter.section(f"fuzzed from FUZZ_SEED={SEED}")
        for line in figures:
            terminalreporter.write_line(line)
