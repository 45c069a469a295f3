"""SageMaker's runtime API over a local endpoint: what boto3, the SDK, the AWS CLI and curl talk to."""

from __future__ import annotations

import json
import re

from flask import Flask, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from local_test.endpoint import ATTRIBUTES, Endpoint
from local_test.errors import RequestTooLarge, RuntimeApiError, ValidationError
from serving import logs
from serving.app import error_response, new_app, read_payload
from serving.payload import Payload
from serving.settings import Settings

LARGEST = 6_291_456  # bytes of a request, as InvokeEndpoint has it
LONGEST_HEADER = 1024
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
# Of a client's headers SageMaker passes on these, beside Content-Type and Accept.
FORWARDED = (
    ATTRIBUTES,
    "X-Amzn-SageMaker-Session-Id",
    "X-Amzn-SageMaker-Target-Variant",
    "X-Amzn-SageMaker-Target-Model",
)


def create_router(endpoint: Endpoint) -> Flask:
    """The WSGI application of one endpoint: `/endpoints/NAME/invocations`, `/invocations` and `/ping`."""
    app = new_app(Settings(max_body=LARGEST))
    app.register_error_handler(RuntimeApiError, _refuse)
    app.register_error_handler(RequestEntityTooLarge, _refuse_large)

    @app.get("/ping", provide_automatic_options=False)
    def ping() -> Response:
        wrong = endpoint.unhealthy()
        if not wrong:
            return Response(status=200)
        message = "; ".join(f"{name}: {reason}" for name, reason in wrong.items())
        return error_response(
            503, {"code": "not_ready", "message": f"expected every container to be healthy; {message}"}
        )

    @app.post("/invocations", provide_automatic_options=False)
    def invocations() -> Response:
        return _invoke(endpoint)

    @app.post("/endpoints/<name>/invocations", provide_automatic_options=False)
    def invoke_endpoint(name: str) -> Response:
        if not _NAME.fullmatch(name):
            raise ValidationError(
                f"expected an endpoint name of letters, digits and hyphens, at most 63, got {name[:64]}"
            )
        if name != endpoint.name:
            raise ValidationError(
                f"Endpoint {name} of account 000000000000 not found. This machine serves {endpoint.name}."
            )
        return _invoke(endpoint)

    return app


def _invoke(endpoint: Endpoint) -> Response:
    payload = _checked(read_payload())
    # Ours, not the platform's: one id for a request in every container's log.
    forwarded = {"X-Amzn-SageMaker-Inference-Id": logs.request_id.get()}
    forwarded |= {name: request.headers[name] for name in FORWARDED if name in request.headers}
    done = endpoint.invoke(payload, forwarded)
    response = Response(done.answer.body, content_type=done.answer.content_type)
    response.headers["x-Amzn-Invoked-Production-Variant"] = "AllTraffic"
    response.headers["x-amzn-RequestId"] = logs.request_id.get()
    response.headers["Server-Timing"] = ", ".join(f"{name};dur={ms:.3f}" for name, ms in done.milliseconds.items())
    if done.attributes:
        response.headers[ATTRIBUTES] = done.attributes
    return response


def _checked(payload: Payload) -> Payload:
    for name, value in (("ContentType", payload.content_type), ("Accept", payload.accept)):
        if len(value) > LONGEST_HEADER or not value.isascii():
            raise ValidationError(f"expected {name} of at most {LONGEST_HEADER} ASCII characters, got {len(value)}")
    if "X-Amzn-SageMaker-Target-Container-Hostname" in request.headers:
        raise ValidationError("TargetContainerHostname is for endpoints in direct mode; this one is a serial pipeline")
    return payload


def _refuse(error: RuntimeApiError) -> Response:
    response = Response(json.dumps(error.fields()), status=error.status, mimetype="application/json")
    response.headers["x-amzn-ErrorType"] = error.error_type
    response.headers["x-amzn-RequestId"] = logs.request_id.get()
    return response


def _refuse_large(_error: RequestEntityTooLarge) -> Response:
    return _refuse(
        RequestTooLarge(f"expected a body of at most {LARGEST} bytes, got {request.content_length or 'more'}")
    )
