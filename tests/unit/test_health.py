"""The thread that answers /ping behind nginx."""

from __future__ import annotations

import os
import resource
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from serving.health import start_health_server


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened until the end of the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    held: list[int] = []
    try:
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def ask(client: socket.socket, path: Path) -> None:
    client.connect(str(path))
    client.sendall(b"GET /ping HTTP/1.0\r\n\r\n")


def test_a_time_without_descriptors_does_not_end_the_answers(tmp_path: Path) -> None:
    start_health_server(tmp_path / "health.sock", lambda: True)
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)]
        with no_descriptors():
            for client in clients:
                ask(client, tmp_path / "health.sock")
            select.select(clients[1:], [], [], 0.5)  # one may have got a descriptor that was taken before
        for client in clients:
            client.settimeout(20)
        answers = [client.recv(100) for client in clients]

    assert [answer[:13] for answer in answers] == [b"HTTP/1.0 200 "] * 3
