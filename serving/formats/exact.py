"""What orjson does not tell of the numbers in a JSON document: the sign of a zero, and which one is infinite."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from serving.cells import Beyond

_ORDINARY_DIGITS = 19  # of an integer that is one for orjson too
_MARK = b"\x01"  # a byte that stands nowhere in JSON
_LOWER = 0x20  # what makes an E an e


def exact_decoder(*, constants: bool = False) -> json.JSONDecoder:
    """The standard library's: -0 has its sign, and the first number that is infinite is `Beyond`.

    `constants`: NaN, Infinity and -Infinity are such numbers. It raises `ValueError`, and `RecursionError`.
    """
    beyond: list[Beyond] = []

    def real(written: str) -> float:
        number = float(written)
        if beyond or math.isfinite(number):
            return number
        beyond.append(Beyond(written))  # the first only: a large body may have millions
        return beyond[0]

    def integer(written: str) -> float:
        return int(written) if len(written) <= _ORDINARY_DIGITS and written != "-0" else real(written)

    constant: Callable[[str], float] = real if constants else _refuse_constant
    return json.JSONDecoder(parse_float=real, parse_int=integer, parse_constant=constant)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"unexpected {name}")


def with_signed_zeros(text: str) -> bytes:
    """A JSON text in which each number -0 is -0.0: an integer has no such zero. What a string says stays."""
    encoded = text.encode()
    if _MARK in encoded:
        return encoded  # and no JSON
    given = encoded.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in encoded else encoded
    raw = np.frombuffer(b"\n%b\n\n" % given, np.uint8)
    before, sign, digit, after = raw[:-3], raw[1:-2], raw[2:-1], raw[3:]
    zeros = (sign == ord("-")) & (digit == ord("0")) & (before | _LOWER != ord("e"))
    zeros &= (after != ord(".")) & (after | _LOWER != ord("e"))
    zeros &= np.bitwise_xor.accumulate((raw == ord('"')).view(np.uint8))[1:-2] == 0  # within no string
    marked: NDArray[np.uint8] = np.frombuffer(encoded, np.uint8) - zeros.view(np.uint8) * np.uint8(
        ord("-") - ord(_MARK)
    )
    found: bytes = marked.tobytes()
    return found.replace(_MARK + b"0", b"-0.0")
