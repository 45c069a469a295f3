"""Counts of what was answered, in memory that the supervisor and every worker share.

Each worker writes a slot of its own. When it dies its counts stay, and its successor goes on with them, so that no
count ever goes back.
"""

from __future__ import annotations

import mmap
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from serving.memory import shared_memory

VARIABLE = "SERVING_METRICS"
SLOTS = 1015
# Seconds: six buckets in each power of ten, from 50 microseconds to the longest that a request may take.
BOUNDS = (0.00005, 0.00007, *(float(f"{step}e{power}") for power in range(-4, 1) for step in (1, 1.5, 2, 3, 5, 7)),
          10.0, 15.0, 20.0, 30.0, 50.0, 60.0)  # fmt: skip
SCALARS = ("starts", "ends", "bytes_in", "bytes_out", "rows", "unseen", "dropped")
STARTS, ENDS, BYTES_IN, BYTES_OUT, ROWS, UNSEEN, DROPPED = range(len(SCALARS))
_BUCKETS = len(BOUNDS) + 1
_COUNTS, _NANOSECONDS = len(SCALARS), len(SCALARS) + _BUCKETS
_NAMED = _NANOSECONDS + _BUCKETS  # counts of statuses and codes, whose names stand behind them
_NAMES, _NAME = 128, 48  # how many, and bytes of each; the last byte is 1 once the name is whole
_CELLS = _NAMED + _NAMES
_SIZE = -(-(_CELLS * 8 + _NAMES * _NAME) // 4096) * 4096


@dataclass
class Totals:
    """What was counted so far. `named`: by status and by the code of the refusal."""

    scalars: list[int] = field(default_factory=lambda: [0] * len(SCALARS))
    counts: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    nanoseconds: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    named: Counter[str] = field(default_factory=Counter)

    def since(self, earlier: Totals) -> Totals:
        """What was counted after `earlier`."""
        return Totals(
            [now - then for now, then in zip(self.scalars, earlier.scalars, strict=True)],
            [now - then for now, then in zip(self.counts, earlier.counts, strict=True)],
            [now - then for now, then in zip(self.nanoseconds, earlier.nanoseconds, strict=True)],
            self.named - earlier.named,
        )


class Slot:
    """The counts of one worker, and of those that had its place before."""

    def __init__(self, memory: memoryview) -> None:
        self.cells = memory[: _CELLS * 8].cast("q")
        self.names = memory[_CELLS * 8 :]

    def add(self, cell: int, amount: int = 1) -> None:
        self.cells[cell] += amount

    def known(self) -> Iterator[tuple[str, int]]:
        """The names that have a count, with its cell."""
        for position in range(_NAMES):
            name = bytes(self.names[position * _NAME : (position + 1) * _NAME])
            if not name[-1]:
                return
            yield name[:-1].rstrip(b"\0").decode("ascii"), _NAMED + position

    def name(self, text: str, position: int) -> None:
        """Give a count its name. The last byte goes last: a worker may be killed at any moment."""
        start = position * _NAME
        self.names[start : start + _NAME - 1] = text.encode("ascii", "replace")[: _NAME - 1].ljust(_NAME - 1, b"\0")
        self.names[start + _NAME - 1] = 1

    def add_to(self, totals: Totals) -> None:
        cells = self.cells
        for scalar in range(len(SCALARS)):
            totals.scalars[scalar] += cells[scalar]
        for bucket in range(_BUCKETS):
            totals.counts[bucket] += cells[_COUNTS + bucket]
            totals.nanoseconds[bucket] += cells[_NANOSECONDS + bucket]
        for name, cell in self.known():
            totals.named[name] += cells[cell]


@dataclass(frozen=True)
class Page:
    """The slots of all workers, counted from 1. `fd`: what a process inherits; -1: nobody does."""

    fd: int
    memory: memoryview

    @classmethod
    def create(cls) -> Page:
        return cls.attach(shared_memory("metrics", SLOTS * _SIZE))

    @classmethod
    def attach(cls, fd: int) -> Page:
        return cls(fd, memoryview(mmap.mmap(fd, SLOTS * _SIZE)))

    @classmethod
    def private(cls) -> Page:
        """Of a server that is one process."""
        return cls(-1, memoryview(bytearray(_SIZE)))

    def slot(self, number: int) -> Slot:
        return Slot(self.memory[(number - 1) * _SIZE : number * _SIZE])

    def totals(self) -> Totals:
        """The sum of all slots. They are given out in order, so none is behind one that never had a worker."""
        totals = Totals()
        for number in range(1, len(self.memory) // _SIZE + 1):
            slot = self.slot(number)
            if not slot.cells[STARTS]:
                break
            slot.add_to(totals)
        return totals


class Recorder:
    """Writes one slot; the only one that does, by one thread at a time."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.places: dict[str, int] = dict(slot.known())
        self.lock = threading.Lock()
        self.dropped = 0

    def record(self, seconds: float, names: tuple[str, ...], amounts: dict[int, int]) -> None:
        """One answer: how long it took, its status and the code of its refusal, and what it adds to other cells."""
        with self.lock:
            cells = self.slot.cells
            bucket = bisect_left(BOUNDS, seconds)
            cells[_COUNTS + bucket] += 1
            cells[_NANOSECONDS + bucket] += int(seconds * 1e9)
            for name in names:
                cells[self.places.get(name) or self._place(name)] += 1
            for cell, amount in amounts.items():
                if amount:
                    cells[cell] += amount

    def more_dropped(self, now: int) -> int:
        """How many log lines were lost since this was last asked; `now`: how many by now."""
        more, self.dropped = max(0, now - self.dropped), now
        return more

    def _place(self, name: str) -> int:
        """A new name's cell; where no more names fit, the one of all others."""
        position = min(len(self.places), _NAMES - 1)
        if position == len(self.places):
            self.slot.name(name if position < _NAMES - 1 else "other", position)
        self.places[name] = _NAMED + position
        return _NAMED + position


_recorder: Recorder | None = None


def record_into(slot: Slot | None) -> None:
    """From here on this process counts its answers in `slot`; None: nowhere."""
    global _recorder
    _recorder = Recorder(slot) if slot else None


def recorder() -> Recorder | None:
    return _recorder
