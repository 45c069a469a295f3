"""How long things took in the last minutes, in memory that does not grow with the number of requests."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

MINUTES = 15
FEW = 20  # of fewer durations no percentile means much
_STEPS = 16  # buckets to a doubling: a percentile is within 2.2 % of the truth
_LEAST = 0.001  # milliseconds
_MOST = 28 * _STEPS  # 2**28 microseconds, more than four minutes


@dataclass
class Histogram:
    """Counts of durations by magnitude."""

    counts: dict[int, int] = field(default_factory=dict)
    total: float = 0.0  # milliseconds

    def add(self, milliseconds: float) -> None:
        bucket = min(_MOST, round(math.log2(max(milliseconds, _LEAST) / _LEAST) * _STEPS))
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total += milliseconds

    @classmethod
    def of(cls, histograms: Iterable[Histogram]) -> Histogram:
        """All of them as one."""
        whole = cls()
        for histogram in histograms:
            for bucket, count in histogram.counts.items():
                whole.counts[bucket] = whole.counts.get(bucket, 0) + count
            whole.total += histogram.total
        return whole

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def percentile(self, share: float) -> float:
        """Milliseconds within which that share of them was done; 0 when there are none."""
        wanted, seen = math.ceil(share * self.count), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return _LEAST * 2 ** (bucket / _STEPS)
        return 0.0


class Latencies:
    """Histograms by name and minute, of the last `MINUTES`. Any thread may add and ask."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._minutes: deque[tuple[int, dict[str, Histogram]]] = deque(maxlen=MINUTES)

    def add(self, times: Mapping[str, float]) -> None:
        """Count one request: milliseconds by name."""
        minute = int(self._clock() // 60)
        with self._lock:
            if not self._minutes or self._minutes[-1][0] < minute:
                self._minutes.append((minute, {}))
            histograms = self._minutes[-1][1]
            for name, milliseconds in times.items():
                histograms.setdefault(name, Histogram()).add(milliseconds)

    def recent(self) -> dict[str, Histogram]:
        """By name, whatever was counted in this minute and the `MINUTES` - 1 before it."""
        oldest = int(self._clock() // 60) - MINUTES
        with self._lock:
            kept = [histograms for minute, histograms in self._minutes if minute > oldest]
            names = dict.fromkeys(name for histograms in kept for name in histograms)
            return {name: Histogram.of(h[name] for h in kept if name in h) for name in names}
