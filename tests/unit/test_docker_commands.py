"""What the control plane asks of Docker, whose program is a script here, and what a failing command means."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from local_test.control_plane import docker_host
from local_test.control_plane.docker_host import DockerHost, find_docker, remove_containers
from local_test.control_plane.errors import ApiError
from local_test.control_plane.hosting import ContainerSpec, Hosted, HostingError, Unhealthy
from local_test.control_plane.registry import Manifest
from tests.servers import wait_until

# Each command is a line of `asked`; what it prints, and its exit code, are files named after its first words.
SCRIPT = """#!/bin/sh
here=${0%/*}
echo "$*" >> "$here/asked"
for name in "$1-$2" "$1"; do
  [ -f "$here/$name.err" ] && cat "$here/$name.err" >&2
  [ -f "$here/$name.out" ] && cat "$here/$name.out"
  [ -f "$here/$name.code" ] && exit "$(cat "$here/$name.code")"
done
exit 0
"""
LABELLED = "--label serial-inference.control-plane=mine"


class Docker:
    """The script and its answers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.program = directory / "docker"
        self.program.write_text(SCRIPT, encoding="utf-8")
        self.program.chmod(0o755)
        self.host = DockerHost(str(self.program), "mine")

    def answers(self, command: str, out: str = "", err: str = "", code: int = 0) -> None:
        for kind, text in (("out", out), ("err", err), ("code", str(code))):
            (self.directory / f"{command}.{kind}").write_text(text, encoding="utf-8")

    def asked(self, *but: str) -> list[str]:
        """The commands, without those that begin with one of these words."""
        file = self.directory / "asked"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [line for line in lines if not line.startswith(but or ("\0",))]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """A docker that has every image, and starts containers that are published on the ports 9001 and 9002."""
    (tmp_path / "bin").mkdir()
    made = Docker(tmp_path / "bin")
    ports = {"8080/tcp": [{"HostPort": "9001"}], "8081/tcp": [{"HostPort": "9002"}]}
    made.answers("image-inspect", json.dumps([{"Config": {"Labels": {docker_host.BIND_LABEL: "true"}}}]))
    made.answers("container-inspect", json.dumps([{"NetworkSettings": {"Ports": ports}}]))
    made.answers("info", "64 1099511627776")
    monkeypatch.setattr(docker_host, "wait_until_healthy", lambda _hosted, _within: None)
    monkeypatch.setattr(docker_host.uuid, "uuid4", lambda: type("Id", (), {"hex": "0123456789"}))
    return made


def start(docker: Docker, directory: Path, *specs: ContainerSpec, instance_type: str = "ml.m5.xlarge") -> Hosted:
    return docker.host.start("e", specs, directory, 5, instance_type)


def spec(name: str, environment: Mapping[str, str] | None = None, model: Path | None = None) -> ContainerSpec:
    return ContainerSpec(name, f"{name}:1", environment or {}, model)


def test_docker_is_found_when_its_engine_answers(docker: Docker, tmp_path: Path) -> None:
    env = {"PATH": f"{docker.directory}:{os.environ['PATH']}"}

    assert find_docker(env) == str(docker.program)
    assert docker.asked() == ["version --format {{.Server.Version}}"]
    docker.answers("version", code=1)
    assert find_docker(env) == ""
    assert find_docker({"PATH": str(tmp_path)}) == ""


def test_a_docker_that_says_nothing_for_20_seconds_is_none(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def run(command: list[str], *, timeout: float, **_: object) -> None:
        waited.append(timeout)
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(docker_host.subprocess, "run", run)

    assert find_docker({"PATH": str(docker.directory)}) == ""
    assert waited == [20.0]


def test_a_command_has_two_minutes_and_a_pull_half_an_hour(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: dict[str, float] = {}

    def run(command: list[str], *, timeout: float, **_: object) -> None:
        waited[command[1]] = timeout
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(docker_host.subprocess, "run", run)
    done = docker.host.run("ps", "--all")

    with pytest.raises(HostingError) as refused:
        docker.host._prepare("a:1", serial=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "docker ps took more than 120 s")
    assert str(refused.value) == "Image a:1 cannot be pulled: docker pull took more than 1800 s"
    assert waited == {"ps": 120, "image": 120, "pull": 1800}


def test_all_containers_of_a_control_plane_are_removed(docker: Docker) -> None:
    look = "ps --all --quiet --filter label=serial-inference.control-plane=mine"
    none = remove_containers(str(docker.program), "mine")
    docker.answers("ps", "a\nb\n")

    some = remove_containers(str(docker.program), "mine")

    assert (none, some) == (False, True)
    assert docker.asked() == [look, look, "stop --time 30 a b", "rm --force --volumes a b"]


def test_a_container_runs_as_the_platform_runs_it(docker: Docker, tmp_path: Path) -> None:
    hosted = start(docker, tmp_path, spec("primary", {"A": "b"}, tmp_path / "model"))
    hosted.stop()

    assert docker.asked("image", "info", "container", "logs") == [
        f"run --detach --name e-primary-01234567 {LABELLED} --volume {tmp_path}/model:/opt/ml/model:ro --env A=b "
        f"--publish 127.0.0.1::8080 --cpus 4 --memory {16 << 30} primary:1 serve",
        "stop --time 30 e-primary-01234567",
        "rm --force --volumes e-primary-01234567",
    ]
    assert [(one.name, one.port) for one in hosted.endpoint.containers] == [("primary", 9001)]


def test_containers_of_a_pipeline_share_a_network_and_know_their_ports(docker: Docker, tmp_path: Path) -> None:
    hosted = start(docker, tmp_path, spec("featurizer"), spec("predictor"))
    wait_until(lambda: len(hosted.ended()) == 2, "the commands that follow the logs to end")
    hosted.stop()

    size = f"--cpus 4 --memory {16 << 30}"
    ports = "--env SAGEMAKER_SAFE_PORT_RANGE=8080-8081"
    first, second = (line for line in docker.asked() if line.startswith("run"))
    assert first == (
        f"run --detach --name e-featurizer-01234567 {LABELLED} --publish 127.0.0.1::8080 --publish 127.0.0.1::8081 "
        f"{size} --env SAGEMAKER_BIND_TO_PORT=8080 {ports} featurizer:1 serve"
    )
    assert second == (
        f"run --detach --name e-predictor-01234567 {LABELLED} --network container:e-featurizer-01234567 "
        f"{size} --env SAGEMAKER_BIND_TO_PORT=8081 {ports} predictor:1 serve"
    )
    assert [(one.name, one.port) for one in hosted.endpoint.containers] == [("featurizer", 9001), ("predictor", 9002)]
    assert hosted.ended() == ["featurizer", "predictor"]
    assert docker.asked("logs")[-1] == "rm --force --volumes e-featurizer-01234567 e-predictor-01234567"


def test_what_a_container_prints_is_in_its_log(docker: Docker, tmp_path: Path) -> None:
    docker.answers("logs", "to stdout\n", "to stderr\n")

    hosted = start(docker, tmp_path, spec("primary"))
    wait_until(hosted.ended, "the log to end")

    assert "logs --follow e-primary-01234567" in docker.asked()
    assert sorted(hosted.logs["primary"].read_text().splitlines()) == ["to stderr", "to stdout"]
    hosted.stop()


def test_a_container_has_no_more_than_this_machine(docker: Docker, tmp_path: Path) -> None:
    docker.answers("info", "3 1000")
    start(docker, tmp_path, spec("primary")).stop()
    docker.answers("info", code=1)
    start(docker, tmp_path, spec("primary"), instance_type="ml.c5.2xlarge").stop()

    small, whole = (line for line in docker.asked() if line.startswith("run"))
    assert "--cpus 3 --memory 1000 " in small
    assert f"--cpus 8 --memory {16 << 30} " in whole


def test_a_container_that_does_not_start_takes_the_others_with_it(docker: Docker, tmp_path: Path) -> None:
    docker.answers("run", err="no space left\n", code=125)

    with pytest.raises(HostingError) as refused:
        start(docker, tmp_path, spec("primary"))

    assert str(refused.value) == (
        "CannotStartContainerError. Please ensure the model container primary for variant AllTraffic starts correctly "
        "when invoked with 'docker run <image> serve': no space left"
    )
    assert docker.asked("logs")[-1] == "rm --force --volumes e-primary-01234567"


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ("", 1),
        ([{"NetworkSettings": {"Ports": {}}}], 0),
        ([{"NetworkSettings": {"Ports": {"8080/tcp": None}}}], 0),
    ],
)
@pytest.mark.parametrize(("names", "said"), [(["primary"], "primary container"), (["one", "two"], "one")])
@pytest.mark.parametrize("joins", [True, False])
def test_a_container_that_ends_at_once_did_not_pass_its_ping_and_its_log_is_kept(
    docker: Docker, tmp_path: Path, found: Any, code: int, names: list[str], said: str, joins: bool
) -> None:
    docker.answers("container-inspect", json.dumps(found), code=code)
    docker.answers("logs", out="starting\n", err="no module\n")
    if not joins and len(names) > 1:  # the network of a container that has ended
        docker.program.write_text(SCRIPT.replace("exit 0", "case $* in *container:e-one*) exit 125; esac; exit 0"))

    with pytest.raises(Unhealthy) as refused:
        start(docker, tmp_path, *(spec(name) for name in names))

    assert str(refused.value) == (
        f"The {said} for production variant AllTraffic did not pass the ping health check. Please check CloudWatch "
        "logs for this endpoint."
    )
    log = (tmp_path / f"{names[0]}.log").read_text(encoding="utf-8")
    assert sorted(log.splitlines()) == ["no module", "starting"]
    assert docker.asked("logs")[-1].startswith(f"rm --force --volumes e-{names[0]}-01234567")


def test_containers_that_are_not_healthy_are_removed(
    docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def wait(_hosted: Hosted, within: float) -> None:
        waited.append(within)
        raise HostingError("ill")

    monkeypatch.setattr(docker_host, "wait_until_healthy", wait)

    with pytest.raises(HostingError, match="ill"):
        start(docker, tmp_path, spec("primary"))

    assert waited == [5]
    assert docker.asked("logs")[-2:] == ["stop --time 30 e-primary-01234567", "rm --force --volumes e-primary-01234567"]


def test_an_image_that_is_not_here_is_pulled(docker: Docker, tmp_path: Path) -> None:
    docker.answers("image-inspect", code=1)

    start(docker, tmp_path, spec("primary")).stop()

    assert docker.asked()[:2] == ["image inspect primary:1", "pull --quiet primary:1"]


@pytest.mark.parametrize(("err", "why"), [(" denied\n", "denied"), ("", "docker pull failed")])
def test_an_image_that_cannot_be_pulled_says_why(docker: Docker, tmp_path: Path, err: str, why: str) -> None:
    docker.answers("image-inspect", code=1)
    docker.answers("pull", err=err, code=1)

    with pytest.raises(HostingError) as refused:
        start(docker, tmp_path, spec("primary"))

    assert str(refused.value) == f"Image primary:1 cannot be pulled: {why}"
    with pytest.raises(ApiError, match=r"^Requested image primary:1 not found\.$"):
        docker.host.check_image("primary:1", serial=False)


def test_only_a_tag_of_a_registry_is_pulled_each_time(docker: Docker) -> None:
    for image in ("127.0.0.1:5000/a:1", "127.0.0.1:5000/a@sha256:0", "localhost:5000/a", "a:1"):
        docker.host._prepare(image, serial=False)

    assert docker.asked("image") == ["pull --quiet 127.0.0.1:5000/a:1", "pull --quiet localhost:5000/a"]


@pytest.mark.parametrize("labels", [None, {}, {docker_host.BIND_LABEL: "false"}])
def test_an_image_without_its_label_is_not_one_of_several(docker: Docker, tmp_path: Path, labels: Any) -> None:
    docker.answers("image-inspect", json.dumps([{"Config": {"Labels": labels}}]))

    with pytest.raises(HostingError) as refused:
        start(docker, tmp_path, spec("featurizer"), spec("predictor"))

    assert str(refused.value) == (
        "Your Ecr Image featurizer:1 does not contain required "
        "com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true Docker label(s)."
    )
    start(docker, tmp_path, spec("primary")).stop()


def test_a_training_runs_as_the_platform_runs_it(docker: Docker, tmp_path: Path) -> None:
    docker.answers("run", "learned\n", "slowly\n", 3)
    tree = tmp_path / "job" / "opt-ml"

    code = docker.host.train("image:1", tree, {"A": "b"}, tmp_path / "log", threading.Event())

    assert code == 3
    assert docker.asked("image") == [
        f"run --rm --name job-01234567 {LABELLED} --user {os.getuid()}:{os.getgid()} --volume {tree}:/opt/ml "
        "--env A=b image:1 train"
    ]
    assert sorted((tmp_path / "log").read_text().splitlines()) == ["learned", "slowly"]


def test_a_training_that_is_to_stop_has_30_seconds(docker: Docker, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()

    docker.host.train("image:1", tmp_path / "job" / "opt-ml", {}, tmp_path / "log", stop)

    assert "stop --time 30 job-01234567" in docker.asked()


def test_images_of_a_registry_are_checked_and_resolved_by_their_manifest(
    docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, str, str]] = []
    docker_type, oci = "application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.index.v1+json"
    known = {"a/b": docker_type, "oci": oci}

    def manifest(self: Any, name: str, reference: str) -> Manifest | None:
        asked.append((self.port, name, reference))
        return Manifest("sha256:1", known[name], b"{}") if name in known else None

    monkeypatch.setattr(docker_host.Registry, "manifest", manifest)

    docker.host.check_image("127.0.0.1:5000/a/b:t", serial=True)
    with pytest.raises(ApiError, match=r"^Requested image localhost:5000/c not found\.$"):
        docker.host.check_image("localhost:5000/c", serial=True)
    with pytest.raises(ApiError) as refused:
        docker.host.check_image("127.0.0.1:5000/oci@sha256:1", serial=True)

    assert str(refused.value) == (
        f"Unsupported manifest media type {oci} for image 127.0.0.1:5000/oci@sha256:1. Ensure that valid manifest "
        "media type is used for specified image."
    )
    assert asked == [(5000, "a/b", "t"), (5000, "c", "latest"), (5000, "oci", "sha256:1")]
    assert docker.host.resolve("127.0.0.1:5000/a/b:t") == "127.0.0.1:5000/a/b@sha256:1"
    assert docker.host.resolve("127.0.0.1:5000/a/b@sha256:0") == "127.0.0.1:5000/a/b@sha256:0"
    assert docker.host.resolve("a/b:t") == "a/b:t"
    assert docker.asked() == []


def test_a_registry_that_nobody_runs_has_no_image(docker: Docker) -> None:
    with pytest.raises(ApiError, match="not found"):
        docker.host.check_image("127.0.0.1:1/a:1", serial=False)
    assert docker.host.resolve("127.0.0.1:1/a:1") == "127.0.0.1:1/a:1"
