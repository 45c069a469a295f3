"""ECR of the control plane over Debian's registry: what it tells of the images that are pushed there."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import os
import re
import shutil
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_test.control_plane import docker_host, ecr, registry
from local_test.control_plane.docker_host import DockerHost
from local_test.control_plane.errors import ApiError
from local_test.control_plane.hosting import HostingError
from local_test.control_plane.plane import Plane
from local_test.process import Process
from local_test.state import State
from pipeline.hosts.registry import OCI_MANIFEST, Manifest, Registry
from tests.scripted_host import scripted_plane

pytestmark = pytest.mark.skipif(not shutil.which(registry.PROGRAM), reason=f"{registry.PROGRAM} is not installed")
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
ABSENT = "sha256:" + "0" * 64
NUMBERS = itertools.count(1)  # of repositories


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with scripted_plane(tmp_path_factory.mktemp("plane")) as (plane, _):
        found = registry.start(plane.directory / registry.DIRECTORY, os.environ["PATH"])
        assert found
        plane.registry = found.address
        yield plane
        registry.end(plane.directory / registry.DIRECTORY)


@dataclass(frozen=True)
class Repository:
    """A repository with images of one layer."""

    name: str
    plane: Plane

    def push(self, tag: str, content: bytes, media_type: str = DOCKER) -> str:
        """An image's digest. The same content is the same image."""
        client = Registry(self.plane.registry, "")
        parts = {
            "config": {"size": 2, "digest": client.upload(self.name, b"{}")},
            "layers": [{"size": len(content), "digest": client.upload(self.name, content)}],
        }
        whole = json.dumps({"schemaVersion": 2, "mediaType": media_type, **parts}).encode()
        manifest = Manifest(media_type, whole)
        client.put(self.name, tag, manifest)
        return manifest.digest

    def details(self, **asked: Any) -> list[Any]:
        return self.plane.client("ecr").describe_images(repositoryName=self.name, **asked)["imageDetails"]

    def listed(self, **asked: Any) -> Any:
        return self.plane.client("ecr").list_images(repositoryName=self.name, **asked)

    def delete(self, **image: str) -> Any:
        return self.plane.client("ecr").batch_delete_image(repositoryName=self.name, imageIds=[image])


@pytest.fixture
def repository(plane: Plane) -> Repository:
    name = f"deep/r{next(NUMBERS)}"
    plane.client("ecr").create_repository(repositoryName=name)
    return Repository(name, plane)


def code_of(call: Callable[..., Any], **asked: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**asked)
    return caught.value.response["Error"]["Code"]


def test_an_image_is_described_as_it_was_pushed(repository: Repository) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    digest = repository.push("a", b"12345")
    repository.push("b", b"12345")

    (image,) = repository.details()

    assert before <= image.pop("imagePushedAt") <= datetime.now(UTC)
    assert image == {
        "registryId": "123456789012",
        "repositoryName": repository.name,
        "imageDigest": digest,
        "imageTags": ["a", "b"],
        "imageSizeInBytes": 7,
        "imageManifestMediaType": DOCKER,
    }
    for asked in ({"imageTag": "b"}, {"imageDigest": digest}, {"imageTag": "a", "imageDigest": digest}):
        assert [one["imageDigest"] for one in repository.details(imageIds=[asked])] == [digest]
    assert len(repository.details(imageIds=[{"imageTag": "a"}, {"imageTag": "b"}])) == 1


def test_images_are_described_oldest_first_on_pages(repository: Repository, plane: Plane) -> None:
    digests = [repository.push(f"t{number}", b"%d" % number) for number in range(3)]
    revisions = plane.directory / "registry/storage/docker/registry/v2/repositories" / repository.name
    for at, digest in enumerate(reversed(digests)):
        link = revisions / "_manifests/revisions" / digest.replace(":", "/") / "link"
        os.utime(link, (1000 + at, 1000 + at))
    client = plane.client("ecr")

    first = client.describe_images(repositoryName=repository.name, maxResults=2)
    last = client.describe_images(repositoryName=repository.name, maxResults=2, nextToken=first["nextToken"])

    found = [one["imageDigest"] for one in first["imageDetails"] + last["imageDetails"]]
    assert found == digests[::-1]
    assert first["imageDetails"][0]["imagePushedAt"].timestamp() == 1000
    assert "nextToken" not in last


def test_tags_are_listed(repository: Repository) -> None:
    digest = repository.push("a", b"1")
    repository.push("b", b"1")

    assert repository.listed()["imageIds"] == [{"imageDigest": digest, "imageTag": tag} for tag in ("a", "b")]
    assert repository.listed(maxResults=1)["nextToken"] == "1"


