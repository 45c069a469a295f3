"""moto, asked from inside the process: for the operations of JSON services that are answered by both of us."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from werkzeug.test import Client

from local_test.control_plane.errors import ApiError
from local_test.control_plane.store import Fields

log = logging.getLogger("local_test.control_plane")
_NAMES = {"monitoring": "cloudwatch"}  # moto's, where it has another


def ask(region: str, service: str, target: str, fields: Mapping[str, Any]) -> Fields:
    """What moto answers. `target`: the header X-Amz-Target of the request. Raises `ApiError` when it refuses."""
    signed = f"AWS4-HMAC-SHA256 Credential=local/20200101/{region}/{service}/aws4_request"
    try:
        answer = Client(application(service)).post(
            "/",
            data=json.dumps(fields),
            content_type="application/x-amz-json-1.1",
            headers={"X-Amz-Target": target, "Authorization": f"{signed}, SignedHeaders=host, Signature=0"},
        )
    except Exception as error:  # whatever mistake moto makes
        raise mistaken(target.rpartition(".")[2], service, error) from error
    found: Fields = answer.get_json(force=True)
    if answer.status_code == 200:
        return found
    code = str(found.get("__type", "InternalFailure")).rpartition("#")[2]
    raise ApiError(str(found.get("message", found.get("Message", ""))), code, answer.status_code)


def mistaken(operation: str, service: str, error: Exception) -> ApiError:
    """A refusal in place of an exception of moto's. Asked again it would come again, so that it is none to retry."""
    log.error("moto failed at %s of %s", operation, service, exc_info=error)
    message = f"The local control plane cannot do {operation} of {service or 'S3'} as it is asked: {error!r:.200}"
    return ApiError(message, "NotImplemented", 501)


@cache
def application(service: str) -> Any:  # noqa: ANN401 - a WSGI application of moto's
    """moto's answers of a service, by the name that clients sign with."""
    from moto.moto_server.werkzeug_app import create_backend_app

    # Its state is moto's own, one for the whole process, so it is the state that the server shows as well.
    return create_backend_app(_NAMES.get(service) or service.replace("-", ""))  # type: ignore[arg-type]
