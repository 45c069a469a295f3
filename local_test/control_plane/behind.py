"""moto, asked from inside the process: for the operations of JSON services that are answered by both of us."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from werkzeug.test import Client

from local_test.control_plane.errors import ApiError
from local_test.control_plane.store import Fields


def ask(region: str, service: str, target: str, fields: Mapping[str, Any]) -> Fields:
    """What moto answers. `target`: the header X-Amz-Target of the request. Raises `ApiError` when it refuses."""
    signed = f"AWS4-HMAC-SHA256 Credential=local/20200101/{region}/{service}/aws4_request"
    answer = Client(_app(service)).post(
        "/",
        data=json.dumps(fields),
        content_type="application/x-amz-json-1.1",
        headers={"X-Amz-Target": target, "Authorization": f"{signed}, SignedHeaders=host, Signature=0"},
    )
    found: Fields = answer.get_json(force=True)
    if answer.status_code == 200:
        return found
    code = str(found.get("__type", "InternalFailure")).rpartition("#")[2]
    raise ApiError(str(found.get("message", found.get("Message", ""))), code, answer.status_code)


@cache
def _app(service: str) -> Any:  # noqa: ANN401 - a WSGI application of moto's
    from moto.moto_server.werkzeug_app import create_backend_app

    # Its state is moto's own, one for the whole process, so it is the state that the server shows as well.
    return create_backend_app(service.replace("-", ""))  # type: ignore[arg-type]
