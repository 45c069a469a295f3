"""NumPy's NPY format for plain numbers; never a pickle, never more memory than the body has bytes."""

from __future__ import annotations

import io
import math
import tokenize

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from serving.errors import BadPayload

_LONGEST_HEADER = 1024
# what numpy raises on a header that is no literal dictionary; TokenError comes from its help for Python 2's files
_BAD_HEADER = (
    ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError, OverflowError,
)  # fmt: skip
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npy(body: bytes) -> NDArray[np.generic]:
    """The array of a body, a view where possible: 2-D, rows x columns; a 1-D array is one row.

    Raises `BadPayload` (400) for another format, an element type that is no number, and a shape that is not
    that of the bytes which follow the header.
    """
    shape, fortran, dtype, offset = _read_header(body)
    if dtype.kind not in "fiub":
        raise _refuse(f"expected an array of numbers, got elements of type {dtype.str[:16]}")
    if len(shape) not in (1, 2) or min(shape) < 0:
        raise _refuse(f"expected an array of 1 or 2 dimensions, got shape {str(shape)[:64]}")
    expected, got = math.prod(shape) * dtype.itemsize, len(body) - offset
    if expected != got:
        raise _refuse(f"expected {expected} bytes of data for shape {str(shape)[:64]}, got {got}")
    if expected == 0:
        raise BadPayload("expected at least one row, got an empty array", code="empty_body")
    array = np.frombuffer(body, dtype, offset=offset).reshape(shape, order="F" if fortran else "C")
    return array if array.ndim == 2 else array.reshape(1, -1)


def write_npy(array: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    npy.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _read_header(body: bytes) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    if not body:
        raise BadPayload("expected at least one row, got an empty body", code="empty_body")
    file = io.BytesIO(body)
    try:
        reader = _READERS[npy.read_magic(file)]
        shape, fortran, dtype = reader(file, max_header_size=_LONGEST_HEADER)
    except _BAD_HEADER as error:
        raise _refuse("expected an NPY file of version 1 or 2 with an ordinary header") from error
    return shape, fortran, dtype, file.tell()


def _refuse(message: str) -> BadPayload:
    return BadPayload(message, code="npy_syntax")
