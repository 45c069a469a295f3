"""A first row of names, told from a first row of data by the names that are expected, or by what the caller says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from serving.contract import MISSING
from serving.errors import BadPayload, cut
from serving.formats.csv import Lines
from serving.formats.grid import Cells, Grid
from serving.formats.layout import Layout

Positions = Mapping[str, int]
T = TypeVar("T")
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}


def named_blocks(
    lines: Lines, header: str, layout: Layout, read: Callable[[Cells | Grid, Positions], T], *, in_order: bool = False
) -> Iterator[T]:
    """What `read` makes of the rows, block by block; it is given the position of each column in them.

    With a header, columns stand in any order, and the label is passed over; without one they stand as `layout` says,
    and the label, where rows have it, is among the positions. `header` is the content type's parameter: `present`,
    `absent` or nothing, and then a first row with all the names is a header, unless it could be data too. `in_order`:
    it must have the order of a body without one. Raises `BadPayload` (400), rows counted from the first below the
    header.
    """
    if (header := header.lower()) not in ("", "present", "absent"):
        raise BadPayload(f"expected header=present or header=absent, got header={cut(header)}", code="bad_header")
    names, every = layout.names, layout.every
    if header == "present" or (header == "" and _may_be_header(lines, names)):
        first = _first(lines, layout)
        if header or _is_header(first, layout):
            _check(first, names, every)
            if in_order and not layout.reads_alike(first):
                message = f"expected a header in the order {_listed(names)}: the batch's later pieces have none"
                raise BadPayload(message, code="bad_header")
            lines, positions = lines.after_first(), _positions(first, names)
            _refuse_blank_end(lines, layout)
            for cells in lines.blocks([len(first)]):
                yield read(cells, positions)
            return
    _refuse_blank_end(lines, layout)
    positions = {}
    try:
        for cells in lines.blocks(layout.widths):
            positions = positions or _positions([column.name for column in layout.cells(cells.width)])
            found = read(cells, positions)
            if cells.first_row == 1 and header == "":
                _refuse_names(lines, names)
            yield found
    except BadPayload as error:
        if error.row == 1 and header == "" and _looks_like_names(lines, 2 * len(every)):
            error.message += f"; if this row is a header, its names must be {_listed(names)}"
        if error.row == 1 and error.code in ("column_count", "not_a_number", "csv_syntax"):
            error.message += _separated(lines.first_line, layout.widths)
        raise


def _refuse_blank_end(lines: Lines, layout: Layout) -> None:
    """Of one column, a blank line at the end is a missing value as likely as none."""
    if lines.blank_end and len(layout.inputs) == 1:
        message = 'expected a record, got a blank line; of one column a missing value is written ""'
        raise BadPayload(message, code="blank_row", row=lines.text.count("\n", lines.start) + 2)


def _is_header(first: Sequence[str], layout: Layout) -> bool:
    """Whether a first row has names: all, or most of them. Raises `BadPayload` where it could as well be data."""
    found = len(set(first) & set(layout.names))
    if found == len(layout.inputs) or 2 * found > len(first):
        if not layout.could_be_data(first):
            return True
        if found == len(layout.inputs):
            message = (
                "expected header=present or header=absent in the Content-Type: the first row has the columns' names, "
                "and each of its cells could be a value of its column too"
            )
            raise BadPayload(message, code="bad_header", row=1)
    return False


def _first(lines: Lines, layout: Layout) -> list[str]:
    try:
        return lines.first(2 * len(layout.every))
    except BadPayload as error:
        error.message += _separated(lines.first_line, layout.widths)
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


def _refuse_names(lines: Lines, names: Sequence[str]) -> None:
    """A first row that passes for data, in columns without numbers, and has a column's name: asking beats guessing."""
    spoken = lines.first_line.lower()
    if not any(name.lower() in spoken for name in names) or not _looks_like_names(lines, 2 * len(names)):
        return
    known = {name.strip().lower() for name in names}
    if like := next((field for field in lines.first(2 * len(names)) if field.strip().lower() in known), None):
        message = f"expected a row, got a column's name, {cut(like)}, in it (header=absent says that it is data)"
        raise BadPayload(message, code="bad_header", row=1)


def _positions(columns: Sequence[str], wanted: Sequence[str] = ()) -> Positions:
    """Where each of the wanted columns stands, in their order; without any, all of them."""
    found = {name: position for position, name in enumerate(columns)}
    return {name: found[name] for name in wanted or columns}


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
    """Whether the first line has one of the names, as a header does. CSV writes quotes twice and commas in quotes."""
    cells = lines.first_line.replace('"', "").split(",", 2 * len(names))
    return not set(cells).isdisjoint(names) or any('"' in name or "," in name for name in names)


def _looks_like_names(lines: Lines, most: int) -> bool:
    """Words, where data would have a number somewhere."""
    try:
        fields = lines.first(most)
    except BadPayload:
        return False
    return bool(fields) and not any(field in MISSING or field[0] in "+-.0123456789" for field in fields)


def _listed(names: Sequence[str]) -> str:
    return cut(",".join(names), 256)
