"""One HTTP connection to a container whose timeout bounds the whole exchange."""

from __future__ import annotations

import http.client
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.errors import cut

ERROR_BODY = 64 * 1024  # bytes read of a refusal: more than anyone is shown
_FOLD = re.compile(r"\s*[\r\n]+\s*")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(;[^\r\n]*)?\r?\n")
_LONGEST_LINE = 4096


class Oversize(Exception):
    """A good answer larger than the limit. `size` says how large, as far as it is known."""

    def __init__(self, status: int, size: str) -> None:
        super().__init__(size)
        self.status = status
        self.size = size


class BadAnswer(http.client.HTTPException):
    """An answer that could be read in two ways, or not be passed on. The message says what is wrong with it."""


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


class _Response(http.client.HTTPResponse):
    def _read_next_chunk_size(self) -> int:
        """As RFC 9112 has it. The library takes `-5`, `0x2` and ` 2` for sizes too."""
        if not (found := _CHUNK.fullmatch(self.fp.readline(_LONGEST_LINE))):
            raise http.client.IncompleteRead(b"")
        return int(found[1], 16)


class Connection(http.client.HTTPConnection):
    sock: socket.socket
    response_class = _Response

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
            _check_head(response.headers)
            return Answer(response.status, _headers(response), _body(response, limit))
        finally:
            if not response.isclosed():
                self.close()


def _check_head(headers: http.client.HTTPMessage) -> None:
    """Raises `BadAnswer`. RFC 9112, 6.3: what may be framed in two ways is refused; the library takes one of them."""
    if headers.defects:
        raise BadAnswer("a line that is no header")
    if bad := next((name for name, value in headers.items() if _CONTROL.search(value)), ""):
        raise BadAnswer(f"a control character in {cut(bad)}")
    lengths, codings = headers.get_all("Content-Length", []), headers.get_all("Transfer-Encoding", [])
    if len(lengths) > 1 or not all(re.fullmatch(r"[0-9]{1,18}", length) for length in lengths):
        raise BadAnswer(f"Content-Length: {cut(', '.join(lengths))}")
    if codings and [one.lower() for one in codings] != ["chunked"]:
        raise BadAnswer(f"Transfer-Encoding: {cut(', '.join(codings))}")
    if codings and lengths:
        raise BadAnswer("Content-Length and Transfer-Encoding")


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
