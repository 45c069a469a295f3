"""Which workers have loaded which model, and since when each is busy: memory that supervisor and workers share."""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from dataclasses import dataclass
from pathlib import Path

from serving.memory import shared_memory

VARIABLE = "SERVING_SCOREBOARD"
SLOTS = 1023
_TIMES = 4 * (SLOTS + 1)  # where the times stand
_MODEL = _TIMES + 8 * (SLOTS + 1)  # where the model's fingerprint stands
_PAGE = _MODEL + 32
_UNABLE = "TtZX"  # states of /proc/PID/stat: stopped, traced, dead
_STARTING, _STARTED, _DRAINING = 0, 1, 2


@dataclass(frozen=True)
class Scoreboard:
    """Slot 0 holds the server's phase, the others the process ids of the workers that are ready to answer.

    `since` has for each slot the monotonic time at which its worker took the request it is busy with, else 0; `model`
    is the fingerprint of the model that the first worker has loaded.
    """

    fd: int
    cells: memoryview
    since: memoryview[float]
    model: memoryview

    @classmethod
    def create(cls) -> Scoreboard:
        """In memory: a disk that is full or stands still would take the whole server with it."""
        return cls.attach(shared_memory("scoreboard", _PAGE))

    @classmethod
    def attach(cls, fd: int) -> Scoreboard:
        """The scoreboard behind a file descriptor that this process inherited."""
        page = memoryview(mmap.mmap(fd, _PAGE))
        return cls(fd, page[:_TIMES].cast("i"), page[_TIMES:_MODEL].cast("d"), page[_MODEL:])

    def assign(self, taken: set[int]) -> int:
        """A free slot for a worker about to be forked."""
        return next(slot for slot in range(1, SLOTS + 1) if slot not in taken)

    def mark_ready(self, slot: int) -> None:
        self.cells[slot] = os.getpid()

    def clear(self, slot: int) -> None:
        self.cells[slot], self.since[slot] = 0, 0.0

    def drain(self) -> None:
        self.cells[0] = _DRAINING

    def agree(self, fingerprint: bytes) -> bytes:
        """The fingerprint, 32 bytes, of the model that this server serves: that of the first worker to ask."""
        fcntl.lockf(self.fd, fcntl.LOCK_EX)
        try:
            if not any(self.model):
                self.model[:] = fingerprint
            return bytes(self.model)
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)

    @property
    def starting(self) -> bool:
        """Whether some worker has not loaded even once."""
        return self.cells[0] == _STARTING

    @property
    def draining(self) -> bool:
        return self.cells[0] == _DRAINING

    def ready(self, workers: int) -> bool:
        """Whether `/ping` may answer 200: all workers have loaded once, one is there now, and none is asked to stop."""
        present = sum(1 for pid in self.cells[1:] if pid)
        if self.cells[0] == _STARTING and present >= workers:
            self.cells[0] = _STARTED
        return self.cells[0] == _STARTED and present > 0

    def able(self, patience: float) -> bool:
        """Whether some worker can answer: it is there, not stopped, and busy for no longer than `patience` seconds."""
        latest = time.monotonic() - patience
        workers = zip(self.cells[1:], self.since[1:], strict=True)
        return any(pid and not 0 < since < latest and _runs(pid) for pid, since in workers)


def _runs(pid: int) -> bool:
    """Whether a process is there and not stopped, as far as /proc tells."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return not Path("/proc/self/stat").exists()
    except OSError:
        return True
    return state not in _UNABLE
