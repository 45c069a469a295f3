"""ECR whose images are those of the local registry. moto keeps the repositories and their settings.

What a registry does not know it cannot keep: a push is neither refused for a repository that was not created, nor for
a tag that the repository's settings call immutable, and no image is scanned.
"""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from local_test.control_plane.behind import ask
from local_test.control_plane.errors import ApiError
from local_test.control_plane.plane import Operation, Plane
from local_test.control_plane.registry import DIRECTORY, Manifest, Registry
from local_test.control_plane.store import ACCOUNT, Fields, page_of

SERVICE = "ecr"
TARGET = "AmazonEC2ContainerRegistry_V20150921"  # what X-Amz-Target has before the operation
TOKEN_LASTS = 12 * 3600  # seconds

Given = Mapping[str, Any]
T = TypeVar("T")


def create_repository(plane: Plane, given: Given) -> Fields:
    answer = _moto(plane, "CreateRepository", given)
    return answer | {"repository": _placed(plane, answer["repository"])}


def describe_repositories(plane: Plane, given: Given) -> Fields:
    answer = _moto(plane, "DescribeRepositories", given)
    return answer | {"repositories": [_placed(plane, one) for one in answer["repositories"]]}


def delete_repository(plane: Plane, given: Given) -> Fields:
    name = given["repositoryName"]
    if (registry := _registry(plane)) is None:
        answer = _moto(plane, "DeleteRepository", given)
    else:
        _check_repository(plane, name)
        if registry.digests(name) and not given.get("force"):
            where = f"The repository with name '{name}' in registry with id '{ACCOUNT}'"
            raise ApiError(f"{where} cannot be deleted because it still contains images", "RepositoryNotEmptyException")
        answer = _moto(plane, "DeleteRepository", {**given, "force": True})
        registry.delete_repository(name)
    return answer | {"repository": _placed(plane, answer["repository"])}


def get_authorization_token(plane: Plane, given: Given) -> Fields:
    registries = given.get("registryIds") or [ACCOUNT]
    token = {
        "authorizationToken": b64encode(b"AWS:local").decode(),  # the registry lets everyone in
        "expiresAt": time.time() + TOKEN_LASTS,
        "proxyEndpoint": f"http://{_address(plane)}",
    }
    return {"authorizationData": [token for _ in registries]}


def describe_images(plane: Plane, given: Given) -> Fields:
    if (registry := _registry(plane)) is None:
        return _moto(plane, "DescribeImages", given)
    name = given["repositoryName"]
    _check_repository(plane, name)
    tags = registry.tags(name)
    if asked := given.get("imageIds"):
        digests = list(dict.fromkeys(_digest(registry, name, one, tags) for one in asked))
    else:
        digests = [digest for digest in registry.digests(name) if _is_wanted(given, digest in tags.values())]
    page, rest = _page(digests, given)
    details = [_detail(registry, name, digest, _tags_of(digest, tags)) for digest in page]
    return {"imageDetails": details} | rest


def list_images(plane: Plane, given: Given) -> Fields:
    if (registry := _registry(plane)) is None:
        return _moto(plane, "ListImages", given)
    name = given["repositoryName"]
    _check_repository(plane, name)
    tags = registry.tags(name)
    found = [one for digest in registry.digests(name) for one in _ids(digest, tags)]
    page, rest = _page([one for one in found if _is_wanted(given, "imageTag" in one)], given)
    return {"imageIds": page} | rest


def put_image(plane: Plane, given: Given) -> Fields:
    """Without a registry an image is its manifest alone. moto would make up another digest than ECR's."""
    _check_repository(plane, given["repositoryName"])
    if plane.registry:
        raise ApiError(f"Images are pushed to {plane.registry}, as `docker push` does.", "InvalidParameterException")
    digest = f"sha256:{hashlib.sha256(given['imageManifest'].encode()).hexdigest()}"
    if given.get("imageDigest", digest) != digest:
        raise ApiError(f"The image's digest is {digest}.", "ImageDigestDoesNotMatchException")
    return _moto(plane, "PutImage", {**given, "imageDigest": digest})


def batch_get_image(plane: Plane, given: Given) -> Fields:
    if (registry := _registry(plane)) is None:
        return _moto(plane, "BatchGetImage", given)
    name = given["repositoryName"]
    _check_repository(plane, name)
    images, failures = [], []
    for asked in given["imageIds"]:
        if manifest := _manifest(registry, name, asked):
            images.append(_image(name, {**asked, "imageDigest": manifest.digest}, manifest))
        else:
            failures.append(_failure(asked))
    return {"images": images, "failures": failures}


def batch_delete_image(plane: Plane, given: Given) -> Fields:
    if (registry := _registry(plane)) is None:
        return _moto(plane, "BatchDeleteImage", given)
    name = given["repositoryName"]
    _check_repository(plane, name)
    deleted: list[Fields] = []
    failures: list[Fields] = []
    for asked in given["imageIds"]:
        if _manifest(registry, name, asked):
            deleted += _delete(registry, name, asked)
        else:
            failures.append(_failure(asked))
    return {"imageIds": deleted, "failures": failures}


