"""A container as processes, started as the integration tests start it, or under a limit."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.servers import ROOT, Server, end, environment, free_ports, launched, running, wait_until

__all__ = ["Server", "featurizer", "launched", "running", "state", "timed_ping", "under", "wait_until"]


@contextlib.contextmanager
def featurizer(artifacts: Path, env: Mapping[str, str] | None = None, port: int | None = None) -> Iterator[Server]:
    whole = {"SM_MODEL_DIR": str(artifacts / "featurizer" / "model")} | dict(env or {})
    with running("featurizer", whole, port=port) as server:
        yield server


@contextlib.contextmanager
def under(prefix: Sequence[str], stage: str, env: Mapping[str, str], output: int | None = None) -> Iterator[Server]:
    """`serve` run by another program (`prlimit ...`), its output into a descriptor; waited for until it is ready."""
    port = free_ports(1)[0]
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        log = Path(directory) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "serving", "serve"],
                cwd=ROOT,
                env=environment(stage, port, env),
                stdout=file if output is None else output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(process, port, log)
        try:
            wait_until(lambda: process.poll() is not None or server.pings() == 200, "/ping to answer 200", 60)
            yield server
        finally:
            end(server)


def state(pid: int) -> str:
    """The letter that /proc has for what a process does; empty once it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def timed_ping(server: Server) -> tuple[int, float]:
    begun = time.monotonic()
    return server.pings(), time.monotonic() - begun
