"""gunicorn's sync worker, which behind nginx reads plain invocations itself and lets no kill divide a response."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.workers.sync import SyncWorker

from serving.handover import hand_over
from serving.plain import MOST, plain_environ

_LARGE = 1 << 16  # bytes; what is smaller has room in a socket's buffer, so that one write is enough
LONG = 1.0  # seconds after which a caller may have gone


class Connection(socket.socket):
    """Holds a response back until it is whole: a worker that is killed has sent all of it or nothing."""

    _seen = b""
    _parts: list[bytes]
    _channel: socket.socket | None
    _over = False  # somebody else sends the response

    @classmethod
    def of(cls, client: socket.socket, seen: bytes, channel: socket.socket | None = None) -> Connection:
        """`seen`: what was received already and is to be received once more. `channel`: see `hand_over`."""
        connection = cls(client.family, client.type, client.proto, client.detach())
        connection._seen, connection._channel, connection._parts = seen, channel, []
        return connection

    def recv(self, size: int, flags: int = 0) -> bytes:
        if self._seen:
            data, self._seen = self._seen[:size], self._seen[size:]
            return data
        return b"" if self._over else super().recv(size, flags)

    def sendall(self, data: bytes, _flags: int = 0) -> None:  # type: ignore[override]
        self._parts.append(data)

    def shutdown(self, how: int) -> None:
        """What comes before gunicorn closes a connection: the response is whole."""
        if self._parts:
            head, *body = self._parts
            self._parts = []
            self._over = _respond(super().sendall, self, head, b"".join(body), self._channel)
        if not self._over:
            super().shutdown(how)


class Worker(SyncWorker):  # type: ignore[misc] # gunicorn is untyped
    """Takes TCP connections just as gunicorn does."""

    since = memoryview(bytearray(8)).cast("d")  # gunicorn_conf.py puts the scoreboard here
    slot = 0
    channel: socket.socket | None = None  # and this
    _took = 0.0  # when the last request was begun; the next may have waited for it

    def accept(self, listener: Any) -> None:  # noqa: ANN401
        if listener.family != socket.AF_UNIX:
            super().accept(listener)
            return
        client, address = listener.accept()
        now = time.monotonic()
        with contextlib.closing(client):
            if now - self._took > LONG and _gone(client):
                return
            self.since[self.slot] = self._took = now
            try:
                self._serve(listener, client, address)
            finally:
                self.since[self.slot] = 0.0

    def _serve(self, listener: Any, client: socket.socket, address: Any) -> None:  # noqa: ANN401
        try:
            data = client.recv(MOST)
            if (environ := plain_environ(data)) is not None:
                self._answer(client, environ)
                return
        except OSError as error:
            self.log.debug("nginx closed the connection: %s", error)
            return
        self.handle(listener, Connection.of(client, data, self.channel), address)

    def _answer(self, client: socket.socket, environ: dict[str, Any]) -> None:
        """Nothing of the request is unread, so that the connection may be closed without waiting for nginx."""
        self.nr += 1
        if self.nr >= self.max_requests:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        lines: list[str] = []

        def start_response(status: str, headers: Iterable[tuple[str, str]], _error: object = None) -> None:
            lines[:] = [f"HTTP/1.1 {status}", "Connection: close", *(f"{name}: {value}" for name, value in headers)]

        answer = self.wsgi(environ, start_response)
        try:
            body = b"".join(answer)
        finally:
            if hasattr(answer, "close"):
                answer.close()
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        _respond(client.sendall, client, head, body, self.channel)


def _respond(
    send: Callable[[bytes], None], client: socket.socket, head: bytes, body: bytes, channel: socket.socket | None
) -> bool:
    """Send a response, or hand it over. Returns whether somebody else sends it."""
    if len(body) < _LARGE or not channel:
        send(head + body)
        return False
    hand_over(channel, client, head, body)
    return True


def _gone(client: socket.socket) -> bool:
    """Whether nginx has given a request up that waited here: nobody would read its answer."""
    poll = select.poll()
    poll.register(client, select.POLLRDHUP)
    return bool(poll.poll(0))
