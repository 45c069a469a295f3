"""Processes that outlive the command that started them: found again, never mistaken for another, ended wholly."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
STOPPED_WITHIN = 30.0  # seconds after SIGTERM, as the platform has it
_PROC = Path("/proc")
_OURS = ("serving", "gunicorn", "nginx")  # what a server of ours has in its command line


@dataclass(frozen=True)
class Process:
    """A process that leads a session of its own. `started` tells it from a later one with the same id."""

    name: str
    pid: int
    started: str
    port: int

    @classmethod
    def start(
        cls, name: str, command: Sequence[str], env: Mapping[str, str], port: int, log: Path, keep: Sequence[int] = ()
    ) -> Process:
        """Start `command` in this checkout, its output to `log`. `keep`: descriptors it inherits."""
        with log.open("wb") as output:
            child = subprocess.Popen(
                command,
                env=dict(env),
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=keep,
            )
        # Nobody waits for it through this object: `is_alive` reaps it, or init does after us.
        child.returncode = 0
        return cls(name, child.pid, _start_time(child.pid), port)

    def is_alive(self) -> bool:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return bool(self.started) and _start_time(self.pid) == self.started

    def terminate(self) -> None:
        if self.is_alive():
            _signal(self.pid, signal.SIGTERM)

    def wait(self, deadline: float) -> bool:
        """Wait for its end, until `deadline` on the monotonic clock. Returns whether it ended."""
        while self.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.is_alive()

    def kill(self) -> None:
        """End at once what is left of it and of all that it started."""
        alive = self.is_alive()
        if not alive and _start_time(self.pid):
            return  # another process has the id by now, so nothing of our session is left
        deadline = time.monotonic() + 5
        # Again until none is left: a killed process holds its port for a moment, and may have started another.
        while time.monotonic() < deadline and (left := self._left(all_of_it=alive)):
            for pid in left:
                _signal(pid, signal.SIGKILL)
            time.sleep(0.02)

    def _left(self, *, all_of_it: bool) -> list[int]:
        """What still runs of its session: everything, or what is surely ours."""
        found = [(pid, command) for pid, command in _session(self.pid) if _start_time(pid)]
        return [pid for pid, command in found if all_of_it or any(word in command for word in _OURS)]


def run_command(command: Sequence[str], env: Mapping[str, str] | None = None) -> int:
    """Run a command in the foreground and return its exit code.

    `KeyboardInterrupt` is passed on to the command and raised once that has ended. A command that goes on for too long
    is killed, and so it is at a second interrupt.
    """
    with contextlib.ExitStack() as stack:
        with uninterrupted():
            child = stack.enter_context(_ended(subprocess.Popen(command, env=env)))
        return child.wait()


@contextlib.contextmanager
def _ended(child: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A child process that has ended, one way or another, when the block is left."""
    try:
        yield child
    except KeyboardInterrupt:
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            child.send_signal(signal.SIGINT)
            child.wait(STOPPED_WITHIN)
        raise
    finally:
        child.kill()
        child.wait()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block ends: no process is started that nobody remembers. Main thread only."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda got, _frame: came.append(got)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def stop(processes: Sequence[Process], seconds: float = STOPPED_WITHIN) -> list[str]:
    """End processes one after the other, in the order given. Returns the names of those that had to be killed."""
    stubborn = []
    for process in processes:
        process.terminate()
        if not process.wait(time.monotonic() + seconds):
            stubborn.append(process.name)
        process.kill()
    return stubborn


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _start_time(pid: int) -> str:
    """When a process started; empty when there is none, or only its zombie."""
    if not (_PROC / "self/stat").exists():
        state, _, started = _ps("-p", str(pid), "-o", "stat=,lstart=").strip().partition(" ")
        return "" if state.startswith("Z") else started.strip()
    fields = _stat(pid)
    return fields[19] if fields and fields[0] not in "ZX" else ""


def _session(session: int) -> Iterator[tuple[int, str]]:
    """The processes of a session with their command lines."""
    if not (_PROC / "self/stat").exists():  # macOS: its ps has no session ids, so groups have to do
        for line in _ps("-A", "-o", "pid=,pgid=,command=").splitlines():
            pid, group, command = line.split(maxsplit=2)
            if int(group) == session:
                yield int(pid), command
        return
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) and int(fields[3]) == session:
            with contextlib.suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on: the name before them may hold anything."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout
