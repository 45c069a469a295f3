"""What of nginx's requests is read without gunicorn's parser, and that it reads the same."""

from __future__ import annotations

from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import create

from serving.plain import plain_environ

HOST = b"Host: 127.0.0.1\r\n"
LINE = b"POST /invocations HTTP/1.1\r\n"


class Nowhere:
    """gunicorn answers `Expect` while it reads."""

    def send(self, _data: bytes) -> None: ...


def by_gunicorn(data: bytes) -> dict[str, Any]:
    config = Config()
    request = next(RequestParser(config, iter([data]), ""))
    _, environ = create(request, Nowhere(), "", "unix:gunicorn.sock", config)
    return dict(environ)


@pytest.mark.parametrize(
    "head",
    [
        HOST + b"Content-Length: 4\r\nContent-Type: text/csv\r\nAccept: */*\r\n",
        HOST + b"content-length:4\r\nX-Empty:\r\nX-Tab:\t a\tb \t\r\nX-Colon: a:b\r\n",
        HOST + b"Content-Length: 4\r\nSCRIPT-NAME: /x\r\nProxy: http://h/\r\nX!#$%&'*+.^`|~9: y\r\n",
    ],
)
def test_a_plain_invocation_is_read_as_gunicorn_reads_it(head: bytes) -> None:
    data = LINE + head + b"\r\nM,\x001"

    ours, theirs = plain_environ(data), by_gunicorn(data)

    assert ours is not None
    assert ours.pop("wsgi.input").read() == theirs.pop("wsgi.input").read() == b"M,\x001"
    of_request = {name for name in {*ours, *theirs} if name.startswith(("HTTP_", "CONTENT_", "REQUEST_", "PATH_"))}
    assert {name: ours.get(name) for name in of_request} == {name: theirs.get(name) for name in of_request}
    assert {"SCRIPT_NAME", "QUERY_STRING", "SERVER_PROTOCOL", "SERVER_NAME", "SERVER_PORT", "wsgi.errors"} <= set(ours)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        LINE,
        LINE + b"\r\n",
        LINE + HOST + b"Content-Length: 4\r\n\r\nM,",  # the rest is on its way
        LINE + HOST + b"Content-Length: 4\r\n\r\nM,1\n5",
        LINE + HOST + b"Content-Length: 04\r\n\r\nM,1\n",
        LINE + HOST + b"Content-Length: +4\r\n\r\nM,1\n",
        LINE + HOST + b"Content-Length: 4, 4\r\n\r\nM,1\n",
        LINE + HOST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nM,1\n",
        LINE + HOST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nM,1\n",
        LINE + HOST + b"Content_Length: 4\r\n\r\nM,1\n",
        LINE + HOST + b"Content-Length : 4\r\n\r\nM,1\n",
        LINE + HOST + b"Content-Length: 4\r\nX-A: b\r\n c\r\n\r\nM,1\n",
        LINE + HOST + b"Content-Length: 4\r\nX-A: b\x00\r\n\r\nM,1\n",
        LINE + HOST + b"Content-Length: 4\r\nX-A: \xff\r\n\r\nM,1\n",
        LINE + HOST + b"Content-Length: 4\nX-A: b\r\n\r\nM,1\n",
        LINE + HOST + b"Content-Length: 4\r\nX-A: b\rX-B: c\r\n\r\nM,1\n",
        LINE + HOST + b"Content-Length: 4\r\nX-A: 1\r\nx-a: 2\r\n\r\nM,1\n",
        LINE + HOST + HOST + b"Content-Length: 4\r\n\r\nM,1\n",
        LINE + b"Content-Length: 4\r\n\r\nM,1\n",
        LINE + HOST + b"\r\n",
        LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        LINE + HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nM,1\n",
        LINE + HOST + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\nM,1\n",
        LINE + HOST + b"Content-Length: 4\r\nX-Forwarded-Proto: https\r\n\r\nM,1\n",
        LINE + HOST + b"Content-Length: 4\r\nX-Long: " + b"a" * 8190 + b"\r\n\r\nM,1\n",
        LINE + HOST + b"Content-Length: 4\r\n" + b"".join(b"A%d: b\r\n" % n for n in range(99)) + b"\r\nM,1\n",
        b"\r\n" + LINE + HOST + b"Content-Length: 4\r\n\r\nM,1\n",
        b"GET /invocations HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nM,1\n",
        b"POST /invocations?a HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nM,1\n",
        b"POST /invocations HTTP/1.0\r\n" + HOST + b"Content-Length: 4\r\n\r\nM,1\n",
        b"POST /ping HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nM,1\n",
    ],
)
def test_whatever_needs_care_is_left_to_gunicorn(data: bytes) -> None:
    assert plain_environ(data) is None


@pytest.mark.parametrize(("fields", "plain"), [(98, True), (99, False)])
def test_as_many_fields_are_read_as_gunicorn_takes(fields: int, plain: bool) -> None:
    more = b"".join(b"A%d: b\r\n" % number for number in range(fields))

    assert (plain_environ(LINE + HOST + b"Content-Length: 0\r\n" + more + b"\r\n") is not None) is plain


@pytest.mark.parametrize(("length", "plain"), [(8190, True), (8191, False)])
def test_a_head_of_8190_bytes_is_read_and_a_longer_one_left(length: int, plain: bool) -> None:
    start = LINE + HOST + b"Content-Length: 0\r\nX-Long: "
    request = start + b"a" * (length - len(start) - 4) + b"\r\n\r\n"

    assert len(request) == length
    assert (plain_environ(request) is not None) is plain
