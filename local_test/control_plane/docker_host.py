"""Models hosted by Docker: their images, in one network namespace, with SageMaker's ports, mounts and limits."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_test.container import Container
from local_test.control_plane.errors import ApiError
from local_test.control_plane.hosting import (
    ONLY,
    ContainerSpec,
    Hosted,
    HostingError,
    Unhealthy,
    wait_or_stop,
    wait_until_healthy,
)
from local_test.control_plane.plane import LABEL
from local_test.control_plane.registry import Manifest, Registry
from local_test.endpoint import Endpoint
from local_test.plan import HOST
from local_test.state import State

BIND_LABEL = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"
FIRST_PORT = 8080
STOPPED_WITHIN = 30  # seconds after SIGTERM, as the platform has it
_OCI = "application/vnd.oci."
_ANSWERS_WITHIN = 20.0  # seconds for Docker to say that it is there
_PULLED_WITHIN = 1800.0  # seconds
# GiB for each vCPU, by the first letter of an instance family.
_MEMORY = {"c": 2, "m": 4, "r": 8}
_GIB = 1024**3
_IMAGE = re.compile(r"[A-Za-z0-9][\w./:@-]*", re.ASCII)
_REFERENCE = re.compile(r"(?P<host>127\.0\.0\.1|localhost):(?P<port>\d+)/(?P<name>[^@:]+)(?:@|:)?(?P<reference>.*)")


def find_docker(env: Mapping[str, str]) -> str:
    """The docker program, when its engine answers; else empty."""
    docker = shutil.which("docker", path=env.get("PATH", os.defpath))
    if not docker:
        return ""
    command = [docker, "version", "--format", "{{.Server.Version}}"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_ANSWERS_WITHIN)
    except subprocess.TimeoutExpired:
        return ""
    return docker if done.returncode == 0 else ""


def remove_containers(docker: str, label: str) -> bool:
    """Remove every container that a control plane started, whatever it does. Returns whether there was one."""
    host = DockerHost(docker, label)
    names = host.run("ps", "--all", "--quiet", "--filter", f"label={LABEL}={label}").stdout.split()
    if names:
        host.run("stop", "--time", str(STOPPED_WITHIN), *names)
        host.run("rm", "--force", "--volumes", *names)
    return bool(names)


@dataclass(frozen=True)
class HostedContainers:
    """The containers of a model, and the commands that follow their logs."""

    docker: DockerHost
    endpoint: Endpoint
    logs: Mapping[str, Path]
    names: tuple[str, ...]  # of the containers, in the order of the chain
    followers: Mapping[str, subprocess.Popen[bytes]]  # by host names; one ends with its container

    def ended(self) -> list[str]:
        return [hostname for hostname, follower in self.followers.items() if follower.poll() is not None]

    def stop(self) -> None:
        self.endpoint.close()
        self.docker.run("stop", "--time", str(STOPPED_WITHIN), *self.names)
        self.docker.run("rm", "--force", "--volumes", *self.names)
        for follower in self.followers.values():
            follower.terminate()
            follower.wait()


@dataclass(frozen=True)
class DockerHost:
    """Runs images with the docker command."""

    docker: str
    label: str  # of every container, so that it is found again
    name: str = "docker"

    def check_image(self, image: str, serial: bool) -> None:  # noqa: ARG002 - the labels are looked at by `start`
        if not _IMAGE.fullmatch(image):  # docker would take it for an option, or not take it at all
            raise ApiError(f"Requested image {ascii(image)[1:-1]} not found.")
        if _REFERENCE.fullmatch(image):
            if not (manifest := _manifest(image)):
                raise ApiError(f"Requested image {image} not found.")
            if manifest.media_type.startswith(_OCI):
                raise ApiError(
                    f"Unsupported manifest media type {manifest.media_type} for image {image}. Ensure that valid "
                    "manifest media type is used for specified image."
                )
        elif self._inspect(image) is None and self._pull(image):
            raise ApiError(f"Requested image {image} not found.")

    def resolve(self, image: str) -> str:
        manifest = None if "@" in image else _manifest(image)
        return f"{_untagged(image)}@{manifest.digest}" if manifest else image

    def start(
        self, name: str, specs: Sequence[ContainerSpec], directory: Path, within: float, instance_type: str
    ) -> Hosted:
        for spec in specs:
            self._prepare(spec.image, serial=len(specs) > 1)
        hosted = self._start(name, specs, directory, self._limits(instance_type))
        try:
            wait_until_healthy(hosted, within)
        except HostingError:
            hosted.stop()
            raise
        return hosted

    def train(self, image: str, tree: Path, environment: Mapping[str, str], log: Path, stop: threading.Event) -> int:
        self._prepare(image, serial=False)
        name = f"{tree.parent.name}-{uuid.uuid4().hex[:8]}"
        command = [
            *(self.docker, "run", "--rm", "--name", name, "--label", f"{LABEL}={self.label}"),
            # What it writes must be ours to remove.
            *("--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{tree}:/opt/ml"),
            *_env_options(environment),
            *(image, "train"),
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        return wait_or_stop(process, stop, lambda: self.run("stop", "--time", str(STOPPED_WITHIN), name))

    def run(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a docker command to its end, whatever that is; one that takes too long has failed."""
        command = [self.docker, *arguments]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=seconds, errors="replace"
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1, "", f"docker {arguments[0]} took more than {seconds:g} s")

    def _start(
        self, name: str, specs: Sequence[ContainerSpec], directory: Path, limits: Sequence[str]
    ) -> HostedContainers:
        unique = uuid.uuid4().hex[:8]
        names = [f"{name}-{spec.hostname}-{unique}" for spec in specs]
        ports = [FIRST_PORT + position for position in range(len(specs))]
        logs = {spec.hostname: State(directory).log(spec.hostname) for spec in specs}
        started: list[str] = []
        refused: HostingError | None = None
        try:
            for position, spec in enumerate(specs):
                network = _published(ports) if position == 0 else ["--network", f"container:{names[0]}"]
                started.append(names[position])
                self._run_container(names[position], spec, [*network, *limits, *_serial(ports, position)])
        except HostingError as error:
            refused = error
        published = self._published_ports(names[0])
        if refused or not published:
            if not refused or (not published and len(started) > 1):  # it ended; no other can join its network then
                refused = Unhealthy([specs[0].hostname] if len(specs) > 1 else [ONLY])
                self._log(names[0], logs[specs[0].hostname]).wait()
            self.run("rm", "--force", "--volumes", *started)
            raise refused
        containers = tuple(
            Container(spec.hostname, HOST, published[port]) for spec, port in zip(specs, ports, strict=True)
        )
        followers = {
            hostname: self._log(n, log, "--follow") for (hostname, log), n in zip(logs.items(), names, strict=True)
        }
        return HostedContainers(self, Endpoint(name, containers), logs, tuple(names), followers)

    def _run_container(self, name: str, spec: ContainerSpec, options: Sequence[str]) -> None:
        mount = ["--volume", f"{spec.model_dir}:/opt/ml/model:ro"] if spec.model_dir else []
        head = ["run", "--detach", "--name", name, "--label", f"{LABEL}={self.label}"]
        done = self.run(*head, *mount, *_env_options(spec.environment), *options, spec.image, "serve")
        if done.returncode != 0:
            raise HostingError(
                f"CannotStartContainerError. Please ensure the model container {spec.hostname} for variant AllTraffic "
                f"starts correctly when invoked with 'docker run <image> serve': {done.stderr.strip()}"
            )

    def _published_ports(self, name: str) -> dict[int, int]:
        """The port of this machine, by the container's; none of a container that has ended."""
        bound = (self._inspect(name, "container") or {}).get("NetworkSettings", {}).get("Ports")
        if not bound or not all(bound.values()):
            return {}
        return {int(port.partition("/")[0]): int(where[0]["HostPort"]) for port, where in bound.items()}

    def _log(self, name: str, log: Path, *options: str) -> subprocess.Popen[bytes]:
        """Write the container's output to a file; with --follow until it ends."""
        with log.open("wb") as output:
            command = [self.docker, "logs", *options, name]
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    def _prepare(self, image: str, *, serial: bool) -> None:
        """Have the image here, as its registry has it now. Raises `HostingError`."""
        # A tag of a registry may have moved; a digest cannot.
        moves = bool(_REFERENCE.fullmatch(image)) and "@" not in image
        if (moves or self._inspect(image) is None) and (said := self._pull(image)):
            raise HostingError(f"Image {image} cannot be pulled: {said}")
        found = self._inspect(image) or {}
        labels = found.get("Config", {}).get("Labels") or {}
        if serial and labels.get(BIND_LABEL) != "true":
            raise HostingError(f"Your Ecr Image {image} does not contain required {BIND_LABEL}=true Docker label(s).")

    def _pull(self, image: str) -> str:
        """Pull an image. Returns why that is not possible, else nothing."""
        done = self.run("pull", "--quiet", image, seconds=_PULLED_WITHIN)
        return "" if done.returncode == 0 else done.stderr.strip() or "docker pull failed"

    def _inspect(self, name: str, kind: str = "image") -> dict[str, Any] | None:
        done = self.run(kind, "inspect", name)
        if done.returncode != 0:
            return None
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found

    def _limits(self, instance_type: str) -> list[str]:
        """CPUs and memory of the instance type, as far as this machine has them."""
        cpus, memory = size_of(instance_type)
        done = self.run("info", "--format", "{{.NCPU}} {{.MemTotal}}")
        if done.returncode == 0:
            here_cpus, here_memory = (int(part) for part in done.stdout.split())
            cpus, memory = min(cpus, here_cpus), min(memory, here_memory)
        return ["--cpus", str(cpus), "--memory", str(memory)]


