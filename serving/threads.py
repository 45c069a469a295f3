"""gunicorn's gthread worker, in which a connection has a thread for so long only as its request's head may take."""

from __future__ import annotations

import socket
import time
from typing import Any

from gunicorn.http.errors import NoMoreData
from gunicorn.workers.gthread import ThreadWorker

HEAD_WITHIN = 5.0  # seconds from its first byte to its last: without nginx, who sends half of one would keep a thread


class Connection(socket.socket):
    heading = False
    deadline = 0.0  # on the monotonic clock, for the head; 0 before its first byte

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self.heading:
            return super().recv(size, flags)
        self.deadline = self.deadline or time.monotonic() + HEAD_WITHIN
        try:
            self.settimeout(max(0.001, self.deadline - time.monotonic()))
            return super().recv(size, flags)
        except TimeoutError:
            raise NoMoreData from None  # as if the client had gone: the connection is closed

    def bound(self, *, heading: bool) -> None:
        self.heading, self.deadline = heading, 0.0
        self.setblocking(True)


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn is untyped
    def handle(self, conn: Any) -> Any:  # noqa: ANN401
        if not isinstance(conn.sock, Connection):
            conn.sock = Connection(conn.sock.family, conn.sock.type, conn.sock.proto, conn.sock.detach())
        conn.sock.bound(heading=True)
        try:
            return super().handle(conn)
        finally:
            conn.sock.heading = False

    def handle_request(self, req: Any, conn: Any) -> Any:  # noqa: ANN401
        conn.sock.bound(heading=False)
        return super().handle_request(req, conn)