def test_an_image_that_lost_its_tag_is_still_there(repository: Repository) -> None:
    old, new = repository.push("a", b"1"), repository.push("a", b"2")

    untagged = repository.details(filter={"tagStatus": "UNTAGGED"})
    tagged = repository.details(filter={"tagStatus": "TAGGED"})

    assert [one["imageDigest"] for one in untagged] == [old]
    assert "imageTags" not in untagged[0]
    assert [one["imageTags"] for one in tagged] == [["a"]]
    assert repository.listed(filter={"tagStatus": "UNTAGGED"})["imageIds"] == [{"imageDigest": old}]
    assert repository.listed(filter={"tagStatus": "TAGGED"})["imageIds"] == [{"imageDigest": new, "imageTag": "a"}]
    assert len(repository.listed(filter={"tagStatus": "ANY"})["imageIds"]) == 2


def test_a_manifest_is_given_as_it_was_pushed(repository: Repository, plane: Plane) -> None:
    digest = repository.push("a", b"1")
    other = repository.push("other", b"2")
    asked = [{"imageTag": "a"}, {"imageDigest": digest}, {"imageTag": "none"}, {"imageTag": "a", "imageDigest": other}]

    answer = plane.client("ecr").batch_get_image(repositoryName=repository.name, imageIds=asked)

    assert [image["imageId"] for image in answer["images"]] == [
        {"imageTag": "a", "imageDigest": digest},
        {"imageDigest": digest},
    ]
    image = answer["images"][0]
    assert json.loads(image["imageManifest"])["mediaType"] == image["imageManifestMediaType"] == DOCKER
    assert (image["registryId"], image["repositoryName"]) == ("123456789012", repository.name)
    assert [(one["imageId"], one["failureCode"]) for one in answer["failures"]] == [
        (asked[2], "ImageNotFound"),
        (asked[3], "ImageNotFound"),
    ]


def test_a_tag_is_deleted_and_with_the_last_one_the_image(repository: Repository) -> None:
    digest = repository.push("a", b"1")
    repository.push("b", b"1")

    first = repository.delete(imageTag="a")
    (left,) = repository.details()
    last = repository.delete(imageTag="b")
    missing = repository.delete(imageDigest=digest)

    assert first["imageIds"] == [{"imageDigest": digest, "imageTag": "a"}]
    assert left["imageTags"] == ["b"]
    assert last["imageIds"] == [{"imageDigest": digest, "imageTag": "b"}]
    assert repository.details() == []
    assert (missing["imageIds"], missing["failures"][0]["failureCode"]) == ([], "ImageNotFound")


def test_an_image_is_deleted_by_its_digest_with_all_tags(repository: Repository) -> None:
    digest = repository.push("a", b"1")
    repository.push("b", b"1")
    kept = repository.push("kept", b"2")

    deleted = repository.delete(imageDigest=digest)

    assert deleted["imageIds"] == [{"imageDigest": digest, "imageTag": tag} for tag in ("a", "b")]
    assert [one["imageDigest"] for one in repository.details()] == [kept]
    repository.push("a", b"1")
    assert [one["imageTags"] for one in repository.details()] == [["kept"], ["a"]]


def test_a_repository_with_images_is_deleted_by_force_only(repository: Repository, plane: Plane) -> None:
    repository.push("a", b"1")
    client = plane.client("ecr")

    assert code_of(client.delete_repository, repositoryName=repository.name) == "RepositoryNotEmptyException"
    deleted = client.delete_repository(repositoryName=repository.name, force=True)

    assert deleted["repository"]["repositoryUri"] == f"{plane.registry}/{repository.name}"
    assert code_of(client.describe_images, repositoryName=repository.name) == "RepositoryNotFoundException"
    client.create_repository(repositoryName=repository.name)
    assert repository.details() == []
    client.delete_repository(repositoryName=repository.name)


@pytest.mark.parametrize("operation", ["describe_images", "list_images", "delete_repository"])
def test_a_repository_that_is_not_there_is_refused_as_ecr_does(plane: Plane, operation: str) -> None:
    call = getattr(plane.client("ecr"), operation)

    assert code_of(call, repositoryName="none") == "RepositoryNotFoundException"


@pytest.mark.parametrize("operation", ["batch_get_image", "batch_delete_image"])
def test_images_of_a_repository_that_is_not_there_are_refused(plane: Plane, operation: str) -> None:
    call = getattr(plane.client("ecr"), operation)

    assert code_of(call, repositoryName="none", imageIds=[{"imageTag": "a"}]) == "RepositoryNotFoundException"


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({"imageTag": "none"}, "{imageDigest:'null', imageTag:'none'}"),
        ({"imageDigest": ABSENT}, f"{{imageDigest:'{ABSENT}', imageTag:'null'}}"),
        ({"imageTag": "a", "imageDigest": ABSENT}, f"{{imageDigest:'{ABSENT}', imageTag:'a'}}"),
    ],
)
def test_an_image_that_is_not_there_is_refused_as_ecr_does(
    repository: Repository, asked: dict[str, str], shown: str
) -> None:
    repository.push("a", b"1")

    with pytest.raises(ClientError) as caught:
        repository.details(imageIds=[asked])

    error = caught.value.response["Error"]
    assert error["Code"] == "ImageNotFoundException"
    assert f"The image with imageId {shown} does not exist within the repository" in error["Message"]


