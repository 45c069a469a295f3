"""A host of the control plane whose containers are scripted, and the control plane that uses it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from local_test.container import Container
from local_test.control_plane import server, service
from local_test.control_plane.errors import ApiError
from local_test.control_plane.hosting import ContainerSpec, HostingError
from local_test.control_plane.plane import Plane
from local_test.endpoint import Endpoint
from tests.scripted_container import ScriptedContainer

Trainer = Callable[[Path, Mapping[str, str], Path, threading.Event], int]


@dataclass(eq=False)
class ScriptedHosted:
    """Containers that run until they are stopped. `over`: those that are said to have ended."""

    endpoint: Endpoint
    logs: Mapping[str, Path]
    containers: Sequence[ScriptedContainer]
    over: list[str] = field(default_factory=list)
    stopped: int = 0

    def ended(self) -> list[str]:
        return self.over

    def stop(self) -> None:
        self.stopped += 1
        self.endpoint.close()
        for container in self.containers:
            container.stop()


@dataclass
class ScriptedHost:
    """Starts a scripted container for each that is specified, and remembers what it was asked for."""

    name: str = "scripted"
    failure: HostingError | None = None
    prepare: Callable[[ScriptedContainer], None] = lambda _container: None
    trainer: Trainer = lambda _tree, _environment, _log, _stop: 0
    started: list[ScriptedHosted] = field(default_factory=list)
    specs: list[Sequence[ContainerSpec]] = field(default_factory=list)
    asked: list[tuple[str, float, str]] = field(default_factory=list)  # name, seconds to start, instance type

    def check_image(self, image: str, serial: bool) -> None:  # noqa: ARG002 - a host's
        if image == "absent":
            raise ApiError(f"Requested image {image} not found.")

    def resolve(self, image: str) -> str:
        return f"{image}@sha256:0"

    def start(
        self, name: str, specs: Sequence[ContainerSpec], directory: Path, within: float, instance_type: str
    ) -> ScriptedHosted:
        self.specs.append(specs)
        self.asked.append((name, within, instance_type))
        if self.failure:
            raise self.failure
        containers = [ScriptedContainer().__enter__() for _ in specs]
        for container in containers:
            self.prepare(container)
        pairs = zip(specs, containers, strict=True)
        endpoint = Endpoint(name, tuple(Container(spec.hostname, "127.0.0.1", one.port) for spec, one in pairs))
        logs = {spec.hostname: directory / f"{spec.hostname}.log" for spec in specs}
        self.started.append(ScriptedHosted(endpoint, logs, containers))
        return self.started[-1]

    def train(self, image: str, tree: Path, environment: Mapping[str, str], log: Path, stop: threading.Event) -> int:
        return self.trainer(tree, {"IMAGE": image, **environment}, log, stop)


@contextlib.contextmanager
def scripted_plane(directory: Path) -> Iterator[tuple[Plane, ScriptedHost]]:
    """A control plane that listens and whose containers are scripted."""
    host = ScriptedHost()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("NO_PROXY", "*")
        plane = service.make_plane(0, "processes", directory, {"PATH": os.environ["PATH"]})
        plane.host = host
        listener = server.make(plane, 0)
        plane.url = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield plane, host
        finally:
            plane.closing.set()
            listener.shutdown()
            listener.server_close()
            thread.join()
            for hosted in host.started:
                hosted.stop()
