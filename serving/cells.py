"""A column of cells, from text or from JSON, as numbers or as categories. Missing is NaN in both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import BadPayload, cut

# What `pandas.read_csv` takes as missing, so that a row is read in serving as it was in training.
MISSING = frozenset(
    [
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]
)
LONGEST_NUMBER = 64  # characters
# float() also takes 1_000, Arabic digits, inf and white space of any script; these two do not
_ORDINARY = re.compile(r"[0-9+\-.eE \t]*")
_NUMBER = re.compile(r"[ \t]*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t]*")


def numbers_from_text(cells: Sequence[str], column: str) -> NDArray[np.float64]:
    """Cells as float64. Raises `BadPayload` (400) naming the row, the column and the value."""
    if _ORDINARY.fullmatch("".join(cells)) and max(map(len, cells)) <= LONGEST_NUMBER:
        try:
            return _finite(np.array(list(map(float, cells))), column)
        except ValueError:
            pass  # a missing or a wrong cell: look at each
    return _finite(np.array([_number(cell, row, column) for row, cell in enumerate(cells, 1)]), column)


def numbers_from_json(cells: Sequence[Any], column: str) -> NDArray[np.float64]:
    """JSON values as float64; null is missing. A boolean or a number in quotes is refused."""
    if not set(map(type, cells)) <= {int, float, type(None)}:
        row, cell = next((r, c) for r, c in enumerate(cells, 1) if type(c) not in (int, float, type(None)))
        raise _wrong(f"expected a number or null, got {_shown(cell)}", "json_type", row, column)
    try:
        numbers = np.array([np.nan if cell is None else float(cell) for cell in cells])
    except OverflowError as error:
        raise BadPayload("expected finite numbers", code="non_finite", column=column) from error
    return _finite(numbers, column)


def categories_from_text(cells: Sequence[str]) -> NDArray[np.object_]:
    """Cells as an object array of `str`, missing ones NaN."""
    return _objects([np.nan if cell in MISSING else cell for cell in cells])


def categories_from_json(cells: Sequence[Any], column: str) -> NDArray[np.object_]:
    """JSON strings; null and what CSV takes as missing are missing."""
    for row, cell in enumerate(cells, 1):
        if cell is not None and not isinstance(cell, str):
            raise _wrong(f"expected a string or null, got {_shown(cell)}", "json_type", row, column)
        if cell and "\0" in cell:
            raise _wrong("expected text, got a NUL", "nul_byte", row, column)
    return _objects([np.nan if cell is None or cell in MISSING else cell for cell in cells])


def first_not_finite(matrix: NDArray[np.floating[Any]]) -> tuple[int, int] | None:
    """Row and column, from 0, of the first infinite value; NaN is missing and passes."""
    infinite = np.isinf(matrix)
    return divmod(int(infinite.argmax()), matrix.shape[1]) if infinite.any() else None


def _number(cell: str, row: int, column: str) -> float:
    if cell in MISSING:
        return np.nan
    if len(cell) > LONGEST_NUMBER:
        message = f"expected a number of at most {LONGEST_NUMBER} characters, got {len(cell)}"
        raise _wrong(message, "field_too_long", row, column)
    if not _NUMBER.fullmatch(cell):
        if cell.strip().lstrip("+-").lower() in ("inf", "infinity"):
            raise _wrong(f"expected a finite number, got {_shown(cell)}", "non_finite", row, column)
        raise _wrong(f"expected a number, got {_shown(cell)}", "not_a_number", row, column)
    return float(cell)


def _finite(numbers: NDArray[np.float64], column: str) -> NDArray[np.float64]:
    if found := first_not_finite(numbers.reshape(-1, 1)):
        raise _wrong("expected a finite number, got one beyond 1.8e308", "non_finite", found[0] + 1, column)
    return numbers


def _objects(values: list[object]) -> NDArray[np.object_]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _shown(value: object) -> str:
    return cut(repr(value))


def _wrong(message: str, code: str, row: int, column: str) -> BadPayload:
    return BadPayload(message, code=code, row=row, column=column)
