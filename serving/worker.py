"""gunicorn's sync worker, which behind nginx writes a response in one piece."""

from __future__ import annotations

import socket
from typing import Any

from gunicorn.workers.sync import SyncWorker

_LARGE = 1 << 16  # bytes that are not worth another copy


class Connection(socket.socket):
    """Holds the head of a response back until its body: a worker that is killed has sent all of it or nothing."""

    _head = b""
    _begun = False

    def sendall(self, data: bytes, flags: int = 0) -> None:  # type: ignore[override]
        if not self._begun:
            self._begun, self._head = True, data
            return
        head, self._head = self._head, b""
        if len(data) < _LARGE:
            head, data = b"", head + data
        if head:
            super().sendall(head, flags)
        super().sendall(data, flags)

    def shutdown(self, how: int) -> None:
        """What comes before gunicorn closes a connection; a response without a body ends here."""
        if self._head:
            self.sendall(b"")
        super().shutdown(how)


class Worker(SyncWorker):  # type: ignore[misc] # gunicorn is untyped
    """Takes TCP connections just as gunicorn does."""

    def accept(self, listener: Any) -> None:  # noqa: ANN401
        if listener.family != socket.AF_UNIX:
            super().accept(listener)
            return
        client, address = listener.accept()
        connection = Connection(client.family, client.type, client.proto, client.detach())
        self.handle(listener, connection, address)
