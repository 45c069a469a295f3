"""A first row of names, told from a first row of data by the names that are expected, or by what the caller says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from serving.cells import MISSING
from serving.errors import BadPayload, cut
from serving.formats.csv import Lines
from serving.formats.grid import Cells, Grid

Positions = Mapping[str, int]
T = TypeVar("T")
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}


def named_blocks(
    lines: Lines,
    header: str,
    names: Sequence[str],
    every: Sequence[str],
    read: Callable[[Cells | Grid, Positions], T],
    *,
    in_order: bool = False,
) -> Iterator[T]:
    """What `read` makes of the rows, block by block; it is given the position of each column in them.

    With a header, columns stand in any order; without one, in the order of `names`, or of `every` (the names and
    others, which may be there). `header` is the content type's parameter: `present`, `absent` or nothing, and then a
    first row with all the names is a header. `in_order`: it must have the order of a body without one. Raises
    `BadPayload` (400), rows counted from the first below the header.
    """
    if (header := header.lower()) not in ("", "present", "absent"):
        raise BadPayload(f"expected header=present or header=absent, got header={cut(header)}", code="bad_header")
    if header == "present" or (header == "" and _may_be_header(lines, names)):
        first = _first(lines, names, every)
        if header or set(first) >= set(names):
            _check(first, names, every)
            if in_order and list(first) not in (list(names), list(every)):
                message = f"expected a header in the order {_listed(names)}: the batch's later pieces have none"
                raise BadPayload(message, code="bad_header")
            positions = _positions(first, every)
            for cells in lines.after_first().blocks([len(first)]):
                yield read(cells, positions)
            return
    positions = {}
    try:
        for cells in lines.blocks({len(every), len(names)}):
            positions = positions or _positions(names if cells.width == len(names) else every, every)
            if cells.width > len(names):
                _refuse_empty(cells, [positions[name] for name in every if name not in names])
            found = read(cells, positions)
            if cells.first_row == 1 and header == "":
                _refuse_names(lines, names)
            yield found
    except BadPayload as error:
        if error.row == 1 and header == "" and _looks_like_names(lines, 2 * len(every)):
            error.message += f"; if this row is a header, its names must be {_listed(names)}"
        if error.row == 1 and error.code in ("column_count", "not_a_number", "csv_syntax"):
            error.message += _separated(lines.first_line, {len(names), len(every)})
        raise


def _first(lines: Lines, names: Sequence[str], every: Sequence[str]) -> list[str]:
    try:
        return lines.first(2 * len(every))
    except BadPayload as error:
        error.message += _separated(lines.first_line, {len(names), len(every)})
        raise


def _separated(line: str, widths: Collection[int]) -> str:
    """What to add for a row whose cells something else separates than commas, as in an export of another country."""
    if line.startswith(("sep=", "SEP=")):
        return "; this row tells Excel what separates cells: leave it out, and separate them by commas"
    for mark, marks in _SEPARATORS.items():
        count = line.count(mark)
        if count and count + 1 - line.endswith(mark) in widths:
            return f"; this row has as many {marks} as it should have commas"
    return ""


def _refuse_empty(cells: Cells | Grid, positions: Sequence[int]) -> None:
    """A trailing comma looks like an empty label: better to ask than to guess."""
    for position in positions:
        if (empty := cells.first_empty(position)) is not None:
            row = cells.first_row + empty
            message = f"expected {cells.width - 1} columns, or {cells.width} with a label; the label is empty"
            raise BadPayload(message, code="empty_label", row=row)


def _refuse_names(lines: Lines, names: Sequence[str]) -> None:
    """A first row that passes for data, in columns without numbers, and has a column's name: asking beats guessing."""
    spoken = lines.first_line.lower()
    if not any(name.lower() in spoken for name in names) or not _looks_like_names(lines, 2 * len(names)):
        return
    known = {name.strip().lower() for name in names}
    if like := next((field for field in lines.first(2 * len(names)) if field.strip().lower() in known), None):
        message = f"expected a row, got a column's name, {cut(like)}, in it (header=absent says that it is data)"
        raise BadPayload(message, code="bad_header", row=1)


def _positions(columns: Sequence[str], every: Sequence[str]) -> Positions:
    """Where each of the columns stands, in the order of `every`."""
    found = {name: position for position, name in enumerate(columns)}
    return {name: found[name] for name in every if name in found}


def _check(header: Sequence[str], names: Sequence[str], every: Sequence[str]) -> None:
    if not header:
        raise BadPayload(f"expected a header of at most {len(every)} names, got far more", code="column_count")
    known, times = set(every), Counter(header)
    for name in header:
        if name not in known:
            raise BadPayload(
                f"expected a header of {_listed(names)}; got another name", code="unknown_column", column=name
            )
        if times[name] > 1:
            raise BadPayload("expected each column once in the header", code="duplicate_column", column=name)
    for name in names:
        if name not in times:
            raise BadPayload("expected this column in the header", code="missing_column", column=name)


def _may_be_header(lines: Lines, names: Sequence[str]) -> bool:
    """Whether the first line holds the first name, as every header with all of them does. A quote is written twice."""
    return '"' in names[0] or names[0] in lines.first_line


def _looks_like_names(lines: Lines, most: int) -> bool:
    """Words, where data would have a number somewhere."""
    try:
        fields = lines.first(most)
    except BadPayload:
        return False
    return bool(fields) and not any(field in MISSING or field[0] in "+-.0123456789" for field in fields)


def _listed(names: Sequence[str]) -> str:
    return cut(",".join(names), 256)
