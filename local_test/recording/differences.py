"""Where two answers to one request differ: their statuses, their shapes, their numbers beyond a tolerance."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

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
        first, second = _read(before), _read(after)
        if first is None or second is None:
            same = before.body == after.body
            return [] if same else [self._whole("body", shown(before.body), shown(after.body))]
        if len(first) != len(second):
            return [self._whole("row count", f"{len(first)} rows", f"{len(second)} rows")]
        self.rows += len(first)
        found = [one for row, pair in enumerate(zip(first, second, strict=True), 1) for one in self._row(row, *pair)]
        self.different_rows += len({one.row for one in found})
        return found

    def _whole(self, kind: str, before: str, after: str) -> Difference:
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        return Difference(0, before, after)

    def _row(self, row: int, before: object, after: object) -> Iterator[Difference]:
        if isinstance(before, float) and isinstance(after, float):
            self.numbers += 1
            if before == after or (math.isnan(before) and math.isnan(after)):
                return
            by = after - before
            self.largest, self.sum = max(self.largest, abs(by)), self.sum + abs(by)
            if not abs(by) <= self.tolerance * max(1.0, abs(before)):
                yield Difference(row, f"{before:.9g}", f"{after:.9g}", by)
        elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            for one, other in zip(before, after, strict=True):
                yield from self._row(row, one, other)
        elif isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
            for name in before:
                yield from self._row(row, before[name], after[name])
        elif before != after:
            yield Difference(row, cut(str(before), LONGEST), cut(str(after), LONGEST))


def outcome(answered: Answered) -> str:
    """`200`, or a refusal by its status, code, row and column: the container's own where the platform passes it on."""
    if answered.status == 200:
        return "200"
    said = _fields(answered.body)
    status = answered.status
    if "OriginalStatusCode" in said:
        status, said = int(said["OriginalStatusCode"]), _fields(str(said.get("OriginalMessage", "")).encode())
    parts = [str(status), str(said.get("code", ""))]
    parts += [f"{name} {said[name]}" for name in ("row", "column") if said.get(name) is not None]
    return " ".join(part for part in parts if part)


def shown(body: bytes) -> str:
    return cut(body.decode("utf-8", "backslashreplace"), LONGEST)


def _fields(body: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _read(answered: Answered) -> Sequence[object] | None:
    """The rows of an answer, its numbers as floats. None for a body that is not of a type we can read."""
    media = answered.content_type.partition(";")[0].strip().lower()
    try:
        if media == NPY:
            array = np.atleast_1d(np.load(io.BytesIO(answered.body), allow_pickle=False))
            return list(_plain(array.astype(np.float64).tolist()))
        text = answered.body.decode()
        if media == JSON:
            return _document(json.loads(text))
        if media == JSONLINES:
            return [_plain(json.loads(line)) for line in text.split("\n") if line.strip()]
        if media == CSV:
            rows = ([_cell(cell) for cell in row] for row in csv.reader(io.StringIO(text, newline="")) if row)
            return [row if len(row) > 1 else row[0] for row in rows]
    except ValueError:
        return None
    return None


def _document(document: object) -> Sequence[object]:
    """The list of rows that an answer has under its only key, or the document as one row."""
    if isinstance(document, dict) and len(document) == 1:
        document = next(iter(document.values()))
    plain = _plain(document)
    return plain if isinstance(plain, list) else [plain]


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value]


def _cell(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell
