"""`train_local` and `serve_local` with the real images, as a developer types them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.demo import in_process
from tests.conftest import ROOT
from tests.docker.conftest import ask, docker
from tests.servers import free_ports, started, wait_until

pytestmark = pytest.mark.docker

LOCAL_TEST = (sys.executable, "-m", "local_test")


def local_test(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LOCAL_TEST, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def trained(images: dict[str, str], artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two trees that `train_local` filled."""
    trees = tmp_path_factory.mktemp("train_local")
    meaning = ("label=rings", "task=regression", "categorical=sex")
    hyperparameters = [word for pair in meaning for word in ("--hyperparameter", pair)]
    jobs = {
        "featurizer": ["--channel", f"train={artifacts / 'test.csv'}", *hyperparameters],
        "predictor": ["--channel", f"train={trees / 'featurizer/output/data'}", "--hyperparameter", "num_round=20"],
    }
    for stage, job in jobs.items():
        done = local_test("train_local", images[stage], "--tree", trees / stage, *job)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.endswith(f"Completed: the model is in {trees / stage / 'model'}\n")
    return trees


@pytest.fixture
def ports(images: dict[str, str], trained: Path) -> Iterator[dict[str, int]]:
    """Where each stage listens, served with `serve_local` and stopped with Ctrl-C."""
    ports = dict(zip(("featurizer", "predictor"), free_ports(2), strict=True))
    commands = [
        [*LOCAL_TEST, "serve_local", images[stage], "--tree", str(trained / stage), "--port", str(port)]
        for stage, port in ports.items()
    ]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(started(serve, stderr=subprocess.DEVNULL)) for serve in commands]
        try:
            waited = lambda: all(ask(port, "GET", "/ping")[0] == 200 for port in ports.values())  # noqa: E731
            wait_until(waited, "both to be ready", 60)
            yield ports
        finally:
            for server in servers:
                server.send_signal(signal.SIGINT)
            codes = [server.wait(40) for server in servers]
    assert codes == [0, 0]
    served = docker("ps", "--all", "--quiet", "--filter", "name=serve-local-").split()
    assert [container for container in served if str(trained) in docker("inspect", container, check=False)] == []


def test_what_train_local_trained_serve_local_serves(ports: dict[str, int], artifacts: Path, trained: Path) -> None:
    rows = artifacts / "test.csv"
    urls = {stage: f"http://127.0.0.1:{port}" for stage, port in ports.items()}
    features = local_test("predict", rows, "--url", urls["featurizer"], "--accept", "text/csv")
    (trained / "features.csv").write_text(features.stdout)
    answer = local_test("predict", trained / "features.csv", "--url", urls["predictor"], "--accept", "application/json")

    assert (features.returncode, answer.returncode) == (0, 0), features.stderr + answer.stderr
    answered = np.asarray(json.loads(answer.stdout)["result"], dtype=np.float32)
    assert answered.tobytes() == in_process(trained, rows.read_text()).tobytes()


def test_train_local_shows_why_a_job_failed(images: dict[str, str], tmp_path: Path) -> None:
    done = local_test("train_local", images["predictor"], "--tree", tmp_path / "ml", "--hyperparameter", "etta=1")

    assert done.returncode == 1
    assert "Failed with exit code 1: hyperparameter etta is unknown" in done.stderr


def test_serve_local_names_the_model_that_is_missing(images: dict[str, str], tmp_path: Path) -> None:
    done = local_test("serve_local", images["predictor"], "--tree", tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith(f"there is no model directory {tmp_path / 'model'}: ")


def test_serve_local_ends_when_its_container_cannot_serve(images: dict[str, str], tmp_path: Path) -> None:
    (port,) = free_ports(1)
    done = local_test("serve_local", images["predictor"], "--model", tmp_path, "--port", str(port))

    assert done.returncode == 1
    assert "there is no manifest.json in /opt/ml/model" in done.stderr
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - nothing was written there
