"""The processes and containers of a control plane that still run when it ends, or after it was killed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from local_test.control_plane.docker_host import remove_containers
from local_test.control_plane.plane import label_of
from local_test.process import stop
from local_test.state import FILE, State

AT_ONCE = 16  # fleets that are stopped at the same time


def end_leftovers(directory: Path, docker: str) -> bool:
    """End all that a control plane with this directory started. Return whether anything ran.

    `docker`: the docker program, or nothing where there is none.
    """
    states = [State(file.parent) for file in directory.rglob(FILE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ran = any(list(pool.map(_end, states)))
    return (remove_containers(docker, label_of(directory)) if docker else False) or ran


def _end(state: State) -> bool:
    _, processes = state.load()
    ran = any(process.is_alive() for process in processes)
    stop(processes)
    state.clear()
    return ran
