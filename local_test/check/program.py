"""A directory and a `serve` command, without Docker: what an image would hold, as a process of this machine."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_test.check import listening
from local_test.check.dockerfile import configuration
from local_test.check.subject import CannotStart, NotHere, Running, Situation
from local_test.process import uninterrupted
from local_test.state import ChainError


@dataclass
class RunningProcess:
    process: subprocess.Popen[bytes]
    port: int
    output: Path

    def exit_code(self) -> int | None:
        return self.process.poll()

    def terminate(self, seconds: float) -> int | None:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> None:
        """Everything of its session: a server's workers would go on."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in listening.members(self.process.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def log(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def listening(self) -> set[int]:
        if not sys.platform.startswith("linux"):
            raise NotHere("only Linux shows who listens where")
        return listening.of_session(self.process.pid)


@dataclass(frozen=True)
class Program:
    """`directory` is where the command starts; the model directory goes to it as SM_MODEL_DIR."""

    directory: Path
    command: tuple[str, ...]
    model: Path | None
    inherited: Mapping[str, str]
    env: Mapping[str, str]

    @classmethod
    def of(
        cls, directory: Path, command: str, model: Path | None, inherited: Mapping[str, str], env: Mapping[str, str]
    ) -> Program:
        """Raises `ChainError`."""
        if not directory.is_dir():
            raise ChainError(f"{directory}: expected a directory for --serve")
        return cls(directory, tuple(shlex.split(command)), model, inherited, env)

    @property
    def name(self) -> str:
        return f"{self.directory} ({shlex.join(self.command)})"

    @property
    def mounts(self) -> bool:
        return False

    def facts(self) -> Mapping[str, Any]:
        """What the directory's Dockerfile says. Raises `NotHere` when it has none."""
        file = self.directory / "Dockerfile"
        if not file.is_file():
            raise NotHere(f"there is no Dockerfile in {self.directory}")
        return {"Config": configuration(file.read_text(encoding="utf-8", errors="replace"))}

    def manifest(self) -> str:
        raise NotHere("this is no image")

    def files_below(self, path: str) -> list[str]:
        raise NotHere(f"this is no image that could have files below {path}")

    @contextlib.contextmanager
    def start(self, situation: Situation) -> Iterator[Running]:
        if situation.user or situation.read_only:
            raise NotHere("this needs Docker")
        port = situation.port or 8080
        if not _is_free(port):
            raise NotHere(f"port {port} is taken on this machine")
        with tempfile.TemporaryDirectory() as scratch:
            empty, output = Path(scratch) / "model", Path(scratch) / "log"
            empty.mkdir()
            model = (self.model if situation.model else empty) or empty
            env = {**self.inherited, "SM_MODEL_DIR": str(model), **self.env, **situation.env}
            if situation.port:
                env |= {"SAGEMAKER_BIND_TO_PORT": str(port), "SAGEMAKER_SAFE_PORT_RANGE": f"{port}-{port + 9}"}
            with contextlib.ExitStack() as stack:
                with uninterrupted():
                    running = self._started(env, port, output)
                    stack.callback(running.kill)
                yield running

    def _started(self, env: Mapping[str, str], port: int, output: Path) -> RunningProcess:
        with output.open("wb") as log:
            try:
                process = subprocess.Popen(
                    self.command, cwd=self.directory, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise CannotStart(f"{self.command[0]}: {error.strerror}") from error
        return RunningProcess(process, port, output)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
