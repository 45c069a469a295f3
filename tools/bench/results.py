"""What was measured, round by round, and what it is held against."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

MIB = 1024 * 1024


@dataclass(frozen=True)
class Key:
    """One number of one contender: of a container or the chain, `rows` in a body, so many clients at once.

    Metrics: `rows_per_second`, `p50`, `p99`, `start` (seconds), `fixed`, `per_worker` (bytes).
    """

    part: str
    contender: str
    metric: str
    rows: int = 1
    clients: int = 8


@dataclass(frozen=True)
class Spread:
    """The median of the rounds, and how far they lie apart."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Results:
    values: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, key: Key, value: float) -> None:
        self.values[key].append(value)

    def spread(self, key: Key) -> Spread | None:
        return Spread.of(self.values[key]) if key in self.values else None

    def ratio(self, top: Key, bottom: Key) -> Spread | None:
        """Of the two in each round: what the machine does besides changes from round to round."""
        if top not in self.values or bottom not in self.values:
            return None
        pairs = zip(self.values[top], self.values[bottom], strict=True)
        return Spread.of([above / below for above, below in pairs])


@dataclass(frozen=True)
class Target:
    """A number that should be at least, or at most, its bound; with `over`, its ratio to another one."""

    text: str
    key: Key
    bound: float
    over: Key | None = None
    at_least: bool = False
    unit: float = 1.0

    def measured(self, results: Results) -> Spread | None:
        found = results.ratio(self.key, self.over) if self.over else results.spread(self.key)
        return found and Spread(found.median / self.unit, found.least / self.unit, found.most / self.unit)

    def met(self, found: Spread) -> bool:
        return found.median >= self.bound if self.at_least else found.median <= self.bound


def _against(other: str, text: str, key: Key, bound: float, *, at_least: bool = False) -> Target:
    return Target(text, key, bound, replace(key, contender=other), at_least)


def targets(large: Sequence[int], sync_floor: str) -> Iterator[Target]:
    """`sync_floor`: the contender whose p99 counts."""
    speed, chain = "rows_per_second", "chain"
    yield _against("floor", "featurizer, 1 row, 8 clients: requests/s over the floor's",
                   Key("featurizer", "ours", speed), 0.85, at_least=True)  # fmt: skip
    yield _against("floor", "predictor, 1 row, 8 clients: requests/s over the floor's",
                   Key("predictor", "ours", speed), 0.80, at_least=True)  # fmt: skip
    yield _against("floor", "chain, 1 row, 8 clients: requests/s over two floors'",
                   Key(chain, "ours", speed), 0.80, at_least=True)  # fmt: skip
    yield _against("floor", "chain, 1 row, 1 client: p50 over two floors'", Key(chain, "ours", "p50", clients=1), 1.3)
    for stage in ("featurizer", "predictor"):
        text = f"{stage}, 1 row, 8 clients: p99 over the sync floor's"
        yield _against(sync_floor, text, Key(stage, "ours", "p99"), 2.0)
    yield _against("sample", "chain, 1 row, 8 clients: requests/s over the AWS sample's",
                   Key(chain, "ours", speed), 25.0, at_least=True)  # fmt: skip
    for rows, bound in ((1_000, 0.9), (50_000, 1.0)):
        if rows in large:
            text = f"chain, {rows:,} rows, 1 client: rows/s over one thread's without HTTP"
            key = Key(chain, "ours", speed, rows, 1)
            yield _against("in-process", text, key, bound, at_least=True)
    for stage in ("featurizer", "predictor"):
        yield Target(f"{stage}: seconds from start to the first 200", Key(stage, "ours", "start"), 1.5)
    for stage, most in (("featurizer", 45.0), ("predictor", 70.0)):
        text = f"{stage}: MiB (PSS) for one more worker"
        yield Target(text, Key(stage, "ours", "per_worker"), most, unit=MIB)
