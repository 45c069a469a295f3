"""Where two answers to one request differ: their statuses, their shapes, their numbers beyond a tolerance."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from local_test.recording.exchanges import Answered
from serving.errors import cut
from serving.payload import CSV, JSON, JSONLINES, NPY

LONGEST = 120  # characters of a value that are shown


@dataclass(frozen=True)
class Difference:
    """`row` counts from 1, and is 0 where the answers differ as a whole; `by` is how far two numbers are apart."""

    row: int
    before: str
    after: str
    by: float | None = None

    def __str__(self) -> str:
        where = f"row {self.row}: " if self.row else ""
        apart = "" if self.by is None else f" ({self.by:+.6g})"
        return f"{where}{self.before} -> {self.after}{apart}"


@dataclass
class Comparison:
    """What comparing many answers has found. `tolerance`: of two numbers, by the larger of 1 and the one before."""

    tolerance: float
    rows: int = 0
    numbers: int = 0
    different_rows: int = 0
    largest: float = 0.0
    sum: float = 0.0  # of all that numbers are apart
    kinds: dict[str, int] = field(default_factory=dict)

    def compare(self, before: Answered, after: Answered) -> list[Difference]:
        """The differences of two answers to one request."""
        if (was := outcome(before)) != (now := outcome(after)):
            return [self._whole("refusal", was, now)]
        if before.status != 200:
            return []
        if (was := _media(before)) != (now := _media(after)):
            return [self._whole("type", was or "no type", now or "no type")]
        read, other = _read(before), _read(after)
        if read is None or other is None:
            return self._bytes(before, after)
        (was, first), (now, second) = read, other
        if was != now:
            return [self._whole("shape", was, now)]
        if len(first) != len(second):
            return [self._whole("row count", f"{len(first)} rows", f"{len(second)} rows")]
        try:
            pairs = enumerate(zip(first, second, strict=True), 1)
            found = [one for row, pair in pairs for one in self._row(row, *pair)]
        except RecursionError:  # lists within lists, hundreds of them
            return self._bytes(before, after)
        self.rows += len(first)
        self.different_rows += len({one.row for one in found})
        return found

    def _bytes(self, before: Answered, after: Answered) -> list[Difference]:
        same = before.body == after.body
        return [] if same else [self._whole("body", shown(before.body), shown(after.body))]

    def _whole(self, kind: str, before: str, after: str) -> Difference:
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        return Difference(0, before, after)

    def _number(self, row: int, before: float, after: float) -> Iterator[Difference]:
        """Whole numbers stay whole: as floats, two large ones would be the same."""
        self.numbers += 1
        if before == after or (before != before and after != after):
            return
        try:
            by = after - before
            far = not abs(by) <= self.tolerance * max(1, abs(before))
            self.largest, self.sum = max(self.largest, float(abs(by))), self.sum + float(abs(by))
        except OverflowError:  # beyond every float
            by, far = math.nan, True
        if far:
            yield Difference(row, _written(before), _written(after), float(by))

    def _row(self, row: int, before: Any, after: Any) -> Iterator[Difference]:  # noqa: ANN401 - whatever JSON holds
        if _is_number(before) and _is_number(after):
            yield from self._number(row, before, after)
        elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            for one, other in zip(before, after, strict=True):
                yield from self._row(row, one, other)
        elif isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
            for name in before:
                yield from self._row(row, before[name], after[name])
        elif before != after:
            yield Difference(row, cut(str(before), LONGEST), cut(str(after), LONGEST))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _written(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.9g}"


def outcome(answered: Answered) -> str:
    """`200`, or a refusal by its status, code, row and column: the container's own where the platform passes it on."""
    if answered.status == 200:
        return "200"
    said = _fields(answered.body)
    status = answered.status
    if isinstance(said.get("OriginalStatusCode"), int):
        status, said = int(said["OriginalStatusCode"]), _fields(str(said.get("OriginalMessage", "")).encode())
    parts = [str(status), str(said.get("code", ""))]
    parts += [f"{name} {said[name]}" for name in ("row", "column") if said.get(name) is not None]
    return " ".join(part for part in parts if part)


def shown(body: bytes) -> str:
    return cut(body.decode("utf-8", "backslashreplace"), LONGEST)


def _media(answered: Answered) -> str:
    return answered.content_type.partition(";")[0].strip().lower()


def _fields(body: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


# Whatever an answer that is not what its type says makes its reader raise.
_UNREADABLE = (ValueError, TypeError, EOFError, OverflowError, RecursionError, csv.Error)


def _read(answered: Answered) -> tuple[str, Sequence[object]] | None:
    """What is around the rows of an answer, and the rows. None for a body that cannot be read as its type.

    Also for a type that we cannot read.
    """
    import numpy as np

    media = _media(answered)
    try:
        if media == NPY:
            array = np.atleast_1d(np.load(io.BytesIO(answered.body), allow_pickle=False))
            return ("", list(array.tolist())) if array.dtype.kind in "fiub" else None
        text = answered.body.decode()
        if media == JSON:
            return _document(json.loads(text))
        if media == JSONLINES:
            return "", [json.loads(line) for line in text.split("\n") if line.strip()]
        if media == CSV:
            rows = ([_cell(cell) for cell in row] for row in csv.reader(io.StringIO(text, newline="")) if row)
            return "", [row if len(row) > 1 else row[0] for row in rows]
    except _UNREADABLE:
        return None
    return None


def _document(document: object) -> tuple[str, Sequence[object]]:
    """The rows under an answer's only key, or the document as one row; first what a client finds around them."""
    if isinstance(document, dict) and len(document) == 1:
        ((key, rows),) = document.items()
        around = json.dumps(cut(key, LONGEST))
        return (f"{{{around}: [rows]}}", rows) if isinstance(rows, list) else (f"{{{around}: value}}", [rows])
    return ("[rows]", document) if isinstance(document, list) else ("one value", [document])


def _cell(cell: str) -> float | str:
    try:
        return int(cell) if cell.isascii() and cell.lstrip("-").isdigit() else float(cell)
    except ValueError:
        return cell
