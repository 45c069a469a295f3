"""Clients that keep their connections, ask one question after another, and compare every answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tools.chaos.oracle import Question
from tools.chaos.tally import Tally

LONGEST = 70.0  # seconds; the platform waits for 60


class Unreadable(Exception):
    """What came is no answer."""


class Load:
    """`with Load(port, questions) as load:` asks until the end of the block. `rate`: requests a second in all; 0: all
    that come through."""

    def __init__(
        self,
        port: int,
        questions: Sequence[Question],
        *,
        clients: int = 16,
        rate: float = 0,
        allowed: Sequence[str] = (),
    ) -> None:
        self.port, self.questions, self.clients, self.rate = port, questions, clients, rate
        self.allowed = frozenset(allowed)
        self.tally = Tally()
        self._stopped = threading.Event()
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def wait_for(self, more: int, seconds: float = 60.0) -> None:
        """Wait for so many more right answers. Raises `TimeoutError`."""
        target, deadline = self.tally.right + more, time.monotonic() + seconds
        while self.tally.right < target:
            if time.monotonic() > deadline:
                raise TimeoutError(f"expected {more} more right answers within {seconds} s; {self.tally.examples}")
            time.sleep(0.01)

    async def _run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(self.clients)))

    async def _client(self) -> None:
        connection: Connection | None = None
        pause = self.clients / self.rate if self.rate else 0.0
        while not self._stopped.is_set():
            begun = time.monotonic()
            number = next(self._numbers)
            try:
                connection = connection or await Connection.open(self.port)
                await self._ask(connection, number)
            except (OSError, EOFError, TimeoutError, Unreadable) as error:
                self.tally.add("lost", time.monotonic() - begun, f"{type(error).__name__} {error}")
                if connection:
                    connection.close()
                connection = None
                await asyncio.sleep(0.02)
            if connection and connection.ended:
                connection.close()
                connection = None
            await asyncio.sleep(max(0.0, pause - (time.monotonic() - begun)))
        if connection:
            connection.close()

    async def _ask(self, connection: Connection, number: int) -> None:
        question = self.questions[number % len(self.questions)]
        request_id, begun = f"chaos-{number}", time.monotonic()
        async with asyncio.timeout(LONGEST):
            status, body, named = await connection.exchange(question, request_id)
        took = time.monotonic() - begun
        if status != question.status and _code(body) in self.allowed:
            self.tally.add("refused", took)
        elif status >= 500 and status != question.status:
            self.tally.add("lost", took, f"{status} {body[:120]!r}")
        elif named != request_id or not question.is_right(status, body, request_id):
            self.tally.add("wrong", took, f"{status} {named} {body[:120]!r}, expected {question.answer[:120]!r}")
        else:
            self.tally.add("right", took)


@dataclass
class Connection:
    """A kept connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ended: bool = False

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def exchange(self, question: Question, request_id: str) -> tuple[int, bytes, str]:
        """Status, body and the id that came back."""
        self.writer.write(request_bytes(question, request_id))
        return await self.read()

    async def read(self) -> tuple[int, bytes, str]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
        try:
            status, length = int(lines[0].split()[1]), int(fields["content-length"])
        except (LookupError, ValueError) as error:
            raise Unreadable(lines[0][:80]) from error
        body = await self.reader.readexactly(length)
        self.ended = fields.get("connection", "").lower() == "close"
        return status, body, fields.get("x-request-id", "")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.writer.close()


def request_bytes(question: Question, request_id: str) -> bytes:
    head = (
        f"POST /invocations HTTP/1.1\r\nHost: chaos\r\nContent-Type: {question.content_type}\r\n"
        f"Accept: {question.accept}\r\nX-Request-Id: {request_id}\r\nContent-Length: {len(question.body)}\r\n\r\n"
    )
    return head.encode() + question.body


def _code(body: bytes) -> str:
    """A container's, or what the router says in the runtime's words."""
    try:
        told = json.loads(body)
        return str(told.get("code") or told["ErrorCode"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""


def numbered(questions: Sequence[Question], count: int) -> Iterator[tuple[int, Question]]:
    return enumerate(itertools.islice(itertools.cycle(questions), count))
