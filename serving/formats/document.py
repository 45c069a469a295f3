"""Text to a JSON document, as strictly as RFC 8259 has it."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from functools import partial
from typing import Any, TypeVar

import orjson

from serving.errors import BadPayload, cut
from serving.formats.exact import exact_decoder, with_signed_zeros
from serving.formats.text import BLOCK

Document = TypeVar("Document")
_MINUS_ZERO = re.compile(r"-0(?=[\s,\]}])")
_SIGNED = json.JSONDecoder(parse_int=float)  # made once: to make it takes longer than to read a row
_MOST_LOCATED = 1 << 21  # values among which an infinite one is looked for: it takes a second
_MOST_NAMED = 1 << 19  # colons of a text in which a repeated name is looked for: likewise
_CONSTANTS = ("NaN", "Infinity", "-Infinity")  # which Python and JavaScript write and JSON has not


class Constant(BadPayload):
    """A text that were JSON without NaN and infinities. `document`: what it says, the first of them `Beyond`."""

    def __init__(self, message: str, row: int | None, document: Any) -> None:  # noqa: ANN401
        super().__init__(message, code="json_syntax", row=row)
        self.document = document


def parse(text: str, row: int | None = None) -> Any:  # noqa: ANN401
    """The only document of a text. Raises `BadPayload` (400); `row` is the one that it is, for the error."""
    try:
        document = _load(text)
        if ":" in text and _lost_a_name(text, document):
            if text.count(":") > _MOST_NAMED:
                raise BadPayload("expected each name once, got one twice", code="duplicate_key")
            json.loads(text, object_pairs_hook=partial(_refuse_repeated, row=row), parse_int=float)
    except json.JSONDecodeError as error:
        if row and not text.strip():
            raise BadPayload("expected a row, got a blank line", code="blank_row", row=row) from error
        raise _syntax(error, text, row) from error
    except RecursionError as error:  # orjson reads some levels more than the standard library
        raise _too_deep(row) from error
    except ValueError as error:
        raise BadPayload(f"expected JSON (RFC 8259): {cut(error)}", code="json_syntax", row=row) from error
    return document


def parse_plain(text: str) -> list[Any] | None:
    """The documents of a text's lines. None where one is wrong or uncommon: `parse` says of each what is to be said."""
    lines = with_signed_zeros(text).split(b"\n") if _has_minus_zero(text) else text.split("\n")
    try:
        documents = list(map(orjson.loads, lines))
    except orjson.JSONDecodeError as error:
        if "infinity" not in error.msg:
            return None
        try:
            documents = _refuse_surrogates(list(map(exact_decoder().decode, text.split("\n"))))
        except (ValueError, RecursionError):
            return None
    return None if ":" in text and _lost_a_name(text, documents) else documents


def _syntax(error: json.JSONDecodeError, text: str, row: int | None = None) -> BadPayload:
    message = f"expected JSON (RFC 8259): {error.msg} at character {error.pos + 1}"
    if text.startswith(_CONSTANTS, error.pos) and text.count(",") <= _MOST_LOCATED:
        with contextlib.suppress(ValueError, RecursionError):
            return Constant(message, row, exact_decoder(constants=True).decode(text))
    return BadPayload(message, code="json_syntax", row=row)


def _too_deep(row: int | None) -> BadPayload:
    return BadPayload("expected JSON of ordinary depth", code="json_syntax", row=row)


def _load(text: str) -> Any:  # noqa: ANN401
    zeros = _has_minus_zero(text)
    if zeros and len(text) >= BLOCK:
        with contextlib.suppress(orjson.JSONDecodeError):  # which would name another character
            return orjson.loads(with_signed_zeros(text))
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "infinity" not in error.msg:
            raise
        if text.count(",") > _MOST_LOCATED:
            message = f"expected finite numbers (float64: up to 1.8e308), got another at character {error.pos + 1}"
            raise BadPayload(message, code="non_finite") from error
        return _refuse_surrogates(exact_decoder().decode(text))
    return _SIGNED.decode(text) if zeros else document


def _has_minus_zero(text: str) -> bool:
    return "-0" in text and _MINUS_ZERO.search(text) is not None


def _refuse_surrogates(document: Document) -> Document:
    """Half a surrogate is no text for orjson, and passes the standard library."""
    try:
        orjson.dumps(document, default=repr)
    except orjson.JSONEncodeError as error:
        raise ValueError(str(error)) from error
    return document


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
            raise _syntax(error, "") from error
