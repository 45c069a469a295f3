"""Tables that training reads: CSV files with a header, as strict as the requests that the model will answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from serving.errors import BadPayload
from serving.formats.csv import read_csv
from serving.settings import MOST_FIELD
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
    header = 0  # lines of it
    try:
        lines = read_csv(path.read_bytes(), longest=MOST_FIELD)
        names = tuple(lines.first())
        header = 1
        blocks = list(lines.after_first().blocks([len(names)]))
    except OSError as error:
        raise BadJob(f"{path}: {error.strerror}") from error
    except BadPayload as error:
        line = f", line {error.row + header}" if error.row else ""
        raise BadJob(f"{path}{line}: {error.message}") from error
    for name in names:
        if not name or names.count(name) > 1:
            raise BadJob(f"{path}: expected a header of different names, got {','.join(names)}")
    return Table(names, tuple(list(chain(*(rows.column(index) for rows in blocks))) for index in range(len(names))))
