"""Numbers, sizes and times as the page writes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from local_test.page.shown import visible
from serving.payload import CSV, JSON, JSONLINES, NPY

SHORT = {CSV: "CSV", JSON: "JSON", JSONLINES: "JSON Lines", NPY: "NPY"}


def milliseconds(value: float) -> str:
    """Three digits, and no more than are known."""
    return f"{value:,.2f}" if value < 9.995 else f"{value:,.1f}" if value < 99.95 else f"{value:,.0f}"


def size(count: int) -> str:
    if count < 10_000:
        return f"{count:,} B"
    return f"{count / 1024:,.0f} KiB" if count < 1024 * 1024 else f"{count / 1024 / 1024:,.1f} MiB"


def clock(seconds: float) -> str:
    """As in the logs, which are in UTC too."""
    return time.strftime("%H:%M:%S", time.gmtime(seconds))


def moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def header(name: str) -> str:
    """A header's name, of WSGI's for it."""
    if name.startswith(("HTTP_", "CONTENT_")):
        return name.removeprefix("HTTP_").replace("_", "-").title()
    return name


def media(content_type: str) -> str:
    """Without its parameters, as a label."""
    name = content_type.partition(";")[0].strip().lower()
    return SHORT.get(name) or visible(name)[:40]


def number(value: Any) -> str:  # noqa: ANN401 - whatever a training run's report holds
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else visible(str(value))


FILTERS: dict[str, Callable[..., Any]] = {
    "ms": milliseconds,
    "size": size,
    "clock": clock,
    "moment": moment,
    "phrase": phrase,
    "header": header,
    "media": media,
    "number": number,
    "visible": visible,
}
