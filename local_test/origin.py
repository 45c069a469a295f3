"""Whom the router answers: programs on this machine and in its containers, and pages of its own; no other web page."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from serving.errors import ServingError


class Forbidden(ServingError):
    status, code = 403, "forbidden"


def check_origin(environ: Mapping[str, Any]) -> None:
    """Raise `Forbidden` for what a web page of another site made a browser send.

    Whoever owns a name can have it lead here, and his page then counts as ours to the browser; but he cannot have the
    browser send another name than that as Host. What has no dot, as Compose's names of services, nobody can own.
    """
    host = environ.get("HTTP_HOST", "")
    if not _is_ours(host):
        raise Forbidden("expected a Host of this machine: an address, localhost, or a name without dots")
    if environ.get("HTTP_ORIGIN", f"http://{host}") != f"http://{host}":
        raise Forbidden("expected no request of another site's page")
    if environ.get("HTTP_SEC_FETCH_SITE", "none") in ("cross-site", "same-site"):
        raise Forbidden("expected no request of another site's page")


def _is_ours(host: str) -> bool:
    if "." not in host:
        return True
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name.endswith(".localhost") or bool(ip_address(name))
    except ValueError:
        return False
