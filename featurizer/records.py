"""Raw records of a payload, column by column as the contract has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.cells import categories_from_json, categories_from_text, numbers_from_json, numbers_from_text
from serving.contract import Column, ColumnType, Contract
from serving.errors import BadPayload, cut
from serving.formats.csv import Cells, read_csv
from serving.formats.json import Rows, list_columns, read_json, read_jsonlines
from serving.media import MediaType
from serving.payload import CSV, JSON, JSONLINES

ACCEPTED = (CSV, JSON, JSONLINES)

# Every input column by name: float64 for a numeric one, `str` objects for a categorical one, NaN where missing.
Records = Mapping[str, NDArray[Any]]


def read_records(body: bytes, media: MediaType, contract: Contract) -> Records:
    """Read a body of one of the accepted types. Raises `BadPayload` (400) naming row, column and expectation."""
    if media.name == CSV:
        return _from_csv(body, media.parameters.get("header", ""), contract)
    return _from_json(read_json(body) if media.name == JSON else read_jsonlines(body), contract)


@dataclass(frozen=True)
class _Layout:
    """At which position of a row each input column stands."""

    positions: Mapping[str, int]
    label: int | None = None


def _from_csv(body: bytes, header: str, contract: Contract) -> Records:
    if header not in ("", "present", "absent"):
        raise BadPayload(f"expected header=present or header=absent, got header={cut(header)}", code="bad_header")
    cells = read_csv(body, _widths(contract))
    names = cells.row(0)
    if header == "present" or (header == "" and set(names) >= {column.name for column in contract.inputs}):
        layout, cells = _by_name(names, contract), cells.without_first_row()
    else:
        layout = _by_position(cells.width, contract)
        _refuse_empty_label(cells, layout)
    return {c.name: _text_column(cells.column(layout.positions[c.name]), c) for c in contract.inputs}


def _from_json(rows: Rows, contract: Contract) -> Records:
    if rows.objects:
        columns = {c.name: [row[c.name] for row in _checked(rows.objects, contract)] for c in contract.inputs}
    else:
        by_position = list_columns(rows.lists, _widths(contract))
        layout = _by_position(len(by_position), contract)
        columns = {c.name: by_position[layout.positions[c.name]] for c in contract.inputs}
    return {c.name: _json_column(columns[c.name], c) for c in contract.inputs}


def _widths(contract: Contract) -> Sequence[int]:
    """With the label column or without it."""
    return sorted({len(contract.inputs), len(contract.columns)})


def _by_position(width: int, contract: Contract) -> _Layout:
    columns = contract.inputs if width == len(contract.inputs) else contract.columns
    positions = {column.name: position for position, column in enumerate(columns)}
    return _Layout(positions, positions.get(contract.label.name) if contract.label else None)


def _by_name(names: Sequence[str], contract: Contract) -> _Layout:
    known = {column.name for column in contract.columns}
    for name in names:
        if name not in known:
            raise BadPayload(
                "expected a header of the contract's columns, got another name", code="unknown_column", column=name
            )
        if names.count(name) > 1:
            raise BadPayload("expected each column once in the header", code="duplicate_column", column=name)
    for column in contract.inputs:
        if column.name not in names:
            raise BadPayload("expected this column in the header", code="missing_column", column=column.name)
    return _Layout({name: position for position, name in enumerate(names)})


def _refuse_empty_label(cells: Cells, layout: _Layout) -> None:
    """A trailing comma looks like an empty label: better to ask than to guess."""
    if layout.label is None:
        return
    labels = cells.column(layout.label)
    if "" in labels:
        message = f"expected {cells.width - 1} columns, or {cells.width} with a label; the label is empty"
        raise BadPayload(message, code="empty_label", row=labels.index("") + 1)


def _checked(objects: Sequence[dict[str, Any]], contract: Contract) -> Sequence[dict[str, Any]]:
    inputs = {column.name for column in contract.inputs}
    allowed = {column.name for column in contract.columns}
    for row, record in enumerate(objects, 1):
        if missing := inputs - record.keys():
            raise BadPayload("expected this column", code="missing_column", row=row, column=min(missing))
        if unknown := record.keys() - allowed:
            raise BadPayload(
                "expected only the contract's columns", code="unknown_column", row=row, column=min(unknown)
            )
    return objects


def _text_column(cells: Sequence[str], column: Column) -> NDArray[Any]:
    numeric = column.type is ColumnType.NUMERIC
    return numbers_from_text(cells, column.name) if numeric else categories_from_text(cells)


def _json_column(cells: Sequence[Any], column: Column) -> NDArray[Any]:
    numeric = column.type is ColumnType.NUMERIC
    return numbers_from_json(cells, column.name) if numeric else categories_from_json(cells, column.name)


def row_count(records: Records) -> int:
    return len(next(iter(records.values())))


def check_finite(features: NDArray[np.float64], names: Sequence[str]) -> None:
    """Refuse what the transform made infinite or undefined."""
    wrong = ~np.isfinite(features)
    if wrong.any():
        row, position = divmod(int(wrong.argmax()), features.shape[1])
        message = f"expected finite features, got {features[row, position]} after the transform"
        raise BadPayload(message, code="non_finite_after_transform", row=row + 1, column=names[position])
