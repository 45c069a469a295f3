"""One check: what is examined, the payload it is asked with, and what was started so far."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from local_test.check.asking import Asking
from local_test.check.calls import NoReply, Reply, call, ping
from local_test.check.subject import CannotStart, NotHere, Running, Situation, Subject
from serving.payload import CSV, JSON

MIB = 1024 * 1024
LARGEST = 6 * MIB  # bytes of a request


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Seen:
    """What examining a rule has shown."""

    verdict: Verdict
    text: str


def fine(text: str) -> Seen:
    return Seen(Verdict.OK, text)


def wrong(text: str) -> Seen:
    return Seen(Verdict.FAILED, text)


def doubtful(text: str) -> Seen:
    return Seen(Verdict.WARNING, text)


def skipped(text: str) -> Seen:
    return Seen(Verdict.SKIPPED, text)


@dataclass(frozen=True)
class Rule:
    """A rule of the platform. `name` is what --only takes; `platform`: what SageMaker does when it is broken."""

    name: str
    title: str
    platform: str
    mend: str
    source: str


@dataclass
class Case:
    subject: Subject
    asking: Asking
    port: int
    patience: float  # seconds until the first good ping
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _hosted: Running | Exception | None = None
    started_after: float = 0.0  # seconds until the first good ping
    told: bool = False  # whether people have read why it does not start

    def __enter__(self) -> Case:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def hosted(self) -> Running:
        """As in a pipeline, on a port of the platform's choice; started once. Raises `CannotStart`."""
        if self._hosted is None:
            began = time.monotonic()
            try:
                self._hosted = self._stack.enter_context(self.subject.start(Situation(self.port)))
                self.wait_until_healthy(self._hosted)
                self.started_after = time.monotonic() - began
            except (CannotStart, NotHere) as error:
                self._hosted = error
        if isinstance(self._hosted, Exception):
            raise self._hosted
        return self._hosted

    def wait_until_healthy(self, running: Running) -> None:
        """Raises `CannotStart` when it ends, or does not answer a ping with 200 in time."""
        deadline, last = time.monotonic() + self.patience, "nothing"
        while time.monotonic() < deadline:
            if (code := running.exit_code()) is not None:
                raise CannotStart(f"it ended with exit code {code}: {last_line(running)}")
            try:
                if (reply := ping(running.port)).status == 200:
                    return
                last = str(reply)
            except NoReply as error:
                last = str(error)
            time.sleep(0.1)
        raise CannotStart(f"no ping was answered with 200 within {self.patience:.0f} s; last: {last}")

    def good(self) -> Reply:
        """The answer to the good payload, for the first Accept that gets one. Raises `NoReply`, `NotHere`."""
        if not self.asking.body:
            raise NotHere("no payload was given: --payload FILE")
        running = self.hosted()
        first = self.ask(running)
        others = (self.ask(running, {"Accept": media}) for media in (JSON, CSV) if first.status != 200)
        return next((reply for reply in others if reply.status == 200), first)

    def ask(self, running: Running, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Reply:
        """POST /invocations, with the good payload unless told otherwise. Raises `NoReply`."""
        given = {"Content-Type": self.asking.content_type} | dict(headers or {})
        return call(running.port, "POST", "/invocations", self.asking.body if body is None else body, given)


def last_line(running: Running) -> str:
    """The end of its log, for people."""
    lines = [line.strip() for line in running.log().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "its log is empty"
