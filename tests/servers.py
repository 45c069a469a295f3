"""The real `serve` on a free port, asked over HTTP, looked at through /proc, and always ended."""

from __future__ import annotations

import atexit
import contextlib
import functools
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
ECHO, GATED, BROKEN = "tests.stages.echo", "tests.stages.gated", "tests.stages.broken"
# Variables of the machine that would change what is tested.
_OURS = ("SAGEMAKER_", "SM_", "MODEL_SERVER_", "PORT", "STAGE", "MAX_CONTENT_LENGTH", "LOG_LEVEL")

BLOCK = 200  # ports that belong to one process
_next_port = [0]

Found = TypeVar("Found")


@dataclass(frozen=True)
class Answer:
    """A response, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "")


@dataclass(frozen=True)
class Server:
    """A running `serve`, which leads a session of its own: whatever it starts can be found."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Answer:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)) as connection:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def ping(self, timeout: float = 10) -> Answer:
        return self.request("GET", "/ping", timeout=timeout)

    def invoke(self, body: bytes, content_type: str = "text/plain", **headers: str) -> Answer:
        """POST to /invocations. A header's name may have underscores for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", "/invocations", body, {"Content-Type": content_type, **named})

    def send_raw(self, message: bytes) -> bytes:
        """What comes back on one connection until the server closes it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(message)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def pings(self, timeout: float = 10) -> int:
        """The status of /ping; 0 when nobody listens or answers."""
        try:
            return self.ping(timeout).status
        except (OSError, http.client.HTTPException):
            return 0

    def stop(self, number: int = signal.SIGTERM, timeout: float = 35) -> int:
        """Signal PID 1 and wait for its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def lines(self) -> list[dict[str, Any]]:
        """The log. Fails when a line is not a JSON object."""
        lines = [json.loads(line) for line in written_lines(self.log, self.process)]
        assert all(isinstance(line, dict) for line in lines)
        return lines

    def processes(self) -> list[int]:
        """Every living process of the session, `serve` first."""
        return sorted(pid for pid, (state, _, session) in _process_table().items() if self._owns(state, session))

    def children(self, parent: int) -> list[int]:
        table = _process_table()
        return sorted(p for p, (state, mother, session) in table.items() if self._owns(state, session, mother, parent))

    def master(self, name: str) -> int:
        """The process id of gunicorn's or nginx's master."""
        found = [pid for pid in self.children(self.process.pid) if name in _command_line(pid)]
        assert len(found) == 1, f"{name}: {found}"
        return found[0]

    def workers(self) -> list[int]:
        return self.children(self.master("gunicorn"))

    def listening_ports(self) -> set[int]:
        """The TCP ports on which a process of the session listens."""
        inodes = {inode for pid in self.processes() for inode in _socket_inodes(pid)}
        return {port for port, inode in _listeners() if inode in inodes}

    def _owns(self, state: str, session: int, mother: int = 0, parent: int = 0) -> bool:
        return session == self.process.pid and state not in "ZX" and mother == parent


@dataclass(frozen=True)
class Gate:
    """A directory that is empty at first. The echo stage holds requests until the gate opens."""

    directory: Path

    def body(self, name: object = "") -> bytes:
        return f"hold {self.directory} {name}".encode()

    def wait_until_held(self, count: int) -> None:
        """Return when the stage has begun to compute so many requests."""
        wait_until(lambda: len(list(self.directory.glob("held-*"))) >= count, f"{count} requests to be held")

    def open(self) -> None:
        (self.directory / "open").touch()


def written_lines(log: Path, process: subprocess.Popen[Any]) -> list[str]:
    """The lines of a log, without the one that a running process is just writing."""
    ended = process.poll() is not None
    text = log.read_text(encoding="utf-8", errors="replace")
    return (text if ended else text[: text.rfind("\n") + 1]).splitlines()


def free_ports(count: int) -> list[int]:
    """Return adjacent free TCP ports of this process's own block, which no other run of these tests uses.

    The ports are used in turn, so that one that was returned stays free for its user for a long while.
    """
    block = _claimed_block()
    while True:
        _next_port[0] = (_next_port[0] + count) % (BLOCK - count)
        ports = [block + 1 + _next_port[0] + number for number in range(count)]
        if all(map(_is_free, ports)):
            return ports


@functools.cache
def _claimed_block() -> int:
    """Claim a block of ports until this process ends. The first port, bound and never listened on, is the claim."""
    # The kernel does not give these ports to outgoing connections.
    blocks = range(10_000, 32_000, BLOCK)
    for block in random.sample(blocks, len(blocks)):
        claim = socket.socket()
        try:
            claim.bind(("127.0.0.1", block))
        except OSError:
            claim.close()
            continue
        atexit.register(claim.close)
        return block
    raise RuntimeError(f"expected a free block of {BLOCK} ports from 10000 to 32000, found none")


@contextlib.contextmanager
def launched(stage: str, env: Mapping[str, str] | None = None, *, port: int | None = None) -> Iterator[Server]:
    """Start `python -m serving serve`, ready or not. `env` adds to the environment, and wins."""
    port = port or free_ports(1)[0]
    with tempfile.TemporaryDirectory(prefix="server-") as directory:
        log = Path(directory) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "serving", "serve"],
                cwd=ROOT,
                env=environment(stage, port, {"TMPDIR": directory, **(env or {})}),  # a killed one leaves files
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(process, port, log)
        try:
            yield server
        except BaseException:
            print(f"--- {stage} on port {port} said:\n{server.output()[-8000:]}")
            raise
        finally:
            end(server)


@contextlib.contextmanager
def running(stage: str, env: Mapping[str, str] | None = None, *, port: int | None = None) -> Iterator[Server]:
    """`launched`, and waited for until /ping answers 200."""
    with launched(stage, env, port=port) as server:
        wait_until(lambda: server.process.poll() is not None or server.pings() == 200, "/ping to answer 200", 60)
        assert server.process.poll() is None, f"serve ended with {server.process.returncode}"
        yield server


@contextlib.contextmanager
def started(arguments: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A command, in this checkout by default. At the end it is killed if it still runs, and its pipes are closed."""
    with subprocess.Popen([str(argument) for argument in arguments], **{"cwd": ROOT, **options}) as process:
        try:
            yield process
        finally:
            process.kill()


