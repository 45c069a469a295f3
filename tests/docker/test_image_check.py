"""The check of images: ours keep every rule, and images that break one that only an image can break are found."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local_test.control_plane import registry
from tests.conftest import ROOT
from tests.docker.conftest import docker

pytestmark = pytest.mark.docker

CHECKED = ROOT / "tests" / "checked"
PAYLOADS = ROOT / "local_test" / "payloads"
OCI = "application/vnd.oci.image.manifest.v1+json"
# What is added to an image that keeps every rule, and what is then seen.
BROKEN = {
    "bind-to-port-label": ("LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=false", "'false'"),
    "exec-form": ("ENTRYPOINT serve", "ENTRYPOINT is a shell's: /bin/sh -c serve"),
    "user": ("USER 10001", "USER 10001"),
    "nothing-in-opt-ml": ("RUN mkdir -p /opt/ml/model && touch /opt/ml/model/model", "/model/model"),
    "read-only-model": ("ENV BREAK=read-only-model", "only when it may write into /opt/ml/model"),
    "other-user": ("RUN chmod 700 /usr/local/bin/serve", "ermission denied"),
    "read-only-root": ("ENV BREAK=read-only-root", "Read-only file system: '/var/lib/cache'"),
    "one-port": ("ENV BREAK=one-port", "also listens on"),
    "default-port": ("ENV BREAK=default-port", "it ended with exit code 1: KeyError"),
    "neighbours": ("ENV BREAK=neighbours", "Address already in use"),
}
MILD = {"user", "other-user", "read-only-root"}


def check(image: str, *arguments: str | Path, code: int) -> dict[str, dict[str, Any]]:
    command = [sys.executable, "-m", "local_test", "check", image, "--json", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return {one["name"]: one for one in json.loads(done.stdout)["findings"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    directory.chmod(0o755)
    (directory / "model").write_text("1")
    return directory


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """An image that keeps every rule, with some lines more."""
    tag = uuid.uuid4().hex[:8]
    good, made = f"checked-good:{tag}", []
    docker("build", "--quiet", "--tag", good, CHECKED)

    def add(lines: str) -> str:
        directory = tmp_path_factory.mktemp("image")
        (directory / "Dockerfile").write_text(f"FROM {good}\n{lines}\n")
        made.append(f"checked-broken-{len(made)}:{tag}")
        docker("build", "--quiet", "--tag", made[-1], directory)
        return made[-1]

    yield add
    docker("rmi", "--force", *made, good)


@pytest.mark.parametrize("rule", BROKEN)
def test_an_image_that_breaks_a_rule_is_found(build: Callable[[str], str], model: Path, rule: str) -> None:
    lines, seen = BROKEN[rule]
    image = build(lines)

    found = check(image, "--model", model, "--only", rule, code=0 if rule in MILD else 1)

    assert found[rule]["verdict"] == ("warning" if rule in MILD else "failed")
    assert seen in found[rule]["seen"]


def test_an_image_for_another_processor_is_found(tmp_path: Path) -> None:
    name = f"checked-processor:{uuid.uuid4().hex[:8]}"
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    docker("build", "--quiet", "--platform", "linux/s390x", "--tag", name, tmp_path)
    try:
        found = check(name, "--only", "architecture", code=1)
    finally:
        docker("rmi", "--force", name)

    assert found["architecture"]["seen"] == "linux/s390x"


@pytest.mark.skipif(not shutil.which(registry.PROGRAM), reason=f"{registry.PROGRAM} is not installed")
def test_a_pushed_oci_manifest_is_found(build: Callable[[str], str], tmp_path: Path) -> None:
    started = registry.start(tmp_path / registry.DIRECTORY, os.environ["PATH"])
    assert started
    name = f"{started.address}/checked:docker"
    try:
        docker("tag", build("ENV A=1"), name)
        docker("push", name)
        connection = http.client.HTTPConnection(started.address)
        connection.request("GET", "/v2/checked/manifests/docker", headers={
            "Accept": "application/vnd.docker.distribution.manifest.v2+json"})  # fmt: skip
        manifest = json.loads(connection.getresponse().read())
        layers = [layer | {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"} for layer in manifest["layers"]]
        config = manifest["config"] | {"mediaType": "application/vnd.oci.image.config.v1+json"}
        oci = json.dumps(manifest | {"mediaType": OCI, "layers": layers, "config": config})
        connection.request("PUT", "/v2/checked/manifests/oci", oci, {"Content-Type": OCI})
        assert connection.getresponse().read() == b""
        connection.close()
        docker("tag", name, f"{started.address}/checked:oci")

        good = check(name, "--only", "manifest", code=0)
        bad = check(f"{started.address}/checked:oci", "--only", "manifest", code=1)
    finally:
        docker("rmi", "--force", name, f"{started.address}/checked:oci", check=False)
        registry.end(tmp_path / registry.DIRECTORY)

    assert good["manifest"]["verdict"] == "ok"
    assert bad["manifest"]["seen"] == OCI


@pytest.mark.parametrize(
    ("stage", "payload"), [("featurizer", "rows.csv"), ("predictor", "features.npy"), ("pipeline", "rows.csv")]
)
def test_our_own_images_keep_every_rule(images: dict[str, str], artifacts: Path, stage: str, payload: str) -> None:
    model = artifacts if stage == "pipeline" else artifacts / stage / "model"
    artifacts.chmod(0o755)  # pytest's own directories are for their owner alone

    found = check(images[stage], "--model", model, "--payload", PAYLOADS / payload, "--strict", code=0)

    assert {name for name, one in found.items() if one["verdict"] != "ok"} == {"manifest"}  # it is not pushed
