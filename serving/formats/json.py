"""Rows as JSON or JSON Lines: a list a row or an object a row, plain or in SageMaker's `instances`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

from serving.errors import BadPayload, cut
from serving.formats.csv import WrongWidth
from serving.formats.document import Constant, check_depth, parse, parse_plain
from serving.formats.pieces import lists_of_rows
from serving.formats.text import BLOCK, check_rows, decode, decode_lines, text_blocks

SHAPES = (
    'a list of rows, {"instances": [rows]}, or one row; a row is [values], {"column": value} or {"features": [values]}'
)
_Shape = tuple[type, type]  # of a row as it was given, and of the row within
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"')


@dataclass(frozen=True)
class Rows:
    """Rows of one shape: all lists, or all objects keyed by column. `first_row` is the number of the first."""

    rows: list[Any]
    first_row: int = 1

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def named(self) -> bool:
        """Whether the rows are objects."""
        return isinstance(self.rows[0], dict)

    def flat(self, widths: Collection[int]) -> tuple[list[Any], int]:
        """The values of lists, row by row, and how many a row has.

        Raises `BadPayload` (400) for a row of another width than the first's, or than one of `widths`.
        """
        width = len(self.rows[0])
        if set(map(len, self.rows)) != {width} or width not in widths:
            expected = (width,) if width in widths else widths
            row, got = next((r, len(v)) for r, v in enumerate(self.rows, self.first_row) if len(v) not in expected)
            raise WrongWidth(expected, got, row)
        return list(chain.from_iterable(self.rows)), width

    def by_name(self, names: Sequence[str], ignored: Collection[str] = ()) -> list[list[Any]]:
        """The named columns of objects. Raises `BadPayload` (400) for a missing name, and for one not among these."""
        try:
            columns = [list(map(itemgetter(name), self.rows)) for name in names]
        except KeyError:
            columns = []
        if not columns or max(map(len, self.rows)) > len(names):
            self._check_names(names, {*names, *ignored})
        return columns

    def _check_names(self, needed: Sequence[str], allowed: Set[str]) -> None:
        for row, record in enumerate(self.rows, self.first_row):
            for name in needed:
                if name not in record:
                    raise BadPayload("expected this column", code="missing_column", row=row, column=name)
            if unknown := record.keys() - allowed:
                message = "expected only the contract's columns"
                raise BadPayload(message, code="unknown_column", row=row, column=min(unknown))


def read_json(body: bytes, width: int, most: int = 0) -> Iterator[Rows]:
    """Read a JSON body whose rows have at least `width` values, a large one block by block.

    Raises `BadPayload` (400) for anything else, `PayloadTooLarge` (413) for more than `most` rows; 0 is no limit.
    """
    text = decode(body)
    _refuse_crowded(text, width)
    read, shape, pieces = 0, None, lists_of_rows(text)
    for piece in pieces:
        try:
            given = parse(piece)
            if most and read + len(given) > most:
                check_rows(read + len(given) + sum(len(parse(other)) for other in pieces), most)
        except BadPayload:  # what is to be said is said of the whole
            break
        rows, shape = _plain(given, read + 1, shape)
        yield Rows(rows, read + 1)
        read += len(rows)
    else:
        if read:
            return
    yield from _read_whole(text, most, read)


def _read_whole(text: str, most: int, read: int) -> Iterator[Rows]:
    """The rows of a text but for the first, which are read. Raises as `read_json`."""
    try:
        rows = _rows_of(parse(text))
    except Constant as error:  # who reads these rows says where it stands, if it is in a column
        yield Rows(_plain(_rows_of(error.document), 1)[0])
        raise
    check_rows(len(rows), most)
    yield Rows(_plain(rows, 1)[0][read:], read + 1)


def _rows_of(document: Any) -> list[Any]:  # noqa: ANN401
    rows = document if isinstance(document, list) and not _is_row(document) else [document]
    if isinstance(document, dict) and "instances" in document:
        if len(document) > 1:
            raise _wrong_shape(f'"instances" beside {cut(next(name for name in document if name != "instances"))}')
        rows = document["instances"]
        if not isinstance(rows, list):
            raise _wrong_shape(f'"instances" as {_kind(rows)}')
    elif isinstance(document, dict) and _is_wrapper(document):
        raise _wrong_shape(f"an object of lists and objects with {cut(next(iter(document)))}")
    return rows


def read_jsonlines(body: bytes, width: int, most: int = 0) -> Iterator[Rows]:
    """Read one row a line, block by block. Raises `BadPayload` (400) naming the line, `PayloadTooLarge` as above."""
    kind = None
    for row, block in text_blocks(decode_lines(body), most=most):
        try:
            rows, kind = _plain(_parse_lines(block.split("\n"), row), row, kind)
        except Constant as error:
            yield Rows(_plain([error.document], error.row or row, kind)[0], error.row or row)
            raise
        yield Rows(rows, row)
        _refuse_crowded(block, width)  # not before: what is wrong with a row names it


def _parse_lines(lines: Sequence[str], first_row: int) -> Iterable[Any]:
    """All lines at once where nothing is to be said of any."""
    rows = parse_plain("\n".join(lines))
    return (parse(line, row) for row, line in enumerate(lines, first_row)) if rows is None else rows


def _refuse_crowded(text: str, width: int) -> None:
    """Millions of empty rows, or of lists within labels, would fill the memory before the first is looked at."""
    if len(text) < BLOCK:
        return
    most = len(text) // width + 3  # two for each row of `width` values and commas, and those around all
    if text.count("[") + text.count("{") > most:
        check_depth(text)
        bare = _STRING.sub('""', text)
        if bare.count("[") + bare.count("{") > most:
            message = f"expected rows of at least {width} values, not of lists; got shorter rows or many lists in them"
            raise BadPayload(message, code="column_count")


def _is_row(document: list[Any]) -> bool:
    return bool(document) and {list, dict}.isdisjoint(map(type, document))


def _is_wrapper(document: dict[str, Any]) -> bool:
    """Whether this is no row but something around rows, or a table by columns."""
    return bool(document) and document.keys() != {"features"} and {list, dict}.issuperset(map(type, document.values()))


def _plain(rows: Iterable[Any], first_row: int, shape: _Shape | None = None) -> tuple[list[Any], _Shape | None]:
    """Rows of one shape. Takes them one by one, so that a wrong line is refused before the next is parsed."""
    plain: list[Any] = []
    for number, given in enumerate(rows, first_row):
        row = given
        if isinstance(given, dict) and given.keys() == {"features"} and isinstance(given["features"], list):
            row = given["features"]
        found = (type(given), type(row))
        shape = shape or found
        if found != shape or found[1] not in (list, dict):
            raise BadPayload(f"expected {SHAPES}; got {_kind(given)} as a row", code="json_shape", row=number)
        plain.append(row)
    if not plain:
        raise BadPayload("expected at least one row, got none", code="empty_body")
    return plain, shape


def _wrong_shape(came: str) -> BadPayload:
    return BadPayload(f"expected {SHAPES}; got {came}", code="json_shape")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
