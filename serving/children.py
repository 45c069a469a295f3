"""Child processes of PID 1: started in groups of their own, reaped together with every orphan."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from serving import nginx_log
from serving.tied import tied

log = logging.getLogger("serving.serve")

_LINES = 100  # of a child's own that are logged each second


@dataclass
class Children:
    """The running children by name, and the signals this process received. Needs the main thread.

    A child ends when this process does, however that is. Its `Popen` is kept until it is reaped here: otherwise the
    next one to be started would reap it unseen.
    """

    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _pipe: tuple[int, int] = field(default_factory=os.pipe)
    _killing: bool = False

    def __post_init__(self) -> None:
        os.set_blocking(self._pipe[0], False)
        os.set_blocking(self._pipe[1], False)
        signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)

    def start(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        *,
        keep: Sequence[int] = (),
        relay: bool = False,
        memory: int = 0,
    ) -> None:
        """Start a child. `keep`: descriptors it inherits; `relay`: log its standard error line by line.

        `memory`: bytes that it and its own children may each have; 0: no limit.
        """
        reader, writer = _log_pipe() if relay else (None, None)
        self.running[name] = subprocess.Popen(
            tied(command, memory), env=env, pass_fds=keep, process_group=0, stderr=writer
        )
        if reader is not None and writer is not None:
            os.close(writer)
            # a client's bytes stand in what nginx logs: if reading them failed, nobody would empty the pipe
            lines = os.fdopen(reader, encoding="utf-8", errors="backslashreplace")
            threading.Thread(target=_relay, args=(name, lines), name=f"{name} log", daemon=True).start()

    def signal(self, name: str, number: int) -> None:
        if name in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.running[name].pid, number)

    def wait_for_event(self, seconds: float | None = None) -> tuple[list[int], list[str]]:
        """Wait for signals or the end of a child. Returns the signals and the names of the children that ended."""
        select.select([self._pipe[0]], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            return [s for s in os.read(self._pipe[0], 1024) if s != signal.SIGCHLD], self._reap()
        return [], self._reap()

    def wait_until_gone(self, name: str, deadline: float) -> bool:
        """Wait for a child to end, until `deadline` on the monotonic clock. Returns whether it did."""
        while name in self.running and time.monotonic() < deadline:
            self.wait_for_event(min(0.5, max(0.0, deadline - time.monotonic())))
        return name not in self.running

    def kill_all(self) -> None:
        """End what is left at once, with everything that the children started."""
        self._killing = True
        for name, process in list(self.running.items()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            self.wait_until_gone(name, time.monotonic() + 2)

    def _reap(self) -> list[str]:
        ended = []
        names = {process.pid: name for name, process in self.running.items()}
        with contextlib.suppress(ChildProcessError):
            while (reaped := os.waitpid(-1, os.WNOHANG))[0]:
                if name := names.get(reaped[0]):
                    code = os.waitstatus_to_exitcode(reaped[1])
                    by_others = code == -signal.SIGKILL and not self._killing
                    killed = ": killed; is the memory limit too small?" if by_others else ""
                    log.info("%s ended, exit code %s%s", name, code, killed)
                    self.running.pop(name).returncode = code
                    ended.append(name)
                    # Its own children, if it was killed, would otherwise go on listening.
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(reaped[0], signal.SIGTERM)
        return ended


def _log_pipe() -> tuple[int, int]:
    """A pipe whose writer never waits for us: a line that does not fit is lost."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(OSError, AttributeError):  # the largest that anybody may have, on Linux
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
    return reader, writer


def _relay(name: str, stream: IO[str]) -> None:
    """Log a child's lines, and of a flood no more than their number: under overload each refusal is one."""
    logger = logging.getLogger(name)
    second, seen = 0, 0
    with stream:
        for line in stream:
            if (now := int(time.monotonic())) != second:
                if seen > _LINES:
                    logger.warning("%s more lines of %s were not logged", seen - _LINES, name)
                second, seen = now, 0
            seen += 1
            nginx_log.relay(logger, line, tell=seen <= _LINES)
