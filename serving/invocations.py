"""`POST /invocations` without Flask's routing and contexts, which cost more than a prediction of one row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from serving import garbage, logs
from serving.errors import ServingError
from serving.exchange import Exchange, error_body
from serving.framing import Environ, check_framing, read_body, refuse_compressed
from serving.payload import JSON, NPY, Payload, Stage
from serving.settings import Settings
from serving.sizes import check_answer

log = logging.getLogger("serving.app")

Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

OWN_FAULT = {"code": "internal_error", "message": "the model server failed; its log names the reason"}
_STATUS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class Invocations:
    """WSGI middleware: answers invocations itself, and passes every other request on."""

    def __init__(self, others: Wsgi, stage: Stage, settings: Settings) -> None:
        self.others = others
        self.stage = stage
        self.max_body, self.max_response = settings.max_body, settings.max_response
        self.batch = settings.batch

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        # nginx and Flask take several leading slashes for one
        if environ["PATH_INFO"].lstrip("/") != "invocations" or environ["REQUEST_METHOD"] != "POST":
            return self.others(environ, start_response)
        exchange = Exchange(environ)
        status, answer, headers = self._answer(exchange)
        headers += [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body)))]
        headers += exchange.finish(status, len(answer.body))
        logs.request_id.set("")
        start_response(_STATUS[status], headers)
        return [answer.body]

    def _answer(self, exchange: Exchange) -> tuple[int, Payload, list[tuple[str, str]]]:
        try:
            check_framing(exchange.environ)
            refuse_compressed(exchange.environ)
            answer = self._ask(read_payload(exchange.environ, self.max_body))
            if self.batch:
                answer = _ended(answer)
            check_answer(len(answer.body), self.max_response)
            return HTTPStatus.OK, answer, []
        except ServingError as error:
            exchange.refusal = error.code
            return error.status, Payload(error_body(error.as_dict()), JSON), error_headers(error)
        except Exception:
            exchange.refusal = OWN_FAULT["code"]
            log.exception("exception on POST /invocations")
            return HTTPStatus.INTERNAL_SERVER_ERROR, Payload(error_body(OWN_FAULT), JSON), []

    def _ask(self, payload: Payload) -> Payload:
        if len(payload.body) < garbage.LARGE:
            return self.stage(payload)
        with garbage.left_alone():
            return self.stage(payload)


def read_payload(environ: Environ, most: int) -> Payload:
    """The request as a payload of at most `most` bytes."""
    return Payload(
        body=read_body(environ, most),
        content_type=environ.get("CONTENT_TYPE") or "",
        accept=environ.get("HTTP_ACCEPT") or "",
    )


def error_headers(error: ServingError) -> list[tuple[str, str]]:
    """RFC 9110 has some refusals name what would do: 15.5.6 and 15.5.16."""
    if error.code == "unsupported_encoding":
        return [("Accept-Encoding", "identity")]
    return [("Allow", "GET, POST")] if error.status == HTTPStatus.METHOD_NOT_ALLOWED else []


def _ended(answer: Payload) -> Payload:
    """A piece of Batch Transform's file: another may follow it without anything between them."""
    if answer.content_type.startswith(NPY) or answer.body.endswith(b"\n"):
        return answer
    return replace(answer, body=answer.body + b"\n")
