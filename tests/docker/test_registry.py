"""The control plane's registry: Docker pushes and pulls through it, and ECR tells what it has."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from base64 import b64decode
from collections.abc import Iterator
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
