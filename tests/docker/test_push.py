"""build_and_push.sh with the real docker, the real AWS CLI and a real registry. Only the API of ECR is stood in for."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.docker.conftest import ask, docker
from tests.servers import free_ports, started, wait_until

pytestmark = pytest.mark.docker

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
REGISTRY = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {data}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
IDENTITY = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    "<Arn>arn:aws:iam::123456789012:user/a</Arn><UserId>A</UserId><Account>123456789012</Account>"
    "</GetCallerIdentityResult></GetCallerIdentityResponse>"
)


@dataclass
class Aws:
    """ECR's answers about the registry on `port`, and the requests that changed something."""

    port: int
    url: str = ""
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)

    def answer(self, operation: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = asked.get("repositoryName") or (asked.get("repositoryNames") or [""])[0]
        match operation:
            case "GetAuthorizationToken":
                given = {"authorizationToken": "QVdTOm9wZW4=", "proxyEndpoint": f"http://127.0.0.1:{self.port}"}
                return 200, {"authorizationData": [given]}
            case "CreateRepository":
                self.repositories[name] = asked
            case "PutLifecyclePolicy":
                self.policies[name] = asked["lifecyclePolicyText"]
            case "DescribeImages":
                return self._image(name, asked["imageIds"][0]["imageTag"])
        if name not in self.repositories:
            return 400, {"__type": "RepositoryNotFoundException", "message": f"no {name}"}
        return 200, {"repositories": [{"repositoryUri": f"127.0.0.1:{self.port}/{name}"}]}

    def _image(self, name: str, tag: str) -> tuple[int, dict[str, Any]]:
        status, headers, _ = manifest(self.port, name, tag)
        if status != 200:
            return 400, {"__type": "ImageNotFoundException", "message": f"no {tag}"}
        detail = {"imageDigest": headers["Docker-Content-Digest"], "imageManifestMediaType": headers["Content-Type"]}
        return 200, {"imageDetails": [detail]}


def manifest(port: int, name: str, reference: str) -> tuple[int, dict[str, str], bytes]:
    """The manifest as the registry has it, whatever its type."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        accepted = ", ".join((DOCKER_MANIFEST, OCI_MANIFEST, OCI_INDEX))
        connection.request("GET", f"/v2/{name}/manifests/{reference}", headers={"Accept": accepted})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of Debian's registry."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("needs the program docker-registry (apt-get install docker-registry)")
    directory, port = tmp_path_factory.mktemp("registry"), free_ports(1)[0]
    (directory / "config.yml").write_text(REGISTRY.format(data=directory / "data", port=port))
    with started([program, "serve", directory / "config.yml"], stderr=subprocess.DEVNULL):
        wait_until(lambda: ask(port, "GET", "/v2/")[0] == 200, "the registry")
        yield port


@pytest.fixture
def aws(registry: int) -> Iterator[Aws]:
    answers = Aws(registry)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if target := self.headers.get("X-Amz-Target"):
                status, answer = answers.answer(target.rpartition(".")[2], json.loads(body))
                text, kind = json.dumps(answer), "application/x-amz-json-1.1"
            else:
                status, text, kind = 200, IDENTITY, "text/xml"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answers.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield answers
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Checkout:
    """A copy of what the images are built from, under git, and a docker configuration of its own."""

    path: Path
    home: Path

    def run(self, aws: Aws, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        ours = {
            "AWS_ENDPOINT_URL": aws.url, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": os.devnull, "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        return subprocess.run(
            [self.path / "build_and_push.sh", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | ours | env,
            timeout=900,
        )

    def git(self, *arguments: str) -> str:
        settings = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *settings, *arguments], cwd=self.path, check=True, capture_output=True, text=True)
        return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    made = Checkout(tmp_path / "checkout", tmp_path / "home")
    made.path.mkdir()
    made.home.mkdir()
    for name in ("featurizer", "predictor", "serving", "requirements"):
        shutil.copytree(ROOT / name, made.path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("build_and_push.sh", ".dockerignore"):
        shutil.copy2(ROOT / name, made.path / name)
    made.git("init", "--quiet")
    made.git("add", ".")
    made.git("commit", "--quiet", "--message", "first")
    yield made
    listed = docker("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    for name in (name for name in listed if re.match(r"127\.0\.0\.1:\d+/push-test/", name)):
        docker("rmi", "--force", name, check=False)


@pytest.mark.timeout(900)
def test_the_pushed_images_are_what_sagemaker_takes(aws: Aws, checkout: Checkout) -> None:
    done = checkout.run(aws, "--json", "--repository-prefix", "push-test")

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    tag = checkout.git("rev-parse", "HEAD")[:12]
    assert answer["tag"] == tag
    for name in ("featurizer", "predictor"):
        status, headers, body = manifest(aws.port, f"push-test/{name}", tag)
        assert (status, headers["Content-Type"]) == (200, DOCKER_MANIFEST)
        assert json.loads(body)["mediaType"] == DOCKER_MANIFEST
        image = answer["images"][name]
        assert image["digest"] == headers["Docker-Content-Digest"]
        docker("rmi", "--force", f"127.0.0.1:{aws.port}/push-test/{name}:{tag}")
        docker("pull", "--quiet", image["uri"])
        pulled = json.loads(docker("image", "inspect", image["uri"]))[0]
        assert (pulled["Os"], pulled["Architecture"]) == ("linux", "amd64")
        assert pulled["Config"]["Labels"]["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
        docker("rmi", "--force", image["uri"])
    assert aws.repositories["push-test/predictor"]["imageTagMutability"] == "IMMUTABLE"
    assert json.loads(aws.policies["push-test/predictor"])["rules"]


def small(checkout: Checkout) -> None:
    """Let the predictor's image be built in a moment."""
    (checkout.path / "predictor" / "Dockerfile").write_text("FROM python:3.13-slim-trixie\nCOPY predictor /p\n")
    checkout.git("commit", "--quiet", "--all", "--message", "small")


@pytest.mark.parametrize("buildx", [True, False])
def test_a_second_run_shows_the_digest_of_the_first(aws: Aws, checkout: Checkout, tmp_path: Path, buildx: bool) -> None:
    small(checkout)
    env = {} if buildx else {"PATH": without_buildx(tmp_path)}
    asked = ("predictor", "--repository-prefix", f"push-test/{'x' if buildx else 'classic'}")
    first, second = (checkout.run(aws, *asked, **env) for _ in range(2))

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout == second.stdout
    assert "could not be read" not in first.stderr + second.stderr
    assert "building predictor" in first.stderr
    assert "is there already" in second.stderr
    assert "building predictor" not in second.stderr
    digest = first.stdout.strip().partition("@")[2]
    assert manifest(aws.port, f"{asked[2]}/predictor", digest)[1]["Content-Type"] == DOCKER_MANIFEST


def without_buildx(directory: Path) -> str:
    """A PATH whose docker has no buildx."""
    real = shutil.which("docker")
    program = directory / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$1" != buildx ] || exit 1\nDOCKER_BUILDKIT=0 exec {real} "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"


def test_an_oci_manifest_under_the_tag_is_refused(aws: Aws, checkout: Checkout) -> None:
    small(checkout)
    first = checkout.run(aws, "predictor", "--repository-prefix", "push-test/oci", "--tag", "docker")
    body = json.loads(manifest(aws.port, "push-test/oci/predictor", "docker")[2])
    tag = checkout.git("rev-parse", "HEAD")[:12]
    put(aws.port, "push-test/oci/predictor", tag, as_oci(body))

    done = checkout.run(aws, "predictor", "--repository-prefix", "push-test/oci")

    assert first.returncode == 0, first.stderr
    assert done.returncode == 1
    assert OCI_MANIFEST in done.stderr
    assert "batch-delete-image" in done.stderr


def as_oci(body: dict[str, Any]) -> dict[str, Any]:
    config = body["config"] | {"mediaType": "application/vnd.oci.image.config.v1+json"}
    layers = [layer | {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"} for layer in body["layers"]]
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}


def put(port: int, name: str, tag: str, body: dict[str, Any]) -> None:
    status, answer = ask(
        port, "PUT", f"/v2/{name}/manifests/{tag}", json.dumps(body).encode(), {"Content-Type": OCI_MANIFEST}
    )
    assert status == 201, answer
