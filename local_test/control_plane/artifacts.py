"""model.tar.gz: looked at when a model is created, fetched and unpacked when its containers start."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

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


def check(plane: Plane, url: str, role: str) -> None:
    """Raise `ApiError` unless there is an object which is a gzip tar of plain files and directories."""
    with tempfile.TemporaryFile() as file:
        _download(plane, url, file, role)
        try:
            unpack(file, None)
        except BadArchive as error:
            raise ApiError(f"Model data archive {url}: {error}.") from error


def specs(
    plane: Plane, model: Resource, directory: Path, environment: Mapping[str, str] | None = None
) -> list[ContainerSpec]:
    """The model's containers, their artifacts fetched below `directory`. Raises `HostingError`."""
    made = []
    for hostname, container in containers_of(model):
        model_dir = None
        if url := container.get("ModelDataUrl"):
            model_dir = inside(directory, f"model-{hostname}")
            _fetch(plane, url, model_dir)
        own = {**container.get("Environment", {}), **(environment or {})}
        made.append(ContainerSpec(hostname, container["Image"], own, model_dir))
    return made


def containers_of(model: Resource) -> list[tuple[str, dict[str, Any]]]:
    """Host names, given or as AWS gives them, and definitions of the model's containers in their order."""
    if primary := model.fields.get("PrimaryContainer"):
        return [(PRIMARY, primary)]
    several = model.fields["Containers"]
    return [(one.get("ContainerHostname") or f"container-{n}", one) for n, one in enumerate(several, 1)]


def _download(plane: Plane, url: str, file: IO[bytes], role: str = "") -> None:
    """Write the object to `file` and go back to its beginning. Raises `ApiError` when there is none."""
    from botocore.exceptions import ClientError

    bucket, key = split(url)
    try:
        body = plane.client("s3").get_object(Bucket=bucket, Key=key)["Body"]
    except ClientError as error:
        raise ApiError(
            f"Could not access model data at {url}. Please ensure that the role {role} exists and that its trust "
            'relationship policy allows the action "sts:AssumeRole" for the service principal '
            '"sagemaker.amazonaws.com". Also ensure that the role has "s3:GetObject" permissions and that the object '
            f"is located in {plane.region}."
        ) from error
    for chunk in body.iter_chunks(1024 * 1024):
        file.write(chunk)
    file.seek(0)


def _fetch(plane: Plane, url: str, directory: Path) -> None:
    """Unpack the object into `directory`. It was looked at when the model was created, but it may differ."""
    with tempfile.TemporaryFile() as file:
        try:
            _download(plane, url, file)
            unpack(file, directory)
        except ApiError as error:
            raise HostingError(error.message) from error
        except BadArchive as error:
            raise HostingError(f"Failed to extract model data archive {url}: {error}.") from error
