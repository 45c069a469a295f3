"""Server processes that outlive the command that started them: pid files, logs, an orderly end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

STOP_WITHIN = 30.0  # seconds between SIGTERM and SIGKILL, as the platform has it


@dataclass(frozen=True)
class Server:
    """`python -m serving serve` under a name, with its pid file and its log in the `state` directory."""

    name: str
    state: Path

    @property
    def log(self) -> Path:
        return self.state / f"{self.name}.log"

    @property
    def _record(self) -> Path:
        return self.state / f"{self.name}.json"

    def start(self, env: Mapping[str, str], root: Path) -> None:
        """Start it in a session of its own, so that Ctrl-C here does not reach it before we say so."""
        self.state.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "serving", "serve"],
                cwd=root, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._record.write_text(json.dumps({"pid": process.pid, "started": _start_time(process.pid)}))
        process.returncode = 0  # it is not waited for: it may outlive this command

    def pid(self) -> int | None:
        """The running server's process id. A process that only got the same id later is none of ours."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            record = json.loads(self._record.read_text())
            with contextlib.suppress(ChildProcessError):
                os.waitpid(record["pid"], os.WNOHANG)  # ours, if it is this command's child
            if _start_time(record["pid"]) == record["started"] is not None:
                return int(record["pid"])
        return None

    def stop(self) -> bool:
        """Ask it to end, and after 30 seconds make it. Returns whether it was running."""
        pid = self.pid()
        if pid:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_WITHIN
            while self.pid() and time.monotonic() < deadline:
                time.sleep(0.05)
        for left in _descendants(pid) if self.pid() and pid else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        self._record.unlink(missing_ok=True)
        return pid is not None

    def log_tail(self, lines: int = 15) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return "(no log)"


def _start_time(pid: int) -> str | None:
    """What tells a process from a later one with the same id; None when there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return found.stdout.strip() or None
    return None if fields[0] == "Z" else fields[19]


def _descendants(pid: int) -> Iterator[int]:
    """The process and all below it, leaves first."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
    parents = [tuple(map(int, line.split())) for line in found.splitlines()]
    for child, parent in parents:
        if parent == pid:
            yield from _descendants(child)
    yield pid
