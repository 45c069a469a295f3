"""The life of an endpoint on the control plane, hosted as processes of this checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_test.state import State
from tests.conftest import ROOT
from tests.rehearsal import Owner, life, owner


def name_images(who: Owner) -> None:
    """Processes need no image: two that are names only."""
    ecr = who.client("ecr")
    for stage in ("featurizer", "predictor"):
        ecr.create_repository(repositoryName=f"serial-inference/{stage}")
        ecr.put_image(
            repositoryName=f"serial-inference/{stage}",
            imageTag="rehearsal",
            imageManifest=(ROOT / "docs" / "manifest.json").read_text(encoding="utf-8"),
        )


@pytest.mark.timeout(900)
def test_an_endpoint_lives_and_leaves_nothing(tmp_path: Path, artifacts: Path, retrained: Path) -> None:
    with owner("processes", tmp_path) as who:
        name_images(who)

        checked = life(who, artifacts, retrained, ["--tag", "rehearsal"])

        started = [
            p for file in tmp_path.rglob("chain.json") for p in State(file.parent).load()[1] if p.name != "plane"
        ]
        alive = [process.name for process in started if process.is_alive()]
    assert checked > 0
    assert len(alive) <= 1, alive  # the control plane itself
    assert [p.name for file in tmp_path.rglob("chain.json") for p in State(file.parent).load()[1] if p.is_alive()] == []
