"""`python -m local_test up --host docker`: real images, pushed to its registry and hosted in containers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_test.control_plane import registry
from local_test.control_plane.plane import LABEL
from local_test.process import Process
from pipeline.demo import in_process
from tests.conftest import ROOT
from tests.docker.conftest import docker
from tests.integration.test_control_plane import ROLE, ROWS, Account, Command, load
from tests.servers import wait_until

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(not shutil.which(registry.PROGRAM), reason=f"{registry.PROGRAM} is not installed"),
]

STAGES = ("featurizer", "predictor")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    command = Command(tmp_path_factory.mktemp("docker") / "state")
    done = command.run("up", "--port", "0", "--host", "docker")
    assert done.returncode == 0, done.stderr
    yield command
    command.run("down")


@pytest.fixture(scope="module")
def account(command: Command, artifacts: Path) -> Account:
    account = Account(command.server().port)
    account.upload(artifacts)
    return account


@pytest.fixture(scope="module")
def pushed(account: Account, images: dict[str, str]) -> Iterator[dict[str, str]]:
    """The images of both stages by name and digest, in the account's ECR."""
    ecr = account.client("ecr")
    found, tagged = {}, []
    for stage in STAGES:
        repository = ecr.create_repository(repositoryName=f"serial-inference/{stage}")["repository"]
        name = f"{repository['repositoryUri']}:test"
        docker("tag", images[stage], name)
        tagged.append(name)
        docker("push", "--quiet", name)
        (image,) = ecr.describe_images(repositoryName=f"serial-inference/{stage}")["imageDetails"]
        found[stage] = f"{repository['repositoryUri']}@{image['imageDigest']}"
    docker("rmi", *tagged)
    yield found
    docker("rmi", "--force", *found.values(), check=False)


def containers(command: Command) -> list[dict[str, Any]]:
    """All containers of the control plane, in the order of the chain. One may go while they are looked at."""
    label = f"label={LABEL}={(command.state / 'data').resolve()}"
    names = docker("ps", "--all", "--quiet", "--filter", label).split()
    found = json.loads(docker("inspect", *names, check=False)) if names else []
    return sorted(found, key=lambda one: one["Created"])


def test_an_endpoint_of_images_runs_as_the_platform_runs_it(
    account: Account, command: Command, pushed: dict[str, str], artifacts: Path
) -> None:
    account.make_model("run", *STAGES, **pushed)
    made = account.make_endpoint("run", "run")
    answer = json.loads(account.invoke("run"))["result"]
    first, second = containers(command)
    account.delete("run")

    assert made["EndpointStatus"] == "InService", made
    shown = made["ProductionVariants"][0]["DeployedImages"]
    assert [one["SpecifiedImage"] for one in shown] == [pushed[stage] for stage in STAGES]
    assert answer == pytest.approx(in_process(artifacts, ROWS.decode()).ravel(), rel=1e-6)
    assert second["HostConfig"]["NetworkMode"] == f"container:{first['Id']}"
    for container, port in ((first, 8080), (second, 8081)):
        assert container["Args"] == ["serve"] or container["Path"] == "serve"
        assert f"SAGEMAKER_BIND_TO_PORT={port}" in container["Config"]["Env"]
        assert "SAGEMAKER_SAFE_PORT_RANGE=8080-8081" in container["Config"]["Env"]
        (mount,) = container["Mounts"]
        assert (mount["Destination"], mount["RW"]) == ("/opt/ml/model", False)
        assert 0 < container["HostConfig"]["Memory"] <= 16 * 1024**3
    assert {where["HostIp"] for ports in first["NetworkSettings"]["Ports"].values() for where in ports} == {"127.0.0.1"}
    assert containers(command) == []


def test_an_update_of_containers_under_load_loses_no_request(
    account: Account, command: Command, pushed: dict[str, str]
) -> None:
    for name in ("blue", "green"):
        account.make_model(name, *STAGES, **pushed)
    account.make_endpoint("swapped", "blue")
    with load(account, "swapped") as answers:
        account.client("sagemaker").update_endpoint(EndpointName="swapped", EndpointConfigName="green")
        after = account.settled("swapped")
    left = len(containers(command))
    account.delete("swapped")

    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", "green")
    assert len(answers) > 10
    assert [answer for answer in set(answers) if not isinstance(answer, bytes)] == []
    assert left == 2


