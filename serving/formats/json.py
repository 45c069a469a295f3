"""Rows as JSON or JSON Lines: a list a row or an object a row, plain or in SageMaker's `instances`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from serving.errors import BadPayload, cut
from serving.formats.csv import column_count
from serving.formats.text import decode

SHAPES = (
    'a list of rows, {"instances": [rows]}, or one row; a row is [values], {"column": value} or {"features": [values]}'
)


@dataclass(frozen=True)
class Rows:
    """Rows of one shape: all lists, or all objects keyed by column."""

    lists: list[list[Any]]
    objects: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.lists) or len(self.objects)


def read_json(body: bytes) -> Rows:
    """Read a JSON body. Raises `BadPayload` (400) for anything that is not JSON or not rows."""
    document = _parse(decode(body))
    if isinstance(document, dict) and "instances" in document:
        if len(document) > 1:
            extra = next(name for name in document if name != "instances")
            raise _wrong_shape(f'"instances" beside {cut(extra)}')
        rows = document["instances"]
    else:
        rows = document if isinstance(document, list) and not _is_row(document) else [document]
    if not isinstance(rows, list):
        raise _wrong_shape(f'"instances" as {_kind(rows)}')
    return _rows(rows)


def read_jsonlines(body: bytes) -> Rows:
    """Read one row a line. Raises `BadPayload` (400) naming the line."""
    # not splitlines(): it would also break at separators that may stand inside a string
    lines = decode(body).replace("\r\n", "\n").rstrip("\n").split("\n")
    return _rows(_parse(line, row) for row, line in enumerate(lines, 1))


def list_columns(rows: Sequence[list[Any]], widths: Sequence[int]) -> list[list[Any]]:
    """Rows as columns. Raises `BadPayload` when a row has another width than one of `widths` and the first row's."""
    expected = [len(rows[0])] if len(rows[0]) in widths else widths
    for row, values in enumerate(rows, 1):
        if len(values) not in expected:
            raise column_count(expected, len(values), row)
    return [list(column) for column in zip(*rows, strict=True)]


def _parse(text: str, row: int | None = None) -> Any:  # noqa: ANN401
    try:
        document = orjson.loads(text)
        if "{" in text:
            json.loads(text, object_pairs_hook=_refuse_repeated)
    except orjson.JSONDecodeError as error:
        if row and not text.strip():
            raise BadPayload("expected a row, got a blank line", code="blank_row", row=row) from error
        message = f"expected JSON (RFC 8259): {error.msg} at character {error.pos + 1}"
        raise BadPayload(message, code="json_syntax", row=row) from error
    except (RecursionError, ValueError) as error:  # what orjson reads and the standard library does not
        raise BadPayload("expected JSON of ordinary depth and size", code="json_syntax", row=row) from error
    return document


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise BadPayload("expected each name once, got it twice", code="duplicate_key", column=repeated)
    return found


def _is_row(document: list[Any]) -> bool:
    return bool(document) and not any(isinstance(value, (list, dict)) for value in document)


def _rows(rows: Iterable[Any]) -> Rows:
    """Rows of one shape. Takes them one by one, so that a wrong line is refused before the next is parsed."""
    plain: list[Any] = []
    for number, given in enumerate(rows, 1):
        row = given["features"] if isinstance(given, dict) and given.keys() == {"features"} else given
        if not isinstance(row, (list, dict)) or (plain and type(row) is not type(plain[0])):
            raise BadPayload(f"expected {SHAPES}; got {_kind(row)} as a row", code="json_shape", row=number)
        plain.append(row)
    if not plain:
        raise BadPayload("expected at least one row, got none", code="empty_body")
    return Rows(plain, []) if isinstance(plain[0], list) else Rows([], plain)


def _wrong_shape(came: str) -> BadPayload:
    return BadPayload(f"expected {SHAPES}; got {came}", code="json_shape")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
