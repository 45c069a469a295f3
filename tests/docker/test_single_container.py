"""The image that holds both stages, on every host that it is made for."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.cli import main
from pipeline.demo import in_process
from tests.datasets import golden
from tests.docker.conftest import Container, Run, ask, docker
from tests.docker.test_images import HARDENED, LISTENING
from tests.lambda_api import EVENTS, Function, function, predictions, with_rows
from tests.pace import slowness
from tests.servers import wait_until

pytestmark = pytest.mark.docker

MEMORY = "512m"
# Neither root nor a writable file but in /tmp; without /dev/shm, and no more memory than the function has.
LAMBDA = [
    *("--read-only", "--tmpfs", "/tmp:rw,noexec,nosuid,size=512m"),  # noqa: S108 - the container's own
    *("--ipc", "none", "--user", "993:990", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--memory", MEMORY, "--memory-swap", MEMORY, "--ulimit", "nofile=1024"),
]
WRITES = """
import os
print(sorted(path for path in ("/", "/opt/ml/model", "/opt/program", "/dev/shm", "/tmp") if os.access(path, os.W_OK)))
"""

CPU = """
import os
fields = open("/proc/1/stat").read().rpartition(")")[2].split()
print((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
"""


@pytest.fixture(scope="session")
def baked(images: dict[str, str], artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with the artifacts in it, by the two lines that the Dockerfile names."""
    context, name = tmp_path_factory.mktemp("baked"), f"serial-inference-baked:test-{uuid.uuid4().hex[:8]}"
    assert main(["package", "--single", str(context / "model.tar.gz"), "--artifacts", str(artifacts)]) == 0
    (context / "Dockerfile").write_text(f"FROM {images['pipeline']}\nADD model.tar.gz /opt/ml/model/\n")
    docker("build", "--quiet", "--tag", name, context)
    yield name
    docker("rmi", "--force", name)


@pytest.fixture(scope="module")
def expected(artifacts: Path) -> NDArray[np.float32]:
    return in_process(artifacts, (artifacts / "test.csv").read_text(encoding="utf-8"))


def asked(container: Container, artifacts: Path) -> NDArray[np.float32]:
    """The predictions of the held-out rows."""
    rows = (artifacts / "test.csv").read_bytes()
    status, body = ask(container.port, "POST", "/invocations", rows, {"Content-Type": "text/csv"})
    assert status == 200, body
    return np.asarray(json.loads(body)["result"], dtype=np.float32)


@pytest.mark.parametrize("command", [[], ["serve"]])
def test_docker_run_with_the_trained_directory_serves(
    images: dict[str, str], artifacts: Path, run: Run, expected: NDArray[np.float32], command: list[str]
) -> None:
    container = run(images["pipeline"], *command, options=["--volume", f"{artifacts}:/opt/ml/model:ro"])

    assert asked(container, artifacts).tobytes() == expected.tobytes()
    assert container.python(LISTENING) == "[8080]"


def test_both_artifacts_can_be_mounted_unchanged(
    images: dict[str, str], artifacts: Path, run: Run, expected: NDArray[np.float32], tmp_path: Path
) -> None:
    for stage in ("featurizer", "predictor"):
        shutil.copytree(artifacts / stage / "model", tmp_path / stage)
    container = run(images["pipeline"], options=["--volume", f"{tmp_path}:/opt/ml/model:ro"])

    assert asked(container, artifacts).tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["PORT", "SAGEMAKER_BIND_TO_PORT"])
def test_with_the_artifacts_baked_in_it_serves_hardened_where_the_platform_says(
    baked: str, artifacts: Path, run: Run, expected: NDArray[np.float32], name: str
) -> None:
    container = run(baked, options=["--env", f"{name}=9123", *HARDENED], port=9123)

    assert asked(container, artifacts).tobytes() == expected.tobytes()
    assert container.python(LISTENING) == "[9123]"


def test_docker_stop_ends_it_in_order(baked: str, run: Run) -> None:
    container = run(baked)

    docker("stop", "--time", "30", container.name)

    assert container.inspect()["State"]["ExitCode"] == 0


def test_without_scikit_learn_it_serves_the_same(
    artifacts: Path, run: Run, expected: NDArray[np.float32], capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"serial-inference-lean:test-{uuid.uuid4().hex[:8]}"
    argument = ("--build-arg", "REQUIREMENTS=predictor")
    docker("build", "--quiet", "--file", "pipeline/Dockerfile", *argument, "--tag", name, ".", timeout=900)
    try:
        container = run(name, options=["--volume", f"{artifacts}:/opt/ml/model:ro"])
        assert asked(container, artifacts).tobytes() == expected.tobytes()
        assert container.python("import importlib.util as u; print(u.find_spec('sklearn'))") == "None"
        with capsys.disabled():
            size = int(docker("inspect", "--format", "{{.Size}}", name)) / 1e6
            print(f" without scikit-learn: {size:.0f} MB ", end="")
    finally:
        docker("rm", "--force", "--volumes", container.name)
        docker("rmi", "--force", name)


@pytest.fixture(scope="module")
def hosted(baked: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Function, str]]:
    """The image as Lambda runs it, and the container's name."""
    name = f"serial-inference-test-{uuid.uuid4().hex[:8]}"
    command = ["docker", "run", "--rm", "--name", name, "--network", "host", "--env", "AWS_LAMBDA_RUNTIME_API={api}"]
    try:
        with function(tmp_path_factory.mktemp("lambda") / "log", "", {}, [*command, *LAMBDA, baked]) as running:
            yield running, name
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)


def test_a_cold_start_ends_within_lambdas_ten_seconds(hosted: tuple[Function, str], capsys) -> None:
    answer = hosted[0].invoke(EVENTS["direct_rows"])
    spent = float(Container(hosted[1]).python(CPU)) / slowness()

    def told() -> list[str]:  # docker passes the log on when it comes to it
        return [line["message"] for line in hosted[0].lines() if "serving pipeline to Lambda" in line["message"]]

    wait_until(lambda: bool(told()), "the line in the log")
    loaded = told()[0]
    with capsys.disabled():
        print(f" {spent:.2f} s of CPU until the first answer, {loaded.rpartition(',')[2]} ", end="")

    assert answer["statusCode"] == 200
    assert 0 < spent < 10


def test_a_body_near_lambdas_limit_fits_its_memory(hosted: tuple[Function, str], artifacts: Path) -> None:
    rows = golden(artifacts).lists
    many = [rows[index % len(rows)] for index in range(100_000)]
    event = with_rows("url_npy", many)
    assert 4 * 2**20 < len(event) < 6 * 2**20

    assert len(predictions(hosted[0].invoke(event), 100_000)) == 100_000
    assert hosted[0].invoke(b"x" * (6 * 2**20 + 1))["statusCode"] == 413


def test_in_lambda_it_is_one_process_that_can_write_to_tmp_only(hosted: tuple[Function, str]) -> None:
    hosted[0].invoke(EVENTS["url_ping"])

    inside = Container(hosted[1])
    processes = docker("top", hosted[1]).splitlines()[1:]

    assert len(processes) == 1
    assert inside.python(WRITES) == "['/tmp']"
