"""InvokeEndpoint, repeated where that is safe, and its refusals in terms of the file that was sent."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.endpoint.errors import FAILED, NOT_FOUND, TIMEOUT, PipelineError, code_of, explain, message_of
from pipeline.endpoint.payloads import Batch
from pipeline.endpoint.session import Clients

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError

SERVICE = "sagemaker-runtime"
READ_TIMEOUT = 70  # seconds; the platform gives up after 60, and then says why
RETRIES = 4
LONGEST_PAUSE = 8.0
THROTTLING = ("ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown")
# What the platform says of a container that did not answer, or was not there; a container's own 500 would come again.
PASSING = (0, 502, 503, 504)
TOO_MUCH = ("response_too_large", "payload_too_large", "too_many_rows")
_CONTAINER = re.compile(r"from (\S+) with message")


@dataclass(frozen=True)
class Answer:
    """What the endpoint answered. `seconds`: of the attempt that succeeded."""

    body: bytes
    content_type: str
    seconds: float
    attempts: int


def new_client(clients: Clients, connections: int) -> Any:  # noqa: ANN401 - boto3 is untyped
    """A runtime client that repeats nothing itself: it does not know that a prediction may be asked for twice."""
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        read_timeout=READ_TIMEOUT,
        max_pool_connections=connections,
    )
    made = clients.session.client(SERVICE, config=config, endpoint_url=clients.endpoint_url(SERVICE))
    if clients.prepare:
        clients.prepare(made)
    return made


def ask(
    client: Any,  # noqa: ANN401
    request: Mapping[str, Any],
    stopped: threading.Event,
    retries: int = RETRIES,
) -> Answer:
    """One answer. Raises boto's error when it is final, or when `stopped` is set while it waits to ask again."""
    from botocore.exceptions import BotoCoreError, ClientError

    attempt = 1
    while True:
        started = time.perf_counter()
        try:
            response = client.invoke_endpoint(**request)
            body = response["Body"].read()
            seconds = time.perf_counter() - started
            return Answer(body, response.get("ContentType", ""), seconds, attempt)
        except (BotoCoreError, ClientError) as error:
            if attempt > retries or not is_passing(error) or stopped.wait(_pause(attempt)):
                raise
        attempt += 1


def is_passing(error: BotoCoreError | ClientError) -> bool:
    """Whether the same request may succeed later: the connection, the load, the platform; never what it says."""
    from botocore import exceptions as boto

    if not isinstance(error, boto.ClientError):
        lost = boto.HTTPClientError | boto.IncompleteReadError
        return isinstance(error, lost | boto.EndpointConnectionError | boto.ConnectTimeoutError)
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "ModelError":
        return error.response.get("OriginalStatusCode") in PASSING
    return status >= 500 or status == 429 or code in THROTTLING


def _pause(attempt: int) -> float:
    """Exponential, and different for each of many clients that failed together."""
    return random.uniform(0.5, 1) * min(LONGEST_PAUSE, 0.25 * 2.0**attempt)  # noqa: S311 - no secret


def refusal(error: BotoCoreError | ClientError, batch: Batch, source: str, endpoint: str) -> PipelineError:
    """Which rows of `source` failed, in its own numbering, and why."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError) and code_of(error) == "ModelError":
        return _model_error(error.response, batch, source)
    if isinstance(error, ClientError) and code_of(error) == "ValidationError" and "not found" in message_of(error):
        if message_of(error).startswith("Variant"):
            return PipelineError(message_of(error), "check --target-variant", NOT_FOUND)
        return PipelineError(
            f"there is no endpoint {endpoint}: {message_of(error)}", "check --endpoint and --region", NOT_FOUND
        )
    explained = explain(error)
    return PipelineError(f"{batch} of {source}: {explained.message}", explained.next_step, explained.code)


def _model_error(response: Mapping[str, Any], batch: Batch, source: str) -> PipelineError:
    status = int(response.get("OriginalStatusCode") or 0)
    whole = str(response.get("Error", {}).get("Message", ""))
    found = _CONTAINER.search(whole)
    container = found[1] if found else "a container"
    said = _said(str(response.get("OriginalMessage") or ""))
    rows = f"row {batch.first_row + said['row'] - 1}" if isinstance(said.get("row"), int) else str(batch)
    column = f", column {said['column']}" if said.get("column") else ""
    reason = said.get("message") or response.get("OriginalMessage") or whole
    code = f" ({said['code']})" if said.get("code") else ""
    message = f"{container} answered {status} to {rows} of {source}{column}: {reason}{code}"
    return PipelineError(message, _next_step(status, said, container, batch), TIMEOUT if status == 0 else FAILED)


def _said(original: str) -> dict[str, Any]:
    """A container's error when it is JSON, as ours are."""
    try:
        said = json.loads(original)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _next_step(status: int, said: Mapping[str, Any], container: str, batch: Batch) -> str:
    if said.get("code") == "bad_header":
        return "say --header present or --header absent"
    if said.get("code") in TOO_MUCH and batch.rows and batch.rows > 1:
        return f"send fewer rows in a request: --rows-per-request {batch.rows // 2}"
    if 400 <= status < 500:
        return "correct the row or the type; docs/payloads.md#errors explains each code"
    known = f" --request-id {said['request_id']}" if said.get("request_id") else ""
    return f"see the log: python -m pipeline logs --container {container}{known}"
