"""Containers as plain processes on loopback: started, waited for, weighed, and always ended."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
CHECKOUT = Path(__file__).resolve().parents[2]
STARTED_WITHIN = 60.0  # seconds
LONGEST_EXCHANGE = 120.0


class BenchError(Exception):
    """The benchmark cannot go on."""


@dataclass(frozen=True)
class Command:
    """A program of a container, with its whole environment."""

    arguments: Sequence[str]
    env: Mapping[str, str]


@dataclass(frozen=True)
class Payload:
    """A request's or an answer's body and media type; of a request also the media types that may be answered."""

    body: bytes
    content_type: str
    accept: str = "*/*"


@dataclass(frozen=True)
class Container:
    """Running processes behind one port. `started`: seconds until a real request was answered 200."""

    name: str
    port: int
    processes: Sequence[subprocess.Popen[bytes]]
    log: Path
    started: float = 0.0

    def post(self, payload: Payload) -> tuple[int, Payload]:
        headers = {"Content-Type": payload.content_type, "Accept": payload.accept}
        connection = http.client.HTTPConnection(HOST, self.port, timeout=LONGEST_EXCHANGE)
        with contextlib.closing(connection):
            connection.request("POST", "/invocations", payload.body, headers)
            response = connection.getresponse()
            return response.status, Payload(response.read(), response.headers.get("Content-Type", ""))

    def ping(self) -> int:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=LONGEST_EXCHANGE)
        with contextlib.closing(connection):
            connection.request("GET", "/ping")
            return connection.getresponse().status

    def weight(self) -> int:
        """What all its processes weigh together, in bytes, as if nobody else ran here.

        That is their proportional set size; but other processes of this machine share the libraries' pages, which
        would make them lighter by chance. So file pages count as often as the one process has that has most of them.
        """
        sessions = {process.pid for process in self.processes}
        pids = [pid for pid, session in _sessions() if session in sessions]
        files: dict[str, int] = {}
        for pid in pids:
            for mapping, size in _file_pages(pid):
                files[mapping] = max(size, files.get(mapping, 0))
        return sum(map(_own_pages, pids)) + sum(files.values())


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [taken.getsockname()[1] for taken in sockets]


@contextlib.contextmanager
def running(
    name: str, commands: Sequence[Command], port: int, log: Path, first: Payload, *, pings: bool
) -> Iterator[Container]:
    """Start the commands and wait until a ping, where there is one, and then `first` were answered 200."""
    begun = time.perf_counter()
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        processes: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, processes)
        for command in commands:
            processes.append(
                subprocess.Popen(
                    command.arguments,
                    cwd=CHECKOUT,
                    env=dict(command.env),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        container = Container(name, port, processes, log)
        _wait(container, first, pings=pings)
        yield Container(name, port, processes, log, time.perf_counter() - begun)


def _wait(container: Container, first: Payload, *, pings: bool) -> None:
    deadline = time.monotonic() + STARTED_WITHIN
    while time.monotonic() < deadline and all(process.poll() is None for process in container.processes):
        with contextlib.suppress(OSError, http.client.HTTPException):
            if (not pings or container.ping() == 200) and container.post(first)[0] == 200:
                return
        time.sleep(0.01)
    said = container.log.read_text(errors="replace")[-4000:]
    raise BenchError(f"{container.name} did not answer within {STARTED_WITHIN:.0f} s; it said:\n{said}")


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
    leaders = {process.pid for process in processes}
    for pid, session in _sessions():  # what an orderly stop left
        if session in leaders:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for process in processes:
        process.wait()


def _sessions() -> Iterator[tuple[int, int]]:
    """Every process with the session it is of."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            yield int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[3])


def _own_pages(pid: int) -> int:
    """Proportional set size without the pages of files: memory that only a container's own processes can share."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return 0


def _file_pages(pid: int) -> Iterator[tuple[str, int]]:
    """Each mapping of a file, and the bytes of it that are in memory and unchanged."""
    mapping, resident = "", 0
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            fields = line.split()
            if not fields[0].endswith(":"):
                mapping = " ".join(fields[2:]) if len(fields) > 5 and fields[5].startswith("/") else ""
            elif fields[0] == "Rss:":
                resident = int(fields[1])
            elif fields[0] == "Anonymous:" and mapping and not mapping.endswith("(deleted)"):
                yield mapping, (resident - int(fields[1])) * 1024
