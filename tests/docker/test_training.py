"""The images train as SageMaker runs them, and serve what they trained."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from local_test import opt_ml
from pipeline.demo import in_process
from serving.contract import Contract
from tests.conftest import ROOT
from tests.docker.conftest import STAGES, Run, ask, model_mount

pytestmark = pytest.mark.docker


def train(image: str, tree: Path) -> tuple[int, str]:
    """Run `train` on a tree mounted at /opt/ml. Returns the exit code, and what it left in output/failure."""
    user = f"{os.getuid()}:{os.getgid()}"
    command = ["docker", "run", "--rm", "--user", user, "--volume", f"{tree}:/opt/ml", image, "train"]
    code = subprocess.run(command, check=False, timeout=300).returncode
    failure = tree / "output" / "failure"
    return code, failure.read_text() if failure.exists() else ""


@pytest.fixture(scope="module")
def trained(images: dict[str, str], artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trees of two jobs in a row: the second learns from the rows that the first has featurized."""
    trees = tmp_path_factory.mktemp("trained")
    schema = trees / "schema.toml"
    shutil.copy(ROOT / "pipeline" / "datasets" / "abalone.toml", schema)
    opt_ml.prepare(trees / "featurizer", {"train": artifacts / "test.csv", "schema": schema}, {"seed": "7"})
    assert train(images["featurizer"], trees / "featurizer") == (0, "")
    given = {"max_depth": "3", "num_round": "20"}
    opt_ml.prepare(trees / "predictor", {"train": trees / "featurizer" / "output" / "data"}, given)
    assert train(images["predictor"], trees / "predictor") == (0, "")
    return trees


def test_two_jobs_in_a_row_make_two_artifacts_of_one_run(trained: Path) -> None:
    models = [trained / stage / "model" for stage in STAGES]
    files = [sorted(path.name for path in model.iterdir()) for model in models]

    assert Contract.load(models[0]).hash == Contract.load(models[1]).hash
    assert files == [
        ["contract.json", "manifest.json", "preprocess.joblib", "transform.json"],
        ["contract.json", "manifest.json", "xgboost-model.json"],
    ]


def test_what_they_trained_is_served_bit_for_bit(
    images: dict[str, str], artifacts: Path, run: Run, trained: Path
) -> None:
    rows = (artifacts / "test.csv").read_bytes()
    featurizer, predictor = (run(images[stage], "serve", options=model_mount(trained, stage)) for stage in STAGES)

    first, features = ask(featurizer.port, "POST", "/invocations", rows, {"Content-Type": "text/csv"})
    second, body = ask(predictor.port, "POST", "/invocations", features, {"Content-Type": "text/csv"})

    assert (first, second) == (200, 200)
    answered = np.asarray(json.loads(body)["result"], dtype=np.float32)
    assert answered.tobytes() == in_process(trained, rows.decode()).tobytes()


@pytest.mark.parametrize(
    ("stage", "rows", "hyperparameters", "reason"),
    [
        ("featurizer", None, {}, "expected a channel train, got none"),
        ("predictor", None, {}, "expected a channel train, got none"),
        ("featurizer", "a,b\n1,2\n", {"lable": "b"}, "hyperparameter lable is unknown"),
        ("featurizer", "a,b\nx,2\n", {"label": "b", "task": "regression"}, "data, row 1, column a: "),
        ("predictor", "a,b\n1,2\n", {"max_depth": "deep"}, "hyperparameter max_depth: expected a whole number"),
        ("predictor", "a,b\n1,2\n", {"label": "c"}, "expected the featurizer's contract.json in a channel"),
    ],
)
def test_a_job_that_cannot_run_fails_and_says_why(
    images: dict[str, str], tmp_path: Path, stage: str, rows: str | None, hyperparameters: dict[str, str], reason: str
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(rows or "")
    opt_ml.prepare(tmp_path / "ml", {"train": str(file)} if rows else {}, hyperparameters)

    code, failure = train(images[stage], tmp_path / "ml")

    assert code == 1
    assert failure.startswith(reason)
    assert list((tmp_path / "ml" / "model").iterdir()) == []
