"""A stand-in for an endpoint that asks the real one and records both sides, whoever the client is."""

from __future__ import annotations

import json
from typing import Any

from flask import Flask, Response, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wsgi import get_input_stream

from local_test.endpoint import Limits
from local_test.plan import HOST
from local_test.recording.exchanges import Asked, Exchange, Recording
from local_test.recording.targets import ATTRIBUTES, Target, Unanswered
from serving import logs
from serving.app import new_app
from serving.invocations import read_payload
from serving.payload import JSON


def create_app(target: Target, recording: Recording) -> Flask:
    """`/invocations`, and InvokeEndpoint of any endpoint's name: `target` answers, and the exchange is recorded."""
    app = new_app()

    @app.post("/invocations", provide_automatic_options=False)
    @app.post("/endpoints/<_name>/invocations", provide_automatic_options=False)
    def invocations(_name: str = "") -> Response:
        environ = request.environ
        # Servers of gunicorn's kind end the input where the body ends; werkzeug's leaves that to the application.
        environ["wsgi.input"] = get_input_stream(environ)
        body = read_payload(environ, Limits().request).body
        asked = Asked(
            request.headers.get("Content-Type", ""),
            request.headers.get("Accept", ""),
            body,
            request.headers.get(ATTRIBUTES, ""),
        )
        try:
            answered = target(asked)
        except Unanswered as error:
            return Response(_error(str(error)), 502, mimetype=JSON)
        recording.add(Exchange(logs.request_id.get(), asked, answered))
        response = Response(answered.body, answered.status)
        del response.headers["Content-Type"]
        for name, value in (("Content-Type", answered.content_type), *answered.headers.items()):
            if value:
                response.headers[name] = value
        return response

    @app.get("/ping", provide_automatic_options=False)
    def ping() -> Response:
        return Response(status=200)

    return app


def make(target: Target, recording: Recording, port: int) -> BaseWSGIServer:
    """A server on loopback that answers each request in a thread of its own. Port 0 takes a free one."""
    return make_server(HOST, port, create_app(target, recording), threaded=True, request_handler=_Handler)


class _Handler(WSGIRequestHandler):
    """Keeps connections open, sends small answers at once, and leaves the log to the application."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: ANN401
        pass


def _error(message: str) -> str:
    return json.dumps({"code": "no_answer", "message": message, "request_id": logs.request_id.get()})
