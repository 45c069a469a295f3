"""Batches of rows on their way through an endpoint: several at a time, answered in order, counted and timed."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pipeline.endpoint import answers, runtime
from pipeline.endpoint.errors import PipelineError
from pipeline.endpoint.payloads import Batch

BAR = 30  # characters


@dataclass
class Sending:
    """One run: what it asks for, and what has been answered so far."""

    client: Any
    source: str
    request: dict[str, Any]
    concurrency: int = 4
    retries: int = runtime.RETRIES
    judged_header: bool = False  # by us, from the first two rows
    progress: Progress | None = None
    media: str = ""
    rows: int = 0
    attempts: int = 0
    seconds: list[float] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def bodies(self, batches: Iterator[Batch]) -> Iterator[bytes]:
        """The answers in the order of the batches. Raises `PipelineError` for the first one that fails."""
        with ThreadPoolExecutor(self.concurrency) as pool:
            waiting: deque[tuple[Batch, Future[runtime.Answer]]] = deque()
            try:
                for batch in batches:
                    waiting.append((batch, pool.submit(self._ask, batch)))
                    if len(waiting) >= 2 * self.concurrency:
                        yield self._answered(*waiting.popleft())
                while waiting:
                    yield self._answered(*waiting.popleft(), last=not waiting)
            finally:
                self.stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, batch: Batch) -> runtime.Answer:
        return runtime.ask(self.client, {**self.request, **self._body(batch)}, self.stopped, self.retries)

    def _body(self, batch: Batch) -> dict[str, Any]:
        """The body, and whether it begins with a header, where that is known: only its beginning may be one."""
        said = "present" if batch.header else "absent" if batch.header is False and batch.first_row > 1 else ""
        if not said or not self.judged_header:
            return {"Body": batch.body}
        return {"Body": batch.body, "ContentType": f"{self.request['ContentType']}; header={said}"}

    def _answered(self, batch: Batch, future: Future[runtime.Answer], last: bool = False) -> bytes:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = future.result()
        except (BotoCoreError, ClientError) as error:
            raise runtime.refusal(error, batch, self.source, self.request["EndpointName"]) from error
        self.media = answers.media_type(answer.content_type)
        answered = answers.count(answer.body, self.media)
        self._check(batch, answered, alone=last and batch.first_row == 1)
        self.rows += answered or 0
        self.attempts += answer.attempts
        self.seconds.append(answer.seconds)
        if self.progress:
            self.progress.add(len(batch.body), self.rows)
        return answer.body

    def _check(self, batch: Batch, answered: int | None, alone: bool) -> None:
        if batch.rows is None or answered is None or answered == batch.rows:
            return
        # The endpoint knows its columns: in a file that went as it is, it may find a header that we cannot tell.
        if alone and self.judged_header and not batch.header and answered == batch.rows - 1:
            return
        next_step = "say --header present or --header absent" if self.judged_header else "check the rows of the file"
        raise PipelineError(f"the endpoint gave {answered} answers to {batch} of {self.source}", next_step)

    def summary(self, endpoint: str, took: float) -> dict[str, Any]:
        return {
            "endpoint": endpoint,
            "rows": self.rows,
            "requests": len(self.seconds),
            "retries": self.attempts - len(self.seconds),
            "seconds": round(took, 3),
            "latency_ms": percentiles(self.seconds),
        }


@dataclass
class Progress:
    """A bar on standard error. `size`: bytes of the whole, 0 when nobody knows."""

    size: int
    sent: int = 0

    def add(self, size: int, rows: int) -> None:
        self.sent += size
        share = min(1.0, self.sent / self.size) if self.size else 0.0
        bar = f"[{'#' * round(BAR * share):{BAR}}] {share:4.0%} " if self.size else ""
        print(f"\r{bar}{rows:,} rows answered", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        print(file=sys.stderr)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """In milliseconds, by the nearest rank."""
    ranked = sorted(seconds) or [0.0]
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {
        name: round(1000 * ranked[max(0, -int(-len(ranked) * share // 1) - 1)], 3) for name, share in shares.items()
    }
