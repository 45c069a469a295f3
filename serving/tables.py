"""Tables that training reads: CSV files with a header, as strict as the requests that the model will answer."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from serving.errors import BadPayload
from serving.formats.csv import Cells, read_csv
from serving.training import BadJob


@dataclass(frozen=True)
class Table:
    """Named columns of text cells, all of one length."""

    names: tuple[str, ...]
    columns: tuple[list[str], ...]


def read_table(paths: Sequence[Path]) -> Table:
    """The rows of one or more CSV files with the same header, in the order given. Raises `BadJob`."""
    tables = [_read_file(path) for path in paths]
    names = tables[0].names
    for path, table in zip(paths, tables, strict=True):
        if table.names != names:
            expected = f"{','.join(names)}, as in {paths[0].name}"
            raise BadJob(f"{path}: expected the header {expected}; got {','.join(table.names)}")
    return Table(names, tuple(list(chain(*parts)) for parts in zip(*(table.columns for table in tables), strict=True)))


def _read_file(path: Path) -> Table:
    try:
        body = path.read_bytes()
        cells = read_csv(body, [_width(body)])
        names = tuple(cells.row(0))
        rows: Cells = cells.without_first_row()
    except OSError as error:
        raise BadJob(f"{path}: {error.strerror}") from error
    except BadPayload as error:
        line = f", line {error.row}" if error.row else ""
        raise BadJob(f"{path}{line}: {error.message}") from error
    for name in names:
        if not name or names.count(name) > 1:
            raise BadJob(f"{path}: expected a header of different names, got {','.join(names)}")
    return Table(names, tuple(rows.column(index) for index in range(len(names))))


def _width(body: bytes) -> int:
    """Columns in the first line; its bytes may yet prove to be no text."""
    first = body.partition(b"\n")[0].decode("utf-8", errors="replace")
    return len(next(csv.reader([first]), [])) or 1
