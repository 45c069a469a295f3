"""CSV as RFC 4180 has it, one record a line. Nothing is sniffed, and no row is ever dropped."""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from serving.errors import BadPayload, cut
from serving.formats.text import decode

LONGEST_FIELD = 1024  # characters
# all of ASCII's control characters but TAB, LF and CR, and DEL
_CONTROLS = bytes(code for code in [*range(32), 127] if code not in b"\t\n\r")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"(?=,|$)|([^",]*)(?=,|$)')


@dataclass(frozen=True)
class Cells:
    """Rows x `width` cells of text, row by row in one flat list."""

    cells: list[str]
    width: int

    def __len__(self) -> int:
        return len(self.cells) // self.width

    def column(self, index: int) -> list[str]:
        return self.cells[index :: self.width]

    def row(self, index: int) -> list[str]:
        return self.cells[index * self.width : (index + 1) * self.width]

    def without_first_row(self) -> Cells:
        if len(self) == 1:
            raise BadPayload("expected at least one row after the header, got none", code="empty_body")
        return Cells(self.cells[self.width :], self.width)


def read_csv(body: bytes, widths: Collection[int]) -> Cells:
    """Read a body whose rows all have the same one of the `widths`.

    Raises `BadPayload` (400) naming the row, counted from 1, for blank rows, ragged rows, a stray quote,
    carriage return, control character or byte order mark, and fields of more than 1,024 characters.
    """
    lines = _lines(decode(body))
    if len(body.translate(None, _CONTROLS)) < len(body) or body.rfind(codecs.BOM_UTF8) > 0:
        raise _unprintable(lines)
    counts = [line.count(",") + 1 for line in lines]
    quoted = any('"' in line for line in lines)
    if not quoted and (len(set(counts)) > 1 or counts[0] not in widths):
        raise _wrong_width(lines, counts, widths)
    if quoted:
        return _read_quoted(lines, widths)
    _check_lengths(lines)
    return Cells(",".join(lines).split(","), counts[0])


def write_csv(rows: bytes) -> bytes:
    """A JSON array of rows of numbers, as orjson writes it, turned into CSV."""
    return rows.replace(b"],[", b"\n").strip(b"[]") + b"\n"


def _lines(text: str) -> list[str]:
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    for row, line in enumerate(lines, 1):
        if not line or line.isspace():
            raise BadPayload("expected a record, got a blank line", code="blank_row", row=row)
        if "\r" in line:
            raise BadPayload("expected rows to end with LF or CRLF, got a lone CR", code="csv_syntax", row=row)
    return lines


def _unprintable(lines: Sequence[str]) -> BadPayload:
    """The error for a control character, or for a byte order mark that does not begin the body."""
    unwanted = {*_CONTROLS.decode(), "\ufeff"}
    row, line = next((row, line) for row, line in enumerate(lines, 1) if not unwanted.isdisjoint(line))
    if "\ufeff" in line:
        return BadPayload("expected a byte order mark at the start only, got another", code="bad_encoding", row=row)
    return BadPayload("expected text, got a control character", code="csv_syntax", row=row)


def _wrong_width(lines: Sequence[str], counts: Sequence[int], widths: Collection[int]) -> BadPayload:
    expected = {counts[0]} & set(widths) or set(widths)
    row = next(row for row, count in enumerate(counts) if count not in expected)
    if len(lines[row]) > LONGEST_FIELD and counts[row] < max(widths):
        _check_lengths(lines[row : row + 1], row + 1)
    return column_count(expected, counts[row], row + 1)


def column_count(expected: Collection[int], got: int, row: int) -> BadPayload:
    """The error for a row of the wrong width."""
    wanted = " or ".join(str(width) for width in sorted(expected))
    return BadPayload(f"expected {wanted} columns, got {got}", code="column_count", row=row)


def _check_lengths(lines: Sequence[str], first_row: int = 1) -> None:
    for row, line in enumerate(lines, first_row):
        if len(line) > LONGEST_FIELD and (longest := max(map(len, line.split(",")))) > LONGEST_FIELD:
            raise _field_too_long(longest, row)


def _field_too_long(length: int, row: int) -> BadPayload:
    message = f"expected fields of at most {LONGEST_FIELD} characters, got one of {length}"
    return BadPayload(message, code="field_too_long", row=row)


def _read_quoted(lines: Sequence[str], widths: Collection[int]) -> Cells:
    cells: list[str] = []
    width = 0
    for row, line in enumerate(lines, 1):
        fields = _split_quoted(line, row, max(widths)) if '"' in line else line.split(",", max(widths))
        expected = {width} if width else widths
        if len(fields) not in expected:
            raise column_count(expected, len(fields), row)
        if (longest := max(map(len, fields))) > LONGEST_FIELD:
            raise _field_too_long(longest, row)
        width = len(fields)
        cells += fields
    return Cells(cells, width)


def _split_quoted(line: str, row: int, most: int) -> list[str]:
    """Split one line with quotes, up to one field more than `most`."""
    fields: list[str] = []
    position = 0
    while len(fields) <= most:
        found = _QUOTED.match(line, position)
        if not found:
            message = f"expected a quoted field to be quoted whole and closed on its line, got {cut(line[position:])}"
            raise BadPayload(message, code="csv_syntax", row=row)
        fields.append(found[2] if found[1] is None else found[1].replace('""', '"'))
        position = found.end() + 1
        if position > len(line):
            break
    return fields
