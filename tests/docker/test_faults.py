"""Faults that need a container's limits: a short run of what `make chaos` tries in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.chaos.report import SCENARIOS, Given
from tools.chaos.scenarios import images as scenarios

pytestmark = pytest.mark.docker

TRIED = {
    "out-of-memory": 0.02,
    "unfinished-bodies": 0.1,
    "memory-far-too-small": 1.0,
    "too-few-processes": 1.0,
    "tiny-tmp": 0.05,
    "zombies": 0.1,
}


@pytest.mark.parametrize("name", TRIED)
def test_the_promise_of_a_fault_holds(name: str, images: dict[str, str], artifacts: Path, tmp_path: Path) -> None:
    (scenario,) = [scenario for scenario in SCENARIOS if scenario.name == name]
    assert scenario.run.__module__ == scenarios.__name__

    outcome = scenario.run(Given(artifacts, tmp_path, TRIED[name], images["featurizer"]))

    assert outcome.broken == [], outcome.figures
