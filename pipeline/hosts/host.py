"""What every host has in common: what is wanted of it, what is put there, and what it answers then."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar

from pipeline.endpoint.errors import TIMEOUT, WRONG, PipelineError, message_of
from pipeline.endpoint.hosting import between
from pipeline.endpoint.made import Found
from pipeline.endpoint.release import ENDPOINT_TAG, Release
from pipeline.endpoint.session import Clients, say
from pipeline.endpoint.undo import Undo
from pipeline.hosts import sizes
from pipeline.hosts.release_image import ReleaseImage

SAGEMAKER = "sagemaker"
TARGETS = (SAGEMAKER, "lambda", "ecs", "apprunner")
APIS = ("url", "http", "rest", "none")
PORT = 8080
PING = "/ping"
COMMAND = ("/opt/program/serving/bin/serve",)  # what PATH finds as `serve`
ROLE_KNOWN_WITHIN = 60.0  # seconds until every service has heard of a new role
T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """None: not given."""

    role: str | None = None
    infrastructure_role: str | None = None
    api: str | None = None
    public: bool = False
    memory: int | None = None
    cpu: int | None = None
    request_timeout: int | None = None
    least: int | None = None
    most: int | None = None
    concurrency: int | None = None
    cluster: str | None = None
    subnets: Sequence[str] | None = None
    security_groups: Sequence[str] | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Wanted:
        """Raises `PipelineError` (code 2) for what the target does not have."""
        given = cls(**{each.name: getattr(arguments, each.name) for each in fields(cls)})
        has = {"role", "memory", *OWN[arguments.target]}
        for each in fields(cls):
            if getattr(given, each.name) not in (None, False) and each.name not in has:
                raise PipelineError(
                    f"--{each.name.replace('_', '-')} is not for {arguments.target}", "leave it out", WRONG
                )
        if (given.least or 1) > (given.most or 100):
            raise PipelineError(f"--least {given.least} is more than --most {given.most}", "change one of them", WRONG)
        sizes.refuse_others(arguments.target, given.cpu, given.memory)
        return given


# What each host takes, besides a role and memory
OWN: Mapping[str, frozenset[str]] = {
    "lambda": frozenset({"api", "public", "request_timeout"}),
    "ecs": frozenset({"infrastructure_role", "cpu", "least", "most", "cluster", "subnets", "security_groups"}),
    "apprunner": frozenset({"cpu", "least", "most", "concurrency"}),
}


@dataclass(frozen=True)
class Ready:
    """All that a host needs to serve a release."""

    clients: Clients
    release: Release
    image: ReleaseImage
    wanted: Wanted
    timeout: float

    @property
    def name(self) -> str:
        return self.release.endpoint


@dataclass(frozen=True)
class Answering:
    """A host that serves: where, and how it is called."""

    url: str | None
    how: str


class Host(Protocol):
    """A module for each target."""

    def deploy(self, ready: Ready, undo: Undo) -> Answering:
        """Make or update the service and wait until it serves. `undo` is told of each thing before it is made."""

    def find(self, clients: Clients, name: str, cluster: str, timeout: float) -> Iterator[Found]:
        """All there is to delete, in the order in which it can be deleted."""

    def look(self, clients: Clients, name: str, cluster: str) -> dict[str, Any] | None:
        """What there is to say of the service. None when there is none."""


def add_target(parser: argparse.ArgumentParser) -> None:
    """The arguments of all verbs that know other hosts."""
    parser.add_argument(
        "--target", choices=TARGETS, default=SAGEMAKER,
        help="the host (default %(default)s); apprunner is closed to new customers since 2026-04-30",
    )  # fmt: skip
    parser.add_argument("--cluster", metavar="NAME", help="of ECS, with --target ecs (default: default)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `deploy` takes for hosts other than SageMaker."""
    add_target(parser)
    group = parser.add_argument_group("other hosts than SageMaker (--target); they run both stages in one container")
    group.add_argument("--memory", type=between(128, 30720), metavar="MB",
                       help="lambda: default 1024; ecs and apprunner: default 2048")  # fmt: skip
    group.add_argument("--api", choices=APIS, help="lambda: a Function URL (default), an HTTP API, a REST API, or none")
    group.add_argument("--public", action="store_true", help="lambda: whoever knows the address may call it; "
                       "without, the caller signs with AWS credentials")  # fmt: skip
    group.add_argument("--request-timeout", type=between(1, 900), metavar="SECONDS", help="lambda: default 30")
    group.add_argument("--cpu", type=between(256, 4096), metavar="UNITS",
                       help="ecs, apprunner: 1024 is one CPU (default 1024)")  # fmt: skip
    group.add_argument("--least", type=between(1, 100), metavar="N", help="ecs, apprunner: containers (default 1)")
    group.add_argument("--most", type=between(1, 100), metavar="N", help="ecs, apprunner: containers (default 4)")
    group.add_argument("--concurrency", type=between(1, 200), metavar="N",
                       help="apprunner: requests at a time before another container starts (default 100)")  # fmt: skip
    group.add_argument("--infrastructure-role", metavar="ARN", help="ecs: that ECS takes for load balancer and scaling "
                       "(default: one is made)")  # fmt: skip


def wait_for(clients: Clients, what: str, settled: Callable[[], str | None], timeout: float) -> None:
    """Call until it returns None; what it returns till then is shown. Raises `PipelineError` (code 4)."""
    began, shown = time.monotonic(), ""
    while (state := settled()) is not None:
        if state != shown:
            say(f"{what}: {state} ({time.monotonic() - began:.0f} s)")
            shown = state
        if time.monotonic() - began > timeout:
            raise PipelineError(f"{what} is still {state} after {timeout:.0f} s", "give a longer --timeout", TIMEOUT)
        clients.pause()


def once_the_role_is_known(clients: Clients, create: Callable[[], T]) -> T:
    """A new role takes some seconds to be known everywhere; till then, services say that they cannot assume it."""
    from botocore.exceptions import ClientError

    until = time.monotonic() + ROLE_KNOWN_WITHIN
    while True:
        try:
            return create()
        except ClientError as error:
            told = message_of(error).lower()
            if "role" not in told or "assum" not in told or time.monotonic() > until:
                raise
        clients.pause()


def refuse_another(what: str, name: str, tags: Mapping[str, str]) -> None:
    """Nothing is changed that was not made here for the service `name`. Raises `PipelineError`."""
    if tags.get(ENDPOINT_TAG) != name:
        raise PipelineError(
            f"there is {what} already, which was not made by deploy: it lacks the tag {ENDPOINT_TAG}={name}",
            "give another name with --endpoint",
        )


def as_dict(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Tags as AWS lists them, in any of its two spellings."""
    return {one.get("Key") or one["key"]: one.get("Value", one.get("value", "")) for one in tags}
