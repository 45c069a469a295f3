"""What became of the requests."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What became of the requests. `refused`: those answered with a code that the fault allows."""

    right: int = 0
    refused: int = 0
    lost: int = 0
    wrong: int = 0
    examples: list[str] = field(default_factory=list)
    took: array[float] = field(default_factory=lambda: array("d"))  # seconds, of right answers
    refusals: array[float] = field(default_factory=lambda: array("d"))
    lost_sent: array[float] = field(default_factory=lambda: array("d"))  # when those that were lost were begun
    ended: array[float] = field(default_factory=lambda: array("d"))  # monotonic time of every end
    good: bytearray = field(default_factory=bytearray)  # whether it was right

    @property
    def requests(self) -> int:
        return self.right + self.refused + self.lost + self.wrong

    def add(self, kind: str, seconds: float, example: str = "") -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        self.ended.append(time.monotonic())
        self.good.append(kind == "right")
        if kind == "right":
            self.took.append(seconds)
        elif kind == "refused":
            self.refusals.append(seconds)
        elif kind == "lost":
            self.lost_sent.append(time.monotonic() - seconds)
        if example and len(self.examples) < 10:
            self.examples.append(f"{kind}: {example}")

    def recovery(self, fault: float) -> float:
        """Seconds from the fault to the first of ten right answers in a row after the last that was not."""
        bad = [at for at, good in zip(self.ended, self.good, strict=True) if at >= fault and not good]
        return (min((at for at in self.ended if at > bad[-1]), default=bad[-1]) - fault) if bad else 0.0

    def percentile(self, share: float, times: array[float] | None = None) -> float:
        ordered = sorted(self.took if times is None else times)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
