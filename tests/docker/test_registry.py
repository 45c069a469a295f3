"""The control plane's registry: Docker pushes and pulls through it, and ECR tells what it has."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import threading
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_test.control_plane import registry, server, service
from local_test.control_plane.plane import Plane
from local_test.control_plane.registry import Registry
from tests.docker.conftest import docker
from tests.servers import free_ports

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(not shutil.which(registry.PROGRAM), reason=f"{registry.PROGRAM} is not installed"),
]
V2 = "application/vnd.docker.distribution.manifest.v2+json"
BASE = "python:3.13-slim-trixie"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    directory = tmp_path_factory.mktemp("plane") / registry.DIRECTORY
    found = registry.start(directory, os.environ["PATH"])
    assert found
    yield found
    registry.end(directory)


@pytest.fixture(scope="module")
def plane(running: Registry) -> Iterator[Plane]:
    (port,) = free_ports(1)
    plane = service.make_plane(port, "processes", running.directory.parent, {})
    plane.registry = running.address
    listening = server.make(plane, port)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield plane
    plane.closing.set()
    listening.shutdown()
    listening.server_close()
    thread.join()


@pytest.fixture
def pushed(plane: Plane, tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """A repository with an image that has the tags `a` and `b`: its name, its URI, and the image's digest."""
    name = f"serial-inference/t{os.urandom(4).hex()}"
    uri = plane.client("ecr").create_repository(repositoryName=name)["repository"]["repositoryUri"]
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nLABEL test={name}\n")
    docker("build", "--quiet", "--tag", f"{uri}:a", tmp_path)
    docker("tag", f"{uri}:a", f"{uri}:b")
    docker("push", "--quiet", f"{uri}:a")
    said = docker("push", f"{uri}:b")
    digest = next(word for word in said.split() if word.startswith("sha256:"))
    yield name, uri, digest
    docker("rmi", "--force", f"{uri}:a", f"{uri}:b", f"{uri}@{digest}", check=False)


def details(plane: Plane, name: str, **asked: Any) -> list[Any]:
    return plane.client("ecr").describe_images(repositoryName=name, **asked)["imageDetails"]


def code_of(call: Any, **asked: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**asked)
    return caught.value.response["Error"]["Code"]


