"""Containers of the featurizer's image, under limits that only an engine sets."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers import ROOT, wait_until
from tools.chaos.report import Given, Skipped

TAG = "serial-inference-featurizer:chaos"


@dataclass(frozen=True)
class Container:
    """A container that was started, and the port of this machine that leads to it."""

    name: str
    port: int

    def ping(self, timeout: float = 10) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/ping")
                return connection.getresponse().status
            except (OSError, http.client.HTTPException):
                return 0

    def post(self, body: bytes) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=70)
        with contextlib.closing(connection):
            connection.request("POST", "/invocations", body, {"Content-Type": "text/plain"})
            return connection.getresponse().status

    def state(self) -> tuple[bool, int]:
        """Whether it runs, and its exit code."""
        told = json.loads(docker("inspect", "--format", "{{json .State}}", self.name))
        return bool(told["Running"]), int(told["ExitCode"])

    def logs(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def python(self, code: str) -> str:
        return docker("exec", self.name, "python", "-c", code).strip()


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, cwd=ROOT, timeout=900)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"  # noqa: S101
    return done.stdout


def image(given: Given) -> str:
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        raise Skipped("no Docker engine")
    if not given.image:
        docker("build", "--quiet", "--file", "featurizer/Dockerfile", "--tag", TAG, ".")
    return given.image or TAG


@contextlib.contextmanager
def container(given: Given, *options: str, ready: bool = True, model: Path | None = None) -> Iterator[Container]:
    name, mounted = f"chaos-{uuid.uuid4().hex[:8]}", model or given.artifacts / "featurizer" / "model"
    with contextlib.ExitStack() as stack:
        tag = image(given)
        stack.callback(docker, "rm", "--force", "--volumes", name, check=False)
        docker("run", "--detach", "--name", name, "--publish", "127.0.0.1::8080", "--env", "MODEL_SERVER_WORKERS=2",
               "--volume", f"{mounted}:/opt/ml/model:ro", *options, tag, "serve")  # fmt: skip
        told = docker("port", name, "8080", check=False).splitlines()
        found = Container(name, int(told[0].rpartition(":")[2]) if told else 0)
        if ready:
            wait_until(lambda: found.ping() == 200 or not found.state()[0], "/ping to answer 200", 60)
            assert found.state()[0], found.logs()[-2000:]  # noqa: S101
        yield found
