"""A column of cells, from text or from JSON, as numbers or as categories. Missing is NaN in both."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from serving.contract import MISSING
from serving.errors import BadPayload, cut


class Beyond(float):
    """Infinity, for a number of a document that is not finite; it says how it stands there."""

    written: str

    def __new__(cls, written: str) -> Beyond:
        number = super().__new__(cls, math.inf)
        number.written = written
        return number

    def __repr__(self) -> str:
        return self.written


_JSON_NUMBERS = {int, float, Beyond, type(None)}
_Place = tuple[int, str]  # row and column
LONGEST_FIELD, LONGEST_NUMBER = 1024, 64  # characters
# float() also takes 1_000, Arabic digits, inf and white space of any script; these two do not
_ORDINARY = b"0123456789+-.eE \t,"
_NUMBER = re.compile(r"[ \t]*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t]*")
_MISSING_WORDS = [b",%b," % word.encode() for word in sorted(MISSING) if word]
_MINUS_ZERO = re.compile(rb"-0[ \t]*(?:,|$)")  # an integer in JSON, and integers have no such zero


def numbers_from_text(cells: Sequence[str], names: Sequence[str], first_row: int = 1) -> NDArray[np.float64]:
    """Cells of the named columns, row by row, as float64, rows x columns.

    Raises `BadPayload` (400) naming the row, the column and the value.
    """
    if (numbers := _at_once(cells)) is None:
        numbers = np.array([_number(cell, _place(index, names, first_row)) for index, cell in enumerate(cells)])
    return _finite(numbers, cells, names, first_row)


def plain_numbers(text: bytes, with_nulls: bytes) -> list[float | None] | None:
    """Numbers that commas join, by way of a JSON parser; None where one is not as most are written.

    `with_nulls` is what is parsed: the same with `null` for what is missing.
    """
    if text.translate(None, _ORDINARY) or _MINUS_ZERO.search(text):
        return None
    try:
        numbers: list[float | None] = orjson.loads(b"[%b]" % with_nulls)
    except orjson.JSONDecodeError:
        return None
    return numbers


def without_missing(text: bytes) -> bytes:
    """Cells that commas join, those that stand for a missing number empty; the same object where there is none."""
    if not text.translate(None, _ORDINARY):
        return text
    found = b",%b," % text
    for written in filter(found.__contains__, _MISSING_WORDS):
        found = found.replace(written, b",,").replace(written, b",,")  # neighbours share a comma
    return found[1:-1] if len(found) < len(text) + 2 else text


def _at_once(cells: Sequence[str]) -> NDArray[np.float64] | None:
    given = cells
    if not MISSING.isdisjoint(cells):
        given = [cell for cell in cells if cell not in MISSING]
        cells = ["null" if cell in MISSING else cell for cell in cells]
    text = ",".join(given)
    # a quoted cell may have a comma within
    if text.count(",") != max(len(given) - 1, 0) or max(map(len, given), default=0) > LONGEST_NUMBER:
        return None
    raw = text.encode()
    numbers = plain_numbers(raw, raw if given is cells else ",".join(cells).encode())
    if numbers is None:
        return None if raw.translate(None, _ORDINARY) else _as_floats(cells)
    return np.array(numbers, np.float64) if len(numbers) == len(cells) else None  # a lone blank is no number


def _as_floats(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """The same for what JSON writes otherwise: +1, .5, 007."""
    try:
        return np.fromiter((np.nan if cell == "null" else float(cell) for cell in cells), np.float64, len(cells))
    except ValueError:
        return None


def number_column(cells: Sequence[str], name: str, first_row: int = 1) -> NDArray[np.float64]:
    """`numbers_from_text` of one column, as a vector."""
    return numbers_from_text(cells, [name], first_row)[:, 0]


def numbers_from_json(cells: Sequence[Any], names: Sequence[str], first_row: int = 1) -> NDArray[np.float64]:
    """JSON values as `numbers_from_text` has text; null is missing. A boolean or a number in quotes is refused."""
    if not set(map(type, cells)) <= _JSON_NUMBERS:
        index, cell = next((i, cell) for i, cell in enumerate(cells) if type(cell) not in _JSON_NUMBERS)
        raise _wrong(f"expected a number or null, got {shown(cell)}", "json_type", _place(index, names, first_row))
    return _finite(np.array(cells, dtype=np.float64), cells, names, first_row)


def categories(cells: Sequence[str | None]) -> NDArray[np.object_]:
    """Cells as an object array of `str`; None is NaN."""
    array = np.empty(len(cells), dtype=object)
    array[:] = [np.nan if cell is None else cell for cell in cells]
    return array


def without_words(cells: list[str | None], words: frozenset[str]) -> list[str | None]:
    """Cells with None for those that are one of the words; the same list where none is."""
    return [None if cell in words else cell for cell in cells] if not words.isdisjoint(cells) else cells


def check_strings(cells: Sequence[Any], name: str, first_row: int = 1, longest: int = LONGEST_FIELD) -> None:
    """Raises `BadPayload` (400) unless every JSON value of a categorical column is a string or null."""
    for row, cell in enumerate(cells, first_row):
        if cell is not None and not isinstance(cell, str):
            raise _wrong(f"expected a string or null, got {shown(cell)}", "json_type", (row, name))
        if cell and "\0" in cell:
            raise _wrong("expected text, got a NUL", "nul_byte", (row, name))
        if cell and len(cell) > longest:
            message = f"expected at most {longest} characters, got {len(cell)}"
            raise _wrong(message, "field_too_long", (row, name))


def is_number(cell: str) -> bool:
    """Whether a cell of text is a number, as `numbers_from_text` reads it."""
    return len(cell) <= LONGEST_NUMBER and bool(_NUMBER.fullmatch(cell))


def first_not_finite(matrix: NDArray[np.floating[Any]]) -> tuple[int, int] | None:
    """Row and column, from 0, of the first infinite value; NaN is missing and passes."""
    infinite = np.isinf(matrix)
    return divmod(int(infinite.argmax()), matrix.shape[1]) if infinite.any() else None


def not_finite(value: object, place: tuple[int, str], kind: str = "float64", largest: str = "1.8e308") -> BadPayload:
    """The error for a number that is infinite, or so in the `kind` of float that it has to be."""
    message = f"expected a finite number ({kind}: up to {largest}), got {shown(value)}"
    if isinstance(value, Beyond) and value.written == "NaN":
        message = "expected a number or null, got NaN, which is no JSON"
    return _wrong(message, "non_finite", place)


def _number(cell: str, place: _Place) -> float:
    if cell in MISSING:
        return np.nan
    if len(cell) > LONGEST_NUMBER:
        message = f"expected a number of at most {LONGEST_NUMBER} characters, got {len(cell)}"
        raise _wrong(message, "field_too_long", place)
    if not _NUMBER.fullmatch(cell):
        if cell.strip().lstrip("+-").lower() in ("inf", "infinity"):
            raise not_finite(cell, place)
        raise _wrong(f"expected a number, got {shown(cell)}", "not_a_number", place)
    return float(cell)


def _place(index: int, names: Sequence[str], first_row: int) -> _Place:
    row, column = divmod(index, len(names))
    return first_row + row, names[column]


def _finite(
    numbers: NDArray[np.float64], cells: Sequence[Any], names: Sequence[str], first_row: int
) -> NDArray[np.float64]:
    matrix = numbers.reshape(-1, len(names))
    if found := first_not_finite(matrix):
        index = found[0] * len(names) + found[1]
        raise not_finite(cells[index], _place(index, names, first_row))
    return matrix


def shown(value: object) -> str:
    """A value of a payload, short enough to repeat. A list within lists could be too deep to write down."""
    return "a list or an object" if isinstance(value, list | dict) else cut(repr(value))


def _wrong(message: str, code: str, place: _Place) -> BadPayload:
    return BadPayload(message, code=code, row=place[0], column=place[1])
