"""A file of rows as the bodies of requests: each within the limits, no row cut, the header in every one."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import PurePath
from typing import BinaryIO

from pipeline.endpoint.errors import WRONG, PipelineError
from serving.payload import CSV, JSON, JSONLINES, NPY

MOST_BYTES = 6_291_456  # of InvokeEndpoint's body
MOST_ROWS = 10_000  # whose features, 131 numbers a row, still pass from one container to the next
BY_SUFFIX = {".csv": CSV, ".json": JSON, ".jsonl": JSONLINES, ".npy": NPY}

_QUOTED = rb'"[^"]*+(?:""[^"]*+)*+"[^,]*+'
_FIELD = rb'(?:%b|(?!")[^,]*+)' % _QUOTED
_RECORD = re.compile(rb"%b(?:,%b)*+" % (_FIELD, _FIELD))
_CLOSING = re.compile(rb'[^"]*+(?:""[^"]*+)*+"[^,]*+(?:,%b)*+' % _FIELD)
_SPACE = re.compile(r"[ \t\r\n]*")
_INSTANCES = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*"instances"[ \t\r\n]*:[ \t\r\n]*')


@dataclass(frozen=True)
class Limits:
    """What one request may hold."""

    rows: int = MOST_ROWS
    size: int = MOST_BYTES  # bytes


@dataclass(frozen=True)
class Batch:
    """The body of one request. `first_row`: its number in the file, counted from 1 below the header.

    `rows` is None where they were not counted because the file goes as it is. `header` is None where it could not be
    told whether the first record is one.
    """

    body: bytes
    first_row: int = 1
    rows: int | None = None
    header: bool | None = False

    def __str__(self) -> str:
        if self.rows is None:
            return "all rows"
        return (
            f"rows {self.first_row} to {self.first_row + self.rows - 1}" if self.rows > 1 else f"row {self.first_row}"
        )


def by_suffix(name: str) -> str:
    """The media type of a file. Raises `PipelineError` for a suffix that says nothing."""
    if not (found := BY_SUFFIX.get(PurePath(name).suffix.lower())):
        raise PipelineError(
            f"cannot tell the type of {name}: expected a suffix of {', '.join(BY_SUFFIX)}", "give --content-type", WRONG
        )
    return found


def batches(file: BinaryIO, media: str, limits: Limits, header: bool | None = None) -> Iterator[Batch]:
    """The requests for a file of a media type; together they hold every row, in order, byte for byte.

    CSV and JSON Lines are read as they are needed. `header`: whether CSV has one, None to judge by its first two
    records. Raises `PipelineError` for what cannot be sent.
    """
    if media == CSV:
        yield from _csv_batches(csv_records(read_lines(file)), limits, header)
    elif media == JSONLINES:
        yield from _cut(read_lines(file), limits)
    elif media == JSON:
        yield from _json_batches(file.read(), limits)
    else:
        yield _whole(file.read(), limits)


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines with their ends. One that no request can hold comes in pieces, each of which is refused as too long."""
    return iter(lambda: file.readline(MOST_BYTES + 1), b"")


