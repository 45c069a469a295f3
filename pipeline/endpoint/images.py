"""The containers' images in ECR, by digest: what is deployed does not change when a tag is pushed anew."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.endpoint.errors import NOT_FOUND, PipelineError, found_or_none
from pipeline.endpoint.session import Clients

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
PUSH = "build and push them: ./build_and_push.sh, or ./build_and_push.sh pipeline for --single"
URI = re.compile(
    r"(?P<repository>(?P<host>[^/@]+)/(?P<name>[^:@]+))(:(?P<tag>[\w.-]+))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)
AT_ONCE = 100  # images that BatchDeleteImage takes
ECR_HOST = re.compile(r"(\d{12})\.dkr\.ecr\.")


def find_images(clients: Clients, prefix: str, tag: str, given: Mapping[str, str | None]) -> dict[str, str]:
    """The URI with digest of each container's image: as `given`, else `prefix`/NAME:`tag`. Raises `PipelineError`."""
    return {
        name: _given_image(clients, uri) if uri else _tagged(clients, f"{prefix}/{name}", tag)
        for name, uri in given.items()
    }


def _tagged(clients: Clients, name: str, tag: str) -> str:
    described = _ask(clients, "describe_repositories", f"ECR repository {name}", repositoryNames=[name])
    uri = described["repositories"][0]["repositoryUri"]
    return f"{uri}@{_digest(clients, f'{name}:{tag}', name, {'imageTag': tag}, {})}"


def _given_image(clients: Clients, uri: str) -> str:
    """An image by its URI, maybe of another account's ECR."""
    found = URI.fullmatch(uri)
    if not found:
        raise PipelineError(f"{uri!r} is no image URI", "expected HOST/NAME:TAG or HOST/NAME@sha256:...", 2)
    image = {"imageDigest": found["digest"]} if found["digest"] else {"imageTag": found["tag"] or "latest"}
    registry = ECR_HOST.match(found["host"])
    digest = _digest(clients, uri, found["name"], image, {"registryId": registry[1]} if registry else {})
    return f"{found['repository']}@{digest}"


def _digest(clients: Clients, shown: str, name: str, image: Mapping[str, str], registry: Mapping[str, str]) -> str:
    """The digest of an image that SageMaker takes."""
    asked = {"repositoryName": name, "imageIds": [image], **registry}
    found = _ask(clients, "describe_images", f"image {shown}", **asked)["imageDetails"][0]
    media_type = found.get("imageManifestMediaType", DOCKER_MANIFEST)
    if media_type == DOCKER_LIST:
        _refuse_list_without_amd64(clients, shown, asked)
    elif media_type != DOCKER_MANIFEST:
        raise PipelineError(
            f"image {shown} has the manifest type {media_type}: SageMaker takes {DOCKER_MANIFEST} only",
            f"{PUSH} (it makes that one)",
        )
    return str(found["imageDigest"])


def _refuse_list_without_amd64(clients: Clients, shown: str, asked: Mapping[str, Any]) -> None:
    images = _ask(clients, "batch_get_image", f"image {shown}", acceptedMediaTypes=[DOCKER_LIST], **asked)["images"]
    platforms = [one.get("platform", {}) for one in json.loads(images[0]["imageManifest"])["manifests"]]
    if not any((one.get("os"), one.get("architecture")) == ("linux", "amd64") for one in platforms):
        raise PipelineError(
            f"image {shown} is not for linux/amd64", f"{PUSH} (on any machine it builds for linux/amd64)"
        )


def delete_images(clients: Clients, repository: str, images: Sequence[Mapping[str, str]]) -> None:
    """Delete images by tag or digest; one that is gone is no error. Raises `PipelineError` for one that stays."""
    for begin in range(0, len(images), AT_ONCE):
        some = [dict(image) for image in images[begin : begin + AT_ONCE]]
        answer = clients.client("ecr").batch_delete_image(repositoryName=repository, imageIds=some)
        for kept in answer.get("failures", ()):
            if kept.get("failureCode") != "ImageNotFound":
                which = kept.get("imageId", {})
                raise PipelineError(
                    f"ECR kept {repository} {which.get('imageTag') or which.get('imageDigest')}: "
                    f"{kept.get('failureReason')} ({kept.get('failureCode')})",
                    "remove what needs it, and run it again",
                )


def _ask(clients: Clients, operation: str, what: str, **asked: Any) -> Any:  # noqa: ANN401 - boto3 is untyped
    if (answer := found_or_none(getattr(clients.client("ecr"), operation), **asked)) is not None:
        return answer
    raise PipelineError(
        f"there is no {what} in {clients.region}",
        f"{PUSH}; or name others by --tag, or by --featurizer-image and --predictor-image, or --image",
        NOT_FOUND,
    )
