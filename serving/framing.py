"""The body of a request as HTTP frames it, for a server that reads the client's socket itself.

Behind nginx a body is whole before gunicorn sees it; alone, gunicorn would wait for a silent client until its worker is
killed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from flask import g, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, MethodNotAllowed

from serving.errors import BadPayload, ServingError, UnsupportedMediaType, cut

SILENCE = 10.0  # seconds that a client may be silent within a body
MOST_DISCARDED = 64 * 1024 * 1024


class RequestTimeout(ServingError):
    status, code = 408, "request_timeout"


class UnknownCoding(ServingError):
    status, code = 501, "not_implemented"


def check_framing() -> None:
    """Raises `ServingError` for a request that RFC 9112 has a server refuse and gunicorn does not."""
    if request.method == "CONNECT":
        raise MethodNotAllowed(["GET", "POST"])
    if request.environ.get("SERVER_PROTOCOL") == "HTTP/1.1" and "Host" not in request.headers:
        raise BadPayload("expected a Host header, got none", code="bad_request")
    coding = request.headers.get("Transfer-Encoding", "chunked")
    if coding.strip().lower() != "chunked":
        raise UnknownCoding(f"expected no transfer coding but chunked, got {cut(coding)}")


def read_body() -> bytes:
    """The whole body. Raises `ServingError` for one that does not come, or not as HTTP frames it."""
    try:
        with _impatient():
            body = request.get_data(cache=False)
    except (ParseException, ClientDisconnected, OSError) as error:
        g.broken = True  # nobody tries again what failed
        timed_out = isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)
        if timed_out and "Transfer-Encoding" not in request.headers:
            message = f"expected the rest of the body within {SILENCE:.0f} seconds, got nothing"
            raise RequestTimeout(message) from error
        raise BadPayload("expected a whole body, framed as HTTP has it", code="bad_request") from error
    if (length := request.content_length) is not None and len(body) < length:
        g.broken = True
        raise BadPayload(f"expected a body of {length} bytes, got {len(body)}", code="bad_request")
    return body


def refuse_compressed() -> None:
    """A few kilobytes of gzip can be gigabytes of records."""
    coding = request.headers.get("Content-Encoding", "")
    if coding.strip().lower() not in ("", "identity"):
        message = f"expected a body without Content-Encoding, got {cut(coding)}"
        raise UnsupportedMediaType(message, code="unsupported_encoding")


def discard_body() -> None:
    """Read what a refused request still sends: a client that cannot finish sending may never see why it was refused."""
    left = request.content_length or 0
    if left > MOST_DISCARDED or g.get("broken"):
        return
    stream = request.environ["wsgi.input"]
    with contextlib.suppress(OSError), _impatient():
        while left > 0 and (chunk := stream.read(min(left, 65536))):
            left -= len(chunk)


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Bound each wait for the client, where gunicorn lends its socket."""
    socket = request.environ.get("gunicorn.socket")
    if socket is None:
        yield
        return
    patience = socket.gettimeout()
    socket.settimeout(SILENCE)
    try:
        yield
    finally:
        socket.settimeout(patience)
