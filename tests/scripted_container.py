"""A container that answers what a test tells it to, byte for byte, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Asked:
    """A request as it came over the wire; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int  # the how manieth connection it came on


Reply = Callable[[Asked, socket.socket], None]


def answer(body: bytes = b"", content_type: str = "text/csv", status: int = 200, **headers: str) -> Reply:
    """A plain answer; a header's underscores are its hyphens."""
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"

    def reply(_asked: Asked, connection: socket.socket) -> None:
        connection.sendall(head.encode("latin-1") + body)

    return reply


def raw(text: bytes) -> Reply:
    """These very bytes, then the end of the connection."""

    def reply(_asked: Asked, connection: socket.socket) -> None:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)

    return reply


@dataclass
class ScriptedContainer:
    """Answers `/ping` with 200 and everything else by `reply`. Use as a context manager."""

    reply: Reply = field(default_factory=lambda: answer(b"1\n"))
    ping: Reply = field(default_factory=lambda: answer(b""))
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> ScriptedContainer:
        self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        # A plain close would leave a thread that waits in accept() with the socket.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.close_connections()

    def close_connections(self) -> None:
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._converse, args=(connection, self.connections), daemon=True).start()

    def _converse(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                method, path, _ = line.decode("latin-1").split(" ", 2)
                headers = {}
                while (header := stream.readline().strip()) != b"":
                    name, _, value = header.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                asked = Asked(method, path, headers, stream.read(int(headers.get("content-length", "0"))), number)
                if path == "/ping":
                    self.ping(asked, connection)
                else:
                    self.asked.append(asked)
                    self.reply(asked, connection)
