"""Bodies as gunicorn hands them on where nginx is not in front."""

from __future__ import annotations

import io
import socket
import time
from typing import Any

import pytest
from gunicorn.http.errors import InvalidChunkSize

from serving import framing
from serving.errors import BadPayload, PayloadTooLarge, ServingError
from serving.framing import SILENCE, check_framing, discard_body, read_body, refuse_compressed
from serving.settings import MIB


class Laborious(io.RawIOBase):
    """A body without end, of which each read costs as much CPU as a thousand chunks of a byte would."""

    reads = 0

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        until = time.thread_time() + framing.LABOUR / 4
        while time.thread_time() < until:
            pass
        return b"1" * min(size, 10)


def test_a_body_whose_chunks_are_work_without_end_is_refused_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "LABOUR", 0.1)
    body = Laborious()
    environ = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": body}

    with pytest.raises(BadPayload, match="larger chunks"):
        read_body(environ, 1 << 30)
    discard_body(environ)

    assert body.reads <= 5


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 200_000])
def test_a_body_of_chunks_is_whole_up_to_the_limit(size: int) -> None:
    sent = bytes(range(256)) * 1000
    environ = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": io.BytesIO(sent[:size])}

    assert read_body(environ, 200_000) == sent[:size]


@pytest.mark.parametrize("size", [200_001, 10_000_000])
def test_a_body_of_chunks_above_the_limit_is_refused_and_its_rest_left(size: int) -> None:
    body = io.BytesIO(bytes(size))

    with pytest.raises(PayloadTooLarge):
        read_body({"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": body}, 200_000)

    assert body.tell() == 200_001


class Body(io.BytesIO):
    """A body that counts what is read of it, and fails behind its last byte where it is told to."""

    def __init__(self, content: bytes = b"", failure: Exception | None = None) -> None:
        super().__init__(content)
        self.failure = failure
        self.reads: list[int] = []

    def read(self, size: int | None = -1) -> bytes:
        self.reads.append(size or 0)
        if self.failure and self.tell() == len(self.getvalue()):
            raise self.failure
        return super().read(size)


def environ(body: io.RawIOBase | io.BytesIO, **fields: Any) -> dict[str, Any]:
    return {"REQUEST_METHOD": "POST", "HTTP_HOST": "x", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.input": body, **fields}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"REQUEST_METHOD": "CONNECT"}, 405),
        ({"HTTP_HOST": None}, 400),
        ({"HTTP_HOST": None, "SERVER_PROTOCOL": "HTTP/1.0"}, 0),
        ({"HTTP_HOST": ""}, 0),
        ({"HTTP_TRANSFER_ENCODING": "gzip"}, 501),
        ({"HTTP_TRANSFER_ENCODING": "gzip, chunked"}, 501),
        ({"HTTP_TRANSFER_ENCODING": ""}, 501),
        ({"HTTP_TRANSFER_ENCODING": " Chunked "}, 0),
        ({}, 0),
    ],
)
def test_a_request_that_is_framed_as_no_server_may_take_it_is_refused(fields: dict[str, Any], status: int) -> None:
    request = {name: value for name, value in environ(Body(), **fields).items() if value is not None}

    if status:
        with pytest.raises(ServingError) as caught:
            check_framing(request)
        assert caught.value.status == status
    else:
        check_framing(request)


@pytest.mark.parametrize(
    ("fields", "body", "status", "says"),
    [
        ({"CONTENT_LENGTH": "11"}, Body(b"x" * 11), 413, "at most 10 bytes, got 11"),
        ({"CONTENT_LENGTH": "10"}, Body(b"x" * 9), 400, "a body of 10 bytes, got 9"),
        ({"CONTENT_LENGTH": "+1"}, Body(b"x"), 400, "a Content-Length of digits"),
        ({"CONTENT_LENGTH": "\u0661"}, Body(b"x"), 400, "a Content-Length of digits"),
        ({"CONTENT_LENGTH": "9"}, Body(b"", TimeoutError()), 408, "within 10 seconds, got nothing"),
        ({"CONTENT_LENGTH": "9"}, Body(b"", ConnectionResetError()), 400, "a whole body"),
        ({"CONTENT_LENGTH": "9"}, Body(b"", InvalidChunkSize(b"x")), 400, "a whole body"),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, Body(b"x", TimeoutError()), 400, "a whole body"),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, Body(b"x" * 11), 413, "at most 10 bytes, got more"),
    ],
)
def test_a_body_that_does_not_come_as_its_head_says_is_refused_and_left(
    fields: dict[str, Any], body: Body, status: int, says: str
) -> None:
    """What fails once is not read again: whoever breaks off would be waited for twice."""
    request = environ(body, **fields)

    with pytest.raises(ServingError, match=says) as caught:
        read_body(request, 10)
    reads = len(body.reads)
    discard_body(request)

    assert caught.value.status == status
    assert len(body.reads) == reads or fields["CONTENT_LENGTH"] == "11"


