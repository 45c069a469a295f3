"""Bodies as gunicorn hands them on where nginx is not in front."""

from __future__ import annotations

import io
import time

import pytest

from serving.errors import BadPayload, PayloadTooLarge
from serving.framing import LABOUR, discard_body, read_body


class Laborious(io.RawIOBase):
    """A body without end, of which each read costs as much CPU as a thousand chunks of a byte would."""

    reads = 0

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        until = time.thread_time() + LABOUR / 4
        while time.thread_time() < until:
            pass
        return b"1" * min(size, 10)


def test_a_body_whose_chunks_are_work_without_end_is_refused_and_left() -> None:
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


def test_a_body_of_chunks_above_the_limit_is_refused() -> None:
    with pytest.raises(PayloadTooLarge):
        read_body({"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": io.BytesIO(bytes(200_001))}, 200_000)
