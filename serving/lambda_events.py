"""Lambda's events as requests, and responses as what stands behind an event expects.

A Function URL, an HTTP API, a REST API and a load balancer each send a request in an envelope and take one back. Who
invokes the function directly sends the payload itself, or an envelope of its own, and gets the same envelope back.
"""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import orjson

from serving.errors import BadPayload, cut
from serving.payload import JSON

_OWN = {"body", "headers", "isBase64Encoded"}  # the envelope of a direct invocation
# Of the connection that brought the request, which is not ours; a body comes whole.
_FRAMING = {
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


class NoRequest(Exception):
    """Records of a service that takes any answer for success, and would count them as done."""


Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True)
class Request:
    """What an event asks for. The names of `headers` are in lower case."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": JSON})
    method: str = "POST"
    path: str = "/invocations"


def read_event(event: bytes) -> Request:
    """Raises `BadPayload` (400) for a body that is not what its envelope says, and `NoRequest`."""
    try:
        found = orjson.loads(event)
    except orjson.JSONDecodeError:  # the stage will say what is wrong with it
        return Request(event)
    context = found.get("requestContext") if isinstance(found, dict) else None
    if isinstance(context, dict):
        # version 2 of the envelope, or version 1
        method = _mapping(context.get("http")).get("method") or found.get("httpMethod") or "POST"
        path = found.get("rawPath") or found.get("path") or "/"
        return Request(_body(found), _headers(found), str(method), _path(str(path)))
    if isinstance(found, dict) and (service := _service(found)):
        raise NoRequest(
            f"expected a request or a payload, got an event of {cut(service)}: this function answers who asks it; read "
            "the records with a function of your own that calls this one"
        )
    if isinstance(found, dict) and "body" in found and found.keys() <= _OWN:
        return Request(_body(found), {"content-type": JSON} | _headers(found))
    return Request(event)


def _service(event: Mapping[str, Any]) -> str:
    """Which service sends records by such an event; empty for a payload."""
    records = event.get("Records")
    first = _mapping(records[0]) if isinstance(records, list) and records else {}
    if source := first.get("eventSource") or first.get("EventSource"):  # SNS writes the second
        return str(source)
    if "eventSource" in event and event.keys() & {"records", "messages", "rmqMessagesByQueue"}:  # Kafka and MQ
        return str(event["eventSource"])
    if {"deliveryStreamArn", "records"} <= event.keys():
        return "Data Firehose"
    return "EventBridge" if {"detail-type", "source"} <= event.keys() else ""


def answer(app: Wsgi, request: Request, request_id: str) -> bytes:
    """The envelope of the application's response. The request's own id, if it has one, goes before `request_id`."""
    told: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], _error: object = None) -> None:
        told[:] = [int(status.split()[0]), dict(headers)]

    chunks = app(_environ(request, request_id), start_response)
    try:
        body = b"".join(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    return envelope(told[0], told[1], body)


def envelope(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """A response with its body as text, or in base64 where it is none."""
    try:
        text, encoded = body.decode(), False
    except UnicodeDecodeError:
        text, encoded = base64.b64encode(body).decode(), True
    kept = {name: value for name, value in headers.items() if name != "Content-Length"}  # whoever unpacks it counts
    return orjson.dumps({"statusCode": status, "headers": kept, "body": text, "isBase64Encoded": encoded})


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _headers(event: Mapping[str, Any]) -> dict[str, str]:
    """Version 1 has each header's last value, and all of them apart."""
    several = {
        name: ", ".join(map(str, values))
        for name, values in _mapping(event.get("multiValueHeaders")).items()
        if isinstance(values, list)
    }
    return {name.lower(): str(value) for name, value in (_mapping(event.get("headers")) | several).items()}


def _path(path: str) -> str:
    """The path within the container: what stands before the last segment is the API's stage or its mapping."""
    return "/" + unquote(path).rpartition("/")[2]


def _body(event: Mapping[str, Any]) -> bytes:
    body = event["body"] if event.get("body") is not None else ""
    if not isinstance(body, str):  # of somebody who did not write the payload as text
        try:
            return orjson.dumps(body)
        except orjson.JSONEncodeError as error:  # it reads deeper lists than it writes
            raise BadPayload("expected JSON of ordinary depth", code="json_syntax") from error
    if not event.get("isBase64Encoded"):
        return body.encode()
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as error:
        raise BadPayload("expected a body in base64, as isBase64Encoded says", code="bad_request") from error


def _environ(request: Request, request_id: str) -> dict[str, Any]:
    given = {
        f"HTTP_{name.upper().replace('-', '_')}": value
        for name, value in request.headers.items()
        if "_" not in name and name not in _FRAMING
    }
    return (
        {"HTTP_X_REQUEST_ID": request_id}
        | given
        | {
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path.encode("utf-8", "replace").decode("latin-1"),  # as WSGI has it
            "QUERY_STRING": "",
            "SCRIPT_NAME": "",
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(request.body)),
            "HTTP_HOST": "localhost",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }
    )
