"""Models hosted by this checkout's own processes, where there is no Docker."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local_test.container import Container
from local_test.control_plane.errors import ApiError
from local_test.control_plane.hosting import ContainerSpec, Hosted, HostingError, wait_or_stop, wait_until_healthy
from local_test.endpoint import Endpoint
from local_test.plan import COMMAND, HOST
from local_test.ports import free_ports
from local_test.process import CHECKOUT, Process, stop
from local_test.state import State
from serving.inside import inside
from serving.tied import tied

STAGES = ("featurizer", "predictor", "pipeline")
# What belongs to our own shell, not to a container of the platform.
_NOT_INHERITED = re.compile(r"AWS_.*|SM_.*|SAGEMAKER_.*|STAGE|PORT|ENDPOINT_NAME|CONTAINERS|MODEL_SERVER_RUN_DIR")


@dataclass(frozen=True)
class HostedProcesses:
    """The processes of a model's containers."""

    endpoint: Endpoint
    logs: Mapping[str, Path]
    processes: tuple[Process, ...]
    state: State

    def ended(self) -> list[str]:
        return [process.name for process in self.processes if not process.is_alive()]

    def stop(self) -> None:
        self.endpoint.close()
        stop(self.processes)
        self.state.clear()


@dataclass(frozen=True)
class ProcessHost:
    """Runs a stage's `serve` for an image that is named after the stage."""

    env: Mapping[str, str]
    name: str = "processes"
    _starting: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def check_image(self, image: str, serial: bool) -> None:  # noqa: ARG002 - any stage can be one of several
        stage_of(image)

    def resolve(self, image: str) -> str:
        return image

    def start(
        self,
        name: str,
        specs: Sequence[ContainerSpec],
        directory: Path,
        within: float,
        instance_type: str,  # noqa: ARG002 - a process may use what the machine has
    ) -> Hosted:
        with self._starting:  # so that two fleets are not given the same ports
            hosted = self._start(name, specs, directory)
        try:
            wait_until_healthy(hosted, within)
        except HostingError:
            hosted.stop()
            raise
        return hosted

    def train(self, image: str, tree: Path, environment: Mapping[str, str], log: Path, stop: threading.Event) -> int:
        own = {"STAGE": stage_of(image), "SAGEMAKER_BASE_DIR": str(tree), "SM_MODEL_DIR": str(tree / "model")}
        command = tied((sys.executable, "-m", "serving", "train"))
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=self._inherited() | dict(environment) | own,
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return wait_or_stop(process, stop, process.terminate)

    def _start(self, name: str, specs: Sequence[ContainerSpec], directory: Path) -> HostedProcesses:
        ports = free_ports(len(specs))
        state = State(directory)
        started: list[Process] = []
        for spec, port in zip(specs, ports, strict=True):
            env = self._environment(spec, port, ports, directory)
            started.append(Process.start(spec.hostname, COMMAND, env, port, state.log(spec.hostname)))
            state.save(name, started)
        containers = tuple(Container(process.name, HOST, process.port) for process in started)
        logs = {process.name: state.log(process.name) for process in started}
        return HostedProcesses(Endpoint(name, containers), logs, tuple(started), state)

    def _environment(self, spec: ContainerSpec, port: int, ports: Sequence[int], directory: Path) -> dict[str, str]:
        model_dir = spec.model_dir or inside(directory, f"model-{spec.hostname}")
        model_dir.mkdir(exist_ok=True)
        own = {
            "STAGE": stage_of(spec.image),
            "MODEL_SERVER_HOST": HOST,
            "SM_MODEL_DIR": str(model_dir),
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "SAGEMAKER_SAFE_PORT_RANGE": f"{min(ports)}-{max(ports)}",
        }
        return self._inherited() | dict(spec.environment) | own

    def _inherited(self) -> dict[str, str]:
        return {name: value for name, value in self.env.items() if not _NOT_INHERITED.fullmatch(name)}


def stage_of(image: str) -> str:
    """The stage that an image is named after. Raises `ApiError` when this checkout has none of its name."""
    repository = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    for stage in STAGES:
        if re.fullmatch(rf"(.*[^a-z0-9])?{stage}", repository) and (CHECKOUT / stage / "wsgi.py").is_file():
            return stage
    known = [stage for stage in STAGES if (CHECKOUT / stage / "wsgi.py").is_file()]
    raise ApiError(
        f"Image {image} cannot be run without Docker: this control plane runs processes of its checkout, for images "
        f"whose repository name ends in {' or '.join(known)}."
    )
