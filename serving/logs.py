"""Logs: one JSON object a line on standard error, with the request's id. No payload ever enters them."""

from __future__ import annotations

import functools
import io
import json
import logging
import sys
import time
import traceback
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from serving.output import LONGEST, Output

_ENCODER = json.JSONEncoder(ensure_ascii=True, default=str)
request_id: ContextVar[str] = ContextVar("request_id", default="")
notes: ContextVar[dict[str, Any]] = ContextVar("notes")  # of the request, for its line


def note(**fields: Any) -> None:  # noqa: ANN401 - whatever JSON holds
    """Add fields to the request's log line. They must not hold a caller's values."""
    if (found := notes.get(None)) is not None:
        found |= fields


class JsonFormatter(logging.Formatter):
    """A record as one JSON object; a record's `fields` dictionary joins it. A line cannot be forged by a message."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _iso(record.created),
            "level": record.levelname,
            "stage": self.stage,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if rid := request_id.get():
            line["request_id"] = rid
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = _ENCODER.encode(line)
        return text if len(text) < LONGEST else _shortened(line)

    def formatException(self, ei: Any) -> str:  # noqa: ANN401 - logging's own
        """Of a request only where it failed: what the exception says may be what the caller sent."""
        if not request_id.get() or logging.getLogger().isEnabledFor(logging.DEBUG):
            return super().formatException(ei)
        return _where(ei[1])


class Handler(logging.Handler):
    """Writes lines to a descriptor that nobody may be reading. `dropped`: how many it lost."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.output = Output(descriptor)
        self.dropped = self.untold = 0

    def emit(self, record: logging.LogRecord) -> None:
        if not self.untold and self._write(record):
            return
        if self.untold:
            said = logging.LogRecord("serving", logging.WARNING, "", 0, "%s lines were dropped", (self.untold,), None)
            if not self._write(said):
                self._drop()
                return
            self.untold = 0
            if self._write(record):
                return
        self._drop()

    def _write(self, record: logging.LogRecord) -> bool:
        return self.output.write(self.format(record).encode("ascii") + b"\n")

    def _drop(self) -> None:
        self.dropped += 1
        self.untold += 1


def configure(stage: str, level: str) -> None:
    """Send every logger of this process to standard error as JSON lines."""
    handler = Handler(2)
    handler.setFormatter(JsonFormatter(stage))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(True)
    # What no line says need not be found out for it.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # as logging's documentation has it
    sys.excepthook = _log_uncaught


def dropped() -> int:
    """How many lines this process could not write since its log was last configured."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, Handler))


class Printed(io.TextIOBase):
    """A standard error for those who print: each text becomes a log line."""

    def write(self, text: str) -> int:
        if message := text.strip():
            logging.getLogger("printed").error("%s", message)
        return len(text)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("serving").critical("stopped by an error", exc_info=(kind, error, trace))


def _where(error: BaseException | None) -> str:
    """The stack and type of an exception and of those before it, without a word of what they say."""
    told: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        stack = traceback.format_tb(error.__traceback__)
        told.insert(0, "".join([*stack, f"{type(error).__module__}.{type(error).__qualname__}"]))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\n".join(told)


def _shortened(line: dict[str, Any]) -> str:
    """The line within what a pipe takes whole: the longest texts lose their middle."""
    while len(text := _ENCODER.encode(line)) >= LONGEST:
        texts = {name: value for name, value in line.items() if isinstance(value, str)}
        longest = max(texts, key=lambda name: len(texts[name]))
        kept = max(0, len(texts[longest]) - (len(text) - LONGEST) - 8) // 2
        line[longest] = f"{texts[longest][:kept]}…{texts[longest][len(texts[longest]) - kept :]}"
    return text


@functools.lru_cache(maxsize=1)
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def _iso(seconds: float) -> str:
    return f"{_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"
