"""An HTTP call to a container: over kept connections, bounded in time and size, and almost never retried."""

from __future__ import annotations

import http.client
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from local_test.connection import ERROR_BODY, Answer, Connection

CONNECT_WITHIN = 0.25  # seconds; the platform's rule for a container
_IDLE = 256  # connections kept
_AGAIN_AFTER = 0.05  # seconds; a server that restarts listens again by then


class NoAnswer(Exception):
    """No usable answer came. `status` is what the platform reports for it: 0 when the container gave none."""

    status = 0


class TimedOut(NoAnswer):
    """The time ran out before the answer was complete."""


class Unreachable(NoAnswer):
    """No connection came about."""

    status = 503


class _Stale(Exception):
    """A kept connection was closed by the container before it answered."""


@dataclass(frozen=True)
class Container:
    """A container by its name and address, with the connections that wait for the next request."""

    name: str
    host: str
    port: int
    _idle: deque[Connection] = field(default_factory=deque, repr=False, compare=False)

    def post(self, body: bytes, headers: Mapping[str, str], deadline: float, limit: int) -> Answer:
        """POST /invocations. Raises `NoAnswer` when `deadline` (monotonic) or `limit` (bytes) is passed, or it fails.

        A kept connection that the container has closed meanwhile and a refused connection are tried once more.
        """
        if kept := self._kept():
            with contextlib.suppress(ConnectionError, http.client.RemoteDisconnected):
                return self._exchange(kept, "POST", "/invocations", body, headers, deadline, limit)
        return self._fresh("POST", "/invocations", body, headers, deadline, limit)

    def ping(self, deadline: float) -> int:
        """The status of GET /ping. Raises `NoAnswer`."""
        return self._fresh("GET", "/ping", b"", {}, deadline, ERROR_BODY).status

    def _kept(self) -> _Connection | None:
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread took the last one
                connection = self._idle.pop()
                if connection.is_open():
                    return connection
                connection.close()
        return None

    def _fresh(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], deadline: float, limit: int
    ) -> Answer:
        try:
            return self._exchange(self._connect(), method, path, body, headers, deadline, limit)
        except (http.client.HTTPException, ConnectionError) as error:
            raise NoAnswer(f"it closed the connection or answered no HTTP ({type(error).__name__})") from error

    def _connect(self) -> _Connection:
        connection = _Connection(self.host, self.port, timeout=CONNECT_WITHIN)
        for last in (False, True):
            try:
                connection.connect()
            except OSError as error:
                if last:
                    raise Unreachable(f"no connection to {self.host}:{self.port} ({error})") from error
            else:
                break
        return connection

    def _exchange(
        self, connection: _Connection, method: str, path: str, body: bytes, headers: Mapping[str, str],
        deadline: float, limit: int,
    ) -> Answer:  # fmt: skip
        """One request and its answer. The connection is kept when it came to an orderly end."""
        kept = False
        try:
            connection.sock.settimeout(max(0.001, deadline - time.monotonic()))
            connection.request(method, path, body or None, dict(headers))
            response = connection.getresponse()
            answer = Answer(response.status, _lower(response), _read(response, limit))
            kept = not response.will_close
            return answer
        except TimeoutError as error:
            raise TimedOut("no complete answer in time") from error
        finally:
            if kept:
                self._idle.append(connection)
            else:
                connection.close()


def _read(response: http.client.HTTPResponse, limit: int) -> bytes:
    """The body. What a refusal says beyond 64 KiB is left unread; an answer beyond `limit` raises `Oversize`."""
    if response.status != 200:
        return response.read(ERROR_BODY) if (response.length or 0) > ERROR_BODY else response.read()[:ERROR_BODY]
    if (response.length or 0) > limit:
        raise Oversize(str(response.length), response.status)
    body = response.read(limit + 1)
    if len(body) > limit:
        raise Oversize(f"more than {limit}", response.status)
    if response.length:
        raise http.client.IncompleteRead(body, response.length)
    return body


def _lower(response: http.client.HTTPResponse) -> dict[str, str]:
    # A folded header would split ours
    return {name.lower(): _FOLD.sub(" ", value) for name, value in response.getheaders()}
