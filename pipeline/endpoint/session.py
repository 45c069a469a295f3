"""The clients of AWS: from --region, --profile and the environment, to wherever AWS_ENDPOINT_URL points."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.endpoint.errors import NOT_FOUND, WRONG, PipelineError, found_or_none
from serving.contract import Contract
from serving.errors import BadArtifact

ARTIFACTS = Path("artifacts")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
POLL, POLL_LOCAL = 5.0, 0.2  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that every verb has."""
    parser.add_argument("--region", help="of AWS (default AWS_REGION, AWS_DEFAULT_REGION, or the profile's)")
    parser.add_argument("--profile", help="of ~/.aws/config (default AWS_PROFILE, or the credentials in AWS_...)")
    parser.add_argument(
        "--endpoint", metavar="NAME", help="its name (default serial-inference-<data set of artifacts/>)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for machines; progress goes to standard error")


@dataclass(frozen=True)
class Clients:
    """What talks to AWS. `env` decides as it does for the AWS CLI; `prepare` sees each new client first."""

    region: str
    env: Mapping[str, str]
    profile: str | None = None
    prepare: Callable[[Any], None] | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace, prepare: Callable[[Any], None] | None = None) -> Clients:
        """Raises `PipelineError` when there is no region, `ProfileNotFound` when there is no such profile."""
        env = arguments.env
        given = arguments.region or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
        region = given or cls("", env, arguments.profile).session.region_name
        if not region:
            raise PipelineError("no AWS region is set", "give --region, for example --region us-east-1", WRONG)
        clients = cls(region, env, arguments.profile, prepare)
        clients.say_where()
        return clients

    def say_where(self) -> None:
        """Say so when endpoints are called in another place than where they are made, and one is on this machine."""
        made, called = (self.endpoint_url(service) for service in ("sagemaker", "sagemaker-runtime"))
        if made != called and {_host(made), _host(called)} & {*LOOPBACK}:
            say(
                f"SageMaker is asked at {made or 'AWS'}, but endpoints are called at {called or 'AWS'}; "
                "if that is not meant, see which variables AWS_ENDPOINT_URL... are set"
            )

    @cached_property
    def session(self) -> Any:  # noqa: ANN401 - boto3 is untyped
        import boto3

        keys: dict[str, str | None] = {}
        if not self.profile and self.env.get("AWS_ACCESS_KEY_ID"):
            keys = {
                "aws_access_key_id": self.env["AWS_ACCESS_KEY_ID"],
                "aws_secret_access_key": self.env.get("AWS_SECRET_ACCESS_KEY"),
                "aws_session_token": self.env.get("AWS_SESSION_TOKEN"),
            }
        return boto3.Session(
            region_name=self.region or None, profile_name=self.profile or self.env.get("AWS_PROFILE") or None, **keys
        )

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 is untyped
        """The client of a service, the same one each time."""
        if service not in self._clients:
            self._clients[service] = self._new_client(service)
        return self._clients[service]

    @cached_property
    def _clients(self) -> dict[str, Any]:
        return {}

    def _new_client(self, service: str) -> Any:  # noqa: ANN401
        from botocore.config import Config

        config = Config(
            retries={"mode": "standard", "total_max_attempts": 4},
            read_timeout=70,  # SageMaker gives a whole invocation 60 s
            s3={"addressing_style": "path"} if self.local else None,  # no one resolves BUCKET.localhost
        )
        made = self.session.client(service, config=config, endpoint_url=self.endpoint_url(service))
        if self.prepare:
            self.prepare(made)
        return made

    def endpoint_url(self, service: str) -> str | None:
        """Where AWS_ENDPOINT_URL, or the service's own such variable, sends a client. None: to AWS."""
        if self.env.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
            return None
        own = f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}"
        return self.env.get(own) or self.env.get("AWS_ENDPOINT_URL") or None

    @cached_property
    def local(self) -> bool:
        """Whether SageMaker is the stand-in on this machine."""
        return _host(self.endpoint_url("sagemaker")) in LOOPBACK

    def pause(self, seconds: float = POLL) -> None:
        """Wait before AWS is asked for the same again; the stand-in on this machine is asked sooner."""
        time.sleep(POLL_LOCAL if self.local else seconds)

    @cached_property
    def account(self) -> str:
        return str(self.client("sts").get_caller_identity()["Account"])


def _host(url: str | None) -> str | None:
    return urlsplit(url or "").hostname


def endpoint_name(arguments: argparse.Namespace, artifacts: Path = ARTIFACTS) -> str:
    """--endpoint, or the name that `deploy` gives to these artifacts. Raises `PipelineError` when neither is there."""
    if arguments.endpoint:
        return str(arguments.endpoint)
    try:
        return default_endpoint(Contract.load(artifacts / "featurizer" / "model").dataset)
    except (BadArtifact, OSError) as error:
        raise PipelineError(f"which endpoint? There are no artifacts in {artifacts}/", "give --endpoint NAME", WRONG) \
            from error  # fmt: skip


def default_endpoint(dataset: str) -> str:
    words = "".join(c if c.isascii() and c.isalnum() else "-" for c in f"serial-inference-{dataset}")
    return "-".join(word for word in words.split("-") if word)[:63].rstrip("-")


def describe_endpoint(clients: Clients, name: str) -> dict[str, Any]:
    """What SageMaker says of the endpoint. Raises `PipelineError` (code 3) when there is none."""
    if (described := find_endpoint(clients, name)) is not None:
        return described
    raise PipelineError(
        f"there is no endpoint {name} in {clients.region}",
        "check --endpoint and --region, or make it: python -m pipeline deploy",
        NOT_FOUND,
    )


def find_endpoint(clients: Clients, name: str) -> dict[str, Any] | None:
    """What SageMaker says of the endpoint. None when there is none."""
    return found_or_none(clients.client("sagemaker").describe_endpoint, EndpointName=name)


def say(text: str) -> None:
    """Progress, where it does not mix with what a program prints."""
    print(text, file=sys.stderr, flush=True)


def show_json(shown: Mapping[str, Any]) -> None:
    """The one JSON object that --json prints; times become text."""
    print(json.dumps(shown, indent=2, default=str))