def test_a_container_that_dies_is_replaced_with_its_neighbours(
    account: Account, command: Command, pushed: dict[str, str]
) -> None:
    account.make_model("mortal", *STAGES, **pushed)
    account.make_endpoint("mortal", "mortal")
    before = {container["Id"] for container in containers(command)}
    docker("kill", containers(command)[1]["Id"])

    def replaced() -> bool:
        now = containers(command)
        return len(now) == 2 and before.isdisjoint(container["Id"] for container in now)

    wait_until(replaced, "other containers", 90)
    runtime = account.client("sagemaker-runtime")

    def answers() -> bool:
        try:
            return bool(account.invoke("mortal"))
        except runtime.exceptions.ModelError:
            return False

    wait_until(answers, "an answer", 90)
    account.delete("mortal")

    assert containers(command) == []


def test_an_image_that_is_not_in_its_repository_is_refused(account: Account, pushed: dict[str, str]) -> None:
    missing = pushed["predictor"].partition("@")[0] + ":missing"

    with pytest.raises(ClientError, match=r"Requested image .*predictor:missing not found"):
        account.make_model("missing", *STAGES, **pushed | {"predictor": missing})


def test_an_image_without_the_port_label_fails_the_endpoint_in_words_of_the_platform(
    account: Account, command: Command, pushed: dict[str, str]
) -> None:
    uri = account.client("ecr").create_repository(repositoryName="unlabelled")["repository"]["repositoryUri"]
    _build(f"{uri}:test", 'FROM scratch\nCMD ["serve"]\n')
    account.make_model("unlabelled", *STAGES, **pushed | {"predictor": f"{uri}:test"})
    made = account.make_endpoint("unlabelled", "unlabelled")
    account.delete("unlabelled")
    docker("rmi", "--force", f"{uri}:test")

    label = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true"
    assert made["EndpointStatus"] == "Failed"
    assert made["FailureReason"] == f"Your Ecr Image {uri}:test does not contain required {label} Docker label(s)."
    assert containers(command) == []


def test_an_oci_manifest_is_refused_as_the_platform_refuses_it(account: Account, pushed: dict[str, str]) -> None:
    image = _as_oci(pushed["predictor"])
    sagemaker = account.client("sagemaker")

    with pytest.raises(ClientError, match=r"Unsupported manifest media type application/vnd.oci.image.manifest.v1"):
        sagemaker.create_model(ModelName="oci", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": image})


@pytest.fixture
def another(tmp_path: Path) -> Iterator[Command]:
    """The command for a control plane of a test's own, which is down at its end."""
    command = Command(tmp_path / "state")
    yield command
    command.run("down")


def test_down_removes_the_containers_of_a_killed_server(
    images: dict[str, str], artifacts: Path, another: Command
) -> None:
    assert another.run("up", "--port", "0", "--host", "docker").returncode == 0
    account = Account(another.server().port)
    account.upload(artifacts)
    account.make_model("orphan", *STAGES, **images)
    assert account.make_endpoint("orphan", "orphan")["EndpointStatus"] == "InService"
    processes: list[Process] = another.processes()
    os.kill(another.server().pid, signal.SIGKILL)
    left = len(containers(another))

    another.down()

    assert left == 2
    assert containers(another) == []
    assert not any(process.is_alive() for process in processes)


def _build(name: str, dockerfile: str) -> None:
    """Build an image of nothing but a Dockerfile, and push it."""
    command = ["docker", "build", "--quiet", "--tag", name, "-"]
    subprocess.run(command, input=dockerfile.encode(), check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    docker("push", "--quiet", name)


def _as_oci(image: str) -> str:
    """The same image with an OCI manifest, put into its registry beside the other."""
    import http.client

    address, _, rest = image.partition("/")
    repository, _, digest = rest.partition("@")
    path = f"/v2/{repository}/manifests/"
    docker_type = "application/vnd.docker.distribution.manifest.v2+json"
    connection = http.client.HTTPConnection(address)
    connection.request("GET", path + digest, headers={"Accept": docker_type})
    manifest = json.loads(connection.getresponse().read())
    manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
    manifest["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json"
    for layer in manifest["layers"]:
        layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip"
    connection.request("PUT", f"{path}oci", json.dumps(manifest), {"Content-Type": manifest["mediaType"]})
    response = connection.getresponse()
    assert response.status == 201, response.read()
    connection.close()
    return f"{address}/{repository}:oci"
