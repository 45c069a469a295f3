"""A payload as a person reads it: text, a table of numbers, or bytes. Payloads are hostile until a template escapes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from local_test.page.history import Body, Hop, Record
from local_test.page.npy import MAGIC, NotNpy, Numbers, read_npy, shortest
from serving.payload import CSV, NPY

MOST_LINES, MOST_CHARACTERS, MOST_ROWS, MOST_BYTES, MOST_COLUMNS = 200, 16_000, 20, 256, 100
# Controls, and what turns the direction of the text around it.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


@dataclass(frozen=True)
class Shown:
    """A payload to be written out. One of `lines`, `rows` and `dump` holds it; `marked`: the line that is wrong."""

    size: int
    content_type: str
    lines: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    dump: str = ""
    note: str = ""
    marked: int = -1


@dataclass(frozen=True)
class Failure:
    """Who refused or failed, and why, in full."""

    by: str
    did: str
    code: str
    message: str
    row: int | None
    column: str
    whole: str


def shown(body: Body, features: Sequence[str] = ()) -> Shown:
    """`features`: the names of an array's columns, where they are as many."""
    if not body.size:
        return Shown(0, body.content_type)
    if body.content_type.startswith(NPY) or body.start.startswith(MAGIC):
        try:
            return _numbers(body, read_npy(body.start, MOST_ROWS), features)
        except NotNpy as error:
            return _dump(body, str(error))
    try:
        # a character that was cut in two is left out
        text = body.start.decode("utf-8") if not body.cut else body.start[:-4].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return _dump(body, "not UTF-8")
    return _dump(body, "not text") if "\0" in text else _text(body, text)


def _text(body: Body, text: str) -> Shown:
    lines = visible(text[:MOST_CHARACTERS]).rstrip("\n").split("\n")
    note = ""
    if len(lines) > MOST_LINES:
        note = f"cut: the first {MOST_LINES} lines"
    elif body.cut or len(text) > MOST_CHARACTERS:  # in the middle of a line
        note = f"cut: the first {min(len(text), MOST_CHARACTERS):,} characters"
    return Shown(body.size, body.content_type, lines=lines[:MOST_LINES], note=note)


def _numbers(body: Body, numbers: Numbers, features: Sequence[str]) -> Shown:
    width = numbers.shape[1] if len(numbers.shape) == 2 else 1
    columns = list(features) if len(features) == width else [str(n + 1) for n in range(min(width, MOST_COLUMNS))]
    rows = [[shortest(value, numbers.dtype) for value in row[:MOST_COLUMNS]] for row in numbers.rows]
    shape = " by ".join(map(str, numbers.shape))
    left = numbers.shape[0] - len(rows)
    note = f"decoded from NPY: {numbers.dtype}, {shape}" + (f"; the first {len(rows)} rows" if left > 0 else "")
    return Shown(body.size, body.content_type, columns=columns[:MOST_COLUMNS], rows=rows, note=note)


def _dump(body: Body, why: str) -> Shown:
    start = body.start[:MOST_BYTES]
    lines = [
        f"{offset:04x}  {start[offset : offset + 16].hex(' '):<47}  "
        + "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in start[offset : offset + 16])
        for offset in range(0, len(start), 16)
    ]
    return Shown(body.size, body.content_type, dump="\n".join(lines), note=f"{why}: the first {len(start)} bytes")


def visible(text: str) -> str:
    """Text whose every character is seen; lines end in one newline."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\r\n", "\n"))


def failure_of(record: Record) -> Failure | None:
    """Why a request was not answered with 200."""
    if 200 <= record.status < 300:
        return None
    failed = next((hop for hop in record.hops if not 200 <= hop.status < 300), None)
    if failed and failed.status:
        said, whole = _fields(failed.answered), _whole(failed.answered)
        return _failure(failed.container, f"answered {failed.status}", said, whole)
    by, did = "the router", f"answered {record.status}"
    if record.hops:
        by, did = record.hops[-1].container, "gave no usable answer"
    return _failure(by, did, _fields(record.answered), _whole(record.answered))


def _failure(by: str, did: str, said: dict[str, Any], whole: str) -> Failure:
    message = said.get("message") or said.get("OriginalMessage") or said.get("Message") or "it says no more than below"
    row = said.get("row")
    return Failure(
        by,
        did,
        visible(str(said.get("code") or said.get("ErrorCode") or "")),
        visible(str(message)),
        row if type(row) is int else None,
        visible(str(said.get("column") or "")),
        whole,
    )


def _fields(body: Body) -> dict[str, Any]:
    try:
        said = json.loads(body.start)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _whole(body: Body) -> str:
    said = _fields(body)
    return visible(json.dumps(said, indent=2, ensure_ascii=False) if said else body.start.decode("utf-8", "replace"))


def marked_line(hop: Hop, failure: Failure | None, columns: Sequence[str]) -> int:
    """Which line of the CSV that a container refused holds the wrong row; -1 where that is not sure."""
    wrong = failure is not None and failure.by == hop.container and failure.row
    if not wrong or not hop.sent.content_type.startswith(CSV) or b'"' in hop.sent.start:
        return -1
    first = hop.sent.start.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    has_header = len(set(first.split(",")) & set(columns)) > 1
    return int(wrong) - (0 if has_header else 1)