OPERATIONS: dict[str, Operation] = {
    "CreateRepository": create_repository,
    "DescribeRepositories": describe_repositories,
    "DeleteRepository": delete_repository,
    "GetAuthorizationToken": get_authorization_token,
    "DescribeImages": describe_images,
    "ListImages": list_images,
    "PutImage": put_image,
    "BatchGetImage": batch_get_image,
    "BatchDeleteImage": batch_delete_image,
}


def _moto(plane: Plane, operation: str, given: Given) -> Fields:
    return ask(plane.region, SERVICE, f"{TARGET}.{operation}", given)


def _address(plane: Plane) -> str:
    """Without a registry the URIs are names only: nobody answers a push there."""
    return plane.registry or plane.url.partition("://")[2].rstrip("/")


def _registry(plane: Plane) -> Registry | None:
    if not plane.registry:
        return None
    return Registry(plane.directory / DIRECTORY, int(plane.registry.rpartition(":")[2]))


def _placed(plane: Plane, repository: Fields) -> Fields:
    return repository | {"repositoryUri": f"{_address(plane)}/{repository['repositoryName']}"}


def _check_repository(plane: Plane, name: str) -> None:
    """Raises moto's RepositoryNotFoundException, which has ECR's words."""
    _moto(plane, "DescribeRepositories", {"repositoryNames": [name]})


def _manifest(registry: Registry, name: str, asked: Given) -> Manifest | None:
    """An image by its tag, its digest, or both, which then must agree."""
    found = registry.manifest(name, asked.get("imageTag") or asked["imageDigest"])
    return found if found and asked.get("imageDigest") in (None, found.digest) else None


def _digest(registry: Registry, name: str, asked: Given, tags: Mapping[str, str]) -> str:
    tag, digest = asked.get("imageTag"), asked.get("imageDigest")
    found = tags.get(tag) if tag else digest
    if not found or (digest and digest != found) or (not tag and not registry.manifest(name, found)):
        sought = f"{{imageDigest:'{digest or 'null'}', imageTag:'{tag or 'null'}'}}"
        raise ApiError(
            f"The image with imageId {sought} does not exist within the repository with name '{name}' in the registry "
            f"with id '{ACCOUNT}'",
            "ImageNotFoundException",
        )
    return found


def _detail(registry: Registry, name: str, digest: str, tags: list[str]) -> Fields:
    detail: Fields = {"registryId": ACCOUNT, "repositoryName": name, "imageDigest": digest}
    if tags:
        detail["imageTags"] = tags
    if manifest := registry.manifest(name, digest):
        detail |= {"imageSizeInBytes": manifest.size, "imageManifestMediaType": manifest.media_type}
    return detail | {"imagePushedAt": registry.pushed_at(name, digest)}


def _image(name: str, image_id: Fields, manifest: Manifest) -> Fields:
    return {
        "registryId": ACCOUNT,
        "repositoryName": name,
        "imageId": image_id,
        "imageManifest": manifest.text.decode(),
        "imageManifestMediaType": manifest.media_type,
    }


def _delete(registry: Registry, name: str, asked: Given) -> Iterator[Fields]:
    """Delete an image, or only a tag of an image that has others; what was deleted."""
    tags = registry.tags(name)
    digest = _digest(registry, name, asked, tags)
    known = _tags_of(digest, tags)
    tag = asked.get("imageTag")
    if tag and len(known) > 1:
        registry.untag(name, tag)
        yield {"imageDigest": digest, "imageTag": tag}
        return
    registry.delete(name, digest)
    for gone in known:
        registry.untag(name, gone)
    yield from _ids(digest, tags)


def _failure(asked: Given) -> Fields:
    return {"imageId": dict(asked), "failureCode": "ImageNotFound", "failureReason": "Requested image not found"}


def _ids(digest: str, tags: Mapping[str, str]) -> list[Fields]:
    """One identifier for each tag of an image, or one without a tag."""
    return [{"imageDigest": digest, "imageTag": tag} for tag in _tags_of(digest, tags)] or [{"imageDigest": digest}]


def _tags_of(digest: str, tags: Mapping[str, str]) -> list[str]:
    return [tag for tag, pointed in tags.items() if pointed == digest]


def _is_wanted(given: Given, tagged: bool) -> bool:
    return given.get("filter", {}).get("tagStatus", "ANY") in ("ANY", "TAGGED" if tagged else "UNTAGGED")


def _page(found: list[T], given: Given) -> tuple[Sequence[T], Fields]:
    page, rest = page_of(found, given.get("nextToken"), given.get("maxResults"))
    return page, {"nextToken": rest} if rest else {}
