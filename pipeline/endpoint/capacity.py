"""How many requests a second an endpoint answers in time: more and more at once, until it no longer does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from pipeline.endpoint import runtime
from pipeline.endpoint.errors import PipelineError
from pipeline.endpoint.sending import percentiles

SAFETY = 0.5  # of what was measured: a new instance takes minutes, and load is not even
GROWTH = 2  # of the concurrency, from step to step
WARM_UP = 1.0  # seconds

# Sends one request and says how many seconds it took, or why it failed
Send = Callable[[], "float | str"]


@dataclass(frozen=True)
class Step:
    """What happened at one concurrency."""

    concurrency: int
    per_second: float
    p50: float  # milliseconds
    p99: float
    failures: int
    reason: str = ""  # of the first failure

    def __str__(self) -> str:
        failed = f", {self.failures} FAILED: {self.reason}" if self.failures else ""
        return (
            f"{self.concurrency:4} at a time: {self.per_second:8.1f} requests/s, "
            f"p50 {self.p50:.1f} ms, p99 {self.p99:.1f} ms{failed}"
        )


@dataclass(frozen=True)
class Capacity:
    """The steps that were good, and the best of them."""

    steps: Sequence[Step]
    instances: int
    p99_limit: float

    @property
    def best(self) -> Step:
        return max((step for step in self.steps if self.is_good(step)), key=lambda step: step.per_second)

    def is_good(self, step: Step) -> bool:
        return not step.failures and step.p99 <= self.p99_limit

    @property
    def target(self) -> float:
        """Invocations per instance and minute."""
        return max(1.0, float(int(self.best.per_second / self.instances * SAFETY * 60)))

    def __str__(self) -> str:
        best = self.best
        share = f" by {self.instances} instances" if self.instances > 1 else ""
        return (
            f"{best.per_second:.1f} requests/s{share} at p99 {best.p99:.1f} ms "
            f"({best.concurrency} at a time) x {SAFETY} for safety x 60 s = {self.target:.0f} a minute and instance"
        )


def measure(
    send: Send, p99_limit: float, seconds: float, most: int, instances: int, tell: Callable[[str], None]
) -> Capacity:
    """Raise the concurrency until p99 (milliseconds) exceeds its limit, a request fails, or `most` is reached.

    Raises `PipelineError` when not even one request at a time is answered in time.
    """
    run_step(send, 1, min(WARM_UP, seconds))
    steps: list[Step] = []
    capacity = Capacity(steps, instances, p99_limit)
    concurrency = 1
    while concurrency <= most:
        steps.append(run_step(send, concurrency, seconds))
        tell(str(steps[-1]))
        if not capacity.is_good(steps[-1]):
            break
        concurrency *= GROWTH
    if not capacity.is_good(steps[0]):
        raise PipelineError(
            f"one request at a time is not answered in time: {str(steps[0]).strip()}",
            "raise --p99, or see what fails: python -m pipeline logs",
        )
    return capacity


def run_step(send: Send, concurrency: int, seconds: float) -> Step:
    """Keep `concurrency` requests under way for a while, and send that many at least."""
    failed = threading.Event()
    begun = time.monotonic()

    def keep_sending(_: int) -> list[float | str]:
        found: list[float | str] = []
        while not found or (time.monotonic() < begun + seconds and not failed.is_set()):
            found.append(send())
            if isinstance(found[-1], str):
                failed.set()
        return found

    with ThreadPoolExecutor(concurrency) as pool:
        results = [result for part in pool.map(keep_sending, range(concurrency)) for result in part]
    took = time.monotonic() - begun
    times = [result for result in results if isinstance(result, float)]
    reasons = [result for result in results if isinstance(result, str)]
    ranked = percentiles(times)
    return Step(concurrency, len(times) / took, ranked["p50"], ranked["p99"], len(reasons), next(iter(reasons), ""))


def sender(client: Any, request: dict[str, Any], bodies: Sequence[bytes]) -> Send:  # noqa: ANN401
    """Sends the bodies in turn, each once and never again: a repeated request would hide a failure."""
    from botocore.exceptions import BotoCoreError, ClientError

    turn: Iterator[bytes] = cycle(bodies)
    lock, stopped = threading.Lock(), threading.Event()

    def send() -> float | str:
        with lock:
            body = next(turn)
        try:
            return runtime.ask(client, {**request, "Body": body}, stopped, retries=0).seconds
        except (BotoCoreError, ClientError) as error:
            return " ".join(str(error).split())

    return send
