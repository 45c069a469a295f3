"""Debian's docker-registry on loopback: where images are pushed to, as they are to ECR."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from local_test.control_plane.hosting import HostingError
from local_test.plan import HOST
from local_test.process import Process, stop
from local_test.state import State
from serving.inside import inside

PROGRAM = "docker-registry"
DIRECTORY = "registry"  # in the control plane's
STARTED_WITHIN = 10.0  # seconds
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
_CONFIG = """\
version: 0.1
log: {{level: info, accesslog: {{disabled: false}}}}
storage:
  filesystem: {{rootdirectory: {storage}}}
  delete: {{enabled: true}}
http: {{addr: {host}:{port}}}
"""


@dataclass(frozen=True)
class Manifest:
    """An image's manifest as it was pushed."""

    digest: str
    media_type: str
    text: bytes

    @property
    def size(self) -> int:
        """The compressed bytes of its layers and configuration, which is what ECR counts; 0 for an index."""
        content = json.loads(self.text)
        parts = [*content.get("layers", ()), *([content["config"]] if "config" in content else [])]
        return sum(int(part.get("size", 0)) for part in parts)


@dataclass(frozen=True)
class Registry:
    """A registry that runs. What it has is asked over HTTP; when it came, and what has no tag, its storage knows."""

    directory: Path
    port: int

    @property
    def address(self) -> str:
        """What an image's name begins with."""
        return f"{HOST}:{self.port}"

    def tags(self, repository: str) -> dict[str, str]:
        """The digest of each tag."""
        status, _, body = self._request("GET", f"/v2/{repository}/tags/list")
        names = (json.loads(body).get("tags") or ()) if status == 200 else ()
        found = {tag: self.manifest(repository, tag) for tag in sorted(names)}
        return {tag: manifest.digest for tag, manifest in found.items() if manifest}

    def digests(self, repository: str) -> list[str]:
        """All images, also those without a tag, the oldest first."""
        revisions = self._repository(repository) / "_manifests" / "revisions" / "sha256"
        links = sorted(revisions.glob("*/link"), key=lambda link: link.stat().st_mtime)
        return [f"sha256:{link.parent.name}" for link in links]

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        """By tag or digest; None when there is none."""
        headers = {"Accept": ", ".join(MANIFESTS)}
        path = quote(f"/v2/{repository}/manifests/{reference}", safe="/:")
        status, answered, body = self._request("GET", path, headers)
        if status != 200:
            return None
        return Manifest(answered["docker-content-digest"], answered["content-type"], body)

    def pushed_at(self, repository: str, digest: str) -> float:
        """When an image was pushed, in seconds since the epoch."""
        revisions = self._repository(repository) / "_manifests" / "revisions"
        return (inside(revisions, digest.replace(":", "/")) / "link").stat().st_mtime

    def delete(self, repository: str, digest: str) -> None:
        """Delete an image and its tags."""
        self._request("DELETE", f"/v2/{repository}/manifests/{digest}")

    def untag(self, repository: str, tag: str) -> None:
        """The API of a registry cannot do this, so its storage is changed."""
        shutil.rmtree(inside(self._repository(repository) / "_manifests" / "tags", tag), ignore_errors=True)

    def delete_repository(self, repository: str) -> None:
        shutil.rmtree(self._repository(repository), ignore_errors=True)

    def _repository(self, name: str) -> Path:
        return inside(self.directory / "storage" / "docker" / "registry" / "v2" / "repositories", name)

    def _request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()


def start(directory: Path, path: str) -> Registry | None:
    """Start the registry with all that it has in `directory`; None when the program is not in the directories `path`.

    Raises `HostingError` when it does not answer.
    """
    if not (program := shutil.which(PROGRAM, path=path)):
        return None
    directory.mkdir(parents=True, exist_ok=True)
    registry = Registry(directory, _free_port())
    config = directory / "config.yml"
    # A path in quotes is JSON, and so YAML.
    storage = json.dumps(str(directory / "storage"))
    config.write_text(_CONFIG.format(storage=storage, host=HOST, port=registry.port), encoding="utf-8")
    state = State(directory)
    process = Process.start("registry", (program, "serve", str(config)), {}, registry.port, state.log("registry"))
    state.save("registry", [process])
    _wait(registry, process)
    return registry


def end(directory: Path) -> None:
    """Stop the registry that was started in `directory`, by this process or another; safe to repeat."""
    state = State(directory)
    _, processes = state.load()
    stop(processes, seconds=10)
    state.clear()


def _wait(registry: Registry, process: Process) -> None:
    for _ in _until(time.monotonic() + STARTED_WITHIN):
        with suppress(OSError, http.client.HTTPException):
            if registry._request("GET", "/v2/")[0] == 200:
                return
        if not process.is_alive():
            break
    said = State(registry.directory).tail("registry", 20)
    end(registry.directory)
    raise HostingError(f"{PROGRAM} does not answer on {registry.address}. The end of its log:\n{said}")


def _until(deadline: float) -> Iterator[None]:
    while time.monotonic() < deadline:
        yield
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
