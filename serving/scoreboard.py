"""Which workers have loaded their model: a page of memory that the supervisor and every worker share."""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "SERVING_SCOREBOARD"
SLOTS = 1023
_PAGE = 4 * (SLOTS + 1)
_STARTING, _STARTED, _DRAINING = 0, 1, 2


@dataclass(frozen=True)
class Scoreboard:
    """Slot 0 holds the server's phase, the others the process ids of the workers that are ready to answer."""

    fd: int
    cells: memoryview

    @classmethod
    def create(cls, run_dir: Path) -> Scoreboard:
        with tempfile.TemporaryFile(dir=run_dir) as file:
            file.truncate(_PAGE)
            fd = os.dup(file.fileno())
        os.set_inheritable(fd, True)
        return cls.attach(fd)

    @classmethod
    def attach(cls, fd: int) -> Scoreboard:
        """The scoreboard behind a file descriptor that this process inherited."""
        return cls(fd, memoryview(mmap.mmap(fd, _PAGE)).cast("i"))

    def assign(self, taken: set[int]) -> int:
        """A free slot for a worker about to be forked."""
        return next(slot for slot in range(1, SLOTS + 1) if slot not in taken)

    def mark_ready(self, slot: int) -> None:
        self.cells[slot] = os.getpid()

    def clear(self, slot: int) -> None:
        self.cells[slot] = 0

    def drain(self) -> None:
        self.cells[0] = _DRAINING

    def ready(self, workers: int) -> bool:
        """Whether `/ping` may answer 200: all workers have loaded once, one is there now, and none is asked to stop."""
        present = sum(1 for pid in self.cells[1:] if pid)
        if self.cells[0] == _STARTING and present >= workers:
            self.cells[0] = _STARTED
        return self.cells[0] == _STARTED and present > 0
