"""What was made for an endpoint, found by its tags and names: also what a run that died has left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.endpoint.errors import NOT_FOUND, PipelineError, found_or_none, is_denied
from pipeline.endpoint.release import (
    CONTRACT_TAG,
    ENDPOINT_TAG,
    RELEASE_TAG,
    Release,
    as_tags,
    cut,
    is_release_of,
)
from pipeline.endpoint.session import Clients


@dataclass(frozen=True)
class Found:
    """Something to delete."""

    kind: str
    name: str
    delete: Callable[[], object]


@dataclass(frozen=True)
class Kind:
    """What SageMaker calls a kind of thing, in its operations and their fields."""

    shown: str
    name: str
    arn: str
    list: str
    listed: str
    describe: str
    delete: str


CONFIG = Kind(
    "endpoint config", "EndpointConfigName", "EndpointConfigArn", "list_endpoint_configs", "EndpointConfigs",
    "describe_endpoint_config", "delete_endpoint_config",
)  # fmt: skip
JOB = Kind(
    "transform job", "TransformJobName", "TransformJobArn", "list_transform_jobs", "TransformJobSummaries",
    "describe_transform_job", "stop_transform_job",
)  # fmt: skip
MODEL = Kind("model", "ModelName", "ModelArn", "list_models", "Models", "describe_model", "delete_model")


def find_made(clients: Clients, kind: Kind, endpoint: str, **only: str) -> list[str]:
    """The names of all configs, models or jobs of the endpoint's releases, newest first."""
    client = clients.client("sagemaker")
    pages = client.get_paginator(kind.list).paginate(
        NameContains=cut(endpoint), SortBy="CreationTime", SortOrder="Descending", **only
    )
    listed = [one for page in pages for one in page[kind.listed]]
    return [one[kind.name] for one in listed if _is_of(tags_of(clients, one[kind.arn]), one[kind.name], endpoint)]


def _is_of(tags: Mapping[str, str], name: str, endpoint: str) -> bool:
    """The tag says it; without one, a release's name does."""
    return tags.get(ENDPOINT_TAG) == endpoint or (ENDPOINT_TAG not in tags and is_release_of(endpoint, name))


def tags_of(clients: Clients, arn: str) -> dict[str, str]:
    """The tags of a resource; none when it is gone by now."""
    pages = clients.client("sagemaker").get_paginator("list_tags").paginate(ResourceArn=arn)
    return found_or_none(lambda: {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}) or {}


def describe(clients: Clients, kind: Kind, name: str) -> dict[str, Any] | None:
    """What SageMaker says of a config or model. None when there is none."""
    return found_or_none(getattr(clients.client("sagemaker"), kind.describe), **{kind.name: name})


def remove(clients: Clients, kind: Kind, name: str) -> bool:
    """Delete a config or model. False when it is gone already."""
    return found_or_none(getattr(clients.client("sagemaker"), kind.delete), **{kind.name: name}) is not None


def retag(clients: Clients, arn: str, tags: Mapping[str, str]) -> None:
    """An update makes no new endpoint: its tags must be told of the new release."""
    clients.client("sagemaker").add_tags(ResourceArn=arn, Tags=as_tags(tags))


def images_of_models(clients: Clients, but: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """The name of each other model of the account and region, with each image it uses; None where one may not look."""
    from botocore.exceptions import ClientError

    pages = clients.client("sagemaker").get_paginator("list_models").paginate()
    for name in [one["ModelName"] for page in pages for one in page["Models"] if one["ModelName"] not in but]:
        try:
            model = describe(clients, MODEL, name) or {}
        except ClientError as error:
            if not is_denied(error):
                raise
            yield name, None
            continue
        for container in containers_of(model):
            if "Image" in container:
                yield name, container["Image"]


def containers_of(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The containers of a model, from what Describe says of it: several, or the one that it has."""
    primary = model.get("PrimaryContainer")
    return [primary] if primary else list(model.get("Containers") or ())


def made_release(clients: Clients, name: str) -> Release:
    """The release of a model, from its tags. Raises `PipelineError` when there is no such model."""
    model = describe(clients, MODEL, name)
    if model is None:
        raise PipelineError(f"there is no model {name}", "make it: python -m pipeline create-model", NOT_FOUND)
    tags = tags_of(clients, model["ModelArn"])
    own = {key: tags.pop(key, "") for key in (ENDPOINT_TAG, CONTRACT_TAG, RELEASE_TAG)}
    if own[RELEASE_TAG] != name:
        raise PipelineError(f"model {name} was not made here: it lacks our tags", "python -m pipeline create-model")
    return Release(own[ENDPOINT_TAG], name, own[CONTRACT_TAG], tags)
