"""HTTP calls to what is checked: whatever happens is an observation, never a traceback."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass

from local_test.connection import Connection

HOST = "127.0.0.1"
LARGEST = 64 * 1024 * 1024  # bytes of an answer


class NoReply(Exception):
    """No whole answer came. The message says what came instead."""


@dataclass(frozen=True)
class Reply:
    """`headers` by their names in lower case; `seconds` until the last byte."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    def __str__(self) -> str:
        text = " ".join(self.body[:160].decode("utf-8", "replace").split())
        return f"{self.status}{': ' if text else ''}{text}"


def call(
    port: int, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, timeout: float = 60
) -> Reply:
    """Raises `NoReply`, also for an answer that never ends. One that comes before the body was sent whole counts."""
    began = time.monotonic()
    connection = Connection(HOST, port, timeout=timeout)
    try:
        connection.connect()
        connection.sock.settimeout(timeout)  # for all that is read
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, path, body or None, dict(headers or {}))
        response = connection.getresponse()
        received = response.read(LARGEST + 1)
        if len(received) > LARGEST:
            raise NoReply(f"no end of the answer to {method} {path} within {LARGEST} bytes")
        given = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, given, received, time.monotonic() - began)
    except TimeoutError as error:
        raise NoReply(f"no answer to {method} {path} within {timeout:.0f} s") from error
    except (http.client.HTTPException, OSError) as error:
        what = str(error) or type(error).__name__
        raise NoReply(f"no answer to {method} {path}: {what}") from error
    finally:
        connection.close()


def ping(port: int, timeout: float = 2) -> Reply:
    """As the platform pings: for two seconds. Raises `NoReply`."""
    return call(port, "GET", "/ping", timeout=timeout)