def test_docker_logs_in_with_the_token_of_ecr(plane: Plane, tmp_path: Path) -> None:
    (token,) = plane.client("ecr").get_authorization_token()["authorizationData"]
    user, _, password = b64decode(token["authorizationToken"]).decode().partition(":")

    done = subprocess.run(
        ["docker", "--config", tmp_path, "login", "--username", user, "--password-stdin", token["proxyEndpoint"]],
        input=password,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert timedelta(hours=11) < token["expiresAt"] - datetime.now(UTC) < timedelta(hours=13)


def test_ecr_describes_what_was_pushed(plane: Plane, pushed: tuple[str, str, str]) -> None:
    name, _, digest = pushed

    (image,) = details(plane, name)

    assert (image["imageDigest"], image["imageTags"]) == (digest, ["a", "b"])
    assert image["imageManifestMediaType"] == V2
    assert image["imageSizeInBytes"] > 10_000_000
    assert abs(datetime.now(UTC) - image["imagePushedAt"]) < timedelta(minutes=5)
    assert details(plane, name, imageIds=[{"imageTag": "b"}]) == [image]
    assert details(plane, name, imageIds=[{"imageDigest": digest}]) == [image]


def test_an_image_is_pulled_by_its_digest(pushed: tuple[str, str, str]) -> None:
    _, uri, digest = pushed
    docker("rmi", "--force", f"{uri}:a", f"{uri}:b")

    docker("pull", "--quiet", f"{uri}@{digest}")

    assert f"{uri}@{digest}" in docker("image", "inspect", f"{uri}@{digest}", "--format", "{{.RepoDigests}}")


def test_ecr_gives_the_manifest_as_it_was_pushed(plane: Plane, pushed: tuple[str, str, str]) -> None:
    name, _, digest = pushed
    asked = [{"imageTag": "a"}, {"imageTag": "none"}]

    answer = plane.client("ecr").batch_get_image(repositoryName=name, imageIds=asked)

    (image,) = answer["images"]
    assert image["imageId"] == {"imageDigest": digest, "imageTag": "a"}
    assert json.loads(image["imageManifest"])["mediaType"] == image["imageManifestMediaType"] == V2
    assert [failure["failureCode"] for failure in answer["failures"]] == ["ImageNotFound"]


def test_ecr_lists_tags(plane: Plane, pushed: tuple[str, str, str]) -> None:
    name, _, digest = pushed

    listed = plane.client("ecr").list_images(repositoryName=name)["imageIds"]

    assert listed == [{"imageDigest": digest, "imageTag": tag} for tag in ("a", "b")]


def test_a_tag_is_deleted_and_with_the_last_one_the_image(plane: Plane, pushed: tuple[str, str, str]) -> None:
    name, _, digest = pushed
    delete = plane.client("ecr").batch_delete_image

    first = delete(repositoryName=name, imageIds=[{"imageTag": "a"}])
    (left,) = details(plane, name)
    delete(repositoryName=name, imageIds=[{"imageTag": "b"}])
    missing = delete(repositoryName=name, imageIds=[{"imageDigest": digest}])

    assert first["imageIds"] == [{"imageDigest": digest, "imageTag": "a"}]
    assert left["imageTags"] == ["b"]
    assert details(plane, name) == []
    assert missing["failures"][0]["failureCode"] == "ImageNotFound"


def test_an_image_that_lost_its_tag_is_still_there(plane: Plane, pushed: tuple[str, str, str], tmp_path: Path) -> None:
    name, uri, digest = pushed
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nLABEL test=other\n")
    docker("build", "--quiet", "--tag", f"{uri}:a", tmp_path)
    docker("tag", f"{uri}:a", f"{uri}:b")
    docker("push", "--quiet", f"{uri}:a")
    docker("push", "--quiet", f"{uri}:b")

    untagged = details(plane, name, filter={"tagStatus": "UNTAGGED"})
    tagged = details(plane, name, filter={"tagStatus": "TAGGED"})

    assert [image["imageDigest"] for image in untagged] == [digest]
    assert "imageTags" not in untagged[0]
    assert [image["imageTags"] for image in tagged] == [["a", "b"]]


def test_a_repository_with_images_is_deleted_by_force_only(plane: Plane, pushed: tuple[str, str, str]) -> None:
    name, _, _ = pushed
    ecr = plane.client("ecr")

    assert code_of(ecr.delete_repository, repositoryName=name) == "RepositoryNotEmptyException"
    ecr.delete_repository(repositoryName=name, force=True)

    assert code_of(ecr.describe_images, repositoryName=name) == "RepositoryNotFoundException"
    ecr.create_repository(repositoryName=name)
    assert details(plane, name) == []


def test_what_is_not_there_is_refused_as_ecr_does(plane: Plane) -> None:
    ecr = plane.client("ecr")
    ecr.create_repository(repositoryName="empty")

    unknown = [{"imageTag": "none"}]
    assert code_of(ecr.describe_images, repositoryName="empty", imageIds=unknown) == "ImageNotFoundException"
    assert code_of(ecr.describe_images, repositoryName="none") == "RepositoryNotFoundException"
    assert code_of(ecr.create_repository, repositoryName="empty") == "RepositoryAlreadyExistsException"


def test_settings_of_a_repository_are_kept(plane: Plane) -> None:
    ecr = plane.client("ecr")
    asked = {"imageTagMutability": "IMMUTABLE", "imageScanningConfiguration": {"scanOnPush": True}}
    made = ecr.create_repository(repositoryName="kept", **asked)["repository"]
    expire = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14}
    rule = {"rulePriority": 1, "selection": expire, "action": {"type": "expire"}}
    policy = json.dumps({"rules": [rule]})

    ecr.put_lifecycle_policy(repositoryName="kept", lifecyclePolicyText=policy)

    (described,) = ecr.describe_repositories(repositoryNames=["kept"])["repositories"]
    assert described == made
    assert described.items() >= {**asked, "repositoryUri": f"{plane.registry}/kept"}.items()
    assert ecr.get_lifecycle_policy(repositoryName="kept")["lifecyclePolicyText"] == policy


def test_the_registry_ends_and_nobody_answers(tmp_path: Path) -> None:
    found = registry.start(tmp_path, os.environ["PATH"])
    assert found
    assert found.tags("none") == {}

    registry.end(tmp_path)
    registry.end(tmp_path)

    with pytest.raises((OSError, http.client.HTTPException)):
        replace(found).tags("none")


def test_there_is_no_registry_without_the_program(tmp_path: Path) -> None:
    assert registry.start(tmp_path / "none", str(tmp_path)) is None