@pytest.mark.parametrize("length", ["", "0", None, "10"])
def test_a_body_of_the_length_it_says_is_read(length: str | None) -> None:
    fields = {} if length is None else {"CONTENT_LENGTH": length}

    assert read_body(environ(Body(b"x" * 10), **fields), 10) == b"x" * int(length or 0)


@pytest.mark.parametrize(
    ("length", "there", "read"),
    [
        (0, 5, 0),
        (5, 9, 5),
        (200_000, 200_000, 200_000),
        (9, 5, 5),
        (64 * MIB, 200_000, 200_000),
        (64 * MIB + 1, 200_000, 0),
    ],
)
def test_what_a_refused_request_still_sends_is_read_within_bounds(length: int, there: int, read: int) -> None:
    body = Body(b"x" * there)

    discard_body(environ(body, CONTENT_LENGTH=str(length)))

    assert body.tell() == read
    assert max(body.reads, default=0) <= 65_536  # bytes in memory at once


@pytest.mark.parametrize("failure", [TimeoutError(), ConnectionResetError()])
def test_a_client_that_goes_away_while_it_is_refused_is_no_error(failure: Exception) -> None:
    body = Body(b"x" * 5, failure)

    discard_body(environ(body, CONTENT_LENGTH="9"))

    assert body.tell() == 5


def test_a_client_that_is_silent_is_waited_for_as_long_as_is_said_and_only_within_its_body() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(3.5)
        waits: list[float | None] = []

        class Waiting(Body):
            def read(self, size: int | None = -1) -> bytes:
                waits.append(ours.gettimeout())
                return super().read(size)

        read_body(environ(Waiting(b"x"), CONTENT_LENGTH="1", **{"gunicorn.socket": ours}), 10)
        discard_body(environ(Waiting(b"x"), CONTENT_LENGTH="1", **{"gunicorn.socket": ours}))
        after = ours.gettimeout()

    assert waits == [SILENCE, SILENCE]
    assert after == 3.5


@pytest.mark.parametrize(
    ("coding", "refused"), [("gzip", True), ("identity, gzip", True), (" Identity ", False), (" ", False), ("", False)]
)
def test_a_body_is_taken_as_it_is_or_not_at_all(coding: str, refused: bool) -> None:
    request = environ(Body(), HTTP_CONTENT_ENCODING=coding)

    if refused:
        with pytest.raises(ServingError, match="without Content-Encoding"):
            refuse_compressed(request)
    else:
        refuse_compressed(request)


@pytest.mark.parametrize(
    ("check", "fields", "code", "message"),
    [
        (check_framing, {"REQUEST_METHOD": "CONNECT"}, "method_not_allowed", "expected no CONNECT: this is no proxy"),
        (
            check_framing,
            {"HTTP_TRANSFER_ENCODING": "x" * 65},
            "not_implemented",
            f"expected no transfer coding but chunked, got {'x' * 63}…",
        ),
        (
            refuse_compressed,
            {"HTTP_CONTENT_ENCODING": "x" * 65},
            "unsupported_encoding",
            f"expected a body without Content-Encoding, got {'x' * 63}…",
        ),
    ],
)
def test_a_refusal_of_a_head_says_why(check: Any, fields: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(ServingError) as caught:
        check(environ(Body(), **fields))

    assert (caught.value.code, caught.value.message) == (code, message)
