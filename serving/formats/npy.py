"""NumPy's NPY format for plain numbers; never a pickle, never more memory than the body has bytes."""

from __future__ import annotations

import io
import math
import re
import tokenize
import warnings

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from serving.errors import BadPayload
from serving.formats.text import check_rows

_LONGEST_HEADER = 1024
# what numpy raises on a header that is no literal dictionary; TokenError comes from its help for Python 2's files
_BAD_HEADER = (
    ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError, OverflowError,
    UserWarning,
)  # fmt: skip
# The header of a matrix as numpy and we write it.
_ORDINARY = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '([<>][fiu][48])', 'fortran_order': (True|False), "
    rb"'shape': \((0|[1-9][0-9]{0,14}),(?: (0|[1-9][0-9]{0,14}))?\), \} {0,900}\n",
    re.DOTALL,
)
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npy(body: bytes, most: int = 0) -> NDArray[np.generic]:
    """The array of a body, a view where possible: 2-D, rows x columns; a 1-D array is one row.

    Raises `BadPayload` (400) for another format, an element type that is no number, and a shape that is not
    that of the bytes which follow the header; `PayloadTooLarge` (413) above `most` rows, 0 being no limit.
    """
    shape, fortran, dtype, offset = _read_header(body)
    if dtype.kind not in "fiub" or dtype.itemsize > 8:  # a long double is another thing on every machine
        raise _refuse(f"expected an array of numbers of at most 64 bits, got elements of type {dtype.str[:16]}")
    if len(shape) not in (1, 2) or min(shape) < 0:
        raise _refuse(f"expected an array of 1 or 2 dimensions, got shape {str(shape)[:64]}")
    expected, got = math.prod(shape) * dtype.itemsize, len(body) - offset
    if expected != got:
        raise _refuse(f"expected {expected} bytes of data for shape {str(shape)[:64]}, got {got}")
    if expected == 0:
        raise BadPayload("expected at least one row, got an empty array", code="empty_body")
    check_rows(shape[0] if len(shape) == 2 else 1, most)
    array = np.frombuffer(body, dtype, offset=offset).reshape(shape, order="F" if fortran else "C")
    return array if array.ndim == 2 else array.reshape(1, -1)


def write_npy(array: NDArray[np.generic]) -> bytes:
    """An array of numbers, byte for byte as `numpy.save` writes it."""
    header = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}".encode()
    # numpy lets the first dimension grow to 21 digits in place, and aligns the data
    header += b" " * (21 - len(str(array.shape[0])))
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + array.tobytes()


def _read_header(body: bytes) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    if not body:
        raise BadPayload("expected at least one row, got an empty body", code="empty_body")
    found = _ORDINARY.match(body)
    if found and found.end() == 10 + int.from_bytes(found[1], "little"):
        shape = tuple(int(size) for size in found.group(4, 5) if size)
        return shape, found[3] == b"True", np.dtype(found[2].decode()), found.end()
    file = io.BytesIO(body)
    try:
        reader = _READERS[npy.read_magic(file)]
        with warnings.catch_warnings(action="error"):  # it warns of the headers of Python 2
            shape, fortran, dtype = reader(file, max_header_size=_LONGEST_HEADER)
    except _BAD_HEADER as error:
        raise _refuse("expected an NPY file of version 1 or 2 with an ordinary header") from error
    if any(type(size) is not int for size in shape):
        raise _refuse(f"expected whole numbers as shape, got {str(shape)[:64]}")
    return shape, fortran, dtype, file.tell()


def _refuse(message: str) -> BadPayload:
    return BadPayload(message, code="npy_syntax")