def in_background(arguments: Sequence[str | Path]) -> list[str]:
    """The command as a script starts it in its background: SIGINT is ignored."""
    return ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *map(str, arguments)]


def environment(stage: str, port: int, env: Mapping[str, str]) -> dict[str, str]:
    """What `serve` is started with: the machine's variables without those that it reads, ours, and `env`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    ours = {
        "STAGE": stage,
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "MODEL_SERVER_HOST": "127.0.0.1",
        "MODEL_SERVER_WORKERS": "2",
    }
    return clean | ours | dict(env)


def wait_until(condition: Callable[[], Found], what: str, seconds: float = 60) -> Found:
    """What the condition finds, once that is true. Raises `TimeoutError`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.03)
    return found


def wait_until_taken(server: Server, pending: Sequence[Future[Answer]]) -> None:
    """Until a process of the server has accepted each of the requests; on a slow machine some are answered by then."""
    wait_until(lambda: _accepted(server) + sum(one.done() for one in pending) >= len(pending), "the requests")


def _accepted(server: Server) -> int:
    """Connections of the server's port that a process of it has: one that waits to be accepted has no inode yet."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    ours = [row for row in rows if row[3] == "01" and int(row[1].rpartition(":")[2], 16) == server.port]
    return sum(row[9] != "0" for row in ours)


def end(server: Server) -> None:
    if server.process.poll() is None:
        server.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(32)
    for pid in server.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.process.wait()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _process_table() -> dict[int, tuple[str, int, int]]:
    """State, parent and session of every process."""
    table = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            fields = stat.read_text().rpartition(")")[2].split()
            table[int(stat.parent.name)] = (fields[0], int(fields[1]), int(fields[3]))
    return table


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def _socket_inodes(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    yield target[8:-1]


def _listeners() -> Iterator[tuple[int, str]]:
    """Port and socket inode of every listening TCP socket."""
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        rows: Sequence[str] = table.read_text().splitlines()[1:] if table.exists() else []
        for fields in map(str.split, rows):
            if fields[3] == "0A":
                yield int(fields[1].rpartition(":")[2], 16), fields[9]
