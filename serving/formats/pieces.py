"""A large JSON list of rows as several smaller ones: whole, it would be as Python's objects many times its size."""

from __future__ import annotations

import re
from collections.abc import Iterator

from serving.formats.text import BLOCK

_SPACE = r"[ \t\r\n]*+"
_BEGINNING = re.compile(rf'{_SPACE}(\{{{_SPACE}"instances"{_SPACE}:{_SPACE})?\[{_SPACE}(?=[\[{{])')
_BETWEEN = re.compile(rf"(?<=[\]}}]){_SPACE},{_SPACE}(?=[\[{{])")
_END = re.compile(rf"\]{_SPACE}(\}}?){_SPACE}\Z")
_NEAR = 1024  # characters from the end, among which it is looked for


def lists_of_rows(text: str) -> Iterator[str]:
    """Lists that together have the rows of a text: of a list, or of SageMaker's `instances`.

    None for a text that is small, is not to be cut, or begins or ends otherwise. If each of them is JSON, so is the
    text: one that is cut within a string or within a row is left open.
    """
    begun, near = _BEGINNING.match(text), max(0, len(text) - _NEAR)
    ended = _END.search(text, near)
    if len(text) < 2 * BLOCK or not begun or not ended or bool(begun[1]) != bool(ended[1]):
        return
    start, cut = begun.end(), False
    while between := _BETWEEN.search(text, start + BLOCK, ended.start()):
        yield f"[{text[start : between.start()]}]"
        start, cut = between.end(), True
    if cut:
        yield f"[{text[start : ended.start()]}]"
