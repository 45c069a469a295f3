"""One HTTP connection to a container whose timeout bounds the whole exchange."""

from __future__ import annotations

import http.client
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ERROR_BODY = 64 * 1024  # bytes read of a refusal: more than anyone is shown
_FOLD = re.compile(r"\s*[\r\n]+\s*")


class Oversize(Exception):
    """A good answer larger than the limit. `size` says how large, as far as it is known."""

    def __init__(self, status: int, size: str) -> None:
        super().__init__(size)
        self.status = status
        self.size = size


@dataclass(frozen=True)
class Answer:
    """A container's response; its header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _BoundedSocket(socket.socket):
    """A socket whose timeout bounds all that is read until it is set anew: a dripping answer ends in time too."""

    _deadline = 0.0

    def settimeout(self, value: float | None, /) -> None:
        self._deadline = time.monotonic() + (value or 0)
        super().settimeout(value)

    def recv_into(self, *arguments: Any, **options: Any) -> int:  # noqa: ANN401 - passed through
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        super().settimeout(left)
        return super().recv_into(*arguments, **options)


class Connection(http.client.HTTPConnection):
    sock: socket.socket

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), self.timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = _BoundedSocket(plain.family, plain.type, plain.proto, plain.detach())

    def is_open(self) -> bool:
        """Whether the container has neither closed the idle connection nor said anything on it."""
        self.sock.settimeout(0)
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, seconds: float, limit: int
    ) -> Answer:
        """Send a request and read its answer within `seconds` and `limit` bytes. No header is added but Host's kind.

        Raises `OSError`, `http.client.HTTPException` or `Oversize`. The caller closes the connection after them, and
        when `sock` is gone or the answer was not read to its end.
        """
        self.sock.settimeout(max(seconds, 0.001))
        self.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            self.putheader(name, value)
        self.endheaders(body or None)
        response = self.getresponse()
        try:
            return Answer(response.status, _headers(response), _body(response, limit))
        finally:
            if not response.isclosed():
                self.close()


def _headers(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): _FOLD.sub(" ", value) for name, value in response.getheaders()}


def _body(response: http.client.HTTPResponse, limit: int) -> bytes:
    if not 200 <= response.status < 300:
        return response.read(ERROR_BODY)
    if response.length is None:  # chunked, or until the connection closes
        body = response.read(limit + 1)
        size = f"more than {limit}"
    elif response.length <= limit:
        body = response.read()
        size = str(len(body))
    else:
        raise Oversize(response.status, str(response.length))
    if len(body) > limit:
        raise Oversize(response.status, size)
    return body