def csv_records(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Records with their line ends: a record is a line, or several when a quoted field has line ends in it."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        if not held and b'"' not in line:
            yield line
            continue
        complete = (_CLOSING if held else _RECORD).fullmatch(line)
        held.append(line)
        size += len(line)
        if complete or size > MOST_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def is_header(first: bytes, second: bytes) -> bool | None:
    """Whether the first of two CSV records is a header: no numbers in it, but below it. None: there are none at all."""
    numbers = [any(map(_is_number, cells(record))) for record in (first, second)]
    if any(numbers):
        return not numbers[0]
    return None


def cells(record: bytes) -> list[str]:
    """The fields of a CSV record; none where one of them is longer than Python's csv module takes."""
    try:
        return next(csv.reader([record.decode("utf-8-sig", "replace").replace("\n", " ").replace("\r", " ")]), [])
    except csv.Error:
        return []


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _csv_batches(records: Iterator[bytes], limits: Limits, header: bool | None) -> Iterator[Batch]:
    first = list(islice(records, 2))
    if header is None and len(first) == 2:
        header = is_header(*first)
    if header is None and len(first) < 2:
        header = False
    begin = first.pop(0) if header and first else b""
    if begin and not begin.endswith(b"\n"):
        begin += b"\n"
    for batch in _cut(chain(first, records), limits, begin):
        if header is None and batch.first_row > 1:
            raise PipelineError(
                "cannot tell whether the first row is a header: there is no number in the first two",
                "say --header present or --header absent",
                WRONG,
            )
        yield Batch(batch.body, batch.first_row, batch.rows, header)


def _cut(records: Iterable[bytes], limits: Limits, begin: bytes = b"") -> Iterator[Batch]:
    """As many records in each body as may be. Blank lines stay with the row below them, and at the end above them."""
    parts: list[bytes] = []
    size, first_row, rows = len(begin), 1, 0
    for unit, count in _with_blanks(records):
        length = sum(map(len, unit))
        if parts and (rows + count > limits.rows or size + length > limits.size):
            yield Batch(begin + b"".join(parts), first_row, rows, bool(begin))
            first_row += rows
            parts, size, rows = [], len(begin), 0
        if size + length > limits.size:
            raise _too_long(f"row {first_row + rows + count - 1}", size + length, limits)
        parts += unit
        size += length
        rows += count
    if not parts:
        raise PipelineError("there are no rows to send", "give a file with at least one row", WRONG)
    yield Batch(begin + b"".join(parts), first_row, rows, bool(begin))


def _with_blanks(records: Iterable[bytes]) -> Iterator[tuple[list[bytes], int]]:
    """Each record with the blank lines before it, and how many lines that are; the last with those behind it too.

    Behind the last record they are no rows: whether they mean something is for the endpoint to say.
    """
    whole: list[bytes] = []
    unit: list[bytes] = []
    for record in records:
        unit.append(record)
        if record in (b"\n", b"\r\n"):
            continue
        if whole:
            yield whole, len(whole)
        whole, unit = unit, []
    if whole:
        yield whole + unit, len(whole)


def _json_batches(body: bytes, limits: Limits) -> Iterator[Batch]:
    """A list of rows, or one in `instances`, cut between its rows; the rows themselves are not written anew."""
    try:
        text = body.decode("utf-8-sig")
        rows = _rows_in(text)
    except ValueError as error:  # no JSON, or no text: the endpoint says what is wrong with it
        if len(body) > limits.size:
            raise PipelineError(f"expected JSON: {error}", "correct the file", WRONG) from error
        rows = []
    if len(rows) < 2 or (len(rows) <= limits.rows and len(body) <= limits.size):
        whole = _whole(body, limits)
        yield Batch(whole.body, rows=len(rows) or None)
        return
    begin, end = (b'{"instances":[', b"]}") if _INSTANCES.match(text) else (b"[", b"]")
    inner = Limits(limits.rows, limits.size - len(begin) - len(end) + 1)  # the last row has no comma
    for batch in _cut((row.encode() + b"," for row in rows), inner):
        yield Batch(begin + batch.body[:-1] + end, batch.first_row, batch.rows)


def _rows_in(text: str) -> list[str]:
    """The rows of a JSON document as they are written; none when it is a single row. Raises `ValueError`."""
    found = _INSTANCES.match(text) or _SPACE.match(text)
    at = found.end() if found else 0
    if text[at : at + 1] != "[":
        return []
    rows: list[str] = []
    decoder = json.JSONDecoder()
    at = _after_space(text, at + 1)
    while text[at : at + 1] != "]":
        row, end = decoder.raw_decode(text, at)
        if not isinstance(row, list | dict):
            return []  # a list of values is one row
        rows.append(text[at:end])
        at = _after_space(text, end)
        if text[at : at + 1] == ",":
            at = _after_space(text, at + 1)
        elif text[at : at + 1] != "]":
            raise ValueError(f"expected a comma or the end of the list at character {at + 1}")
    return _if_nothing_follows(text, at + 1, rows)


def _if_nothing_follows(text: str, at: int, rows: list[str]) -> list[str]:
    """Beside `instances` may stand what only the whole document says: then it is not cut."""
    rest = text[at:].strip(" \t\r\n")
    return rows if rest == ("}" if _INSTANCES.match(text) else "") else []


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _whole(body: bytes, limits: Limits) -> Batch:
    if len(body) > limits.size:
        raise _too_long("the file, which is sent whole,", len(body), limits)
    if not body:
        raise PipelineError("there are no rows to send", "give a file with at least one row", WRONG)
    return Batch(body)


def _too_long(what: str, size: int, limits: Limits) -> PipelineError:
    return PipelineError(
        f"{what} has {size:,} bytes; a request may have {limits.size:,}",
        "shorten it, close its quotes, or use CSV or JSON Lines, which can be cut between rows",
        WRONG,
    )
