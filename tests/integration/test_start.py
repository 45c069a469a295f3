"""Containers that must not start: wrong artifacts, wrong ports."""

from __future__ import annotations

import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving import artifact
from serving.contract import FILE, Contract
from tests.servers import ECHO, launched, running

SOON = 20  # seconds, imports of pandas and scikit-learn on a busy machine included
FILES = {
    "featurizer": ["contract.json", "manifest.json", "preprocess.joblib"],
    "predictor": ["contract.json", "manifest.json", "xgboost-model.json"],
}


@pytest.mark.parametrize(("stage", "name"), [(stage, name) for stage, names in FILES.items() for name in names])
def test_one_flipped_bit_in_a_file_of_the_artifact_stops_the_container(artifacts, tmp_path, stage, name):
    damaged = copy_of(artifacts, stage, tmp_path) / name
    body = bytearray(damaged.read_bytes())
    body[0 if name == artifact.MANIFEST else len(body) // 2] ^= 1
    damaged.write_bytes(body)

    code, reasons = start_and_fail(stage, tmp_path)

    assert code == 1
    assert len(reasons) == 1
    assert name in reasons[0]


def test_a_missing_model_directory_stops_the_container(tmp_path):
    code, reasons = start_and_fail("predictor", tmp_path / "nowhere")

    assert code == 1
    assert len(reasons) == 1
    assert str(tmp_path / "nowhere") in reasons[0]


@pytest.mark.parametrize("name", ["manifest.json", "xgboost-model.json"])
def test_a_missing_file_of_the_artifact_stops_the_container(artifacts, tmp_path, name):
    (copy_of(artifacts, "predictor", tmp_path) / name).unlink()

    code, reasons = start_and_fail("predictor", tmp_path)

    assert code == 1
    assert len(reasons) == 1
    assert name in reasons[0]


@pytest.mark.parametrize(("stage", "name"), [("featurizer", "preprocess.joblib"), ("predictor", "xgboost-model.json")])
def test_a_model_with_other_features_than_its_contract_stops_the_container(artifacts, tmp_path, stage, name):
    model_dir = copy_of(artifacts, stage, tmp_path)
    contract = Contract.load(model_dir)
    other = replace(contract, features=("surprise", *contract.features[1:]))
    (model_dir / FILE).write_text(other.to_json(), encoding="utf-8")
    artifact.write_manifest(model_dir)

    code, reasons = start_and_fail(stage, model_dir)

    assert code == 1
    assert len(reasons) == 1
    assert name in reasons[0]
    assert "surprise" in reasons[0]


@pytest.mark.parametrize(
    ("stage", "given", "name"),
    [("featurizer", "predictor", "preprocess.joblib"), ("predictor", "featurizer", "xgboost-model.json")],
)
def test_the_artifact_of_the_other_stage_stops_the_container(artifacts, stage, given, name):
    code, reasons = start_and_fail(stage, artifacts / given / "model")

    assert code == 1
    assert len(reasons) == 1
    assert name in reasons[0]


@pytest.mark.parametrize("variable", ["SAGEMAKER_BIND_TO_PORT", "PORT"])
@pytest.mark.parametrize("port", ["abc", "0", "70000", "-1", "80 81", "8080.0"])
def test_a_port_that_is_none_stops_the_container(variable, port):
    with launched(ECHO, {"SAGEMAKER_BIND_TO_PORT": "", variable: port}) as server:
        code = server.process.wait(SOON)
        (line,) = server.lines()

    assert code == 1
    assert variable in line["message"]
    assert port in line["message"]


def test_a_taken_port_stops_the_container(front):
    with socket.create_server(("127.0.0.1", 0)) as neighbour:
        port = neighbour.getsockname()[1]
        with launched(ECHO, front, port=port) as server:
            code = server.process.wait(SOON)
            left, lines = server.processes(), server.lines()

    assert code not in (0, None)
    assert left == []
    told = [line["message"] for line in lines if line["level"] in ("ERROR", "CRITICAL")]
    assert any(str(port) in message and "in use" in message for message in told), told


def test_port_counts_when_the_platform_binds_none():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    with running(ECHO, {"SAGEMAKER_BIND_TO_PORT": "", "PORT": str(port)}, port=port) as server:
        assert server.listening_ports() == {port}


def test_two_containers_share_a_port_range_and_listen_nowhere_else(chain):
    for server in chain:
        assert server.ping().status == 200
        assert server.listening_ports() == {server.port}
    assert chain[0].port != chain[1].port


def copy_of(artifacts: Path, stage: str, target: Path) -> Path:
    shutil.copytree(artifacts / stage / "model", target, dirs_exist_ok=True)
    return target


def start_and_fail(stage: str, model_dir: Path) -> tuple[int, list[str]]:
    """Exit code, and what was said of the model: everything in the log is JSON, and no process is left."""
    env = {"SM_MODEL_DIR": str(model_dir), "MODEL_SERVER_WORKERS": "1"}
    with launched(stage, env) as server:
        code = server.process.wait(SOON)
        assert server.processes() == []
        return code, [line["message"] for line in server.lines() if is_of_the_model(line)]


def is_of_the_model(line: dict[str, Any]) -> bool:
    return line["level"] == "CRITICAL" and line["message"].startswith("cannot load the model")
