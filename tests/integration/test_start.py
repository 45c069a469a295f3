"""Containers that must not start: wrong artifacts, wrong ports."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from serving import artifact
from serving.contract import FILE, Contract
from tests.servers import ECHO, launched, running

SOON = 60  # seconds, imports of pandas and scikit-learn on a busy machine included


@dataclass(frozen=True)
class Wrong:
    """A stage, what happens to its model directory, and what the log must name."""

    stage: str
    spoil: Callable[[Path, Path], object]
    named: str


def flip_a_bit(name: str) -> Callable[[Path, Path], object]:
    def spoil(model_dir: Path, _artifacts: Path) -> None:
        body = bytearray((model_dir / name).read_bytes())
        body[0 if name == artifact.MANIFEST else len(body) // 2] ^= 1
        (model_dir / name).write_bytes(body)

    return spoil


def remove(name: str) -> Callable[[Path, Path], object]:
    return lambda model_dir, _: (model_dir / name).unlink()


def rename_a_feature(model_dir: Path, _artifacts: Path) -> None:
    """As the contract of another training run would have it; the manifest vouches for it."""
    contract = Contract.load(model_dir)
    other = replace(contract, features=("surprise", *contract.features[1:]))
    (model_dir / FILE).write_text(other.to_json(), encoding="utf-8")
    artifact.write_manifest(model_dir)


def swap_for(stage: str) -> Callable[[Path, Path], object]:
    def spoil(model_dir: Path, artifacts: Path) -> None:
        shutil.rmtree(model_dir)
        shutil.copytree(artifacts / stage / "model", model_dir)

    return spoil


MODELS = {"featurizer": "preprocess.joblib", "predictor": "xgboost-model.json"}
WRONG = {
    **{
        f"flipped bit in {name}": Wrong("predictor", flip_a_bit(name), name)
        for name in ("contract.json", "manifest.json")
    },
    **{f"flipped bit in {name}": Wrong(stage, flip_a_bit(name), name) for stage, name in MODELS.items()},
    "featurizer, features of another run": Wrong("featurizer", rename_a_feature, "transform.json"),
    "predictor, features of another run": Wrong("predictor", rename_a_feature, "xgboost-model.json"),
    "featurizer, artifact of the predictor": Wrong("featurizer", swap_for("predictor"), "preprocess.joblib"),
    "predictor, artifact of the featurizer": Wrong("predictor", swap_for("featurizer"), "xgboost-model.json"),
    "no model directory": Wrong("predictor", lambda model_dir, _: shutil.rmtree(model_dir), "no model directory"),
    "no manifest": Wrong("featurizer", remove("manifest.json"), "manifest.json"),
}


@dataclass(frozen=True)
class End:
    """How a container ended."""

    code: int
    lines: list[dict[str, Any]]
    left: list[int]


@pytest.fixture(scope="module")
def ends(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, End]:
    """Every wrong container, started; two at a time, for they import for seconds."""

    def start(wrong: Wrong) -> End:
        model_dir = tmp_path_factory.mktemp("wrong") / "model"
        shutil.copytree(artifacts / wrong.stage / "model", model_dir)
        wrong.spoil(model_dir, artifacts)
        with launched(wrong.stage, {"SM_MODEL_DIR": str(model_dir), "MODEL_SERVER_WORKERS": "1"}) as server:
            return End(server.process.wait(SOON), server.lines(), server.processes())

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(WRONG, pool.map(start, WRONG.values()), strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_artifact_stops_the_container_with_one_line_that_names_it(ends, name):
    end = ends[name]

    reasons = [line["message"] for line in end.lines if line["message"].startswith("cannot load the model")]
    assert end.code == 1
    assert len(reasons) == 1
    assert WRONG[name].named in reasons[0]
    assert end.left == []


@pytest.mark.parametrize("variable", ["SAGEMAKER_BIND_TO_PORT", "PORT"])
@pytest.mark.parametrize("port", ["abc", "0", "70000", "-1", "80 81", "8080.0"])
def test_a_port_that_is_none_stops_the_container(variable, port):
    with launched(ECHO, {"SAGEMAKER_BIND_TO_PORT": "", variable: port}) as server:
        code = server.process.wait(SOON)
        (line,) = server.lines()

    assert code == 1
    assert variable in line["message"]
    assert port in line["message"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MODEL_SERVER_HOST", "127.0.0.1:1; } http { include /etc/passwd"),
        ("MODEL_SERVER_RUN_DIR", "/run/a b; user root"),
        ("MODEL_SERVER_WORKERS", "9" * 5000),
    ],
)
def test_a_setting_that_would_write_a_configuration_stops_the_container(variable, value):
    with launched(ECHO, {variable: value}) as server:
        code = server.process.wait(SOON)
        (line,) = server.lines()

    assert code == 1
    assert line["level"] == "CRITICAL"
    assert line["message"].startswith(variable)


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


def test_a_second_server_does_not_take_over_the_sockets_of_the_first(tmp_path: Path) -> None:
    env = {"MODEL_SERVER_RUN_DIR": str(tmp_path / "r"), "MODEL_SERVER_WORKERS": "1"}
    with running(ECHO, env) as first:
        (tmp_path / "r/gunicorn.pid").unlink()  # it says nothing to a container with process ids of its own
        with launched(ECHO, env) as second:
            code, lines = second.process.wait(60), second.lines()

        assert first.invoke(b"hello").body == b"hello"

    (line,) = lines
    assert (code, line["level"]) == (1, "CRITICAL")
    assert line["message"].startswith(
        f"MODEL_SERVER_RUN_DIR: expected a directory of its own, got {tmp_path}/r: another"
    )


def test_what_a_killed_server_left_is_removed_by_the_next_and_what_a_living_one_has_is_not() -> None:
    with tempfile.TemporaryDirectory(prefix="t") as base, contextlib.ExitStack() as stack:
        env = {"TMPDIR": base, "MODEL_SERVER_WORKERS": "1"}
        killed = stack.enter_context(running(ECHO, env))
        (left,) = Path(base).iterdir()
        stack.enter_context(running(ECHO, env))
        Path(base, "serving-notes").mkdir()  # of somebody else
        before = set(Path(base).iterdir())
        killed.process.kill()
        killed.process.wait(60)

        stack.enter_context(running(ECHO, env))

        assert before - set(Path(base).iterdir()) == {left}