def test_settings_of_a_repository_are_kept(plane: Plane) -> None:
    client = plane.client("ecr")
    asked = {"imageTagMutability": "IMMUTABLE", "imageScanningConfiguration": {"scanOnPush": True}}

    made = client.create_repository(repositoryName="kept", **asked)["repository"]

    (described,) = client.describe_repositories(repositoryNames=["kept"])["repositories"]
    assert described == made
    assert described.items() >= {**asked, "repositoryUri": f"{plane.registry}/kept"}.items()
    assert code_of(client.create_repository, repositoryName="kept") == "RepositoryAlreadyExistsException"


def test_a_token_is_for_the_registry(plane: Plane) -> None:
    client = plane.client("ecr")

    (one,) = client.get_authorization_token()["authorizationData"]
    several = client.get_authorization_token(registryIds=["1" * 12, "2" * 12])["authorizationData"]

    assert b64decode(one["authorizationToken"]) == b"AWS:local"
    assert one["proxyEndpoint"] == f"http://{plane.registry}"
    assert timedelta(hours=11) < one["expiresAt"] - datetime.now(UTC) < timedelta(hours=13)
    assert len(several) == 2


def test_without_a_registry_images_are_motos(plane: Plane) -> None:
    alone = replace(plane, registry="")
    given = {"repositoryName": "motos"}
    image = {"imageTag": "a"}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": DOCKER, "config": {}, "layers": []})
    made = ecr.create_repository(alone, given)["repository"]
    pushed = ecr.put_image(alone, {**given, "imageTag": "a", "imageManifest": manifest})["image"]["imageId"]

    found = [
        ecr.describe_images(alone, given)["imageDetails"][0]["imageTags"],
        ecr.list_images(alone, given)["imageIds"][0]["imageTag"],
        ecr.batch_get_image(alone, {**given, "imageIds": [image]})["images"][0]["imageId"]["imageTag"],
        ecr.batch_delete_image(alone, {**given, "imageIds": [image]})["imageIds"][0]["imageTag"],
    ]

    assert found == [["a"], "a", "a", "a"]
    assert pushed["imageDigest"] == f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
    assert code_of(plane.client("ecr").put_image, **given, imageManifest=manifest) == "InvalidParameterException"
    assert made["repositoryUri"] == f"{plane.url.partition('://')[2]}/motos"
    assert ecr.delete_repository(alone, given)["repository"]["repositoryName"] == "motos"


def test_an_image_of_the_registry_is_checked_and_resolved_without_docker(repository: Repository, plane: Plane) -> None:
    host = DockerHost("/no/docker", "label")
    digest = repository.push("a", b"1")
    repository.push("latest", b"2")
    repository.push("oci", b"1", OCI_MANIFEST)
    name = f"{plane.registry}/{repository.name}"

    for sound in (f"{name}:a", f"{name}@{digest}", name):
        host.check_image(sound, serial=False)
    for image, said in (
        (f"{name}:none", "not found"),
        (f"{name}:oci", f"media type {re.escape(OCI_MANIFEST)} for image"),
    ):
        with pytest.raises(ApiError, match=said):
            host.check_image(image, serial=False)
    assert host.resolve(f"{name}:a") == f"{name}@{digest}"
    assert host.resolve(f"{name}@{digest}") == f"{name}@{digest}"
    assert host.resolve(f"{name}:none") == f"{name}:none"
    assert docker_host._manifest("127.0.0.1:9/a:b") is None


def test_a_registry_ends_with_its_process_and_can_be_ended_again(tmp_path: Path) -> None:
    found = registry.start(tmp_path, os.environ["PATH"])
    assert found
    assert found.address == f"127.0.0.1:{found.port}"
    assert found.tags("none") == {}

    registry.end(tmp_path)
    registry.end(tmp_path)

    with pytest.raises((OSError, http.client.HTTPException)):
        replace(found).tags("none")
    assert State(tmp_path).load() == ("", [])


def test_there_is_no_registry_without_the_program(tmp_path: Path) -> None:
    assert registry.start(tmp_path / "none", str(tmp_path)) is None
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("script", ["echo no disk; exit 1", "echo no disk; exec sleep 600"])
def test_a_registry_that_does_not_answer_is_shown_with_its_log(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "STARTED_WITHIN", 0.5)
    started: list[Process] = []
    start = Process.start
    monkeypatch.setattr(Process, "start", lambda *given: started.append(start(*given)) or started[-1])
    program = tmp_path / registry.PROGRAM
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)

    with pytest.raises(HostingError, match=r"docker-registry does not answer on 127.*\nno disk"):
        registry.start(tmp_path / "data", str(tmp_path))

    assert [process.is_alive() for process in started] == [False]
    assert State(tmp_path / "data").load() == ("", [])
