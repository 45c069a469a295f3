"""What every request gets beside its answer: an id, its client's attributes back, and a line in the log."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Mapping
from http import HTTPStatus

from serving import logs
from serving.framing import Environ, discard_body

log = logging.getLogger("serving.app")

CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
_ATTRIBUTES = "HTTP_X_AMZN_SAGEMAKER_CUSTOM_ATTRIBUTES"
_VISIBLE = re.compile(r"[\x20-\x7e]{1,1024}")
_ID = re.compile(r"[\x21-\x7e]{1,128}")


class Exchange:
    """One request and its response. `refusal`: the code of the error that it was answered with."""

    def __init__(self, environ: Environ) -> None:
        self.started = time.perf_counter()
        self.environ = environ
        self.refusal = ""
        logs.notes.set({})
        logs.request_id.set(_given_id(environ) or os.urandom(16).hex())

    def finish(self, status: int, size: int | None) -> list[tuple[str, str]]:
        """The headers that the response gets besides; `size`: bytes of its body. Writes the log line."""
        if status >= HTTPStatus.BAD_REQUEST:
            discard_body(self.environ)
        headers = [("X-Request-Id", logs.request_id.get())]
        attributes = self.environ.get(_ATTRIBUTES)
        if attributes and _VISIBLE.fullmatch(attributes):
            headers.append((CUSTOM_ATTRIBUTES, attributes))
        if (status != HTTPStatus.OK or self.environ["PATH_INFO"] != "/ping") and log.isEnabledFor(logging.INFO):
            self._log(status, size)
        return headers

    def _log(self, status: int, size: int | None) -> None:
        told = self.environ.get("CONTENT_LENGTH")
        fields = {
            "method": self.environ["REQUEST_METHOD"],
            "path": self.environ["PATH_INFO"],
            "status": status,
            "bytes_in": int(told) if told and told.isdigit() else None,
            "bytes_out": size,
            "ms": round((time.perf_counter() - self.started) * 1000, 3),
        }
        if self.refusal:
            fields["code"] = self.refusal
        log.info("request", extra={"fields": fields | logs.notes.get()})


def error_body(error: Mapping[str, str | int]) -> bytes:
    """An error as JSON under 2,048 bytes, so that SageMaker passes it on whole."""
    return json.dumps({**error, "request_id": logs.request_id.get()}, ensure_ascii=False).encode()


def _given_id(environ: Environ) -> str:
    for name in ("HTTP_X_AMZN_SAGEMAKER_INFERENCE_ID", "HTTP_X_REQUEST_ID"):
        if (given := environ.get(name)) and _ID.fullmatch(given):
            return str(given)
    return ""
