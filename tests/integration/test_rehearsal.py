"""The life of an endpoint on the control plane, hosted as processes of this checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_test.state import State
from tests.conftest import ROOT
from tests.rehearsal import Owner, life, owner, role, single_life


def name_images(who: Owner, *more: str) -> None:
    """Processes need no image: two that are names only, and more."""
    ecr = who.client("ecr")
    for stage in ("featurizer", "predictor", *more):
        ecr.create_repository(repositoryName=f"serial-inference/{stage}")
        ecr.put_image(
            repositoryName=f"serial-inference/{stage}",
            imageTag="rehearsal",
            imageManifest=(ROOT / "docs" / "manifest.json").read_text(encoding="utf-8"),
        )


@pytest.mark.long  # the commands of docs/deploy.md are the quick slice
@pytest.mark.timeout(900)
def test_an_endpoint_lives_and_leaves_nothing(tmp_path: Path, artifacts: Path, retrained: Path) -> None:
    with owner("processes", tmp_path) as who:
        name_images(who)

        checked = life(who, artifacts, retrained, ["--role", role(who), "--tag", "rehearsal"])

        alive = running(tmp_path)
    assert checked > 0
    assert len(alive) <= 1, alive  # the control plane itself
    assert running(tmp_path) == []


@pytest.mark.timeout(900)
def test_an_endpoint_of_one_container_lives_and_leaves_nothing(tmp_path: Path, artifacts: Path) -> None:
    with owner("processes", tmp_path) as who:
        name_images(who, "pipeline")
        who.inside = True

        checked = single_life(who, artifacts, ["--role", role(who), "--tag", "rehearsal"])

        alive = running(tmp_path)
    assert checked > 0
    assert len(alive) <= 1, alive  # the control plane itself
    assert running(tmp_path) == []


def running(directory: Path) -> list[str]:
    """The processes that a control plane started and that still run, by name."""
    started = [process for file in directory.rglob("chain.json") for process in State(file.parent).load()[1]]
    return [process.name for process in started if process.is_alive()]
