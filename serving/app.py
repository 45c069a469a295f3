"""Any stage behind `/ping` and `/invocations`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from serving import logs
from serving.errors import ServingError, code_of
from serving.exchange import Exchange, error_body
from serving.framing import check_framing
from serving.interface import Interface
from serving.invocations import OWN_FAULT, Invocations, error_headers
from serving.payload import JSON, Stage
from serving.settings import MIB, Settings

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
    app = new_app()
    app.wsgi_app = Invocations(app.wsgi_app, stage, settings)  # type: ignore[method-assign]
    # Here for the other methods: Flask answers them 405 and names this one.
    app.add_url_rule("/invocations", "invocations", methods=["POST"], provide_automatic_options=False)

    @app.get("/ping", provide_automatic_options=False)
    def ping() -> Response:
        return Response(status=200) if ready() else _refusal(503, NOT_READY)

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


def new_app() -> Flask:
    """A Flask application without routes: request ids, one log line a request, and every error as JSON."""
    app = Flask("serving", static_folder=None)
    app.url_map.merge_slashes = False
    app.before_request(_begin)
    app.after_request(_finish)
    app.teardown_request(lambda _error: logs.request_id.set("") and None)
    app.register_error_handler(ServingError, _refuse)
    app.register_error_handler(HTTPException, _refuse_http)
    app.register_error_handler(500, _own_fault)
    return app


def _begin() -> None:
    g.exchange = Exchange(request.environ)
    check_framing(request.environ)


def _finish(response: Response) -> Response:
    exchange: Exchange = g.exchange
    for name, value in exchange.finish(response.status_code, response.content_length):
        response.headers.setdefault(name, value)
    return response


def _document(document: Mapping[str, object]) -> Response:
    return Response(json.dumps(document, ensure_ascii=False) + "\n", mimetype=JSON)


def _refusal(status: int, error: Mapping[str, str | int]) -> Response:
    g.exchange.refusal = error["code"]
    return Response(error_body(error), status=status, mimetype=JSON)


def _refuse(error: ServingError) -> Response:
    response = _refusal(error.status, error.as_dict())
    response.headers.extend(error_headers(error))
    return response


def _refuse_http(error: HTTPException) -> Response:
    status = error.code or 500
    message = f"{request.method} {request.path[:64]}: {HTTPStatus(status).phrase}"
    response = _refusal(status, {"code": code_of(status), "message": message})
    if allowed := getattr(error, "valid_methods", None):
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def _own_fault(_error: HTTPException) -> Response:
    """Flask has logged the exception; the caller learns the request's id and nothing of the inside."""
    return _refusal(500, OWN_FAULT)
