"""NPY as numbers, without NumPy, which the router's image does not have; a file that was cut shows what there is."""

from __future__ import annotations

import ast
import re
import struct
from dataclasses import dataclass

MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 4096
_TYPES = {"f4": "f", "f8": "d", "f2": "e", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "b1": "?"}


class NotNpy(ValueError):
    """The bytes are no NPY file that can be shown; the message says why."""


@dataclass(frozen=True)
class Numbers:
    """The first rows of an array, and the array's shape and type."""

    shape: tuple[int, ...]
    dtype: str
    rows: list[tuple[float, ...]]


def read_npy(start: bytes, most_rows: int) -> Numbers:
    """The first rows in the first bytes of a file. Raises `NotNpy`."""
    header, data = _header(start)
    descr, shape = str(header.get("descr")), header.get("shape")
    code = _TYPES.get(descr[1:])
    if not code or descr[0] not in "<|>=" or header.get("fortran_order") is not False:
        raise NotNpy("an array of another type or order than can be shown")
    if not isinstance(shape, tuple) or len(shape) not in (1, 2) or not all(_is_length(n) for n in shape):
        raise NotNpy("an array of another shape than can be shown")
    width = shape[1] if len(shape) == 2 else 1
    row = struct.Struct((">" if descr[0] == ">" else "<") + code * min(width, len(data)))
    if not width or width > len(data) or not row.size:
        return Numbers(shape, descr, [])
    count = min(shape[0], most_rows, len(data) // row.size)
    return Numbers(shape, descr, [row.unpack_from(data, n * row.size) for n in range(count)])


def shortest(value: float, dtype: str) -> str:
    """As few digits as read back the same in the array's own type: those that the answer has in JSON."""
    code = _TYPES[dtype[1:]]
    if code in "ef":
        near = (float(f"{value:.{digits}g}") for digits in range(4, 10))
        value = next((one for one in near if _packed(code, one) == _packed(code, value)), value)
    return str(value).removesuffix(".0")


def _packed(code: str, value: float) -> bytes:
    try:
        return struct.pack(code, value)
    except OverflowError:  # rounded up beyond the largest
        return b""


def _header(start: bytes) -> tuple[dict[str, object], bytes]:
    if not start.startswith(MAGIC) or len(start) < 12:
        raise NotNpy("no NPY file")
    fixed = 10 if start[6] == 1 else 12
    length = int.from_bytes(start[8:fixed], "little")
    text = start[fixed : fixed + length]
    if len(text) < length or length > _LONGEST_HEADER or not re.fullmatch(rb"[\x20-\x7e]*\n?", text):
        raise NotNpy("an NPY header that cannot be read")
    try:
        header = ast.literal_eval(text.decode("ascii").strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise NotNpy("an NPY header that cannot be read") from error
    if not isinstance(header, dict):
        raise NotNpy("an NPY header that cannot be read")
    return header, start[fixed + length :]


def _is_length(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**40
