"""A release before it is made: everything that can be wrong is looked at first. Then the steps that make it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.endpoint import storage
from pipeline.endpoint.containers import SERIAL, SINGLE, make_containers
from pipeline.endpoint.dry_run import Recorder, account_of
from pipeline.endpoint.errors import NOT_FOUND, WRONG, PipelineError
from pipeline.endpoint.hosting import INSTANCE_TYPE, Hosting, config_request
from pipeline.endpoint.images import find_images
from pipeline.endpoint.model import create_model
from pipeline.endpoint.release import PREFIX, Release, as_tags, commit_tag, new_release, sound_contract, tag
from pipeline.endpoint.session import ARTIFACTS, Clients, default_endpoint
from pipeline.endpoint.valid import check_requests
from pipeline.endpoint.waiting import once_seen

ROLE_ARN = re.compile(r"arn:[\w-]+:iam::\d{12}:role/\S+")


@dataclass(frozen=True)
class Plan:
    clients: Clients
    release: Release
    artifacts: Path
    bucket: str
    kms_key: str | None
    role: str
    images: dict[str, str]  # by container
    hosting: Hosting


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """What a model is made of."""
    group = parser.add_argument_group("what is deployed")
    group.add_argument("--artifacts", type=Path, default=ARTIFACTS, metavar="DIR", help="what `train` wrote")
    group.add_argument("--tag", help="of the images (default: this commit's, as build_and_push.sh made it)")
    group.add_argument("--repository-prefix", metavar="NAME", help=f"of the ECR repositories (default {PREFIX})")
    group.add_argument("--featurizer-image", metavar="URI", help="another image, with its tag or digest")
    group.add_argument("--predictor-image", metavar="URI")
    group.add_argument("--image", metavar="URI", help="another pipeline image, for one container with both stages")
    group.add_argument("--role", metavar="ARN", help="that SageMaker takes to fetch images and artifacts: ARN or name "
                       "(default SAGEMAKER_ROLE_ARN)")  # fmt: skip
    group.add_argument("--bucket", help="for the artifacts (default sagemaker-REGION-ACCOUNT, made when missing)")
    group.add_argument("--kms-key", metavar="KEY", help="KMS key that encrypts artifacts and captured data in S3")
    group.add_argument("--tags", type=tag, nargs="+", default=[], metavar="KEY=VALUE", help="for everything made")


def clients_of(arguments: argparse.Namespace, recorder: Recorder | None) -> Clients:
    """The clients; those of a dry run reach nothing."""
    clients = Clients.of(arguments, recorder.attach if recorder else None)
    if recorder:
        recorder.region = clients.region
        recorder.account = account_of(arguments.role or arguments.env.get("SAGEMAKER_ROLE_ARN"))
    return clients


def release_for(arguments: argparse.Namespace) -> Release:
    """A new release of these artifacts, sound as they must be."""
    contract = sound_contract(arguments.artifacts)
    endpoint = arguments.endpoint or default_endpoint(contract.dataset)
    return new_release(endpoint, contract.hash, dict(arguments.tags))


def make_plan(
    arguments: argparse.Namespace, clients: Clients, release: Release, hosting: Hosting, role: str | None = None
) -> Plan:
    """Find the role (`role` when none is given) and the images. Raises `PipelineError` for what is missing."""
    found = find_role(clients, arguments.role or role or arguments.env.get("SAGEMAKER_ROLE_ARN"))
    given = _given_images(arguments, tuple(SINGLE if hosting.single else SERIAL))
    tag = arguments.tag or ("" if all(given.values()) else commit_tag())
    prefix = arguments.repository_prefix or arguments.env.get("REPOSITORY_PREFIX") or PREFIX
    images = find_images(clients, prefix, tag, given)
    bucket = arguments.bucket or storage.default_bucket(clients)
    model = {"ModelName": release.name, "ExecutionRoleArn": found, "VpcConfig": hosting.vpc_config}
    check_requests(
        clients, "sagemaker", CreateModel=model, CreateEndpointConfig=config_request(release, hosting, bucket)
    )
    return Plan(clients, release, arguments.artifacts, bucket, arguments.kms_key, found, images, hosting)


def _given_images(arguments: argparse.Namespace, names: Sequence[str]) -> dict[str, str | None]:
    """The image that is given for each container. Raises `PipelineError` for one of another container."""
    options = {name: "image" if name in SINGLE else f"{name}_image" for name in (*SERIAL, *SINGLE)}
    given: dict[str, str | None] = {name: getattr(arguments, option) for name, option in options.items()}
    for name, uri in given.items():
        if uri and name not in names:
            raise PipelineError(
                f"--{options[name].replace('_', '-')} is not for an endpoint of {' and '.join(names)}",
                f"leave it out, or add {'--single' if name in SINGLE else '--no-single'}",
                WRONG,
            )
    return {name: given[name] for name in names}


def find_role(clients: Clients, given: str | None) -> str:
    """The ARN of a role that is given by ARN or by name. Raises `PipelineError`."""
    if not given:
        raise PipelineError(
            "which role may SageMaker take?",
            "give --role ARN or set SAGEMAKER_ROLE_ARN; docs/deploy.md makes one",
            WRONG,
        )
    if not given.startswith("arn:"):
        iam = clients.client("iam")
        try:
            return str(iam.get_role(RoleName=given)["Role"]["Arn"])
        except iam.exceptions.NoSuchEntityException as error:
            raise PipelineError(f"there is no role {given}", "docs/deploy.md makes one", NOT_FOUND) from error
    if not ROLE_ARN.fullmatch(given):
        raise PipelineError(f"{given!r} is no role's ARN", "expected arn:aws:iam::ACCOUNT:role/NAME", WRONG)
    return given


def store_artifacts(plan: Plan) -> dict[str, str]:
    storage.ensure_bucket(plan.clients, plan.bucket)
    return storage.upload(plan.clients, plan.release, plan.artifacts, plan.images, plan.bucket, plan.kms_key)


def remove_artifacts(plan: Plan) -> None:
    keys = [plan.release.key(name) for name in plan.images]
    storage.delete_keys(plan.clients, plan.bucket, keys)


def make_model(plan: Plan, model_data: dict[str, str]) -> None:
    create_model(
        plan.clients,
        plan.release.name,
        plan.role,
        make_containers(plan.images, model_data),
        plan.hosting.instance_type or INSTANCE_TYPE,
        plan.release.tags,
        plan.hosting.vpc_config,
        bool(plan.hosting.network_isolation),
    )


def make_config(clients: Clients, release: Release, hosting: Hosting, bucket: str) -> None:
    once_seen(clients, "create_endpoint_config", config_request(release, hosting, bucket))


def make_endpoint(clients: Clients, release: Release) -> None:
    named = {"EndpointName": release.endpoint, "EndpointConfigName": release.name}
    once_seen(clients, "create_endpoint", {**named, "Tags": as_tags(release.tags)})


def summary(plan: Plan, described: dict[str, Any]) -> dict[str, Any]:
    """What --json prints of a release that serves."""
    return {
        "endpoint": plan.release.endpoint,
        "endpoint_arn": described.get("EndpointArn"),
        "status": described["EndpointStatus"],
        "release": plan.release.name,
        "contract": plan.release.contract,
        "images": plan.images,
        "artifacts": {name: f"s3://{plan.bucket}/{plan.release.key(name)}" for name in plan.images},
        "instance_type": plan.hosting.instance_type or INSTANCE_TYPE,
        "instance_count": plan.hosting.instance_count or 1,
    }
