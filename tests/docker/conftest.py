"""The images, built once, and the docker command."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, locked

STAGES = ("featurizer", "predictor")
DOCKERFILES = {name: f"{name}/Dockerfile" for name in (*STAGES, "local_test", "pipeline")}
DOCKERFILES["trainer"] = "pipeline/train.Dockerfile"
PROGRAMS = tuple(DOCKERFILES)
ROW = b"I,0.365,0.295,0.095,0.25,0.1075,0.0545,0.08"


def docker(*arguments: str | Path, check: bool = True, timeout: float = 300) -> str:
    """Run docker and return its standard output; with `check`, its failure shows both outputs."""
    done = subprocess.run(
        ["docker", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=timeout, cwd=ROOT
    )
    assert not check or done.returncode == 0, f"docker {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Container:
    """A running container that answers on a port of this machine."""

    name: str
    port: int = 0

    def inspect(self) -> Any:
        return json.loads(docker("inspect", self.name))[0]

    def python(self, code: str) -> str:
        """What a Python program prints inside the container."""
        return docker("exec", self.name, "python", "-c", code).strip()

    def logs(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def wait(self, seconds: float = 60) -> int:
        """The exit code, once it has ended."""
        return int(docker("wait", self.name, timeout=seconds))


@pytest.fixture(scope="session")
def images(run_directory: Path) -> Iterator[dict[str, str]]:
    """The images' names by program, built from this checkout by the first process that needs them.

    The last process that used them removes them. A container that a test left is an error.
    """
    users = run_directory / "images"
    tag = f"{run_directory.parent.name}-{run_directory.name}"  # such as pytest-of-ann-pytest-7
    names = {program: f"serial-inference-{program.replace('_', '-')}:{tag}" for program in PROGRAMS}
    with locked(run_directory / "images.lock"):
        users.mkdir(exist_ok=True)
        if not list(users.iterdir()):
            for program, name in names.items():
                # with the label no other run has the same image, so that its containers can be told from ours
                label, file = f"test-run={tag}", DOCKERFILES[program]
                docker("build", "--quiet", "--label", label, "--file", file, "--tag", name, ".", timeout=1800)
        mine = users / str(os.getpid())
        mine.touch()
    yield names
    with locked(run_directory / "images.lock"):
        mine.unlink()
        if not list(users.iterdir()):
            left = [docker("ps", "--all", "--quiet", "--filter", f"ancestor={name}") for name in names.values()]
            docker("rmi", "--force", *names.values())
            assert left == [""] * len(names)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the first test of each process the time in which the images are built."""
    for item in items:
        if item.get_closest_marker("docker") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(2400))


Run = Callable[..., Container]


@pytest.fixture
def run() -> Iterator[Run]:
    """Start containers: `run(image, "serve", options=[...], port=8080)`. All are removed at the end.

    Port 0 publishes none.
    """
    names: list[str] = []

    def start(
        image: str, *command: str, options: list[str] | None = None, port: int = 8080, wait: bool = True
    ) -> Container:
        name = f"serial-inference-test-{uuid.uuid4().hex[:8]}"
        names.append(name)
        publish = ["--publish", f"127.0.0.1::{port}"] if port else []
        docker("run", "--detach", "--name", name, *publish, *(options or []), image, *command)
        if not wait:
            return Container(name)
        container = Container(name, _published(name, port))
        _wait_for_ping(container)
        return container

    yield start
    for name in names:
        docker("rm", "--force", "--volumes", name, check=False)


def _published(name: str, port: int) -> int:
    return int(docker("port", name, str(port)).splitlines()[0].rpartition(":")[2])


def _wait_for_ping(container: Container) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if ask(container.port, "GET", "/ping")[0] == 200:
            return
        time.sleep(0.1)
    pytest.fail(f"{container.name} is not healthy; its log:\n{container.logs()}")


def ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Status and body; 0 when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def model_mount(artifacts: Path, stage: str) -> list[str]:
    return ["--volume", f"{artifacts / stage / 'model'}:/opt/ml/model:ro"]
