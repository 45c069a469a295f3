"""InvokeEndpoint of every endpoint that is hosted: the router's runtime API, with an endpoint found by its name."""

from __future__ import annotations

import io
import logging
import time
import uuid
from functools import partial

from flask import Flask, Response, g, request

from local_test.control_plane.plane import Invoked, Plane
from local_test.endpoint import Endpoint, Limits
from local_test.router import add_runtime_api
from serving import logs

log = logging.getLogger("local_test.control_plane")
_MOST = Limits().request


def add_invocations(app: Flask, plane: Plane) -> None:
    """Answer InvokeEndpoint. What is told of an invocation never changes or delays its answer's content."""
    app.before_request(_keep_request)
    add_runtime_api(app, partial(_find, plane))
    app.after_request(partial(_tell, plane))
    app.teardown_request(_give_back)


def _find(plane: Plane, name: str) -> Endpoint | None:
    """The endpoint, and a hold on the fleet that answers: it is not stopped before this request ends."""
    with plane.store.lock:
        if not (traffic := plane.traffic.get(name)):
            return None
        fleet = traffic.take()
    g.taken = (traffic, fleet)
    return fleet.endpoint


def _give_back(_error: BaseException | None) -> None:
    if taken := g.pop("taken", None):
        traffic, fleet = taken
        traffic.give_back(fleet)


def _keep_request() -> None:
    """Keep the body of an invocation: the router reads it, and then it is gone. One that is too large it refuses."""
    g.began = time.perf_counter()
    g.body = b""
    if request.path.endswith("/invocations") and 0 < (request.content_length or 0) <= _MOST:
        g.body = request.environ["wsgi.input"].read(request.content_length)
        request.environ["wsgi.input"] = io.BytesIO(g.body)


def _tell(plane: Plane, response: Response) -> Response:
    if "taken" in g and plane.observers:
        _, fleet = g.taken
        invocation = g.get("invocation")
        invoked = Invoked(
            endpoint=fleet.endpoint.name,
            variant=fleet.endpoint.variant,
            request_body=g.body,
            request_type=request.headers.get("Content-Type", ""),
            status=response.status_code,
            response_body=response.get_data(),
            response_type=response.headers.get("Content-Type", ""),
            seconds=time.perf_counter() - g.began,
            event_id=logs.request_id.get() or str(uuid.uuid4()),
            times=dict(invocation.times) if invocation else {},
        )
        for observe in plane.observers:
            observe(plane, invoked)
    return response
