"""nginx's lines in our log: its errors, and each request that it refused itself or that no worker answered."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter

from serving.errors import cut
from serving.exchange import valid_id

refused: Counter[str] = Counter()  # by the code in the body
# The locations of nginx.conf.template whose names are not their code.
_CODES = {
    "not_allowed": "method_not_allowed",
    "timeout": "request_timeout",
    "too_large": "payload_too_large",
    "wrong_version": "http_version_not_supported",
    "too_slow": "timeout",
    "no_answer_of_workers": "overloaded",
}
_LEVEL = re.compile(r"\[(warn|error|crit|alert|emerg)\] ")
_LEVELS = {"warn": logging.WARNING, "error": logging.ERROR}
_CONNECTION = re.compile(r"#\d+: \*(\d+) ")
_REPLACED = re.compile(r"\\x([0-9a-f]{2})")  # a byte that is no UTF-8


def relay(logger: logging.Logger, line: str, *, tell: bool) -> None:
    """Log one line that nginx wrote, if it is to be told; a refusal is counted anyhow.

    What a client sent stands in the line, and becomes a JSON string whatever it is.
    """
    if line.startswith('{"refused"'):
        _relay_refusal(logger, line, tell=tell)
        return
    if not tell:
        return
    found, connection = _LEVEL.search(line), _CONNECTION.search(line)
    level = _LEVELS.get(found[1], logging.CRITICAL) if found else logging.INFO
    fields = {"connection": int(connection[1])} if connection else {}
    logger.log(level, "%s", cut(line.rstrip(), 1024), extra={"fields": fields})


def _relay_refusal(logger: logging.Logger, line: str, *, tell: bool) -> None:
    """The client's id goes before nginx's, which the refusal's body has."""
    code = _code(line.split('"', 4)[3].removeprefix("/_"))
    refused[code] += 1
    if not tell:
        return
    try:
        told = json.loads(_REPLACED.sub(r"\\u00\1", line))
    except ValueError:  # longer than nginx writes at once
        logger.warning("a refusal that cannot be read")
        return
    method, _, rest = told["request"].partition(" ")
    given = next(filter(valid_id, (told["inference_id"], told["client_id"])), "")
    fields = {
        "request_id": given or told["nginx_id"],
        "nginx_request_id": told["nginx_id"],
        "connection": told["connection"],
        "method": cut(method, 16),
        "path": cut(rest.rpartition(" ")[0], 256),
        "status": told["status"],
        "code": code,
        "bytes_in": told["bytes"],
        "ms": round(told["seconds"] * 1000, 3),
    }
    logger.info("request", extra={"fields": fields})


def _code(place: str) -> str:
    return _CODES.get(place) or ("not_ready" if place.startswith("no_answer_of") else place)
