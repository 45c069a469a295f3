"""An HTTP call to a container: over kept connections, bounded in time and size, and almost never retried."""

from __future__ import annotations

import http.client
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from local_test.connection import ERROR_BODY, Answer, BadAnswer, Connection

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
        """POST /invocations, until `deadline` on the monotonic clock, for an answer of at most `limit` bytes.

        A kept connection that the container has closed meanwhile is replaced by a fresh one, once. Raises `NoAnswer`
        and `Oversize`.
        """
        # Without it http.client would not say that an empty body is empty.
        sent = {"Content-Length": str(len(body)), **headers}
        if kept := self._kept():
            try:
                return self._exchange(kept, "POST", "/invocations", sent, body, deadline, limit, kept=True)
            except _Stale:
                pass
        return self._exchange(self._connect(deadline), "POST", "/invocations", sent, body, deadline, limit)

    def ping(self, deadline: float) -> int:
        """The status of GET /ping. Raises `NoAnswer`."""
        return self.get("/ping", deadline).status

    def get(self, path: str, deadline: float, limit: int = ERROR_BODY) -> Answer:
        """The answer to GET, of at most `limit` bytes. Raises `NoAnswer` and `Oversize`."""
        return self._exchange(self._connect(deadline), "GET", path, {}, b"", deadline, limit)

    def close(self) -> None:
        """Close the connections that wait."""
        while self._idle:
            self._idle.pop().close()

    def _kept(self) -> Connection | None:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            if connection.is_open():
                return connection
            connection.close()
        return None

    def _connect(self, deadline: float) -> Connection:
        """A fresh connection. A refused one is tried once more."""
        for last in (False, True):
            left = deadline - time.monotonic()
            connection = Connection(self.host, self.port, timeout=max(0.001, min(CONNECT_WITHIN, left)))
            try:
                connection.connect()
                return connection
            except ConnectionRefusedError as error:
                if last:
                    raise Unreachable("connection refused") from error
                time.sleep(_AGAIN_AFTER)
            except TimeoutError as error:
                raise Unreachable(f"no connection within {CONNECT_WITHIN * 1000:.0f} ms") from error
            except OSError as error:
                raise Unreachable(f"no connection: {error.strerror or error}") from error
        raise AssertionError("unreachable")

    def _exchange(
        self,
        connection: Connection,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        deadline: float,
        limit: int,
        *,
        kept: bool = False,
    ) -> Answer:
        done = False
        try:
            answer = connection.exchange(method, path, headers, body, deadline - time.monotonic(), limit)
            done = True
            return answer
        except TimeoutError as error:
            raise TimedOut("no complete answer in time") from error
        except (http.client.RemoteDisconnected, ConnectionError) as error:
            if kept:
                raise _Stale from error
            raise NoAnswer("the connection was lost before the answer was complete") from error
        except BadAnswer as error:
            raise NoAnswer(f"the answer is not HTTP that can be passed on: {error}") from error
        except (http.client.HTTPException, OSError) as error:
            raise NoAnswer(f"the answer is not complete HTTP ({type(error).__name__})") from error
        finally:
            if done and connection.sock and len(self._idle) < _IDLE:
                self._idle.append(connection)
            else:
                connection.close()
