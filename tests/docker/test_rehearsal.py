"""The life of an endpoint on the control plane, from images that were built, pushed and pulled, in containers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from local_test.control_plane import registry
from local_test.control_plane.plane import LABEL
from tests.conftest import ROOT
from tests.docker.conftest import docker
from tests.rehearsal import deploy_single, life, owner, role

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(not shutil.which(registry.PROGRAM), reason=f"{registry.PROGRAM} is not installed"),
]


def label(directory: Path) -> str:
    return f"label={LABEL}={(directory / 'plane' / 'data').resolve()}"


@pytest.mark.timeout(1200)
def test_an_endpoint_of_pushed_images_lives_and_leaves_nothing(
    tmp_path: Path,
    artifacts: Path,
    retrained: Path,
) -> None:
    with owner("docker", tmp_path) as who:
        stages = ("featurizer", "predictor", "pipeline")
        pushed = who.runs(ROOT / "build_and_push.sh", "--tag", "rehearsal", *stages).stdout
        try:
            assert pushed.count("@sha256:") >= len(stages), pushed

            given = ["--role", role(who), "--tag", "rehearsal"]
            deploy_single(who, artifacts, given)
            who.pipeline("delete", "--artifacts", "--yes")
            checked = life(who, artifacts, retrained, given)  # which deletes all images, too

            running = docker("ps", "--all", "--quiet", "--filter", label(tmp_path))
        finally:
            named = docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
            docker("rmi", "--force", *[one for one in named if one.endswith(":rehearsal")], check=False)
    assert checked > 0
    assert running == ""
    assert docker("ps", "--all", "--quiet", "--filter", label(tmp_path)) == ""
