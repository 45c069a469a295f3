"""The control plane's HTTP server: SageMaker's API and runtime from here, what moto does right from moto, no more."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from flask import Flask, Response, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Response as WerkzeugResponse
from werkzeug.wsgi import get_input_stream

from local_test.control_plane import behind, protocols, validation
from local_test.control_plane.errors import ApiError
from local_test.control_plane.invocation import add_invocations
from local_test.control_plane.passed import PASSED
from local_test.control_plane.plane import STATUS_PATH, Operation, Plane
from local_test.control_plane.protocols import AWS_JSON, Call, Environ
from local_test.control_plane.store import ENDPOINT, Fields
from local_test.plan import HOST
from serving import logs
from serving.app import new_app

log = logging.getLogger("local_test.control_plane")

SAGEMAKER = "SageMaker"
DEEPEST = 64  # objects and lists within one another in a request
MODULES = (
    *("models", "configs", "endpoints", "tags"),
    *("transform", "training", "ecr", "registry", "scaling", "logs", "patterns", "capture"),
)
_SCOPE = re.compile(r"(Credential=[^/,\s]*/[^/,\s]*/)([^/,\s]+)(/([^/,\s]+)/aws4_request)")
_RUNTIME = re.compile(r"/endpoints/[^/]*/invocations")
_LOOPBACK = re.compile(r"(127(\.\d+){3}|\[::1\]|([\w.-]+\.)?localhost)(:\d+)?", re.IGNORECASE)

_UNANSWERABLE = {
    "SimulatePrincipalPolicy": ApiError("The local control plane does not judge by policies.", "AccessDenied", 403),
}


class Application:
    """Every request to the control plane, by what answers it."""

    def __init__(self, plane: Plane) -> None:
        modules = parts()
        plane.observers = tuple(one for module in modules for one in getattr(module, "OBSERVERS", ()))
        self._plane = plane
        self._operations: dict[tuple[str, str], Operation] = {
            (getattr(module, "SERVICE", "sagemaker"), name): operation
            for module in modules
            for name, operation in getattr(module, "OPERATIONS", {}).items()
        }
        self._own = self._flask()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if refusal := _foreign(environ):
            return Response(refusal, 403, mimetype="text/plain")(environ, start_response)
        path, service = environ["PATH_INFO"], self._service(environ)
        call = protocols.read(environ, service)
        if path == STATUS_PATH or _RUNTIME.fullmatch(path) or call.protocol == "json":
            # Servers of gunicorn's kind end the input where the body ends; werkzeug's leaves that to the application.
            environ["wsgi.input"] = get_input_stream(environ)
            return self._own(environ, start_response)
        return self._passed(environ, service, call)(environ, start_response)

    def _service(self, environ: Environ) -> str:
        """The service that the client signed for, in small letters. All regions are this control plane's."""
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        if not (scope := _SCOPE.search(authorization)):
            return "sagemaker" if environ.get("HTTP_X_AMZ_TARGET", "").startswith(f"{SAGEMAKER}.") else ""
        environ["HTTP_AUTHORIZATION"] = _SCOPE.sub(rf"\g<1>{self._plane.region}\g<3>", authorization, count=1)
        return scope[4].lower()

    def _passed(self, environ: Environ, service: str, call: Call) -> WerkzeugResponse:
        """moto's answer to what is passed to it on purpose; every other request is refused."""
        try:
            _check_passed(environ, service, call)
            return Response.from_app(behind.application(service or "s3"), environ)
        except ApiError as error:
            refused = error
        except Exception as error:  # noqa: BLE001 - whatever mistake moto makes
            refused = behind.mistaken(", ".join(call.operations), service, error)
        return protocols.refusal(call.protocol, service, refused)

    def _flask(self) -> Flask:
        app = new_app()
        app.register_error_handler(ApiError, _refusal)
        add_invocations(app, self._plane)
        app.add_url_rule("/", "api", self._api, methods=["POST"])
        app.add_url_rule(STATUS_PATH, "status", self._status)
        return app

    def _api(self) -> WerkzeugResponse:
        """An operation of a JSON service: ours, or moto's."""
        body = request.get_data()
        name = request.headers["X-Amz-Target"].rpartition(".")[2]
        service = self._service(dict(request.environ))
        operation = self._operations.get((service, name))
        if not operation and name not in PASSED.get(service, ()):
            raise _not_done(service, name)
        fields = _parsed(body)
        validation.check(name, fields, service)
        if operation:
            return _answer(operation(self._plane, fields))
        environ = request.environ | {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        return self._passed(environ, service, Call("json", frozenset([name])))

    def _status(self) -> Response:
        endpoints = [
            {"name": one.name, "status": one.fields["EndpointStatus"], "reason": one.fields.get("FailureReason", "")}
            for one in self._plane.store.all(ENDPOINT)
        ]
        whole = {"host": self._plane.host.name, "registry": self._plane.registry, "endpoints": endpoints}
        return Response(json.dumps(whole) + "\n", mimetype="application/json")


def _handler() -> type[WSGIRequestHandler]:
    """Takes bodies as HTTP/1.1 frames them, sends small answers at once, and leaves the log to the application."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler

    class Handler(MotoRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_expect_100(self) -> bool:
            return True  # werkzeug answers it, once

        def log(self, type: str, message: str, *args: Any) -> None:  # noqa: ANN401
            if type != "info":
                log.log(logging.getLevelName(type.upper()), message, *args)

    return Handler


def make(plane: Plane, port: int) -> BaseWSGIServer:
    """A server on loopback that answers each request in a thread of its own. Port 0 takes a free one."""
    return make_server(HOST, port, Application(plane), threaded=True, request_handler=_handler())


def parts() -> list[ModuleType]:
    """The modules that add operations, of SageMaker or of their SERVICE, and observers."""
    package = __name__.rpartition(".")[0]
    names = [f"{package}.{module}" for module in MODULES]
    return [importlib.import_module(name) for name in names if importlib.util.find_spec(name)]


def _check_passed(environ: Mapping[str, Any], service: str, call: Call) -> None:
    """Raise `ApiError` for what is neither done here nor moto's to answer."""
    if environ["PATH_INFO"].startswith("/moto-api"):
        words = "The local control plane has no /moto-api: `python -m local_test down` and `up` begin anew."
        raise ApiError(words, "NotFound", 404)
    if not call.operations & PASSED.get(service or "s3", frozenset()):
        shown = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        raise _not_done(service, ", ".join(sorted(call.operations)) or shown)


def _not_done(service: str, name: str) -> ApiError:
    message = (
        f"The local control plane does not do {ascii(name[:100])[1:-1]} of {ascii(service)[1:-1] or 'S3'}: it would "
        "have to invent the answer."
    )
    return _UNANSWERABLE.get(name) or ApiError(message, "NotImplemented", 501)


def _foreign(environ: Environ) -> str:
    """Why a request is refused that a web page of another site made a browser send; empty for all others."""
    if not _LOOPBACK.fullmatch(environ.get("HTTP_HOST", HOST)):
        return "this control plane answers requests to this machine only\n"
    if "HTTP_ORIGIN" in environ or environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin"):
        return "this control plane does not answer web pages\n"
    return ""


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise ApiError("The request body is not JSON.", "SerializationException") from error
    if not isinstance(fields, dict):
        raise ApiError("The request body is not a JSON object.", "SerializationException")
    return {name: _said(value, DEEPEST) for name, value in fields.items() if value is not None}


def _said(value: Any, left: int) -> Any:  # noqa: ANN401 - whatever JSON holds
    """A value without members that are null, which say as much as none. Raises `ApiError` when it is nested deeper."""
    if not left:
        raise ApiError(f"The request body is nested more than {DEEPEST} deep.", "SerializationException")
    if isinstance(value, dict):
        return {name: _said(one, left - 1) for name, one in value.items() if one is not None}
    return [_said(one, left - 1) for one in value] if isinstance(value, list) else value


def _answer(fields: Fields, status: int = 200) -> Response:
    response = Response(json.dumps(fields), status, content_type=AWS_JSON)
    response.headers["x-amzn-RequestId"] = logs.request_id.get()
    return response


def _refusal(error: ApiError) -> Response:
    return _answer({"__type": error.code, "message": error.message}, error.status)
