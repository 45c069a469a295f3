"""What a replay has found, for people and for machines."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_test.recording.differences import Comparison, Difference
from local_test.recording.exchanges import Answered, Exchange, counted
from local_test.recording.targets import Unanswered
from local_test.terminal import printable

PERCENTILES = (50, 90, 99)


@dataclass
class Replay:
    """What a replay has found."""

    recording: Path
    target: str
    comparison: Comparison
    clients: int = 1
    requests: int = 0
    unanswered: int = 0
    timed: int = 0  # requests whose answer was timed when it was recorded
    differing: list[tuple[int, Exchange, list[Difference]]] = field(default_factory=list)
    before: list[float] = field(default_factory=list)  # ms of the requests that both answered with 200
    after: list[float] = field(default_factory=list)

    def add(self, exchange: Exchange, answered: Answered | Unanswered) -> None:
        self.requests += 1
        self.timed += exchange.answered.ms is not None
        if isinstance(answered, Unanswered):
            self.unanswered += 1
            found = [Difference(0, str(exchange.answered.status), str(answered))]
        else:
            found = self.comparison.compare(exchange.answered, answered)
            if exchange.answered.status == answered.status == 200 and exchange.answered.ms is not None:
                self.before.append(exchange.answered.ms)
                self.after.append(answered.ms or 0.0)
        if found:
            self.differing.append((self.requests, exchange, found))

    def summary(self) -> dict[str, Any]:
        """What --json prints; milliseconds by percentile."""
        found = self.comparison
        return {
            "recording": str(self.recording),
            "target": self.target,
            "requests": self.requests,
            "different_requests": len(self.differing),
            "unanswered": self.unanswered,
            "rows": found.rows,
            "different_rows": found.different_rows,
            "tolerance": found.tolerance,
            "largest_difference": found.largest,
            "mean_difference": found.sum / found.numbers if found.numbers else 0.0,
            "ms_before": percentiles(self.before),
            "ms_after": percentiles(self.after),
            "differences": [
                {"request": number, "id": exchange.id, "row": one.row, "before": one.before, "after": one.after,
                 "by": one.by}
                for number, exchange, differences in self.differing for one in differences
            ],
        }  # fmt: skip


def percentiles(times: Sequence[float]) -> dict[str, float]:
    """p50, p90 and p99 of some times; nothing of fewer than two."""
    if len(times) < 2:
        return {f"p{at}": round(times[0], 3) for at in PERCENTILES if times}
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {f"p{at}": round(cuts[at - 1], 3) for at in PERCENTILES}


def report(found: Replay, show: int) -> Iterator[str]:
    """What people read: the differences, then how many there are, then the times."""
    listed = [f"request {number} ({exchange.id}): {one}" for number, exchange, some in found.differing for one in some]
    yield from map(printable, listed[: show or None])
    if left := len(listed) - len(listed[: show or None]):
        yield f"... and {left} more: --show 0, or --json"
    summary = found.summary()
    yield (
        f"{counted(found.requests)} to {found.target}: {summary['different_requests']} answered differently, "
        f"{summary['different_rows']} of {summary['rows']} rows beyond {found.comparison.tolerance:g}"
        + (f", {found.unanswered} not answered" if found.unanswered else "")
    )
    if found.comparison.largest:
        yield f"numbers are {summary['mean_difference']:.6g} apart in the mean, {found.comparison.largest:.6g} at most"
    yield from _latency(found, summary)


def _latency(found: Replay, summary: dict[str, Any]) -> Iterator[str]:
    if not found.before:
        reason = "no request was answered with 200 by both" if found.timed else "the recording has no times"
        yield f"no change in latency to show: {reason}"
        return
    if found.clients > 1:
        yield f"times of {found.clients} clients at once; the recording's are of requests as they came"
    for name, before in summary["ms_before"].items():
        after = summary["ms_after"][name]
        shown = name if len(found.before) > 1 else "one"
        yield f"{shown}  {before:9.2f} ms before  {after:9.2f} ms after  {after / before:6.2f} times"
        if len(found.before) == 1:
            return
