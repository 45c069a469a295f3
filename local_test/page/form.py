"""The form: what it is filled with, and how what it holds is sent, which is as any client would."""

from __future__ import annotations

import re
from contextvars import copy_context
from dataclasses import dataclass
from urllib.parse import parse_qsl

from flask import Flask, request
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, run_wsgi_app

from local_test.endpoint import MIB, Endpoint
from local_test.page.files import Files
from local_test.page.history import Record
from local_test.page.probe import Interface
from serving.errors import BadPayload
from serving.framing import read_body
from serving.payload import CSV, JSON, JSONLINES, NPY, Payload

MOST_FORM = 3 * MIB  # bytes of the form, in which a character may take nine
_HEADER = re.compile(r"[\x20-\x7e]{0,1024}")


@dataclass(frozen=True)
class Form:
    """What stands in the form, and what it offers: content types taken and given."""

    content_type: str
    accept: str
    body: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]


def filled(first: Interface, last: Interface, files: Files, again: Record | None) -> Form:
    """The form with a kept request's payload, or a sample of the contract's."""
    content_type, accept, body = CSV, JSON, ""
    if again and not again.given.cut:
        content_type, accept = again.headers.get("CONTENT_TYPE", ""), again.headers.get("HTTP_ACCEPT", "")
        body = again.given.start.decode("utf-8", "replace")
    else:
        body = files.sample(first.contract)
    return Form(
        content_type, accept, body, first.accepts or (CSV, JSON, JSONLINES), last.answers or (JSON, CSV, JSONLINES, NPY)
    )


def read_form() -> Payload:
    """What the form of the current request holds. Raises `ServingError`."""
    raw = read_body(request.environ, MOST_FORM)
    try:
        form = dict(parse_qsl(raw.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=10))
    except ValueError as error:
        raise BadPayload("expected the fields of this page's form") from error
    for name in ("content_type", "accept"):
        if not _HEADER.fullmatch(form.get(name, "")):
            raise BadPayload(f"expected at most 1,024 visible ASCII characters as {name}")
    # browsers send every line's end as CR LF
    body = form.get("body", "").replace("\r\n", "\n").encode()
    return Payload(body, form.get("content_type", ""), form.get("accept", ""))


def invoke(app: Flask, endpoint: Endpoint, payload: Payload) -> str:
    """Give the router this payload in a request of its own. Returns the request's id."""
    headers = {"Content-Type": payload.content_type, "Accept": payload.accept}
    environ = EnvironBuilder(
        f"/endpoints/{endpoint.name}/invocations",
        request.host_url,
        method="POST",
        headers=Headers({name: value for name, value in headers.items() if value}),
        data=payload.body,
    ).get_environ()
    _, _, answered = copy_context().run(run_wsgi_app, app.wsgi_app, environ, buffered=True)
    return answered["X-Request-Id"]
