"""The images train as SageMaker runs them, and serve what they trained."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from serving.contract import Contract
from tests.conftest import ROOT
from tests.docker.conftest import ROW, Run, ask

pytestmark = pytest.mark.docker


def train(image: str, tree: Path, **hyperparameters: str) -> int:
    """Run `train` on a tree mounted at /opt/ml. Returns the exit code."""
    (tree / "input" / "config").mkdir(parents=True, exist_ok=True)
    (tree / "input" / "config" / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    user = f"{os.getuid()}:{os.getgid()}"
    command = ["docker", "run", "--rm", "--user", user, "--volume", f"{tree}:/opt/ml", image, "train"]
    return subprocess.run(command, check=False, timeout=300).returncode


def test_two_jobs_in_a_row_make_two_artifacts_of_one_run(
    images: dict[str, str], artifacts: Path, run: Run, tmp_path: Path
) -> None:
    raw, features = tmp_path / "raw", tmp_path / "features"
    (raw / "input" / "data" / "train").mkdir(parents=True)
    shutil.copy(artifacts / "test.csv", raw / "input" / "data" / "train")
    shutil.copy(ROOT / "pipeline" / "datasets" / "abalone.toml", raw / "input" / "data" / "train" / "schema.toml")
    (features / "input" / "data").mkdir(parents=True)

    assert train(images["featurizer"], raw) == 0
    shutil.copytree(raw / "output" / "data", features / "input" / "data" / "train")
    assert train(images["predictor"], features, max_depth="3", num_round="20") == 0

    assert Contract.load(raw / "model").hash == Contract.load(features / "model").hash
    featurizer = run(images["featurizer"], "serve", options=["--volume", f"{raw / 'model'}:/opt/ml/model:ro"])
    predictor = run(images["predictor"], "serve", options=["--volume", f"{features / 'model'}:/opt/ml/model:ro"])
    status, body = ask(featurizer.port, "POST", "/invocations", ROW, {"Content-Type": "text/csv"})
    assert status == 200
    status, body = ask(predictor.port, "POST", "/invocations", body, {"Content-Type": "text/csv"})
    assert status == 200
    assert 3 < json.loads(body)["result"][0] < 15


@pytest.mark.parametrize("stage", ["featurizer", "predictor"])
def test_a_job_without_data_fails_and_says_why(images: dict[str, str], tmp_path: Path, stage: str) -> None:
    assert train(images[stage], tmp_path) == 1
    assert "channel train" in (tmp_path / "output" / "failure").read_text()
