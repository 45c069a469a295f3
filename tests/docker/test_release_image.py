"""The image that `deploy --target` makes in a real registry, without Docker: Docker runs it, and so does Lambda."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from local_test.control_plane import registry, server, service
from local_test.control_plane.plane import Plane
from pipeline.demo import in_process
from pipeline.endpoint.session import Clients
from pipeline.hosts import release_image
from pipeline.hosts.host import COMMAND
from pipeline.hosts.registry import Registry
from pipeline.hosts.release_image import Composed
from tests.docker.conftest import Run, ask, docker
from tests.docker.test_single_container import LAMBDA
from tests.lambda_api import EVENTS, function
from tests.servers import free_ports

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(not shutil.which(registry.PROGRAM), reason=f"{registry.PROGRAM} is not installed"),
]
PREFIX = "serial-inference"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """ECR, whose images are those of a real registry."""
    directory, (port,) = tmp_path_factory.mktemp("plane"), free_ports(1)
    running = registry.start(directory / registry.DIRECTORY, os.environ["PATH"])
    assert running
    plane = service.make_plane(port, "processes", directory, {})
    plane.registry = running.address
    listening = server.make(plane, port)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield plane
    plane.closing.set()
    listening.shutdown()
    listening.server_close()
    thread.join()
    registry.end(running.directory)


@pytest.fixture(scope="module")
def clients(plane: Plane) -> Clients:
    keys = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    return Clients(plane.region, {"AWS_ENDPOINT_URL": plane.url, **keys})


@pytest.fixture(scope="module")
def base(plane: Plane, clients: Clients, images: dict[str, str]) -> release_image.Base:
    """The pipeline image, pushed as it was built: without artifacts."""
    made = plane.client("ecr").create_repository(repositoryName=f"{PREFIX}/pipeline")["repository"]
    uri = f"{made['repositoryUri']}:test"
    docker("tag", images["pipeline"], uri)
    docker("push", "--quiet", uri)
    docker("rmi", uri)
    return release_image.find_base(clients, PREFIX, "test", None)


@pytest.fixture(scope="module")
def released(clients: Clients, base: release_image.Base, artifacts: Path) -> Iterator[Composed]:
    remote = Registry.of_ecr(clients, base.host)
    composed = release_image.compose(remote, base, release_image.make_layer(artifacts), "houses", "hash")
    release_image.push(remote, composed)
    yield composed
    docker("rmi", "--force", composed.image.by_digest, check=False)


def test_docker_runs_it_and_it_answers_as_in_one_process(released: Composed, artifacts: Path, run: Run) -> None:
    rows = (artifacts / "test.csv").read_bytes()
    docker("pull", "--quiet", released.image.by_digest)
    container = run(released.image.by_digest, options=["--read-only", "--tmpfs", "/tmp", "--user", "10001"])  # noqa: S108

    status, body = ask(container.port, "POST", "/invocations", rows, {"Content-Type": "text/csv"})

    answers = np.asarray(json.loads(body)["result"], dtype=np.float32)
    assert status == 200
    assert answers.tobytes() == in_process(artifacts, rows.decode()).tobytes()


def test_lambda_starts_it_by_the_command_that_deploy_gives(released: Composed, tmp_path: Path) -> None:
    name = f"serial-inference-test-{uuid.uuid4().hex[:8]}"
    command = ["docker", "run", "--rm", "--name", name, "--network", "host", "--env", "AWS_LAMBDA_RUNTIME_API={api}"]
    image = ["--entrypoint", *COMMAND, released.image.by_digest, "serve"]
    try:
        with function(tmp_path / "log", "", {}, [*command, *LAMBDA, *image]) as running:
            answer = running.invoke(EVENTS["direct_rows"])
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)

    assert answer["statusCode"] == 200


def test_only_one_layer_is_added_to_the_base(released: Composed, base: release_image.Base, clients: Clients) -> None:
    manifest = Registry.of_ecr(clients, base.host).manifest(base.name, base.reference)
    assert manifest

    layers = released.manifest.parsed["layers"]

    assert released.manifest.media_type == manifest.media_type
    assert layers[:-1] == manifest.parsed["layers"]
    assert layers[-1]["digest"] == released.layer.digest


def test_ecr_has_it_under_its_tag_until_it_is_deleted(
    released: Composed, base: release_image.Base, clients: Clients
) -> None:
    remote, other = Registry.of_ecr(clients, base.host), release_image.Layer(released.layer.content)
    villas = release_image.compose(remote, base, other, "villas", "hash")
    release_image.push(remote, villas)
    (image,) = clients.client("ecr").describe_images(
        repositoryName=base.name, imageIds=[{"imageDigest": released.image.digest}]
    )["imageDetails"]

    release_image.remove(clients, base.name, release_image.find_tags(clients, base.name, "villas"))

    assert image["imageTags"] == [released.image.tag, villas.image.tag]
    assert release_image.find_tags(clients, base.name, "villas") == []
    assert release_image.find_tags(clients, base.name, "houses") == [released.image.tag]
    assert release_image.is_pushed(remote, released.image)
