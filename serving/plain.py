"""Invocations as nginx passes nearly all of them on: whole, and with nothing in their head that needs care.

gunicorn's parser takes as long for such a request as a prediction of one row. Everything else is left to it.
"""

from __future__ import annotations

import io
import re
import sys
from typing import Any

from serving.settings import MOST_HEADERS

MOST = 1 << 16  # bytes of a request that is read at once
_LONGEST_HEAD, _MOST_FIELDS = 8190, MOST_HEADERS  # within gunicorn_conf.py's limits of one field, and of how many
# Narrower than RFC 9112: printable ASCII, no folded line, and no underscore, which WSGI would take for a hyphen.
_HEAD = re.compile(rb"POST /invocations HTTP/1\.1\r\n((?:[!#$%&'*+.^`|~0-9A-Za-z-]+:[\t\x20-\x7e]*\r\n)+)\r\n")
# What changes how a request is framed, answered or called.
_CAREFUL = {
    f"HTTP_{name}"
    for name in (
        "TRANSFER_ENCODING", "EXPECT", "CONNECTION", "UPGRADE", "TE", "TRAILER",
        "X_FORWARDED_PROTOCOL", "X_FORWARDED_PROTO", "X_FORWARDED_SSL",
    )
}  # fmt: skip
_ALWAYS: dict[str, Any] = {
    "REQUEST_METHOD": "POST",
    "PATH_INFO": "/invocations",
    "RAW_URI": "/invocations",
    "QUERY_STRING": "",
    "SCRIPT_NAME": "",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "80",
    "REMOTE_ADDR": "",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": False,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.input_terminated": True,
}


def plain_environ(data: bytes) -> dict[str, Any] | None:
    """The WSGI environment of a whole request; None for one that gunicorn has to read."""
    head = _HEAD.match(data)
    if head is None or head.end() > _LONGEST_HEAD:
        return None
    lines = head[1].decode("ascii").split("\r\n")
    fields = {}
    for line in lines[:-1]:
        name, _, value = line.partition(":")
        fields["HTTP_" + name.upper().replace("-", "_")] = value.strip(" \t")
    if len(fields) != len(lines) - 1 or len(fields) > _MOST_FIELDS or not _CAREFUL.isdisjoint(fields):
        return None
    length = fields.pop("HTTP_CONTENT_LENGTH", "")
    body = data[head.end() :]
    if length != str(len(body)) or "HTTP_HOST" not in fields:
        return None
    environ = {**_ALWAYS, **fields, "CONTENT_LENGTH": length, "wsgi.input": io.BytesIO(body)}
    if (media := environ.pop("HTTP_CONTENT_TYPE", None)) is not None:
        environ["CONTENT_TYPE"] = media
    return environ
