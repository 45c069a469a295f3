"""SageMaker's runtime API in front of an endpoint's containers, as boto3, the SDK and the AWS CLI speak it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from flask import Flask, Response, g, request

from local_test.connection import Oversize
from local_test.container import NoAnswer
from local_test.endpoint import CUSTOM_ATTRIBUTES, Endpoint, Invocation
from local_test.errors import RequestTooLarge, RuntimeApiError, ValidationError
from local_test.origin import check_origin
from serving import logs
from serving.app import new_app
from serving.errors import PayloadTooLarge, cut
from serving.exchange import error_body
from serving.invocations import read_payload
from serving.payload import JSON

ACCOUNT = "123456789012"
LONGEST_HEADER = 1024
# Of the client's headers only those of InvokeEndpoint reach a container; Content-Type and Accept travel in the payload.
FORWARDED = (
    CUSTOM_ATTRIBUTES,
    "X-Amzn-SageMaker-Target-Variant",
    "X-Amzn-SageMaker-Session-Id",
    "X-Amzn-SageMaker-Enable-Explanations",
)
REFUSED = {
    "X-Amzn-SageMaker-Target-Container-Hostname": "is for endpoints in Direct mode; this one is serial",
    "X-Amzn-SageMaker-Target-Model": "is for multi-model endpoints; this one has one model in each container",
    "X-Amzn-SageMaker-Inference-Component": "is for endpoints with inference components; this one has none",
}
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_ASCII = re.compile(r"[\t\x20-\x7e]*")

Find = Callable[[str], Endpoint | None]


def create_app(endpoint: Endpoint) -> Flask:
    """The router of one endpoint: the runtime API, and the paths that a container has."""
    app = new_app()
    app.before_request(lambda: check_origin(request.environ))
    add_runtime_api(app, lambda name: endpoint if name == endpoint.name else None)

    @app.post("/invocations", provide_automatic_options=False)
    def invocations() -> Response:
        return invoke(endpoint)

    @app.get("/ping", provide_automatic_options=False)
    def ping() -> Response:
        if not (reasons := endpoint.unhealthy()):
            return Response(status=200)
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        return _not_ready(f"expected every container to answer its ping, {listed}")

    @app.get("/execution-parameters", provide_automatic_options=False)
    def execution_parameters() -> Response:
        try:
            answer = endpoint.execution_parameters()
        except (NoAnswer, Oversize) as error:
            return _not_ready(f"expected execution parameters of {endpoint.containers[0].name}, {error}")
        return Response(answer.body, answer.status, content_type=answer.headers.get("content-type", JSON))

    return app


def add_runtime_api(app: Flask, find: Find) -> None:
    """Answer InvokeEndpoint for every endpoint that `find` knows, and every refusal as the runtime does."""
    app.register_error_handler(RuntimeApiError, _refuse)
    app.register_error_handler(PayloadTooLarge, _refuse_size)
    app.before_request(_take_headers)

    @app.post("/endpoints/<name>/invocations", provide_automatic_options=False)
    def invoke_endpoint(name: str) -> Response:
        return invoke(_found(name, find))


def invoke(endpoint: Endpoint) -> Response:
    """Send the current request through the endpoint's containers and answer as the runtime does."""
    _check_headers(endpoint)
    forwarded = {name: g.given[name] for name in FORWARDED if name in g.given}
    g.invocation = invocation = Invocation(endpoint, logs.request_id.get(), forwarded)
    # A body's size is the platform's rule here, not a setting.
    payload = invocation.run(read_payload(request.environ, endpoint.limits.request))
    response = Response(payload.body)
    del response.headers["Content-Type"]
    if payload.content_type:
        response.headers["Content-Type"] = payload.content_type
    response.headers["x-Amzn-Invoked-Production-Variant"] = endpoint.variant
    answered = invocation.last.headers if invocation.last else {}
    if attributes := answered.get(CUSTOM_ATTRIBUTES.lower()):
        response.headers[CUSTOM_ATTRIBUTES] = attributes
    return _stamped(response)


def _take_headers() -> None:
    """Keep the headers of InvokeEndpoint aside: the application must not echo what only a container may echo."""
    g.given = {name: request.headers[name] for name in (*FORWARDED, *REFUSED) if name in request.headers}
    request.environ.pop("HTTP_X_AMZN_SAGEMAKER_CUSTOM_ATTRIBUTES", None)


def _found(name: str, find: Find) -> Endpoint:
    if len(name) > 63 or not _NAME.fullmatch(name):
        raise ValidationError(
            f"1 validation error detected: Value '{cut(name)}' at 'endpointName' failed to satisfy constraint: Member "
            "must have length less than or equal to 63 and satisfy regular expression pattern: "
            "^[a-zA-Z0-9](-*[a-zA-Z0-9])*"
        )
    if not (endpoint := find(name)):
        raise ValidationError(f"Endpoint {name} of account {ACCOUNT} not found.")
    return endpoint


def _check_headers(endpoint: Endpoint) -> None:
    given = {"Content-Type": request.headers.get("Content-Type", ""), "Accept": request.headers.get("Accept", "")}
    for name, value in (given | g.given).items():
        if len(value) > LONGEST_HEADER or not _ASCII.fullmatch(value):
            raise ValidationError(
                f"1 validation error detected: {name} failed to satisfy constraint: Member must have length less than "
                f"or equal to {LONGEST_HEADER} and be ASCII; got {len(value)} characters"
            )
        if name in REFUSED:
            raise ValidationError(f"{name} {REFUSED[name]}.")
    variant = g.given.get("X-Amzn-SageMaker-Target-Variant", endpoint.variant)
    if variant != endpoint.variant:
        raise ValidationError(f"Variant {cut(variant)} of endpoint {endpoint.name} not found.")


def _refuse(error: RuntimeApiError) -> Response:
    g.exchange.refusal = error.code
    response = _json(error.status, error.fields())
    response.headers["x-amzn-ErrorType"] = error.error_type
    return _stamped(response)


def _refuse_size(error: PayloadTooLarge) -> Response:
    return _refuse(RequestTooLarge(error.message))


def _json(status: int, body: Mapping[str, str | int]) -> Response:
    return Response(json.dumps(body, ensure_ascii=False), status=status, mimetype=JSON)


def _not_ready(message: str) -> Response:
    g.exchange.refusal = "not_ready"
    return Response(error_body({"code": "not_ready", "message": message}), status=503, mimetype=JSON)


def _stamped(response: Response) -> Response:
    response.headers["x-amzn-RequestId"] = logs.request_id.get()
    if invocation := g.get("invocation"):
        g.exchange.times = invocation.times
        logs.note(containers={name: round(milliseconds, 3) for name, milliseconds in invocation.times.items()})
    return response
