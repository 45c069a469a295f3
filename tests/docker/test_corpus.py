"""The corpus once more, answered by containers of the images: alone, and behind a container of the router."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.corpus_cases import Case, over_tcp, replay
from tests.corpus_format import load_corpus
from tests.corpus_levels import AS_THE_CHAIN_RUNS_IT, CONTRACT, slice_of
from tests.docker.conftest import STAGES, Container, Run, model_mount

pytestmark = pytest.mark.docker

LEVELS = ("nginx", "router")  # of the answers that a container owes, and the router's


@dataclass(frozen=True)
class Asked:
    """A stage at a level, the container that answers there, and the cases that it is asked."""

    container: Container
    level: str
    cases: tuple[Case, ...]

    def wrong(self) -> list[str]:
        """Complaints about the cases that are not answered as they should be. Those that wait run beside the others."""
        waiting = [case for case in self.cases if case.waits]
        with ThreadPoolExecutor(len(waiting) or 1) as pool:
            begun = [pool.submit(self._complaint, case) for case in waiting]
            others = [self._complaint(case) for case in self.cases if not case.waits]
            return [said for said in [*others, *(one.result() for one in begun)] if said]

    def _complaint(self, case: Case) -> str:
        try:
            replay(over_tcp(self.container.port), case, self.level)
        except AssertionError as error:
            return f"{self.level} {case}: {error}"
        return ""


def asked_of(stage: str, level: str) -> tuple[Case, ...]:
    """The cases without settings of their own: those would each be another container, with the same code."""
    cases = [case for case in load_corpus() if case.contract == CONTRACT and not case.env]
    return tuple(case for case in cases if stage in case.stages and level in case.levels)


@pytest.fixture
def container(images: dict[str, str], artifacts: Path, run: Run, stage: str, level: str) -> Iterator[Container]:
    served = run(images[stage], "serve", options=model_mount(artifacts, stage))
    if level == "nginx":
        yield served
        return
    address = served.inspect()["NetworkSettings"]["IPAddress"]
    env = AS_THE_CHAIN_RUNS_IT | {"CONTAINERS": f"{stage}=http://{address}:8080"}
    yield run(images["local_test"], "serve", options=[f"--env={name}={value}" for name, value in env.items()])


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.long)], ids=["slice", "whole"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("stage", STAGES)
def test_containers_give_the_cases_the_answers_that_they_are_owed(
    container: Container, stage: str, level: str, whole: bool
) -> None:
    cases = asked_of(stage, level)
    chosen = slice_of(cases, level)
    part = cases if whole else tuple(case for case in cases if str(case) in chosen)

    assert len(part) > (500 if whole else 100)
    assert Asked(container, level, part).wrong() == []
