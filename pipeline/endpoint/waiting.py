"""An endpoint on its way: progress while it changes, and the containers' last words when it fails."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.endpoint.errors import TIMEOUT, PipelineError, code_of, is_missing, message_of
from pipeline.endpoint.session import Clients, find_endpoint, say

SETTLED = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")
REMINDER = 30.0  # seconds between lines where no terminal shows the time pass
LAST_WORDS = 20  # lines of each container
TRIES = 6  # of a request that names what was just made


def once_seen(clients: Clients, operation: str, asked: Mapping[str, Any]) -> None:
    """Ask SageMaker for something that is made of what was just made, which it may not yet see."""
    from botocore.exceptions import ClientError

    for left in range(TRIES - 1, -1, -1):
        try:
            getattr(clients.client("sagemaker"), operation)(**asked)
            return
        except ClientError as error:
            if not left or not is_missing(error):
                raise
        clients.pause()


def wait_until_settled(clients: Clients, name: str, timeout: float) -> dict[str, Any]:
    """Describe the endpoint once it no longer changes. Raises `PipelineError` (code 4) after `timeout` seconds."""
    for described in _watch(clients, name, timeout):
        if described["EndpointStatus"] in SETTLED:
            return described
    raise AssertionError("_watch ends by raising")


def wait_until_gone(clients: Clients, name: str, timeout: float) -> None:
    """Return when the endpoint is no more. Raises `PipelineError` (code 4) after `timeout` seconds."""
    from botocore.exceptions import ClientError

    try:
        for described in _watch(clients, name, timeout):
            if described["EndpointStatus"] == "Failed":
                reason = described.get("FailureReason", "no reason given")
                raise PipelineError(f"endpoint {name} was not deleted: {reason}", "run it again")
    except ClientError as error:
        if not is_missing(error):
            raise


def _watch(clients: Clients, name: str, timeout: float) -> Iterator[dict[str, Any]]:
    """What Describe says, again and again, with progress on standard error."""
    began, told, shown = time.monotonic(), 0.0, ""
    while True:
        described: dict[str, Any] = clients.client("sagemaker").describe_endpoint(EndpointName=name)
        status, passed = described["EndpointStatus"], time.monotonic() - began
        if sys.stderr.isatty():
            print(f"\r{name}: {status} ({passed:.0f} s) ", end="\n" if status in SETTLED else "", file=sys.stderr)
        elif status != shown or passed - told > REMINDER:
            say(f"{name}: {status} ({passed:.0f} s)")
            shown, told = status, passed
        yield described
        if passed > timeout:
            raise PipelineError(
                f"endpoint {name} is still {status} after {timeout:.0f} s", "give a longer --timeout", TIMEOUT
            )
        clients.pause()


def last_words(clients: Clients, name: str) -> str:
    """The tail of the endpoint's newest log streams, or why there is none."""
    return last_words_of(clients, f"/aws/sagemaker/Endpoints/{name}")


def last_words_of(clients: Clients, group: str) -> str:
    """The tail of a log group's newest streams, or why there is none."""
    from botocore.exceptions import ClientError

    logs = clients.client("logs")
    try:
        streams = logs.describe_log_streams(logGroupName=group, orderBy="LastEventTime", descending=True, limit=4)
        parts = []
        for stream in streams["logStreams"]:
            events = logs.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], limit=LAST_WORDS, startFromHead=False
            )["events"]
            lines = [f"  {event['message'].rstrip()}" for event in events]
            parts.append("\n".join([f"last words in {stream['logStreamName']}:", *lines]))
    except ClientError as error:
        return f"no log in {group}: {message_of(error)} ({code_of(error)})"
    return "\n".join(parts) or f"no log in {group}: the containers did not start"


def remove_endpoint(clients: Clients, name: str, timeout: float) -> bool:
    """Delete the endpoint and wait until it is gone. False when there was none.

    One that is being made or changed cannot be deleted: it is waited for first.
    """
    from botocore.exceptions import ClientError

    while current := find_endpoint(clients, name):
        try:
            if current["EndpointStatus"] != "Deleting":
                clients.client("sagemaker").delete_endpoint(EndpointName=name)
        except ClientError as error:
            if is_missing(error):  # somebody else was quicker
                continue
            if "in-progress" not in message_of(error):
                raise
            wait_until_settled(clients, name, timeout)
        else:
            wait_until_gone(clients, name, timeout)
            return True
    return False