def size_of(instance_type: str) -> tuple[int, int]:
    """vCPUs and bytes of memory of an instance type such as ml.m5.xlarge."""
    _, family, size = instance_type.split(".")
    many = re.fullmatch(r"(\d*)xlarge", size)
    cpus = 4 * int(many[1] or 1) if many else 2
    memory = cpus * _MEMORY.get(family[0], 4)
    return cpus, (memory // 2 if size == "medium" else memory) * _GIB


def _manifest(image: str) -> Manifest | None:
    """The manifest of an image of a registry on loopback; None when there is none."""
    if not (found := _REFERENCE.fullmatch(image)):
        return None
    try:
        return Registry(Path(), int(found["port"])).manifest(found["name"], found["reference"] or "latest")
    except (OSError, OverflowError):  # no registry listens there, or it is no port
        return None


def _untagged(image: str) -> str:
    head, slash, last = image.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _serial(ports: Sequence[int], position: int) -> list[str]:
    """What the platform tells each container of several."""
    if len(ports) == 1:
        return []
    own = {
        "SAGEMAKER_BIND_TO_PORT": str(ports[position]),
        "SAGEMAKER_SAFE_PORT_RANGE": f"{ports[0]}-{ports[-1]}",
    }
    return _env_options(own)


def _published(ports: Sequence[int]) -> list[str]:
    return [part for port in ports for part in ("--publish", f"{HOST}::{port}")]


def _env_options(values: Mapping[str, str]) -> list[str]:
    return [part for name, value in values.items() for part in ("--env", f"{name}={value}")]
