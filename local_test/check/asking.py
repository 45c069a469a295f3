"""A good payload, and its rows again and again."""

from __future__ import annotations

import codecs
import csv
import io
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from serving.payload import CSV, JSONLINES, NPY

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What NumPy raises for a file that it does not read, or only as a pickle.
_UNREADABLE = (ValueError, EOFError, SyntaxError, KeyError, TypeError)


@dataclass(frozen=True)
class Asking:
    """A good payload; without one, what a good request is answered cannot be examined."""

    body: bytes = b""
    content_type: str = ""

    @property
    def media(self) -> str:
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def repeats(self) -> bool:
        """Whether its rows can be sent again and again."""
        return bool(self._rows) or self._array is not None

    def repeated(self, size: int) -> bytes:
        """The rows again and again, of CSV, JSON Lines and NPY; else zeros. At most `size` bytes, or the rows once."""
        import numpy as np

        if rows := self._rows:
            return self._head + rows * max(1, (size - len(self._head)) // len(rows))
        if (array := self._array) is not None:
            file = io.BytesIO()
            times = max(1, (size - 256) // max(1, array.nbytes))
            np.save(file, np.tile(array, (times, *(1 for _ in array.shape[1:]))), allow_pickle=False)
            return file.getvalue()
        return b"0" * size

    @cached_property
    def _head(self) -> bytes:
        """What stands before the rows: a byte order mark, and a header."""
        mark = codecs.BOM_UTF8 if self.body.startswith(codecs.BOM_UTF8) else b""
        return mark + (_header(self.body[len(mark) :]) if self.media == CSV else b"")

    @cached_property
    def _rows(self) -> bytes:
        if self.media not in (CSV, JSONLINES):
            return b""
        rows = self.body[len(self._head) :]
        return rows if not rows or rows.endswith(b"\n") else rows + b"\n"

    @cached_property
    def _array(self) -> NDArray[Any] | None:
        """Of any type and shape, as other people's images take them; one of one dimension is one row."""
        import numpy as np

        if self.media != NPY:
            return None
        try:
            array: NDArray[Any] = np.load(io.BytesIO(self.body), allow_pickle=False)
        except _UNREADABLE:
            return None
        if array.size == 0:
            return None
        return array if array.ndim > 1 else array.reshape(1, -1)


def _header(text: bytes) -> bytes:
    """The first line of CSV if it is one of names: without a number, where the line after it has one."""
    first, newline, rest = text.partition(b"\n")
    names, values = _cells(first), _cells(rest.partition(b"\n")[0])
    whole = len(names) == len(values)
    return first + newline if whole and any(map(_is_number, values)) and not any(map(_is_number, names)) else b""


def _cells(line: bytes) -> list[str]:
    text = line.decode("utf-8", "replace").strip("\r")
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a cell may have 131,072 characters otherwise
    try:
        return next(csv.reader([text]), [])
    except csv.Error:
        return []


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
