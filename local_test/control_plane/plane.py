"""The control plane as its operations see it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_test.control_plane.fleet import Traffic
from local_test.control_plane.hosting import Host, Hosted
from local_test.control_plane.store import Fields, Store

# What handles one operation: the request's fields in, the answer's fields out. Raises `ApiError`.
Operation = Callable[["Plane", Mapping[str, Any]], Fields]
STATUS_PATH = "/_control_plane"  # what the server says of itself
REGION = "us-east-1"
HOSTS = ("auto", "docker", "processes")
LABEL = "serial-inference.control-plane"  # of every container that a control plane starts


@dataclass(frozen=True)
class Invoked:
    """An invocation of an endpoint that was answered."""

    endpoint: str
    variant: str
    request_body: bytes
    request_type: str  # its Content-Type
    status: int
    response_body: bytes
    response_type: str
    seconds: float
    event_id: str
    times: Mapping[str, float]  # milliseconds of each container called


# What is told of every invocation, after its answer was made.
Observer = Callable[["Plane", Invoked], None]


@dataclass(frozen=True)
class Job:
    """A job under way. `stop` is set by whoever wants it to end; the thread ends once it has."""

    thread: threading.Thread
    stop: threading.Event


@dataclass
class Plane:
    """One control plane: where it listens, what it keeps, and what runs the containers."""

    url: str
    region: str
    directory: Path  # for everything on disk; removed by `down`
    host: Host
    store: Store
    env: Mapping[str, str] = field(default_factory=dict)  # what the server was started with
    hosted: dict[str, Hosted] = field(default_factory=dict)  # by endpoint name; guarded by store.lock
    traffic: dict[str, Traffic] = field(default_factory=dict)  # by endpoint name; guarded by store.lock
    observers: tuple[Observer, ...] = ()
    registry: str = ""  # host and port of the registry that images are pushed to, when there is one
    closing: threading.Event = field(default_factory=threading.Event)  # set when the server ends: so do jobs
    jobs: dict[str, Job] = field(default_factory=dict)  # those under way, by ARN; guarded by store.lock

    @property
    def label(self) -> str:
        """The value of LABEL, by which this control plane's containers are found."""
        return label_of(self.directory)

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 is untyped
        """A client of this very control plane: jobs read and write its S3 as everyone does."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=self.region,
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - any will do
            config=Config(retries={"total_max_attempts": 1}),
        )


def label_of(directory: Path) -> str:
    return str(directory.resolve())
