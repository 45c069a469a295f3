"""Where counts go: to CloudWatch through standard output, and to whoever asks a port of the loopback."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from serving import logs, nginx_log
from serving.emf import documents
from serving.metrics import DROPPED, Page, Totals
from serving.output import Output
from serving.prometheus import exposition
from serving.scrapes import listen
from serving.settings import BadSetting, Settings

INTERVAL = 60.0  # seconds between two documents


@dataclass
class CloudWatch:
    """Writes what was counted since it last wrote, as documents for CloudWatch."""

    settings: Settings
    page: Page
    output: Output
    said: Totals = field(default_factory=Totals)
    said_refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def flush(self, extra: Mapping[str, int]) -> None:
        """`extra`: what is no count of a worker."""
        with self.lock:
            now = total(self.page)
            counted, self.said = now.since(self.said), now
            lines = documents(dimensions(self.settings), counted, time.time(), extra)
            for line in lines:
                self.output.write(line.encode("ascii") + b"\n")

    def flush_server(self, ready: int | None = None) -> None:
        """`ready`: workers that answer; None when the server has stopped, which is no reason for an alarm."""
        refused = sum(nginx_log.refused.values())
        more, self.said_refused = refused - self.said_refused, refused
        self.flush({"NginxRefusals": more} | ({} if ready is None else {"WorkersReady": ready}))


def total(page: Page) -> Totals:
    """What all workers counted, and the log lines that this process lost."""
    totals = page.totals()
    totals.scalars[DROPPED] += logs.dropped()
    return totals


def dimensions(settings: Settings) -> dict[str, str]:
    return {"Stage": settings.stage} | ({"Endpoint": settings.endpoint} if settings.endpoint else {})


@contextlib.contextmanager
def published(settings: Settings, page: Page | None, ready: Callable[[], int]) -> Iterator[None]:
    """Publish while the server runs, and what is left at the end. Raises `BadSetting` for a port that is taken."""
    with contextlib.ExitStack() as stack:
        if page and settings.metrics_port:
            _listen(settings, page, ready, stack)
        if page and settings.metrics == "emf":
            cloudwatch, stopped = CloudWatch(settings, page, Output(1)), threading.Event()
            stack.callback(cloudwatch.flush_server)
            thread = threading.Thread(target=_repeat, args=(cloudwatch, ready, stopped), name="metrics", daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(stopped.set)
        yield


def _repeat(cloudwatch: CloudWatch, ready: Callable[[], int], stopped: threading.Event) -> None:
    while not stopped.wait(INTERVAL):
        cloudwatch.flush_server(ready())


def _listen(settings: Settings, page: Page, ready: Callable[[], int], stack: contextlib.ExitStack) -> None:
    def text() -> str:
        return exposition(settings.stage, total(page), nginx_log.refused, ready())

    try:
        stack.enter_context(listen(settings.metrics_port, text))
    except OSError as error:
        raise BadSetting(f"MODEL_SERVER_METRICS_PORT: expected a free port: {error}") from error
