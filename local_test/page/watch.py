"""Remembers what the router answers, after the client has its answer."""

from __future__ import annotations

import time

from flask import Response, g, request

from local_test.origin import Forbidden
from local_test.page.history import Body, History
from serving import logs

WATCHED = ("invocations", "invoke_endpoint")  # of the router's addresses, by the names of their functions
_UNPREFIXED = ("CONTENT_TYPE", "CONTENT_LENGTH")


def remember(history: History, response: Response) -> Response:
    """To be called after each request: an invocation is kept once its response has been sent."""
    if request.endpoint not in WATCHED:
        return response
    if g.exchange.refusal == Forbidden.code:
        history.turn_away()
        return response
    took = (time.perf_counter() - g.exchange.started) * 1000
    request_id, line = logs.request_id.get(), f"{request.method} {request.path[:200]}"
    calls = g.invocation.calls if "invocation" in g else ()
    # what the router has put aside, and what is left
    headers = g.get("given", {}) | {
        name: value for name, value in request.environ.items() if name.startswith("HTTP_") or name in _UNPREFIXED
    }

    @response.call_on_close
    def keep() -> None:
        answered = Body.of(response.get_data(), response.headers.get("Content-Type", ""))
        answer = response.status_code, dict(response.headers.items()), answered
        history.add(request_id, line, headers, calls, answer, took)

    return response
