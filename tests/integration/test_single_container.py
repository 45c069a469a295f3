"""The single container as a process: real nginx and gunicorn before both stages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serving import artifact
from serving.contract import FILE, Contract
from tests.servers import Server, launched, running

STAGES = ("featurizer", "predictor")


@pytest.fixture(scope="module")
def model_dir(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both artifacts, as they are mounted or unpacked."""
    directory = tmp_path_factory.mktemp("single")
    for stage in STAGES:
        shutil.copytree(artifacts / stage / "model", directory / stage)
    return directory


@pytest.fixture(scope="module", params=["on", "off"], ids=["nginx", "gunicorn alone"])
def server(model_dir: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    env = {"SM_MODEL_DIR": str(model_dir), "MODEL_SERVER_WORKERS": "1", "MODEL_SERVER_NGINX": request.param}
    with running("pipeline", env) as started:
        yield started


def test_it_says_what_it_takes_and_gives(server: Server, artifacts: Path) -> None:
    contract = Contract.load(artifacts / "predictor" / "model")

    told = server.request("GET", "/contract").json

    assert told["reads"] == [column.name for column in contract.inputs]
    assert told["contract"]["hash"] == contract.hash
    assert server.request("GET", "/openapi.json").json["info"]["title"] == "pipeline of abalone"
    assert server.request("GET", "/execution-parameters").json["BatchStrategy"] == "MULTI_RECORD"


def test_it_listens_where_a_platform_that_is_not_sagemaker_says(model_dir: Path) -> None:
    with launched("pipeline", {"SM_MODEL_DIR": str(model_dir), "SAGEMAKER_BIND_TO_PORT": "", "PORT": "no"}) as wrong:
        assert wrong.process.wait(60) == 1
        assert "PORT" in wrong.lines()[-1]["message"]


def test_artifacts_of_two_training_runs_are_not_served(model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(model_dir, tmp_path / "model")
    other = tmp_path / "model" / "predictor"
    contract = replace(Contract.load(other), training={"seed": 43})
    (other / FILE).write_text(contract.to_json(), encoding="utf-8")
    artifact.write_manifest(other)

    with launched("pipeline", {"SM_MODEL_DIR": str(tmp_path / "model"), "MODEL_SERVER_WORKERS": "1"}) as server:
        assert server.process.wait(60) == 1
        reasons = [line["message"] for line in server.lines() if line["level"] == "CRITICAL"]

    assert reasons[0].startswith("cannot load the model: the predictor is of training run ")
