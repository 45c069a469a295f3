"""Rows x columns of text, as a block of CSV holds them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.cells import LONGEST_NUMBER, numbers_from_text, plain_numbers, without_missing

_COMMA, _NEWLINE, _ZERO, _SPACE = b",\n0 "
_LONGEST_COVERED = 32


@dataclass(frozen=True)
class Cells:
    """Rows x `width` cells, row by row in one flat list. `first_row` is the number of its first."""

    cells: list[str]
    width: int
    first_row: int

    def __len__(self) -> int:
        return len(self.cells) // self.width

    def column(self, index: int) -> list[str]:
        return self.cells[index :: self.width]

    def numbers(self, positions: Sequence[int], names: Sequence[str]) -> NDArray[np.float64]:
        """The columns at `positions`, which have these names, as rows x columns; NaN is missing.

        Raises `BadPayload` (400) naming row, column and value.
        """
        flat, order = chosen(self.cells, self.width, positions)
        numbers = numbers_from_text(flat, [names[index] for index in order], self.first_row)
        return reordered(numbers, order)


@dataclass(frozen=True)
class Grid:
    """The same for a large block without quotes, never cut into cells: where each begins and ends is enough."""

    text: str
    raw: NDArray[np.uint8]
    starts: NDArray[np.intp]  # rows x columns
    ends: NDArray[np.intp]
    first_row: int

    @classmethod
    def of(cls, text: str, widths: Collection[int], first_row: int, longest: int) -> Grid | None:
        """None where some row is not as the first, or the first not as expected: others find out what is wrong."""
        raw = np.frombuffer(text.encode() + b"\n", np.uint8)
        marks = np.flatnonzero((raw == _COMMA) | (raw == _NEWLINE))
        line_ends = raw[marks] == _NEWLINE
        width = int(line_ends.argmax()) + 1
        rows, rest = divmod(len(marks), width)
        # a blank line would be a row of one empty cell
        if (
            width == 1
            or width not in widths
            or rest
            or line_ends.sum() != rows
            or not line_ends[width - 1 :: width].all()
        ):
            return None
        starts = np.concatenate([[0], marks[:-1] + 1])
        if (marks - starts).max() > longest:
            return None
        return cls(text, raw, starts.reshape(rows, width), marks.reshape(rows, width), first_row)

    @property
    def width(self) -> int:
        return int(self.starts.shape[1])

    def __len__(self) -> int:
        return len(self.starts)

    def column(self, index: int) -> list[str]:
        places = map(slice, self.starts[:, index].tolist(), self.ends[:, index].tolist())
        if self.text.isascii():
            return list(map(self.text.__getitem__, places))
        return [cell.decode() for cell in map(self.raw.tobytes().__getitem__, places)]

    def numbers(self, positions: Sequence[int], names: Sequence[str]) -> NDArray[np.float64]:
        numbers = self._at_once(positions)
        if numbers is not None and np.isfinite(numbers[~np.isnan(numbers)]).all():
            return numbers
        return Cells(self.text.replace("\n", ",").split(","), self.width, self.first_row).numbers(positions, names)

    def _at_once(self, positions: Sequence[int]) -> NDArray[np.float64] | None:
        """All numbers by way of a JSON parser, where every cell is one as most are written, or empty; else None."""
        lengths = self.ends - self.starts
        others = sorted(set(range(self.width)) - set(positions))
        if lengths[:, list(positions)].max() > LONGEST_NUMBER or lengths[:, others].max(initial=0) > _LONGEST_COVERED:
            return None
        raw = self.raw.copy()
        for index in others:
            _cover(raw, self.starts[:, index], lengths[:, index])
        raw[self.ends[:, -1]] = _COMMA
        given = raw[:-1].tobytes()
        text = with_nulls = without_missing(given)
        if empty := text is not given or bool((lengths == 0).any()):
            with_nulls = (b",%b," % text).replace(b",,", b",null,").replace(b",,", b",null,")[1:-1]
        cells = plain_numbers(text, with_nulls)
        if cells is None or len(cells) != lengths.size:
            return None
        numbers = np.array(cells, np.float64) if empty else np.fromiter(cells, np.float64, len(cells))
        return numbers.reshape(-1, self.width)[:, list(positions)]


def chosen(cells: Sequence[str], width: int, positions: Sequence[int]) -> tuple[list[str], list[int]]:
    """The cells of some columns, row by row; and in which order: indices into `positions`."""
    flat, kept = list(cells), set(positions)
    for position in reversed(range(width)):
        if position not in kept:
            del flat[position::width]
            width -= 1
    return flat, sorted(range(len(positions)), key=positions.__getitem__)


def reordered(numbers: NDArray[np.float64], order: Sequence[int]) -> NDArray[np.float64]:
    """Columns that stand as `order` says, back in the order of its numbers."""
    return numbers if list(order) == sorted(order) else numbers[:, np.argsort(order)]


def _cover(raw: NDArray[np.uint8], starts: NDArray[np.intp], lengths: NDArray[np.intp]) -> None:
    """Write a zero and spaces over cells; an empty one stays."""
    for offset in range(int(lengths.max())):
        raw[starts[lengths > offset] + offset] = _SPACE if offset else _ZERO
