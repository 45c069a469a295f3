"""A worker behind nginx: it takes a connection, answers it in one piece and leaves it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config

from serving.app import create_app
from serving.handover import hand_over, start_sender
from serving.payload import Payload
from serving.worker import Connection, Worker

HOST = b"Host: localhost\r\n"
LARGE = 1 << 17


def answer(payload: Payload) -> Payload:
    """As many bytes as the body says; the body `seen` is answered with the worker's entry in the scoreboard."""
    if payload.body == b"seen":
        return Payload(str(Worker.since[Worker.slot] > 0).encode(), "text/plain")
    return Payload(b"x" * int(payload.body), "text/plain")


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        yield listener


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(1, os.getpid(), [], None, 30, Config(), logging.getLogger("test"))
    worker.wsgi = create_app(answer)
    worker.alive = True
    yield worker
    worker.tmp.close()


def exchange(worker: Worker, listener: socket.socket, request: bytes) -> bytes:
    """What comes back until the worker closes the connection."""

    def read() -> bytes:
        with client:
            return b"".join(iter(lambda: client.recv(1 << 20), b""))

    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(listener.getsockname())
    client.sendall(request)
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(read)
        worker.accept(listener)
        return reply.result()


def invocation(body: bytes, *fields: bytes) -> bytes:
    head = b"".join([HOST, *fields, b"Content-Length: %d\r\n" % len(body)])
    return b"POST /invocations HTTP/1.1\r\n" + head + b"\r\n" + body


@pytest.mark.parametrize("field", [b"", b"TE: trailers\r\n"], ids=["plain", "left to gunicorn"])
@pytest.mark.parametrize("size", [0, 1, 100])
def test_an_invocation_is_answered_whole(worker: Worker, listener: socket.socket, size: int, field: bytes) -> None:
    head, _, body = exchange(worker, listener, invocation(b"%d" % size, field)).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.lower().count(b"connection: close") == 1
    assert b"Content-Length: %d" % size in head
    assert body == b"x" * size
    assert worker.nr == 1


def test_a_worker_is_busy_while_it_answers_and_free_afterwards(worker: Worker, listener: socket.socket) -> None:
    reply = exchange(worker, listener, invocation(b"seen"))

    assert reply.endswith(b"\r\n\r\nTrue")
    assert worker.since[worker.slot] == 0.0


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_response_without_a_body_is_sent(worker: Worker, listener: socket.socket, method: bytes) -> None:
    reply = exchange(worker, listener, method + b" /ping HTTP/1.1\r\n" + HOST + b"\r\n")

    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert reply.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(("most", "alive"), [(2, True), (1, False)])
def test_a_worker_ends_after_as_many_requests_as_it_may_answer(
    worker: Worker, listener: socket.socket, most: int, alive: bool
) -> None:
    worker.max_requests = most

    exchange(worker, listener, invocation(b"1"))

    assert worker.alive is alive


@pytest.mark.parametrize("waited", [False, True])
def test_what_nginx_gave_up_while_it_waited_is_not_computed(
    worker: Worker, listener: socket.socket, waited: bool
) -> None:
    """A worker that was free all the time has no need to look."""
    worker._took = -1000.0 if waited else float("inf")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.getsockname())
        client.sendall(invocation(b"1"))
    worker.accept(listener)

    assert worker.nr == (0 if waited else 1)


def test_a_connection_that_nobody_reads_ends_quietly(worker: Worker, listener: socket.socket) -> None:
    worker._took = float("inf")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.getsockname())
        client.sendall(invocation(b"%d" % (LARGE * 8)))
    worker.accept(listener)

    assert worker.since[worker.slot] == 0.0
    assert exchange(worker, listener, invocation(b"1")).endswith(b"x")


@pytest.mark.parametrize("size", [0, 1, LARGE])
def test_the_head_of_a_response_goes_with_its_body(size: int) -> None:
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    with closing(theirs), closing(Connection.of(ours, b"seen")) as connection:
        seen = connection.recv(3) + connection.recv(100)
        connection.sendall(b"head")
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(100)
        theirs.settimeout(20)
        if size:
            connection.sendall(b"x" * size)
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: theirs.recv(1 << 20), b""))

    assert seen == b"seen"
    assert received == b"head" + b"x" * size


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no files in memory")
@pytest.mark.parametrize("whole", ["plain", "read by gunicorn"])
def test_a_large_answer_outlives_its_worker(worker: Worker, listener: socket.socket, whole: str) -> None:
    size = 6 << 20  # more than a socket holds: whoever writes it waits for the reader
    request = invocation(b"%d" % size) if whole == "plain" else invocation(b"%d" % size, b"TE: trailers\r\n")
    worker.channel = channel = start_sender()
    assert channel
    with channel, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(listener.getsockname())
        client.sendall(request)
        if (child := os.fork()) == 0:
            with contextlib.suppress(BaseException):
                worker.accept(listener)
                signal.pause()
            os._exit(1)
        reply = client.recv(1)  # the answer has begun
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        reply += b"".join(iter(lambda: client.recv(1 << 20), b""))

    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"x" * size


def test_what_comes_without_its_descriptors_is_passed_over() -> None:
    channel = start_sender()
    if channel is None:
        pytest.skip("this system has no files in memory")
    ours, theirs = socket.socketpair()
    with channel, ours, theirs:
        socket.send_fds(channel, [b"."], [ours.fileno()])
        hand_over(channel, ours, b"head ", b"body")
        ours.close()
        received = b"".join(iter(lambda: theirs.recv(100), b""))

    assert received == b"head body"


@pytest.mark.parametrize(("waited", "computed"), [(1.0, 1), (1.0625, 0)])
def test_who_waited_for_more_than_a_second_may_have_gone(
    worker: Worker, listener: socket.socket, monkeypatch: pytest.MonkeyPatch, waited: float, computed: int
) -> None:
    monkeypatch.setattr("serving.worker.time.monotonic", lambda: 100.0)
    worker._took = 100.0 - waited
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.getsockname())
        client.sendall(invocation(b"1"))
    worker.accept(listener)

    assert worker.nr == computed
    assert worker._took == 100.0 - (0 if computed else waited)


def test_a_worker_that_ends_after_its_last_request_says_so(
    worker: Worker, listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    worker.max_requests = 1

    with caplog.at_level(logging.INFO, logger="test"):
        exchange(worker, listener, invocation(b"1"))

    assert [record.getMessage() for record in caplog.records if record.name == "test"] == [
        "Autorestarting worker after current request."
    ]


@pytest.mark.parametrize("fails", [False, True])
def test_what_an_application_opened_for_an_answer_is_closed(
    worker: Worker, listener: socket.socket, fails: bool
) -> None:
    closed: list[bool] = []

    class Chunks:
        def __iter__(self) -> Iterator[bytes]:
            yield b"one "
            if fails:
                raise OSError("the rest is gone")
            yield b"two"

        def close(self) -> None:
            closed.append(True)

    def app(_environ: object, start_response: Any) -> Chunks:
        start_response("200 OK", [("X-A", "b")])
        return Chunks()

    worker.wsgi = app
    reply = exchange(worker, listener, invocation(b"1"))

    assert reply == (b"" if fails else b"HTTP/1.1 200 OK\r\nConnection: close\r\nX-A: b\r\n\r\none two")
    assert closed == [True]
