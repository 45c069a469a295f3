"""Servers that are examined and answer without end."""

from __future__ import annotations

import contextlib
import socket
import time

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
    with ScriptedContainer(endless) as server, pytest.raises(NoReply, match=f"within {calls.LARGEST} bytes"):
        call(server.port, "POST", "/invocations", b"1")


def test_an_answer_that_drips_for_longer_than_it_may_is_no_reply() -> None:
    with ScriptedContainer(dripping) as server, pytest.raises(NoReply, match="within 1 s"):
        call(server.port, "POST", "/invocations", b"1", timeout=1)
