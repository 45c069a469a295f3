"""Each image by itself, started as SageMaker starts it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from tests.docker.conftest import ROW, STAGES, Run, ask, docker, model_mount

pytestmark = pytest.mark.docker

LISTENING = """
import pathlib
tables = [pathlib.Path("/proc/net", name).read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
lines = [line.split() for table in tables for line in table]
print(sorted({int(fields[1].rpartition(":")[2], 16) for fields in lines if fields[3] == "0A"}))
"""
SIGNAL = """
import os, pathlib, signal, sys
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    words = path.read_bytes().replace(bytes(1), b" ").decode()
    if words.startswith(sys.argv[1]) or f" {sys.argv[1]}" in words and os.getpid() != int(path.parent.name):
        parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        if parent == 1:
            os.kill(int(path.parent.name), signal.SIGKILL)
            print("killed")
"""
HARDENED = [
    "--user",
    "10001:10001",
    "--read-only",
    "--tmpfs",
    "/tmp",  # noqa: S108 - the container's own
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
]


@pytest.mark.parametrize("stage", STAGES)
def test_the_image_is_what_sagemaker_asks_for(images: dict[str, str], stage: str) -> None:
    config = json.loads(docker("inspect", images[stage]))[0]

    assert config["Config"]["Labels"]["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert config["Config"]["Cmd"] == ["serve"]
    assert not config["Config"]["Entrypoint"]
    assert f"STAGE={stage}" in config["Config"]["Env"]
    assert config["Os"] == "linux"


@pytest.mark.parametrize(
    ("image", "absent"),
    [("predictor", ["sklearn", "nvidia", "pandas"]), ("featurizer", ["xgboost"]), ("local_test", ["numpy"])],
)
def test_an_image_holds_only_what_it_runs(images: dict[str, str], image: str, absent: list[str]) -> None:
    code = f"import importlib.util as u; print([n for n in {absent} if u.find_spec(n)])"

    assert docker("run", "--rm", images[image], "python", "-c", code).strip() == "[]"


@pytest.mark.parametrize("command", [["serve"], []])
@pytest.mark.parametrize("stage", STAGES)
def test_serve_is_pid_1_and_listens_on_one_port(
    images: dict[str, str], artifacts: Path, run: Run, stage: str, command: list[str]
) -> None:
    container = run(images[stage], *command, options=model_mount(artifacts, stage))

    assert container.python(LISTENING) == "[8080]"
    assert "serving serve" in container.python("print(open('/proc/1/cmdline').read().replace(chr(0), ' '))")


def test_the_platform_chooses_the_port(images: dict[str, str], artifacts: Path, run: Run) -> None:
    options = [*model_mount(artifacts, "featurizer"), "--env", "SAGEMAKER_BIND_TO_PORT=9123"]
    container = run(images["featurizer"], "serve", options=options, port=9123)

    status, body = ask(container.port, "POST", "/invocations", ROW, {"Content-Type": "text/csv"})

    assert container.python(LISTENING) == "[9123]"
    assert (status, body[:19]) == (200, b"-1.3317586042173168")


@pytest.mark.parametrize("stage", STAGES)
def test_a_hardened_container_serves_too(images: dict[str, str], artifacts: Path, run: Run, stage: str) -> None:
    container = run(images[stage], "serve", options=[*model_mount(artifacts, stage), *HARDENED])

    assert ask(container.port, "GET", "/execution-parameters")[0] == 200


def test_docker_stop_answers_what_was_accepted_and_exits_0(images: dict[str, str], artifacts: Path, run: Run) -> None:
    container = run(images["featurizer"], "serve", options=model_mount(artifacts, "featurizer"))
    body = b"\n".join([ROW] * 20_000)
    answers: list[tuple[int, bytes]] = []
    clients = [
        threading.Thread(
            target=lambda: answers.append(
                ask(container.port, "POST", "/invocations", body, {"Content-Type": "text/csv"})
            )
        )
        for _ in range(8)
    ]
    for client in clients:
        client.start()
    time.sleep(1)

    docker("stop", "--time", "30", container.name)
    for client in clients:
        client.join()

    assert [(status, answer.count(b"\n")) for status, answer in answers] == [(200, 20_000)] * 8
    assert container.inspect()["State"]["ExitCode"] == 0


@pytest.mark.parametrize("child", ["nginx", "gunicorn"])
def test_a_lost_child_ends_the_container(images: dict[str, str], artifacts: Path, run: Run, child: str) -> None:
    container = run(images["predictor"], "serve", options=model_mount(artifacts, "predictor"))

    assert "killed" in docker("exec", container.name, "python", "-c", SIGNAL, child, check=False)
    assert container.wait() != 0


@pytest.mark.parametrize("stage", STAGES)
def test_without_a_model_the_container_ends_and_says_why(images: dict[str, str], run: Run, stage: str) -> None:
    container = run(images[stage], "serve", wait=False)

    assert container.wait() != 0
    critical = [line for line in map(json.loads, container.logs().splitlines()) if line["level"] == "CRITICAL"]
    assert "/opt/ml/model" in critical[0]["message"]
