"""Containers on the real engine: started, asked over HTTP, looked into, and always removed."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import Answer, wait_until

# Removes nothing but prints every listening TCP port. Docker's own name server, 127.0.0.11, is not ours.
LISTENING = """
rows = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}").read().splitlines()[1:]]
ports = {int(row[1][-4:], 16) for row in rows if row[3] == "0A" and not row[1].startswith("0B00007F")}
print(*sorted(ports))
"""
# Kills the master, which is a child of PID 1, of the program named.
KILL_MASTER = """
import os, pathlib, signal
for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    parent = stat.read_text().rpartition(")")[2].split()[1]
    if parent == "1" and {name!r} in (stat.parent / "cmdline").read_text():
        os.kill(int(stat.parent.name), signal.SIGKILL)
"""


def run(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed. Returns its standard output."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout


docker = functools.partial(run, "docker")


def inspect(name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(docker("inspect", name))
    return found[0]


def request(port: int, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, body or None, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())


def pings(port: int) -> int:
    """The status of /ping; 0 when nobody listens or answers."""
    try:
        return request(port, "GET", "/ping").status
    except (OSError, http.client.HTTPException):
        return 0


@dataclass(frozen=True)
class Container:
    """A container whose port `inside` is published on a free port of this machine."""

    name: str
    inside: int

    @functools.cached_property
    def port(self) -> int:
        return int(docker("port", self.name, f"{self.inside}/tcp").rpartition(":")[2])

    def invoke(self, body: bytes, content_type: str = "text/csv", **headers: str) -> Answer:
        return request(self.port, "POST", "/invocations", body, {"Content-Type": content_type, **headers})

    def python(self, script: str) -> str:
        """What a script prints that runs in the container."""
        return docker("exec", self.name, "python", "-c", script)

    def runs(self) -> bool:
        return bool(inspect(self.name)["State"]["Running"])

    def wait(self) -> int:
        """The exit code, once it ends."""
        return int(docker("wait", self.name))

    def stop(self) -> int:
        """SIGTERM, SIGKILL 30 seconds later, as SageMaker does it. Returns the exit code."""
        docker("stop", "--time", "30", self.name)
        return self.wait()

    def output(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def lines(self) -> list[dict[str, Any]]:
        """The log. Fails when a line is not JSON."""
        return [json.loads(line) for line in self.output().splitlines()]


@contextlib.contextmanager
def launched(image: str, *command: str, options: Sequence[str] = (), inside: int = 8080) -> Iterator[Container]:
    """`docker run IMAGE COMMAND`, ready or not, and removed in the end."""
    publish = ("--publish", f"127.0.0.1::{inside}")
    name = docker("run", "--detach", "--label", f"of-test={image}", *publish, *options, image, *command).strip()
    container = Container(name, inside)
    try:
        yield container
    except BaseException:
        print(f"--- {image} said:\n{container.output()[-8000:]}")
        raise
    finally:
        docker("rm", "--force", "--volumes", name)


@contextlib.contextmanager
def running(
    image: str, model: Path, *command: str, options: Sequence[str] = (), inside: int = 8080
) -> Iterator[Container]:
    """`launched` with the model mounted read-only, and waited for until /ping answers 200."""
    mount = ("--volume", f"{model}:/opt/ml/model:ro")
    with launched(image, *command, options=[*mount, *options], inside=inside) as container:
        wait_until(lambda: pings(container.port) == 200 or not container.runs(), "/ping to answer 200", 60)
        assert container.runs()
        yield container


@dataclass(frozen=True)
class Project:
    """A copy of the checkout, which `docker compose` runs under a name and on ports of its own."""

    name: str
    checkout: Path
    ports: Mapping[str, int]

    def image(self, service: str) -> str:
        return f"{self.name}-{service}"

    def compose(self, *arguments: str) -> str:
        env = os.environ | {variable: str(port) for variable, port in self.ports.items()}
        return run("docker", "compose", "--project-name", self.name, *arguments, cwd=self.checkout, env=env)

    def container(self, service: str) -> str:
        """The id of a service's container, running or not."""
        return self.compose("ps", "--all", "--quiet", service).strip()

    def left(self) -> list[str]:
        """The ids of what exists of this project's containers, networks and volumes."""
        chosen = ("--quiet", "--filter", f"label=com.docker.compose.project={self.name}")
        kinds = (("ps", "--all"), ("network", "ls"), ("volume", "ls"))
        return [name for kind in kinds for name in docker(*kind, *chosen).split()]
