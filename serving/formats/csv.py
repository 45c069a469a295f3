"""CSV as RFC 4180 has it, one record a line. Nothing is sniffed, and no row is ever dropped.

A body is taken apart block by block: what is wrong is found before the rest costs anything.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import methodcaller

from serving.cells import LONGEST_FIELD
from serving.errors import BadPayload, cut
from serving.formats.grid import Cells, Grid
from serving.formats.text import decode_lines, line_end, text_blocks

# all of ASCII's control characters but TAB, LF and CR, and DEL
_CONTROLS = bytes(code for code in [*range(32), 127] if code not in b"\t\n\r")
_BESIDE_CSV = bytes(code for code in range(256) if code not in b'",')
SMALL = 4096  # characters below which cutting a block into cells costs less than numpy's calls
_UNWANTED = re.compile(f"[{_CONTROLS.decode()}\ufeff]")
_FIELD = r'(?:"[^"]*+(?:""[^"]*+)*+"|[^",]*+)'
_RECORD = re.compile(f"{_FIELD}(?:,{_FIELD})*+")
_SPECIAL = re.compile(r'[",\r\n]')
_commas = methodcaller("count", ",")


@dataclass(frozen=True)
class Lines:
    """The records of a body, one a line, from one of its characters on."""

    text: str
    start: int
    unwanted: bool  # a control character or a byte order mark stands in the text
    most: int = 0  # rows; 0: any number
    blank_end: bool = False  # a blank line stands behind the last record
    longest: int = LONGEST_FIELD  # characters of a field

    @property
    def first_line(self) -> str:
        return self.text[self.start : line_end(self.text, self.start)]

    def first(self, most: int | None = None) -> list[str]:
        """The fields of the first record; none when they may be more than `most`.

        Raises `BadPayload` (400) when it is no record.
        """
        line = self.first_line
        if most is not None and line.count(",") >= most:
            return []
        return self._cells([line], range(line.count(",") + 2), 1).cells

    def after_first(self) -> Lines:
        """The records below a header. Raises `BadPayload` when there are none."""
        end = line_end(self.text, self.start)
        if end >= len(self.text):
            raise BadPayload("expected at least one row after the header, got none", code="empty_body")
        return replace(self, start=end + 1)

    def blocks(self, widths: Collection[int]) -> Iterator[Cells | Grid]:
        """The rows, which all have the same one of the `widths`.

        Raises `BadPayload` (400) naming the row, counted from 1, for blank rows, ragged rows, a stray quote, carriage
        return, control character or byte order mark, and fields that are too long; `PayloadTooLarge` (413)
        for more rows than may be.
        """
        for row, block in text_blocks(self.text, self.start, self.most):
            # one line without end is refused before anything is made of it
            plain = (
                len(block) > SMALL
                and "\n" in block[: _longest(widths, self.longest)]
                and not (self.unwanted or "\r" in block)
            )
            bare = _unquoted(block) if plain else None
            grid = Grid.of(bare, widths, row, self.longest) if bare else None
            cells = grid or self._cells(block.split("\n"), widths, row)
            yield cells
            widths = (cells.width,)

    def _cells(self, lines: list[str], widths: Collection[int], first_row: int) -> Cells:
        return _cells(lines, widths, first_row, unwanted=self.unwanted, longest=self.longest)


def read_csv(body: bytes, most: int = 0, longest: int = LONGEST_FIELD) -> Lines:
    """The records of a body. Raises `BadPayload` (400) when it is no text.

    `most`: rows that it may have, 0: any. `longest`: characters of a field.
    """
    unwanted = len(body.translate(None, _CONTROLS)) < len(body) or body.rfind(codecs.BOM_UTF8) > 0
    return Lines(decode_lines(body), 0, unwanted, most, body.endswith((b"\n\n", b"\n\r\n")), longest)


def write_csv(rows: bytes) -> bytes:
    """A JSON array of rows of numbers, as orjson writes it, turned into CSV. Two of them are in memory at most."""
    rows = rows.replace(b"],[", b"\n")
    return b"".join((memoryview(rows)[2:-2], b"\n"))


def quote(field: str) -> str:
    """A field of text, quoted where RFC 4180 asks for it."""
    return f'"{field.replace(chr(34), chr(34) * 2)}"' if _SPECIAL.search(field) else field


class WrongWidth(BadPayload):
    """A row of `got` cells, which is not as many as it should have."""

    def __init__(self, expected: Collection[int], got: int, row: int) -> None:
        super().__init__(f"expected {_widths(expected)} columns, got {got}", code="column_count", row=row)
        self.got = got


def _widths(expected: Collection[int]) -> str:
    return " or ".join(map(str, sorted(expected)))


def _unquoted(block: str) -> str | None:
    """A block without its quotes; None where one is not around a whole field that has neither quote nor comma."""
    if '"' not in block:
        return block
    cells = f",{block},".replace("\n", ",").encode()
    quotes = cells.count(b'"')
    # a field begins with one quote at most and ends with one: with no others, and an even number in each, all is told
    if not cells.count(b',"') == cells.count(b'",') == quotes / 2:
        return None
    return None if b'"' in cells.translate(None, _BESIDE_CSV).replace(b'""', b"") else block.replace('"', "")


def _cells(lines: list[str], widths: Collection[int], first_row: int, *, unwanted: bool, longest: int) -> Cells:
    if "" in lines or any(map(str.isspace, lines)):
        row = next(row for row, line in enumerate(lines, first_row) if not line.strip())
        raise BadPayload("expected a record, got a blank line", code="blank_row", row=row)
    if unwanted:
        _refuse_unprintable(lines, first_row)
    joined = ",".join(lines)
    if "\r" in joined:
        row = first_row + next(row for row, line in enumerate(lines) if "\r" in line)
        raise BadPayload("expected rows to end with LF or CRLF, got a lone CR", code="csv_syntax", row=row)
    if '"' in joined:
        return _read_quoted(lines, widths, first_row, longest)
    counts = set(map(_commas, lines))
    if len(counts) > 1 or max(counts) + 1 not in widths:
        raise _wrong_width(lines, widths, first_row, longest)
    if max(map(len, lines)) > longest:
        _check_lengths(lines, first_row, longest)
    return Cells(joined.split(","), max(counts) + 1, first_row)


def _refuse_unprintable(lines: Sequence[str], first_row: int) -> None:
    for row, line in enumerate(lines, first_row):
        if found := _UNWANTED.search(line):
            if found[0] == "\ufeff":
                message = "expected a byte order mark at the start only, got another"
                raise BadPayload(message, code="bad_encoding", row=row)
            raise BadPayload("expected text, got a control character", code="csv_syntax", row=row)


def _wrong_width(lines: Sequence[str], widths: Collection[int], first_row: int, longest: int) -> BadPayload:
    counts = [line.count(",") + 1 for line in lines]
    expected = {counts[0]} & set(widths) or set(widths)
    position = next(position for position, count in enumerate(counts) if count not in expected)
    if counts[position] < max(widths):
        _check_lengths(lines[position : position + 1], first_row + position, longest)
    return WrongWidth(expected, counts[position], first_row + position)


def _check_lengths(lines: Sequence[str], first_row: int, longest: int) -> None:
    for row, line in enumerate(lines, first_row):
        if len(line) > longest and (length := max(map(len, line.split(",")))) > longest:
            raise _field_too_long(length, row, longest)


def _field_too_long(length: int, row: int, longest: int) -> BadPayload:
    message = f"expected fields of at most {longest} characters, got one of {length}"
    return BadPayload(message, code="field_too_long", row=row)


def _read_quoted(lines: Sequence[str], widths: Collection[int], first_row: int, longest: int) -> Cells:
    _check_quotes(lines, widths, first_row, longest)
    cells: list[str] = []
    for row, fields in enumerate(_split_quoted(lines, first_row, longest), first_row):
        if len(fields) not in widths:
            raise WrongWidth(widths, len(fields), row)
        if len(lines[row - first_row]) > longest and (length := max(map(len, fields))) > longest:
            raise _field_too_long(length, row, longest)
        widths = (len(fields),)
        cells += fields
    return Cells(cells, len(fields), first_row)


def _split_quoted(lines: Sequence[str], first_row: int, longest: int) -> Iterator[list[str]]:
    reader = csv.reader(lines, strict=True)
    try:
        yield from reader
    except csv.Error as error:  # a field beyond the limit of its own that it has
        raise _field_too_long(csv.field_size_limit(), first_row + reader.line_num - 1, longest) from error


def _check_quotes(lines: Sequence[str], widths: Collection[int], first_row: int, longest: int) -> None:
    """The standard library's reader forgives a quote inside a field."""
    longest = _longest(widths, longest)
    for row, line in enumerate(lines, first_row):
        if len(line) > longest:
            code = "field_too_long" if line.count(",") < max(widths) else "column_count"
            message = f"expected a record of at most {longest} characters, got one of {len(line)}"
            raise BadPayload(message, code=code, row=row)
        if '"' in line and (end := _matched(line)) < len(line):
            shown = cut(line[line.rfind(",", 0, end) + 1 :])
            message = f"expected a quoted field to be quoted whole and closed on its line, got {shown}"
            raise BadPayload(message, code="csv_syntax", row=row)


def _longest(widths: Collection[int], longest: int) -> int:
    """Characters that a record may have at most, of fields of at most `longest`."""
    return (max(widths) + 1) * 2 * (longest + 2)


def _matched(line: str) -> int:
    """How many characters of a line are fields as they should be."""
    found = _RECORD.match(line)
    return found.end() if found else 0
