"""A stand-in for an endpoint that asks the real one and records both sides, whoever the client is."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

from flask import Flask, Response, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wsgi import get_input_stream

from local_test.origin import check_origin
from local_test.plan import HOST
from local_test.recording.exchanges import Asked, Exchange, Recording, Unwritable
from local_test.recording.targets import PASSED, Target, Unanswered
from serving import logs
from serving.app import new_app
from serving.invocations import read_payload
from serving.payload import JSON

LARGEST = 1 << 30  # bytes of a body; how many it takes is for the endpoint to say


def create_app(target: Target, recording: Recording) -> Flask:
    """`/invocations`, and InvokeEndpoint of any endpoint's name: `target` answers, and the exchange is recorded."""
    app = new_app()
    app.before_request(lambda: check_origin(request.environ))

    @app.post("/invocations", provide_automatic_options=False)
    @app.post("/endpoints/<_name>/invocations", provide_automatic_options=False)
    def invocations(_name: str = "") -> Response:
        environ = request.environ
        # Servers of gunicorn's kind end the input where the body ends; werkzeug's leaves that to the application.
        environ["wsgi.input"] = get_input_stream(environ)
        body = read_payload(environ, LARGEST).body
        others = {name: request.headers[name] for name in PASSED if name in request.headers}
        asked = Asked(request.headers.get("Content-Type", ""), request.headers.get("Accept", ""), body, others)
        try:
            answered = target(asked)
        except Unanswered as error:
            return Response(_error(str(error)), 502, mimetype=JSON)
        with contextlib.suppress(Unwritable):  # `recording.failed` says so to who started this; the client is served
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


def make(target: Target, recording: Recording, listening: socket.socket) -> BaseWSGIServer:
    """A server on an open socket of the loopback, that answers each request in a thread of its own."""
    port = listening.getsockname()[1]
    app = create_app(target, recording)
    return make_server(HOST, port, app, threaded=True, request_handler=_Handler, fd=listening.fileno())


class _Handler(WSGIRequestHandler):
    """Takes bodies as HTTP/1.1 frames them, sends small answers at once, and leaves the log to the application."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: ANN401
        pass


def _error(message: str) -> str:
    return json.dumps({"code": "no_answer", "message": message, "request_id": logs.request_id.get()})
