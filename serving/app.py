"""Any stage behind `/ping` and `/invocations`."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable, Mapping
from http import HTTPStatus

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from serving import logs
from serving.errors import PayloadTooLarge, ServingError, code_of
from serving.framing import check_framing, discard_body, read_body, refuse_compressed
from serving.interface import Interface
from serving.payload import JSON, Payload, Stage
from serving.settings import MIB, Settings

log = logging.getLogger("serving.app")

ID_HEADERS = ("X-Amzn-SageMaker-Inference-Id", "X-Request-Id")
CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
_VISIBLE = re.compile(r"[\x20-\x7e]{1,1024}")
_ID = re.compile(r"[\x21-\x7e]{1,128}")

NOT_READY = {"code": "not_ready", "message": "expected every worker to have loaded its model, not all have"}


def create_app(
    stage: Stage,
    settings: Settings | None = None,
    ready: Callable[[], bool] = lambda: True,
    interface: Interface | None = None,
) -> Flask:
    """The WSGI application that serves `stage`.

    `ready` says whether `/ping` may answer 200; `interface` is what a caller may ask of the stage.
    """
    settings = settings or Settings()
    app = new_app(settings)

    @app.get("/ping", provide_automatic_options=False)
    def ping() -> Response:
        return Response(status=200) if ready() else error_response(503, NOT_READY)

    @app.post("/invocations", provide_automatic_options=False)
    def invocations() -> Response:
        refuse_compressed()
        return answer(_within_limit(stage(read_payload()), settings.max_response))

    @app.get("/execution-parameters", provide_automatic_options=False)
    def execution_parameters() -> Response:
        parameters = {
            "MaxConcurrentTransforms": settings.workers,
            "BatchStrategy": "MULTI_RECORD",
            "MaxPayloadInMB": min(settings.max_body // MIB, 100),
        }
        return _document(parameters)

    if interface:
        described, openapi = interface.describe(settings), interface.openapi(settings)
        app.add_url_rule("/contract", "contract", lambda: _document(described), provide_automatic_options=False)
        app.add_url_rule("/openapi.json", "openapi", lambda: _document(openapi), provide_automatic_options=False)
    return app


def new_app(settings: Settings) -> Flask:
    """A Flask application without routes: request ids, one log line a request, and every error as JSON."""
    app = Flask("serving", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body
    app.url_map.merge_slashes = False
    app.before_request(_begin)
    app.after_request(_finish)
    app.teardown_request(lambda _error: logs.request_id.set("") and None)
    app.register_error_handler(ServingError, _refuse)
    app.register_error_handler(HTTPException, _refuse_http)
    app.register_error_handler(500, _own_fault)
    return app


def read_payload() -> Payload:
    """The request as a payload. Never `request.form` or `.json`: they guess."""
    return Payload(
        body=read_body(),
        content_type=request.headers.get("Content-Type", ""),
        accept=request.headers.get("Accept", ""),
    )


def answer(payload: Payload) -> Response:
    return Response(payload.body, content_type=payload.content_type)


def _document(document: Mapping[str, object]) -> Response:
    return Response(json.dumps(document, ensure_ascii=False) + "\n", mimetype=JSON)


def error_response(status: int, error: Mapping[str, str | int]) -> Response:
    """An error as JSON under 2,048 bytes, so that SageMaker passes it on whole."""
    body = json.dumps({**error, "request_id": logs.request_id.get()}, ensure_ascii=False)
    return Response(body, status=status, mimetype="application/json")


def _within_limit(payload: Payload, limit: int) -> Payload:
    """A pipeline's next container would never see a larger answer."""
    if limit and len(payload.body) > limit:
        message = f"expected an answer of at most {limit} bytes, got {len(payload.body)}: send fewer rows in a request"
        raise PayloadTooLarge(message, code="response_too_large")
    return payload


def _begin() -> None:
    g.started = time.perf_counter()
    given = (request.headers.get(name, "") for name in ID_HEADERS)
    logs.notes.set({})
    logs.request_id.set(next((value for value in given if _ID.fullmatch(value)), "") or uuid.uuid4().hex)
    check_framing()


def _finish(response: Response) -> Response:
    if response.status_code >= HTTPStatus.BAD_REQUEST:
        discard_body()
    response.headers["X-Request-Id"] = logs.request_id.get()
    attributes = request.headers.get(CUSTOM_ATTRIBUTES, "")
    if _VISIBLE.fullmatch(attributes) and CUSTOM_ATTRIBUTES not in response.headers:
        response.headers[CUSTOM_ATTRIBUTES] = attributes
    if request.path != "/ping" or response.status_code != HTTPStatus.OK:
        fields = {
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "bytes_in": request.content_length,
            "bytes_out": response.content_length,
            "ms": round((time.perf_counter() - g.started) * 1000, 3),
        }
        if refusal := g.get("refusal"):
            fields["code"] = refusal
        fields |= logs.notes.get()
        log.info("request", extra={"fields": fields})
    return response


def _refuse(error: ServingError) -> Response:
    g.refusal = error.code
    response = error_response(error.status, error.as_dict())
    if error.code == "unsupported_encoding":
        response.headers["Accept-Encoding"] = "identity"  # RFC 9110, 15.5.16
    return response


def _refuse_http(error: HTTPException) -> Response:
    status = error.code or 500
    if status == PayloadTooLarge.status:
        limit = request.max_content_length
        return _refuse(
            PayloadTooLarge(f"expected a body of at most {limit} bytes, got {request.content_length or 'more'}")
        )
    g.refusal = code_of(status)
    message = f"{request.method} {request.path[:64]}: {HTTPStatus(status).phrase}"
    response = error_response(status, {"code": g.refusal, "message": message})
    if allowed := getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def _own_fault(_error: HTTPException) -> Response:
    """Flask has logged the exception; the caller learns the request's id and nothing of the inside."""
    g.refusal = "internal_error"
    return error_response(
        500, {"code": "internal_error", "message": "the model server failed; its log names the reason"}
    )
