"""What runs a model's containers: Docker, or this checkout's processes. Both keep SageMaker's rules."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from local_test.endpoint import Endpoint
from local_test.process import STOPPED_WITHIN

ONLY = "primary container"  # what AWS calls the container of a model that has one
NOTICED_WITHIN = 0.2  # seconds in which a training learns that it is to stop


class HostingError(Exception):
    """Containers that did not come up, or a job that did not end well. The message is the FailureReason."""


class Unhealthy(HostingError):
    """Containers that did not answer their ping in time. `names`: their host names, or "primary container"."""

    def __init__(self, names: Sequence[str], variant: str = "AllTraffic") -> None:
        super().__init__(
            f"The {', '.join(names)} for production variant {variant} did not pass the ping health check. Please check "
            "CloudWatch logs for this endpoint."
        )
        self.names = tuple(names)


@dataclass(frozen=True)
class ContainerSpec:
    """One container of a model. `model_dir`: its model.tar.gz, fetched and unpacked; None when it has none."""

    hostname: str
    image: str
    environment: Mapping[str, str]
    model_dir: Path | None


class Hosted(Protocol):
    """Containers that run, in one network namespace, each on its SAGEMAKER_BIND_TO_PORT."""

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def logs(self) -> Mapping[str, Path]:
        """Files that grow, by the containers' host names."""

    def ended(self) -> list[str]:
        """The host names of the containers that run no more."""

    def stop(self) -> None:
        """Close the connections and end all of it: SIGTERM, and SIGKILL after 30 seconds."""


def wait_until_healthy(hosted: Hosted, within: float, variant: str = "AllTraffic") -> None:
    """Return once all containers answer /ping. Raises `Unhealthy` once it is clear which ones never will."""
    deadline = time.monotonic() + within
    names = [container.name for container in hosted.endpoint.containers]
    while True:
        ended = hosted.ended()
        failing = hosted.endpoint.unhealthy()
        if not failing and not ended:
            return
        late = time.monotonic() > deadline
        if late or (ended and set(failing) <= set(ended)):
            wrong = [name for name in names if name in ended or name in failing]
            raise Unhealthy(wrong if len(names) > 1 else [ONLY], variant)
        time.sleep(0.2)


def wait_or_stop(process: subprocess.Popen[bytes], stop: threading.Event, end: Callable[[], object]) -> int:
    """Wait for the end of a process, for which `end` is called once `stop` is set. Return its exit code."""
    while not stop.is_set():
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(NOTICED_WITHIN)
    end()
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(STOPPED_WITHIN)
    process.kill()
    return process.wait()


class Host(Protocol):
    """A way to run images."""

    @property
    def name(self) -> str:
        """Of the kind: "docker" or "processes"."""

    def check_image(self, image: str, serial: bool) -> None:
        """Raise `ApiError` for an image that CreateModel would refuse: not there, or an OCI manifest."""

    def resolve(self, image: str) -> str:
        """The image by its digest, where that is known."""

    def start(
        self, name: str, specs: Sequence[ContainerSpec], directory: Path, within: float, instance_type: str
    ) -> Hosted:
        """Start `specs` as the endpoint `name` and return once all answer /ping, `within` seconds at most.

        `directory` is its own: for logs and whatever else. Raises `HostingError` and leaves nothing running.
        """

    def train(self, image: str, tree: Path, environment: Mapping[str, str], log: Path, stop: threading.Event) -> int:
        """Run the image's `train` on `tree`, laid out as /opt/ml. Return the exit code.

        Once `stop` is set it gets SIGTERM, and SIGKILL after 30 seconds.
        """
