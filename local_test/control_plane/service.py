"""One control plane from its start to its end, in the foreground."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from local_test.control_plane import jobs, registry, server
from local_test.control_plane import logs as logs_of_endpoints
from local_test.control_plane.docker_host import DockerHost, find_docker
from local_test.control_plane.hosting import Host
from local_test.control_plane.leftovers import end_leftovers
from local_test.control_plane.monitor import Monitor
from local_test.control_plane.plane import HOSTS, REGION, Plane, label_of
from local_test.control_plane.process_host import ProcessHost
from local_test.control_plane.store import Store
from local_test.plan import HOST
from serving import logs


def main(arguments: list[str], env: Mapping[str, str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m local_test.control_plane")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", choices=HOSTS, default="auto")
    parser.add_argument("--directory", type=Path, required=True)
    given = parser.parse_args(arguments)
    logs.configure("control-plane", env.get("LOG_LEVEL") or "INFO")
    run(make_plane(given.port, given.host, given.directory.resolve(), env))
    return 0


def make_plane(port: int, host: str, directory: Path, env: Mapping[str, str]) -> Plane:
    directory.mkdir(parents=True, exist_ok=True)
    return Plane(
        url=f"http://{HOST}:{port}",
        region=REGION,
        directory=directory,
        host=choose_host(host, directory, env),
        store=Store(REGION),
        env=env,
    )


def choose_host(name: str, directory: Path, env: Mapping[str, str]) -> Host:
    """Docker where it works, unless told otherwise."""
    docker = find_docker(env) if name != "processes" else ""
    return DockerHost(docker, label_of(directory)) if docker else ProcessHost(env)


def run(plane: Plane) -> None:
    """Serve until SIGTERM or Ctrl-C, then end what was started. Needs the main thread."""
    # A signal writes to a socket at once, in whatever thread it comes. A handler in Python would wait for the lock of
    # an event that this thread holds, and would not run at all while this thread waits and another one got the signal.
    told, writer = socket.socketpair()
    with told, writer:
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        try:
            path = plane.env.get("PATH", os.defpath)
            if plane.host.name == "docker" and (
                pushed_to := registry.start(plane.directory / registry.DIRECTORY, path)
            ):
                plane.registry = pushed_to.address
            _serve(plane, told)
        finally:
            end_leftovers(plane.directory, plane.host.docker if isinstance(plane.host, DockerHost) else "")
            signal.set_wakeup_fd(-1)


def _serve(plane: Plane, told: socket.socket) -> None:
    listening = server.make(plane, int(plane.url.rpartition(":")[2]))
    for work in (listening.serve_forever, Monitor(plane).run, partial(logs_of_endpoints.follow_endpoints, plane)):
        threading.Thread(target=work, daemon=True).start()
    told.recv(1)
    plane.closing.set()
    listening.shutdown()
    jobs.end_all(plane)
