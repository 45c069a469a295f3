"""An image that this machine's Docker knows, each start a container of its own."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_test.check.listening import reachable
from local_test.check.subject import SERVED, CannotStart, NotHere, Running, Situation
from local_test.state import ChainError

SECOND_PORT = 1  # a container publishes its own port and the next, for one that shares its network
_HELP = re.compile(r"(Run|See) 'docker ")
_REGISTRY = re.compile(r"[^/]+[.:][^/]*/|localhost/")


@dataclass
class RunningContainer:
    docker: str
    name: str
    inside: int
    port: int
    network: str

    def exit_code(self) -> int | None:
        state = self._state()
        return None if state["Running"] else int(state["ExitCode"])

    def terminate(self, seconds: float) -> int | None:
        subprocess.run([self.docker, "kill", "--signal", "TERM", self.name], check=False, capture_output=True)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (code := self.exit_code()) is not None:
                return code
            time.sleep(0.1)
        subprocess.run([self.docker, "kill", self.name], check=False, capture_output=True)
        return None

    def log(self) -> str:
        done = subprocess.run([self.docker, "logs", self.name], check=False, capture_output=True)
        return (done.stdout + done.stderr).decode("utf-8", "replace")

    def listening(self) -> set[int]:
        """From the tables of the container's network: on this machine's /proc, or by its own `cat`."""
        tables = [Path(f"/proc/{self._state()['Pid']}/net/{name}") for name in ("tcp", "tcp6")]
        try:
            text = "".join(table.read_text() for table in tables)
        except OSError:
            command = [self.docker, "exec", self.name, "cat", "/proc/net/tcp", "/proc/net/tcp6"]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                raise NotHere("the engine is on another machine, and the image has no `cat`") from None
            text = done.stdout
        return reachable(text)

    def _state(self) -> dict[str, Any]:
        done = _output(self.docker, "container", "inspect", "--format", "{{json .State}}", self.name)
        state: dict[str, Any] = json.loads(done)
        return state


@dataclass(frozen=True)
class Image:
    """`model` is mounted read-only where SageMaker unpacks the artifact."""

    name: str
    docker: str
    model: Path | None
    env: Mapping[str, str]

    @classmethod
    def of(cls, name: str, path: str | None, model: Path | None, env: Mapping[str, str]) -> Image:
        """Raises `ChainError` when there is no Docker, or no such image."""
        if not (docker := shutil.which("docker", path=path)):
            raise ChainError("docker is not on PATH; without it: python -m local_test check DIRECTORY --serve COMMAND")
        made = cls(name, docker, model, env)
        made.facts()
        return made

    @property
    def mounts(self) -> bool:
        return True

    def facts(self) -> Mapping[str, Any]:
        done = subprocess.run([self.docker, "image", "inspect", self.name], check=False, capture_output=True, text=True)
        if done.returncode:
            raise ChainError(f"{self.name}: {_last(done.stderr)}; build or pull it first")
        facts: dict[str, Any] = json.loads(done.stdout)[0]
        return facts

    def manifest(self) -> str:
        if not _REGISTRY.match(self.name):
            raise NotHere("it is not pushed: name it as REGISTRY/REPOSITORY:TAG, or let build_and_push.sh check it")
        command = [self.docker, "buildx", "imagetools", "inspect", "--raw", self.name]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise NotHere(f"its registry does not show it: {_last(done.stderr)}")
        return str(json.loads(done.stdout).get("mediaType", "none given"))

    def files_below(self, path: str) -> list[str]:
        name = f"check-{uuid.uuid4().hex[:12]}"
        try:
            _output(self.docker, "create", "--name", name, self.name, "serve")
            command = [self.docker, "cp", f"{name}:{path}", "-"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            with process, tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                return [f"/{member.name}" for member in archive if not member.isdir()]
        except tarfile.ReadError:
            return []  # there is no such directory
        finally:
            subprocess.run([self.docker, "rm", "--force", name], check=False, capture_output=True)

    @contextlib.contextmanager
    def start(self, situation: Situation) -> Iterator[Running]:
        name = f"check-{uuid.uuid4().hex[:12]}"
        inside = situation.port or 8080
        with tempfile.TemporaryDirectory() as empty:
            Path(empty).chmod(0o755)  # for any user of the container
            command = [self.docker, "run", "--detach", "--name", name, *self._options(situation, inside, Path(empty))]
            try:
                done = subprocess.run([*command, self.name, "serve"], check=False, capture_output=True, text=True)
                if done.returncode:
                    raise CannotStart(_last(done.stderr))
                yield self._running(name, inside, situation.beside)
            finally:
                subprocess.run([self.docker, "rm", "--force", "--volumes", name], check=False, capture_output=True)

    def _options(self, situation: Situation, inside: int, empty: Path) -> list[str]:
        options = []
        if isinstance(situation.beside, RunningContainer):
            options += ["--network", f"container:{situation.beside.name}"]
        else:
            options += ["--publish", f"127.0.0.1::{inside}", "--publish", f"127.0.0.1::{inside + SECOND_PORT}"]
        env = dict(self.env) | dict(situation.env)
        if situation.port:
            env |= {"SAGEMAKER_BIND_TO_PORT": str(inside), "SAGEMAKER_SAFE_PORT_RANGE": f"{inside}-{inside + 9}"}
        options += [part for key, value in env.items() for part in ("--env", f"{key}={value}")]
        model = (self.model if situation.model else empty) or empty
        options += ["--volume", f"{model}:{SERVED}{'' if situation.writable_model else ':ro'}"]
        options += ["--user", situation.user] if situation.user else []
        return options + (["--read-only", "--tmpfs", "/tmp"] if situation.read_only else [])  # noqa: S108 - its own

    def _running(self, name: str, inside: int, beside: Running | None) -> RunningContainer:
        network = beside.name if isinstance(beside, RunningContainer) else name
        done = subprocess.run(
            [self.docker, "port", network, f"{inside}/tcp"], check=False, capture_output=True, text=True
        )
        if done.returncode or not done.stdout.strip():
            ended = RunningContainer(self.docker, name, inside, 0, network)
            code = ended.exit_code()
            how = "no port of it is published" if code is None else f"it ended with exit code {code}"
            raise CannotStart(f"{how}: {_last(ended.log())}")
        port = int(done.stdout.splitlines()[0].rpartition(":")[2])
        return RunningContainer(self.docker, name, inside, port, network)


def _output(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise CannotStart(_last(done.stderr))
    return done.stdout


def _last(text: str) -> str:
    """The last line that says something; docker's own last one says where its help is."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _HELP.match(line)]
    return lines[-1][:300] if lines else "nothing was said"
