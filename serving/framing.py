"""The body of a request as HTTP frames it, for a server that reads the client's socket itself.

Behind nginx a body is whole before gunicorn sees it; alone, gunicorn would wait for a silent client until its worker is
killed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from gunicorn.http.errors import ParseException

from serving.errors import BadPayload, PayloadTooLarge, ServingError, UnsupportedMediaType, cut

SILENCE = 10.0  # seconds that a client may be silent within a body
MOST_DISCARDED = 64 * 1024 * 1024
LABOUR = 2.0  # seconds of CPU for taking a body out of its chunks, of which a byte may have one each
_PIECE = 65536
_BROKEN = "serving.broken"  # in the environ of a request whose body failed: nobody tries again

Environ = dict[str, Any]


class RequestTimeout(ServingError):
    status, code = 408, "request_timeout"


class MethodNotAllowed(ServingError):
    status, code = 405, "method_not_allowed"


class UnknownCoding(ServingError):
    status, code = 501, "not_implemented"


def check_framing(environ: Environ) -> None:
    """Raises `ServingError` for a request that RFC 9112 has a server refuse and gunicorn does not."""
    method = environ["REQUEST_METHOD"]
    if method != method.upper():  # RFC 9110, 9.1: `post` is another method; Lambda passes on what a client sent
        raise MethodNotAllowed(f"expected a method in capital letters, got {cut(method, 16)}")
    if method == "CONNECT":
        raise MethodNotAllowed("expected no CONNECT: this is no proxy")
    if "HTTP_HOST" not in environ and environ.get("SERVER_PROTOCOL") == "HTTP/1.1":
        raise BadPayload("expected a Host header, got none", code="bad_request")
    if (coding := environ.get("HTTP_TRANSFER_ENCODING")) is not None and coding.strip().lower() != "chunked":
        raise UnknownCoding(f"expected no transfer coding but chunked, got {cut(coding)}")


def read_body(environ: Environ, most: int) -> bytes:
    """The whole body, of at most `most` bytes. Raises `ServingError` for one that does not come as it should."""
    length = _content_length(environ)
    if length > most:
        raise _too_large(most, length)
    chunked = "HTTP_TRANSFER_ENCODING" in environ
    try:
        with _impatient(environ):
            body: bytes = b"".join(_chunked(environ, most)) if chunked else environ["wsgi.input"].read(length)
    except (ParseException, OSError) as error:
        environ[_BROKEN] = True
        if isinstance(error, TimeoutError) and not chunked:
            message = f"expected the rest of the body within {SILENCE:.0f} seconds, got nothing"
            raise RequestTimeout(message) from error
        raise BadPayload("expected a whole body, framed as HTTP has it", code="bad_request") from error
    if len(body) > most:
        raise _too_large(most, "more")
    if len(body) < length:
        environ[_BROKEN] = True
        raise BadPayload(f"expected a body of {length} bytes, got {len(body)}", code="bad_request")
    return body


def _chunked(environ: Environ, most: int) -> Iterator[bytes]:
    """A body of chunks, up to the byte that is too much. Raises `BadPayload` for one that is work to put together."""
    left, begun = most + 1, time.thread_time()
    while left and (piece := environ["wsgi.input"].read(min(left, _PIECE))):
        yield piece
        left -= len(piece)
        if time.thread_time() - begun > LABOUR:
            raise BadPayload("expected fewer and larger chunks", code="bad_request")


def refuse_compressed(environ: Environ) -> None:
    """A few kilobytes of gzip can be gigabytes of records."""
    coding = environ.get("HTTP_CONTENT_ENCODING")
    if coding and coding.strip().lower() not in ("", "identity"):
        message = f"expected a body without Content-Encoding, got {cut(coding)}"
        raise UnsupportedMediaType(message, code="unsupported_encoding")


def discard_body(environ: Environ) -> None:
    """Read what a refused request still sends: a client that cannot finish sending may never see why it was refused."""
    with contextlib.suppress(ServingError):
        left = _content_length(environ)
        if left > MOST_DISCARDED or _BROKEN in environ:
            return
        stream = environ["wsgi.input"]
        with contextlib.suppress(OSError), _impatient(environ):
            while left > 0 and (chunk := stream.read(min(left, 65536))):
                left -= len(chunk)


def _content_length(environ: Environ) -> int:
    """What the request says; 0 where it says nothing, or sends chunks."""
    told = environ.get("CONTENT_LENGTH") or "0"
    if not (told.isascii() and told.isdigit()):
        raise BadPayload("expected a Content-Length of digits", code="bad_request")
    return int(told)


def _too_large(most: int, got: int | str) -> PayloadTooLarge:
    return PayloadTooLarge(f"expected a body of at most {most} bytes, got {got}")


@contextlib.contextmanager
def _impatient(environ: Environ) -> Iterator[None]:
    """Bound each wait for the client, where gunicorn lends its socket."""
    socket = environ.get("gunicorn.socket")
    if socket is None:
        yield
        return
    patience = socket.gettimeout()
    socket.settimeout(SILENCE)
    try:
        yield
    finally:
        socket.settimeout(patience)
