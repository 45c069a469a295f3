"""Logs: one JSON object a line on standard error, with the request's id. No payload ever enters them."""

from __future__ import annotations

import io
import json
import logging
import sys
import time
from contextvars import ContextVar
from types import TracebackType
from typing import Any

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
        return _ENCODER.encode(line)


def configure(stage: str, level: str) -> None:
    """Send every logger of this process to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(stage))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(True)
    # What no line says need not be found out for it.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # as logging's documentation has it
    sys.excepthook = _log_uncaught


class Printed(io.TextIOBase):
    """A standard error for those who print: each text becomes a log line."""

    def write(self, text: str) -> int:
        if message := text.strip():
            logging.getLogger("printed").error("%s", message)
        return len(text)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("serving").critical("stopped by an error", exc_info=(kind, error, trace))


def _iso(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
