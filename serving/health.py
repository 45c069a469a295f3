"""`/ping` behind nginx, answered by the supervisor: it never waits behind predictions and never touches the disk."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from serving.exchange import valid_id

log = logging.getLogger("serving.app")

_IDS = re.compile(rb"\r\n(?:x-amzn-sagemaker-inference-id|x-request-id): *([^\r\n]*)", re.IGNORECASE)
_NOT_READY = {"code": "not_ready", "message": "the model server is starting or stopping, or no worker can answer"}
_NOT_ALLOWED = {"code": "method_not_allowed", "message": "expected GET or HEAD"}


def start_health_server(path: Path, ready: Callable[[], bool]) -> None:
    """Answer nginx on a Unix socket, from a thread that lives as long as the process."""
    listener = socket.socket(socket.AF_UNIX)
    path.unlink(missing_ok=True)  # of a server that was killed
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(4096)  # as many as may wait at nginx: whoever finds no place here is told 503
    threading.Thread(target=_serve, args=(listener, ready), name="health", daemon=True).start()


def _serve(listener: socket.socket, ready: Callable[[], bool]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # no descriptor is left: who asks waits, and must not find this thread gone
            time.sleep(0.05)
            continue
        with connection:
            connection.settimeout(1)
            try:
                connection.sendall(_answer(_head(connection), ready=ready()))
            except OSError:  # nginx went away; it will ask again
                continue


def _head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and (more := connection.recv(65536)):
        head += more
    return head


def _answer(head: bytes, *, ready: bool) -> bytes:
    if not head.startswith((b"GET ", b"HEAD ")):
        return _refusal(head, 405, "Method Not Allowed", _NOT_ALLOWED, "Allow: GET, HEAD\r\n")
    if not ready:
        return _refusal(head, 503, "Service Unavailable", _NOT_READY)
    return b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"


def _refusal(head: bytes, status: int, phrase: str, error: dict[str, str], allow: str = "") -> bytes:
    """With the client's id, or one that is made here, in the body, the header and a line of the log."""
    given = (found.decode("latin-1").strip() for found in _IDS.findall(head))
    request_id = next(filter(valid_id, given), "") or os.urandom(16).hex()
    method = head.partition(b" ")[0].decode("latin-1")[:16]
    told = {"request_id": request_id, "method": method, "path": "/ping", "status": status, "code": error["code"]}
    log.info("request", extra={"fields": told})
    body = json.dumps({**error, "request_id": request_id}).encode()
    fields = f"Content-Type: application/json\r\nX-Request-Id: {request_id}\r\n{allow}Content-Length: {len(body)}\r\n"
    return f"HTTP/1.0 {status} {phrase}\r\n{fields}\r\n".encode() + body
