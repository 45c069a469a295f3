"""Servers that are examined and answer without end."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

import pytest

from local_test.check import calls
from local_test.check.calls import NoReply, call
from tests.scripted_container import Asked, ScriptedContainer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n\r\n"


def endless(_asked: Asked, connection: socket.socket) -> None:
    connection.sendall(HEAD)
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"1\n" * 500_000)


def dripping(_asked: Asked, connection: socket.socket) -> None:
    """Answer for an hour."""
    connection.sendall(HEAD)
    with contextlib.suppress(OSError):
        for _ in range(36_000):
            connection.sendall(b"1")
            time.sleep(0.1)


def test_an_answer_without_end_is_no_reply() -> None:
    with ScriptedContainer(endless) as server, pytest.raises(NoReply, match="within 67108864 bytes"):
        call(server.port, "POST", "/invocations", b"1")


def test_an_answer_that_drips_for_longer_than_it_may_is_no_reply() -> None:
    with ScriptedContainer(dripping) as server, pytest.raises(NoReply, match="within 1 s"):
        call(server.port, "POST", "/invocations", b"1", timeout=1)


@pytest.mark.parametrize(("ask", "seconds"), [(calls.ping, 2), (lambda port: call(port, "GET", "/"), 60)])
def test_a_ping_has_2_seconds_and_every_other_call_60(
    ask: Callable[[int], object], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def never(connection: calls.Connection) -> None:
        given.append(connection.timeout or 0)
        raise TimeoutError

    monkeypatch.setattr(calls.Connection, "connect", never)

    with pytest.raises(NoReply, match=rf"^no answer to GET /(ping)? within {seconds} s$"):
        ask(9)

    assert given == [seconds]


def test_an_answer_is_told_in_a_line_without_a_colon_where_it_is_empty() -> None:
    assert str(calls.Reply(204, {}, b"", 0)) == "204"
    assert str(calls.Reply(200, {}, b" a\n\tb\xff", 0)) == "200: a b\ufffd"
