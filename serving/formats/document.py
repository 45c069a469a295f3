"""Text to a JSON document, as strictly as RFC 8259 has it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from functools import partial
from typing import Any

import orjson

from serving.cells import Beyond
from serving.errors import BadPayload, cut
from serving.formats.text import BLOCK

_MINUS_ZERO = re.compile(r"-0(?=[\s,\]}])")
_MOST_LOCATED = 1 << 21  # values among which an infinite one is looked for: it takes a second
_MOST_NAMED = 1 << 19  # colons of a text in which a repeated name is looked for: likewise
_ORDINARY_DIGITS = 19  # of an integer that is one for orjson too


def parse(text: str, row: int | None = None) -> Any:  # noqa: ANN401
    """The only document of a text. Raises `BadPayload` (400); `row` is the one that it is, for the error."""
    return signed(text, read(text, row), row)


def signed(text: str, document: Any, row: int | None = None) -> Any:  # noqa: ANN401
    """What `read` made of a text, where -0 has its sign. Raises `BadPayload` (400).

    It takes longer than `read`: whoever would refuse the document for its size does so before.
    """
    if "-0" not in text or not _MINUS_ZERO.search(text):
        return document
    try:
        return json.loads(text, parse_int=float)
    except RecursionError as error:
        raise _too_deep(row) from error


def read(text: str, row: int | None = None) -> Any:  # noqa: ANN401
    """The only document of a text, where -0 may be the integer 0. Raises `BadPayload` (400)."""
    try:
        document = _load(text)
        if ":" in text and _lost_a_name(text, document):
            if text.count(":") > _MOST_NAMED:
                raise BadPayload("expected each name once, got one twice", code="duplicate_key")
            json.loads(text, object_pairs_hook=partial(_refuse_repeated, row=row), parse_int=float)
    except json.JSONDecodeError as error:
        if row and not text.strip():
            raise BadPayload("expected a row, got a blank line", code="blank_row", row=row) from error
        raise _syntax(error, row) from error
    except RecursionError as error:  # orjson reads some levels more than the standard library
        raise _too_deep(row) from error
    except ValueError as error:
        raise BadPayload(f"expected JSON (RFC 8259): {cut(error)}", code="json_syntax", row=row) from error
    return document


def _syntax(error: json.JSONDecodeError, row: int | None = None) -> BadPayload:
    message = f"expected JSON (RFC 8259): {error.msg} at character {error.pos + 1}"
    return BadPayload(message, code="json_syntax", row=row)


def _too_deep(row: int | None) -> BadPayload:
    return BadPayload("expected JSON of ordinary depth", code="json_syntax", row=row)


def _load(text: str) -> Any:  # noqa: ANN401
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "infinity" not in error.msg:
            raise
        if text.count(",") > _MOST_LOCATED:
            message = f"expected finite numbers (float64: up to 1.8e308), got another at character {error.pos + 1}"
            raise BadPayload(message, code="non_finite") from error
    return _load_infinite(text)


def _load_infinite(text: str) -> Any:  # noqa: ANN401
    """The document by the standard library, its first infinite number `Beyond`. Raises `ValueError`."""
    beyond: list[Beyond] = []

    def real(written: str) -> float:
        number = float(written)
        if beyond or not math.isinf(number):
            return number
        beyond.append(Beyond(written))  # the first only: a large body may have millions
        return beyond[0]

    def integer(written: str) -> float:
        return int(written) if len(written) <= _ORDINARY_DIGITS else real(written)

    document = json.loads(text, parse_float=real, parse_int=integer, parse_constant=_refuse_constant)
    try:
        orjson.dumps(document, default=repr)  # what this refuses is no text: half a surrogate
    except orjson.JSONEncodeError as error:
        raise ValueError(str(error)) from error
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"unexpected {name}")


def _lost_a_name(text: str, document: object) -> bool:
    """Whether a document has fewer colons than its text: a name that is repeated takes its colon along.

    True too where it cannot be told, of lists too deep to be written. Raises `BadPayload` where finding out takes long.
    """
    given = text.replace("\\\\", "") if "\\" in text else text  # what is left of backslashes begins an escape
    colons = given.count(":") + (given.count("\\u003a") + given.count("\\u003A") if "\\" in given else 0)
    try:
        return colons != orjson.dumps(document, default=repr).count(b":")
    except orjson.JSONEncodeError as error:
        if colons > _MOST_NAMED:
            raise _too_deep(None) from error
        return True


def _refuse_repeated(pairs: list[tuple[str, Any]], row: int | None) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise BadPayload("expected each name once, got it twice", code="duplicate_key", row=row, column=repeated)
    return found


def check_depth(text: str) -> None:
    """Raises `BadPayload` (400) for a text that begins deeper than a document may be; its later parts are not read."""
    try:
        orjson.loads(text.lstrip()[:BLOCK])
    except orjson.JSONDecodeError as error:
        if "depth" in error.msg:
            raise _syntax(error) from error
