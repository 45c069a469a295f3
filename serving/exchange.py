"""What every request gets beside its answer: an id, its client's attributes back, and a line in the log."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Mapping
from http import HTTPStatus

from serving import logs, metrics
from serving.errors import cut
from serving.framing import Environ, discard_body

log = logging.getLogger("serving.app")

CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
_ATTRIBUTES = "HTTP_X_AMZN_SAGEMAKER_CUSTOM_ATTRIBUTES"
_VISIBLE = re.compile(r"[\x20-\x7e]{1,1024}")
_ID = re.compile(r"[\x21-\x7e]{1,128}")
# SageMaker's, anybody's, and what nginx calls the request in its own log and refusals.
_ID_HEADERS = ("HTTP_X_AMZN_SAGEMAKER_INFERENCE_ID", "HTTP_X_REQUEST_ID", "HTTP_X_NGINX_REQUEST_ID")


class Exchange:
    """One request and its response. `refusal`: the code of the error that it was answered with.

    `times`: milliseconds of its parts, by name, for those who know them.
    """

    def __init__(self, environ: Environ) -> None:
        self.started = time.perf_counter()
        self.environ = environ
        self.refusal = ""
        self.times: Mapping[str, float] = {}
        logs.notes.set({})
        logs.request_id.set(_given_id(environ) or os.urandom(16).hex())

    def finish(self, status: int, size: int | None) -> list[tuple[str, str]]:
        """The headers that the response gets besides; `size`: bytes of its body. Writes the log line."""
        if status >= HTTPStatus.BAD_REQUEST:
            discard_body(self.environ)
        seconds = time.perf_counter() - self.started
        headers = [("X-Request-Id", logs.request_id.get()), ("Server-Timing", self._timing(seconds))]
        attributes = self.environ.get(_ATTRIBUTES)
        if attributes and _VISIBLE.fullmatch(attributes):
            headers.append((CUSTOM_ATTRIBUTES, attributes))
        if status != HTTPStatus.OK or self.environ["PATH_INFO"] != "/ping":
            if log.isEnabledFor(logging.INFO):
                self._log(status, size, seconds)
            if recorder := metrics.recorder():
                self._count(recorder, status, size, seconds)
        return headers

    def _timing(self, seconds: float) -> str:
        parts = "".join(f"{name};dur={ms:.3f}, " for name, ms in self.times.items())
        return f"{parts}total;dur={seconds * 1000:.3f}"

    def _log(self, status: int, size: int | None, seconds: float) -> None:
        fields = {
            "method": self.environ["REQUEST_METHOD"],
            "path": cut(self.environ["PATH_INFO"], 256),
            "status": status,
            "bytes_in": self._told(),
            "bytes_out": size,
            "ms": round(seconds * 1000, 3),
        }
        if self.refusal:
            fields["code"] = self.refusal
        log.info("request", extra={"fields": fields | logs.notes.get()})

    def _count(self, recorder: metrics.Recorder, status: int, size: int | None, seconds: float) -> None:
        notes = logs.notes.get()
        amounts = {
            metrics.BYTES_IN: self._told() or 0,
            metrics.BYTES_OUT: size or 0,
            metrics.ROWS: notes.get("rows", 0) if status == HTTPStatus.OK else 0,
            metrics.UNSEEN: sum(notes.get("unseen", {}).values()),
            metrics.DROPPED: recorder.more_dropped(logs.dropped()),
        }
        recorder.record(seconds, (str(status), self.refusal) if self.refusal else (str(status),), amounts)

    def _told(self) -> int | None:
        """What the request says of its body's size."""
        told = self.environ.get("CONTENT_LENGTH")
        return int(told) if told and told.isascii() and told.isdigit() else None


def error_body(error: Mapping[str, str | int]) -> bytes:
    """An error as JSON under 2,048 bytes, so that SageMaker passes it on whole."""
    return json.dumps({**error, "request_id": logs.request_id.get()}, ensure_ascii=False).encode()


def valid_id(given: str) -> bool:
    """Whether a request may have the id that its client gave it: one word of visible ASCII."""
    return _ID.fullmatch(given) is not None


def _given_id(environ: Environ) -> str:
    for name in _ID_HEADERS:
        if (given := environ.get(name)) and valid_id(given):
            return str(given)
    return ""
