"""The last requests with what went in and out of each container, as bounded in memory as in number.

A request costs its thread a few references and sums. Whatever is to be read is made when the page is asked for.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from local_test.endpoint import Call
from local_test.page.latency import Latencies

KEPT_PAYLOAD = 64 * 1024  # bytes of one payload
KEPT_HEADERS = 8 * 1024  # characters of the values of one message; then each is cut
KEPT_HEADER = 256
KEPT_IN_ALL = 32 * 1024 * 1024  # bytes of all payloads and headers
ROUTER, WHOLE = "router", "whole chain"
_OVERHEAD = 2048  # bytes that a record of nothing takes, roughly
# What lets somebody in elsewhere is not kept.
_SECRET = frozenset({"HTTP_AUTHORIZATION", "HTTP_PROXY_AUTHORIZATION", "HTTP_COOKIE", "HTTP_X_AMZ_SECURITY_TOKEN"})

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Body:
    """The first bytes of a payload, and how many it had."""

    start: bytes = b""
    size: int = 0
    content_type: str = ""

    @classmethod
    def of(cls, whole: bytes, content_type: str) -> Body:
        return cls(whole if len(whole) <= KEPT_PAYLOAD else whole[:KEPT_PAYLOAD], len(whole), content_type)

    @property
    def cut(self) -> bool:
        return len(self.start) < self.size


@dataclass(frozen=True)
class Hop:
    """What a container got and gave. `status` 0: it gave no usable answer."""

    container: str
    milliseconds: float
    sent_headers: Headers
    sent: Body
    status: int
    answered_headers: Headers
    answered: Body


@dataclass(frozen=True)
class Record:
    """A request as the router answered it."""

    number: int
    request_id: str
    at: float  # seconds since the epoch
    line: str  # method and path
    headers: Headers  # by their names in WSGI, as they came
    given: Body
    hops: tuple[Hop, ...]
    status: int
    answered_headers: Headers
    answered: Body
    milliseconds: float

    @property
    def own_milliseconds(self) -> float:
        """What no container took."""
        return max(0.0, self.milliseconds - sum(hop.milliseconds for hop in self.hops))

    @property
    def size(self) -> int:
        """Bytes that it holds in memory, counted generously."""
        bodies = [self.given, self.answered, *(body for hop in self.hops for body in (hop.sent, hop.answered))]
        kept = {id(body.start): len(body.start) for body in bodies}
        size = _OVERHEAD + sum(kept.values()) + _size(self.headers) + _size(self.answered_headers)
        return size + sum(_size(hop.sent_headers) + _size(hop.answered_headers) for hop in self.hops)


class History:
    """The last requests, the newest first, and how long they took. Any thread may add and ask."""

    def __init__(self, most: int, latencies: Latencies | None = None) -> None:
        self.most = most
        self.latencies = latencies or Latencies()
        self._lock = threading.Lock()
        self._records: deque[tuple[Record, int]] = deque()
        self._size = 0
        self._turned_away = 0
        self._numbers = itertools.count(1)

    def add(
        self,
        request_id: str,
        line: str,
        headers: Headers,
        calls: Iterable[Call],
        answer: tuple[int, Headers, Body],
        milliseconds: float,
    ) -> None:
        """Remember a request, and forget those that there is no room for any more."""
        hops = _hops(calls)
        status, answered_headers, answered = answer
        given = hops[0].sent if hops else Body()
        record = Record(
            next(self._numbers), request_id, time.time(), line, _kept(headers), given, hops,
            status, _kept(answered_headers), answered, milliseconds,
        )  # fmt: skip
        self.latencies.add(times(record))
        size = record.size
        with self._lock:
            self._records.appendleft((record, size))
            self._size += size
            while len(self._records) > self.most or self._size > KEPT_IN_ALL:
                self._size -= self._records.pop()[1]

    def turn_away(self) -> None:
        """Count a request of another site's page and keep nothing of it: it must not push out anybody's own."""
        with self._lock:
            self._turned_away += 1

    @property
    def turned_away(self) -> int:
        with self._lock:
            return self._turned_away

    def records(self) -> list[Record]:
        with self._lock:
            return [record for record, _ in self._records]

    def of(self, request_id: str) -> list[Record]:
        """All that had this id: a client may send one twice."""
        return [record for record in self.records() if record.request_id == request_id]


def times(record: Record) -> dict[str, float]:
    """Milliseconds of the whole, of each container and of the router itself."""
    return (
        {WHOLE: record.milliseconds}
        | {hop.container: hop.milliseconds for hop in record.hops}
        | {ROUTER: record.own_milliseconds}
    )


def _kept(headers: Headers) -> Headers:
    """The very headers, if they are no more than usual; what is too much or too secret is left out."""
    if not _SECRET.isdisjoint(headers):
        headers = {name: value for name, value in headers.items() if name not in _SECRET}
    if sum(map(len, headers.values())) <= KEPT_HEADERS:
        return headers
    return {name: value if len(value) <= KEPT_HEADER else value[:KEPT_HEADER] + "…" for name, value in headers.items()}


def _size(headers: Headers) -> int:
    return sum(map(len, headers.values())) + 128 * len(headers)


def _hops(calls: Iterable[Call]) -> tuple[Hop, ...]:
    """What one container answered is what the next one got: it is kept once."""
    hops: list[Hop] = []
    passed: bytes | None = None
    for call in calls:
        sent = hops[-1].answered if hops and call.body is passed else _body(call.body, call.headers, "Content-Type")
        answer = call.answer
        hop = Hop(
            call.container,
            call.milliseconds,
            _kept(call.headers),
            sent,
            answer.status if answer else 0,
            _kept(answer.headers) if answer else {},
            _body(answer.body, answer.headers, "content-type") if answer else Body(),
        )
        hops.append(hop)
        passed = answer.body if answer else None
    return tuple(hops)


def _body(whole: bytes, headers: Mapping[str, str], name: str) -> Body:
    return Body.of(whole, headers.get(name, ""))
