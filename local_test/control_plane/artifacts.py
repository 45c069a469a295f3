"""model.tar.gz: looked for when a model is created, fetched and unpacked when its containers start."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local_test.control_plane.errors import ApiError
from local_test.control_plane.hosting import ContainerSpec, HostingError
from local_test.control_plane.plane import Plane
from local_test.control_plane.store import Resource
from local_test.control_plane.unpacking import BadArchive, unpack
from local_test.endpoint import PRIMARY
from serving.inside import inside

_URL = re.compile(r"s3://(?P<bucket>[^/]+)/(?P<key>.+)|https://(?P<host>[^./]+)\.s3[^/]*/(?P<path>.+)")
_SHOWN = 200


def split(url: str) -> tuple[str, str]:
    """Bucket and key of an S3 URL. Raises `ApiError`."""
    if not (found := _URL.fullmatch(url)):
        raise ApiError(f"Expected the URL of an object in S3, s3://bucket/key, got {url[:_SHOWN]}")
    return found["bucket"] or found["host"], found["key"] or found["path"]


def url_of(container: Mapping[str, Any]) -> str:
    """The URL of a container's model data; empty when it has none. Raises `ApiError` for what is no archive."""
    url, source = container.get("ModelDataUrl", ""), container.get("ModelDataSource")
    if not source:
        return str(url)
    if url:
        raise ApiError("Both ModelDataUrl and ModelDataSource have been provided. Please provide only one of them.")
    data = source.get("S3DataSource", {})
    if (data.get("S3DataType"), data.get("CompressionType")) != ("S3Object", "Gzip"):
        raise ApiError("This control plane fetches models as an archive, a ModelDataSource of S3Object and Gzip.")
    return str(data["S3Uri"])


def check(plane: Plane, url: str) -> None:
    """Raise `ApiError` unless there is an object. What is in it is seen when containers need it, as on AWS."""
    _found(plane, url, "head_object")


def specs(
    plane: Plane, model: Resource, directory: Path, environment: Mapping[str, str] | None = None
) -> list[ContainerSpec]:
    """The model's containers, their artifacts fetched below `directory`. Raises `HostingError`."""
    made = []
    for hostname, container in containers_of(model):
        model_dir = None
        if url := url_of(container):
            model_dir = inside(directory, f"model-{hostname}")
            _fetch(plane, url, model_dir, hostname)
        own = {**container.get("Environment", {}), **(environment or {})}
        made.append(ContainerSpec(hostname, container["Image"], own, model_dir))
    return made


def containers_of(model: Resource) -> list[tuple[str, dict[str, Any]]]:
    """Host names, given or as AWS gives them, and definitions of the model's containers in their order."""
    several = model.fields.get("Containers") or [model.fields["PrimaryContainer"]]
    if len(several) == 1:
        return [(PRIMARY, several[0])]
    return [(one.get("ContainerHostname") or f"container-{n}", one) for n, one in enumerate(several, 1)]


def _found(plane: Plane, url: str, operation: str) -> Any:  # noqa: ANN401 - boto3 is untyped
    """What S3 says of the object. Raises `ApiError` when there is none."""
    from botocore.exceptions import ClientError, ParamValidationError

    bucket, key = split(url)
    try:
        return getattr(plane.client("s3"), operation)(Bucket=bucket, Key=key)
    except (ClientError, ParamValidationError) as error:
        raise ApiError(f"Could not find model data at {url}.") from error


def _fetch(plane: Plane, url: str, directory: Path, hostname: str) -> None:
    """Unpack the object into `directory`. Raises `HostingError` in AWS's words, and then says what is wrong with it."""
    with tempfile.TemporaryFile() as file:
        try:
            for chunk in _found(plane, url, "get_object")["Body"].iter_chunks(1024 * 1024):
                file.write(chunk)
            unpack(file, directory)
        except ApiError as error:
            raise HostingError(error.message) from error
        except BadArchive as error:
            raise HostingError(
                f'Failed to extract model data archive for container "{hostname}" from URL "{url}". Please ensure that '
                f"the object located at the URL is a valid tar.gz archive: {error}."
            ) from error
