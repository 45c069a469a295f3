"""How a service's clients ask and are refused: which operation a request is, and errors as its protocol has them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response
from werkzeug.wsgi import get_input_stream

from local_test.control_plane.errors import ApiError
from serving import logs

AWS_JSON = "application/x-amz-json-1.1"
FORM = "application/x-www-form-urlencoded"
XML = ("s3", "s3express", "s3-outposts", "s3-object-lambda", "cloudfront", "route53")  # services that speak REST in XML
_RPC = re.compile(r"/service/[^/]+/operation/[^/]+")
_CONTROL = "/v20180820/"  # begins every path of S3's other API, which signs alike

Environ = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A request as its service sees it. `operations`: what it may be; S3 has several names for some requests."""

    protocol: str  # json, query, xml, cbor or rest
    operations: frozenset[str]


def read(environ: Environ, service: str) -> Call:
    """What a request asks of a service. A form's body is there to be read again."""
    path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
    if path == "/" and (target := environ.get("HTTP_X_AMZ_TARGET")):
        return Call("json", frozenset([target.rpartition(".")[2]]))
    if _RPC.fullmatch(path):
        return Call("cbor", frozenset())  # which moto does not speak
    if path == "/" and (action := _action(environ)):
        return Call("query", frozenset([action]))
    if service in XML or not service:
        return Call("xml", _of_s3(environ, method, path) if service in ("s3", "") else frozenset())
    return Call("rest", frozenset())


def refusal(protocol: str, service: str, error: ApiError) -> Response:
    """An error of a service in its protocol."""
    code, message, said = escape(error.code), escape(error.message), {"message": error.message}
    request_id = logs.request_id.get() or "local"
    kind, body = "text/xml", f"<Code>{code}</Code><Message>{message}</Message>"
    if protocol == "query" and service == "ec2":
        body = f"<Response><Errors><Error>{body}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
    elif protocol == "query":
        side = "Sender" if error.status < 500 else "Receiver"
        body = f"<Error><Type>{side}</Type>{body}</Error><RequestId>{request_id}</RequestId>"
        body = f"<ErrorResponse>{body}</ErrorResponse>"
    elif protocol == "xml" and service in ("s3", ""):
        body = f"<Error>{body}<RequestId>{request_id}</RequestId></Error>"
    elif protocol == "xml":
        body = f"<ErrorResponse><Error>{body}</Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    elif protocol == "json":
        kind, body = AWS_JSON, json.dumps({"__type": error.code} | said)
    else:
        kind, body = "application/json", json.dumps(said)
    response = Response(body, error.status, content_type=kind)
    if protocol == "cbor":
        response.set_data(_cbor({"__type": error.code} | said))
        response.headers.update({"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"})
    response.headers["x-amzn-RequestId"] = request_id
    response.headers["x-amzn-ErrorType"] = error.code
    return response


def _action(environ: Environ) -> str:
    """The operation that a form names, in the body or in the URL."""
    said = environ.get("QUERY_STRING", "")
    if environ.get("CONTENT_TYPE", "").startswith(FORM):
        body = get_input_stream(environ).read()
        environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        said += "&" + body.decode("utf-8", "replace")
    return str(parse_qs(said).get("Action", [""])[0])


@dataclass(frozen=True)
class _Route:
    """How an operation of S3 is known. `depth`: 0 for the service, 1 for a bucket, 2 for an object."""

    operation: str
    method: str
    depth: int
    marks: frozenset[str]  # names in the URL's query that make it this operation
    needs: frozenset[str]  # other names in the query, and headers, that it must have


@cache
def _routes() -> tuple[_Route, ...]:
    from botocore.session import Session

    service = Session().get_service_model("s3")
    return tuple(_route(service.operation_model(name)) for name in service.operation_names)


def _route(operation: Any) -> _Route:  # noqa: ANN401 - botocore is untyped
    path, _, query = operation.http["requestUri"].partition("?")
    shape = operation.input_shape
    members = [shape.members[name].serialization for name in shape.required_members] if shape else []
    needs = {one["name"].lower() for one in members if one.get("location") in ("querystring", "header")}
    depth = {"/": 0, "/{Bucket}": 1}.get(path, 2 if path.startswith("/{Bucket}") else 3)
    marks = frozenset(part.partition("=")[0].lower() for part in query.split("&") if part)
    return _Route(operation.name, operation.http["method"], depth, marks, frozenset(needs))


def _of_s3(environ: Environ, method: str, path: str) -> frozenset[str]:
    """The names of a request to S3; none for what S3 does not have."""
    if path.startswith(_CONTROL):
        return frozenset()
    names = {name.lower() for name in parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)}
    headers = {name[5:].replace("_", "-").lower() for name in environ if name.startswith("HTTP_")}
    marks = names & {mark for route in _routes() for mark in route.marks}
    bucket, _, key = path[1:].partition("/")
    depth = 2 if key else int(bool(bucket))
    host = environ.get("HTTP_HOST", "").lower().partition(":")[0]
    depths = (depth, min(2, depth + 1)) if host.endswith(".localhost") else (depth,)
    fit = [
        route
        for route in _routes()
        if route.method == method and route.depth in depths and route.marks == marks and route.needs <= names | headers
    ]
    most = max((len(route.needs) for route in fit), default=0)
    return frozenset(route.operation for route in fit if len(route.needs) == most)


def _cbor(fields: Mapping[str, str]) -> bytes:
    """A map of fewer than 24 texts."""
    whole = bytes([0xA0 | len(fields)])
    for text in (part.encode() for pair in fields.items() for part in pair):
        whole += b"\x7a" + len(text).to_bytes(4, "big") + text
    return whole
