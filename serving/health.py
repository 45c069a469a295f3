"""`/ping` behind nginx, answered by the supervisor: it never waits behind predictions and never touches the disk."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

_NOT_READY = {"code": "not_ready", "message": "the model server is starting or stopping, or no worker can answer"}
_NOT_ALLOWED = {"code": "method_not_allowed", "message": "expected GET or HEAD"}


def start_health_server(path: Path, ready: Callable[[], bool]) -> None:
    """Answer nginx on a Unix socket, from a thread that lives as long as the process."""
    listener = socket.socket(socket.AF_UNIX)
    path.unlink(missing_ok=True)  # of a server that was killed
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(128)
    threading.Thread(target=_serve, args=(listener, ready), name="health", daemon=True).start()


def _serve(listener: socket.socket, ready: Callable[[], bool]) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(1)
            try:
                method = _request_method(connection)
                connection.sendall(_answer(method, ready=ready()))
            except OSError:  # nginx went away; it will ask again
                continue


def _request_method(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and (more := connection.recv(65536)):
        head += more
    return head.partition(b" ")[0]


def _answer(method: bytes, *, ready: bool) -> bytes:
    if method not in (b"GET", b"HEAD"):
        return _response("405 Method Not Allowed", _NOT_ALLOWED, allow="Allow: GET, HEAD\r\n")
    return _response("200 OK") if ready else _response("503 Service Unavailable", _NOT_READY)


def _response(status: str, error: dict[str, str] | None = None, allow: str = "") -> bytes:
    body = json.dumps(error).encode() if error else b""
    kind = "Content-Type: application/json\r\n" if error else ""
    return f"HTTP/1.0 {status}\r\n{kind}{allow}Content-Length: {len(body)}\r\n\r\n".encode() + body
