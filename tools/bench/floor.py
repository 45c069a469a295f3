"""The floor: the least that nginx, gunicorn and Flask can do with a request. It reads the body and answers a constant.

What a container costs above this is ours; what is below it belongs to the servers.
"""

from __future__ import annotations

from pathlib import Path

from flask import Flask, Response, request


def app(answer: str, content_type: str) -> Flask:
    """`answer`: the path of the file that is the constant."""
    floor = Flask("floor", static_folder=None)
    constant = Path(answer).read_bytes()

    @floor.post("/invocations")
    def invocations() -> Response:
        request.get_data(cache=False)
        return Response(constant, content_type=content_type)

    return floor
