"""Where requests are sent: a URL on this machine or elsewhere, or an endpoint of SageMaker by its name."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from local_test.recording.exchanges import Answered, Asked
from local_test.state import ChainError

PATIENCE = 70  # seconds; the platform gives up after 60, and then says why
CONNECTIONS = 64
ATTRIBUTES, ID = "x-amzn-sagemaker-custom-attributes", "x-amzn-sagemaker-inference-id"
# The headers of InvokeEndpoint that travel besides Content-Type and Accept, with boto3's words for them.
PASSED = {
    ATTRIBUTES: "CustomAttributes",
    ID: "InferenceId",
    "x-amzn-sagemaker-target-variant": "TargetVariant",
    "x-amzn-sagemaker-target-model": "TargetModel",
    "x-amzn-sagemaker-target-container-hostname": "TargetContainerHostname",
    "x-amzn-sagemaker-inference-component": "InferenceComponentName",
    "x-amzn-sagemaker-enable-explanations": "EnableExplanations",
    "x-amzn-sagemaker-session-id": "SessionId",
}
KEPT = ("x-amzn-errortype", "x-amzn-invoked-production-variant", ATTRIBUTES, "x-request-id")


class Unanswered(Exception):
    """No answer came. The message says why."""


class Target(Protocol):
    """What answers a request, refusals included. Raises `Unanswered`."""

    name: str

    def __call__(self, asked: Asked) -> Answered: ...


class Url:
    """Plain HTTP: the local endpoint, one container, or any host of the single container."""

    def __init__(self, url: str) -> None:
        """`url`: with or without its `/invocations`. Raises `ChainError`."""
        import urllib3

        parts = urlsplit(url)
        try:
            sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port that is none
            sound = False
        if not sound:
            raise ChainError(f"--url: expected http://HOST:PORT or https://HOST, got {url}")
        whole = url.rstrip("/")
        self.name = whole if whole.endswith("/invocations") else f"{whole}/invocations"
        # A prediction may be asked for twice, but then its time would be that of two.
        self._pool = urllib3.PoolManager(maxsize=CONNECTIONS, retries=False, timeout=PATIENCE)

    def __call__(self, asked: Asked) -> Answered:
        from urllib3.exceptions import HTTPError

        headers = {"Content-Type": asked.content_type, "Accept": asked.accept, **asked.headers}
        given = {name: value for name, value in headers.items() if value}
        began = time.perf_counter()
        try:
            response = self._pool.request("POST", self.name, body=asked.body, headers=given)
        except (HTTPError, ValueError) as error:  # of a header that is none
            raise Unanswered(f"no answer from {self.name}: {error}") from error
        ms = (time.perf_counter() - began) * 1000
        kept = {name: response.headers[name] for name in KEPT if name in response.headers}
        return Answered(response.status, response.headers.get("Content-Type", ""), response.data, ms, kept)


class Endpoint:
    """An endpoint of SageMaker, as AWS_ENDPOINT_URL and the credentials have it."""

    def __init__(self, name: str, region: str | None, profile: str | None) -> None:
        """Raises `ChainError` for what boto3 cannot begin with."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        self.name = name
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            read_timeout=PATIENCE,
            max_pool_connections=CONNECTIONS,
        )
        try:
            session = boto3.Session(region_name=region, profile_name=profile)
            self._client = session.client("sagemaker-runtime", config=config)
        except BotoCoreError as error:
            raise ChainError(f"--endpoint {name}: {error}") from error

    def __call__(self, asked: Asked) -> Answered:
        from botocore.exceptions import BotoCoreError, ClientError

        given = {"ContentType": asked.content_type, "Accept": asked.accept}
        given |= {PASSED[name]: value for name, value in asked.headers.items()}
        request = {name: value for name, value in given.items() if value}
        began = time.perf_counter()
        try:
            response = self._client.invoke_endpoint(EndpointName=self.name, Body=asked.body, **request)
            body = response["Body"].read()
        except ClientError as error:
            return _refused(error.response, (time.perf_counter() - began) * 1000)
        except BotoCoreError as error:
            raise Unanswered(f"no answer from endpoint {self.name}: {error}") from error
        ms = (time.perf_counter() - began) * 1000
        return Answered(200, response.get("ContentType", ""), body, ms, _kept(response))


def _kept(response: Mapping[str, Any]) -> dict[str, str]:
    headers = response["ResponseMetadata"]["HTTPHeaders"]
    return {name: headers[name] for name in KEPT if name in headers}


def _refused(response: Mapping[str, Any], ms: float) -> Answered:
    """What boto3 took apart, as the runtime API had sent it."""
    error = response.get("Error", {})
    fields = {
        "Message": error.get("Message"),
        "OriginalStatusCode": response.get("OriginalStatusCode"),
        "OriginalMessage": response.get("OriginalMessage"),
        "LogStreamArn": response.get("LogStreamArn"),
    }
    body = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
    status = int(response["ResponseMetadata"]["HTTPStatusCode"])
    kept = {**_kept(response), "x-amzn-errortype": str(error.get("Code", ""))}
    return Answered(status, "application/json", body, ms, kept)
