"""`logs`: what the containers of an endpoint, or of a transform job, wrote, from CloudWatch Logs."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.endpoint import session
from pipeline.endpoint.containers import PRIMARY, SERIAL
from pipeline.endpoint.errors import NOT_FOUND, WRONG, PipelineError, code_of

HELP = "show the containers' logs"
EXAMPLES = """\
The lines are the containers' own, one JSON object each, unchanged: jq reads them. With --json each stands in an object
with its time and log stream.

examples:
  python -m pipeline logs --since 1h --container predictor
  python -m pipeline logs --follow | jq -r 'select(.level == "ERROR") | .message'
  python -m pipeline logs --request-id 7c9e6679-7425-40de-944b-e07fc1f90ae7
  python -m pipeline logs --job serial-inference-abalone-20260101-120000-abcd --since 1d
"""
ENDPOINTS, JOBS = "/aws/sagemaker/Endpoints", "/aws/sagemaker/TransformJobs"
CONTAINERS = (*SERIAL, PRIMARY)
POLL = 2.0  # seconds; CloudWatch allows few calls
LATE = 60_000  # milliseconds by which an event may enter the log after its time
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--container", choices=CONTAINERS, help="only this one's (default all)")
    parser.add_argument(
        "--since", type=seconds, default=600, metavar="10m", help="how far back: 30s, 10m, 2h, 1d (default 10m)"
    )
    parser.add_argument("--follow", action="store_true", help="go on as lines come, until Ctrl-C")
    parser.add_argument("--filter", metavar="PATTERN", help="CloudWatch's filter pattern, such as '{ $.status = 500 }'")
    parser.add_argument("--request-id", metavar="ID", help="only the lines of one request")
    parser.add_argument("--job", metavar="NAME", help="of this transform job instead of the endpoint")
    session.add_arguments(parser)


def seconds(text: str) -> int:
    """A time such as 10m."""
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected a number and one of s, m, h, d, such as 10m; got {text!r}")
    return int(found[1]) * UNITS[found[2]]


@dataclass(frozen=True)
class Asked:
    """Which events: of a log group, of the streams that begin so, that match the pattern."""

    group: str
    stream_prefix: str = ""
    pattern: str = ""
    container: str = ""

    def parameters(self, start: int) -> dict[str, Any]:
        """FilterLogEvents, from a time in milliseconds on."""
        optional = {"logStreamNamePrefix": self.stream_prefix, "filterPattern": self.pattern}
        given = {name: value for name, value in optional.items() if value}
        return {"logGroupName": self.group, "startTime": start, **given}

    def has(self, event: dict[str, Any]) -> bool:
        """Whether the event is of the container. A stream ends with its name; prefixes cannot choose it."""
        return not self.container or container_of(event) == self.container


def container_of(event: dict[str, Any]) -> str:
    """Streams are VARIANT/INSTANCE/CONTAINER, of a job JOB/INSTANCE/CONTAINER; the only container adds no name."""
    return "/".join(event["logStreamName"].split("/")[2:]) or PRIMARY


def asked(arguments: argparse.Namespace) -> Asked:
    """Raises `PipelineError` when two patterns are asked for."""
    if arguments.filter and arguments.request_id:
        raise PipelineError("--filter and --request-id are both patterns", "give one of them", WRONG)
    # Quotes make a term of it: an id has hyphens
    pattern = arguments.filter or (json.dumps(arguments.request_id) if arguments.request_id else "")
    container = arguments.container or ""
    if arguments.job:
        return Asked(JOBS, f"{arguments.job}/", pattern, container)
    return Asked(f"{ENDPOINTS}/{session.endpoint_name(arguments)}", "", pattern, container)


@dataclass
class Reader:
    """Reads events in the order of their times, each once, though CloudWatch may show some late."""

    client: Any
    asked: Asked
    seen: dict[str, int] = field(default_factory=dict)  # time by event id, of the last minute

    def new_events(self, start: int) -> Iterator[dict[str, Any]]:
        """Events from a time in milliseconds on that were not given before."""
        pages = self.client.get_paginator("filter_log_events").paginate(**self.asked.parameters(start))
        found = [event for page in pages for event in page["events"] if event["eventId"] not in self.seen]
        self.seen |= {event["eventId"]: event["timestamp"] for event in found}
        yield from sorted(filter(self.asked.has, found), key=lambda event: int(event["timestamp"]))

    def follow(self, start: int, pause: float) -> Iterator[dict[str, Any]]:
        """For ever: an event may come late, so the last minute is read again each time."""
        while True:
            yield from self.new_events(start)
            if self.seen:
                start = max(start, max(self.seen.values()) - LATE)
                self.seen = {name: at for name, at in self.seen.items() if at >= start}
            time.sleep(pause)


def run(arguments: argparse.Namespace) -> int:
    clients = session.Clients.of(arguments)
    reader = Reader(clients.client("logs"), asked(arguments))
    start = int((time.time() - arguments.since) * 1000)
    events = reader.follow(start, POLL) if arguments.follow else reader.new_events(start)
    silent = True
    try:
        for event in _found(events, reader.asked, arguments):
            silent = False
            print(_shown(event) if arguments.json else event["message"].rstrip("\n"), flush=arguments.follow)
    except BrokenPipeError:  # head has seen enough
        return 0
    if silent:
        session.say(f"no lines in {reader.asked.group} in the last {arguments.since} s; --since looks further back")
    return 0


def _found(events: Iterator[dict[str, Any]], asked: Asked, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The events. Raises `PipelineError` when there is no such log."""
    from botocore.exceptions import ClientError

    try:
        yield from events
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        missing = f"job {arguments.job}" if arguments.job else "endpoint"
        raise PipelineError(
            f"there is no log {asked.group}: no container of the {missing} has written a line",
            "check the name and --region, and that it has started: python -m pipeline status",
            NOT_FOUND,
        ) from error


def _shown(event: dict[str, Any]) -> str:
    named = {"time": event["timestamp"], "stream": event["logStreamName"], "message": event["message"].rstrip("\n")}
    return json.dumps(named)


def tail(client: Any, asked: Asked, lines: int) -> list[str]:  # noqa: ANN401 - boto3 is untyped
    """The last lines of all streams together, each with its container; none when there is no log."""
    from botocore.exceptions import ClientError

    try:
        events = list(Reader(client, asked).new_events(0))
    except ClientError as error:
        if code_of(error) == "ResourceNotFoundException":
            return []
        raise
    return [f"{container_of(event)}: {event['message'].rstrip()}" for event in events[-lines:]]
