"""UBJSON as XGBoost writes it: strict, since what is not understood could be what changes an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

_NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_WORDS = {b"T": True, b"F": False, b"Z": None}
DEEPEST = 64


@dataclass
class _Reader:
    content: bytes
    at: int = 0

    def take(self, count: int) -> bytes:
        piece = self.content[self.at : self.at + count]
        if count < 0 or len(piece) < count:
            raise ValueError(f"expected UBJSON, got an end at byte {len(self.content)}")
        self.at += count
        return piece

    def value(self, mark: bytes, depth: int = 0) -> Any:  # noqa: ANN401
        if depth > DEEPEST:
            raise ValueError(f"expected UBJSON of at most {DEEPEST} levels")
        if mark in _NUMBERS:
            return np.frombuffer(self.take(np.dtype(_NUMBERS[mark]).itemsize), _NUMBERS[mark])[0].item()
        if mark in _WORDS:
            return _WORDS[mark]
        if mark == b"S":
            return self.text()
        if mark == b"[":
            return self.array(depth)
        if mark == b"{":
            return self.object(depth)
        raise ValueError(f"expected UBJSON, got {mark!r} at byte {self.at}")

    def count(self) -> int:
        number = self.value(self.take(1))
        if type(number) is not int or number < 0:
            raise ValueError(f"expected UBJSON, got no length at byte {self.at}")
        return number

    def text(self) -> str:
        return self.take(self.count()).decode()

    def array(self, depth: int) -> list[Any]:
        kind = self.take(1) if self.peek(b"$") else b""
        if not self.peek(b"#"):
            raise ValueError(f"expected an array with its length at byte {self.at}")
        count = self.count()
        if kind:
            if kind not in _NUMBERS:
                raise ValueError(f"expected an array of numbers, got {kind!r} at byte {self.at}")
            raw = self.take(count * np.dtype(_NUMBERS[kind]).itemsize)
            numbers: list[Any] = np.frombuffer(raw, _NUMBERS[kind]).tolist()
            return numbers
        return [self.value(self.take(1), depth + 1) for _ in range(count)]

    def object(self, depth: int) -> dict[str, Any]:
        found = {}
        while not self.peek(b"}"):
            name = self.text()
            found[name] = self.value(self.take(1), depth + 1)
        return found

    def peek(self, mark: bytes) -> bool:
        """Whether this comes next; then it is taken."""
        if self.content[self.at : self.at + 1] != mark:
            return False
        self.at += 1
        return True


def decode(content: bytes) -> Any:  # noqa: ANN401
    """The document. Raises `ValueError` for what XGBoost does not write."""
    reader = _Reader(content)
    try:
        document = reader.value(reader.take(1))
    except (UnicodeDecodeError, MemoryError) as error:
        raise ValueError(f"expected UBJSON, got {error}") from error
    if reader.at != len(content):
        raise ValueError(f"expected UBJSON to end at byte {reader.at}")
    return document
