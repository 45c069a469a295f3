"""Raw records of a payload, column by column as the contract has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.cells import categories_from_json, categories_from_text, number_column, numbers_from_json
from serving.contract import Column, ColumnType, Contract
from serving.errors import BadPayload, cut
from serving.formats.csv import Cells, Lines, read_csv
from serving.formats.header import Positions, named_blocks
from serving.formats.json import Rows, read_json, read_jsonlines
from serving.media import MediaType
from serving.payload import CSV, JSON, JSONLINES

ACCEPTED = (CSV, JSON, JSONLINES)

# Every input column by name: float64 for a numeric one, `str` objects for a categorical one, NaN where missing.
Records = Mapping[str, NDArray[Any]]


def read_records(body: bytes, media: MediaType, contract: Contract) -> Records:
    """Read a body of one of the accepted types. Raises `BadPayload` (400) naming row, column and expectation."""
    if media.name == CSV:
        blocks = _from_csv(read_csv(body), media.parameters.get("header", ""), contract)
    else:
        rows = [read_json(body, len(contract.inputs))] if media.name == JSON else read_jsonlines(body)
        blocks = _from_json(rows, contract)
    first, *others = blocks
    if not others:
        return first
    return {name: np.concatenate([block[name] for block in (first, *others)]) for name in first}


def row_count(records: Records) -> int:
    return len(next(iter(records.values())))


def _from_csv(lines: Lines, header: str, contract: Contract) -> Iterator[Records]:
    def read(cells: Cells, positions: Positions) -> Records:
        return {c.name: _text_column(cells, positions[c.name], c) for c in contract.inputs}

    every = [column.name for column in contract.columns]
    yield from named_blocks(lines, header, _names(contract), every, read)


def _from_json(blocks: Iterator[Rows] | list[Rows], contract: Contract) -> Iterator[Records]:
    widths = _widths(contract)
    names = _names(contract)
    for rows in blocks:
        if rows.named:
            ignored = [contract.label.name] if contract.label else []
            found = dict(zip(names, rows.by_name(names, ignored), strict=True))
        else:
            flat, width = rows.flat(widths)
            widths = (width,)
            found = {c.name: flat[position::width] for position, c in enumerate(_columns(width, contract))}
        yield {c.name: _json_column(found[c.name], c, rows.first_row) for c in contract.inputs}


def _widths(contract: Contract) -> Sequence[int]:
    """With the label column or without it."""
    return sorted({len(contract.inputs), len(contract.columns)})


def _columns(width: int, contract: Contract) -> Sequence[Column]:
    return contract.inputs if width == len(contract.inputs) else contract.columns


def _names(contract: Contract) -> Sequence[str]:
    return [column.name for column in contract.inputs]


def _text_column(cells: Cells, position: int, column: Column) -> NDArray[Any]:
    found = cells.column(position)
    if column.type is ColumnType.NUMERIC:
        return number_column(found, column.name, cells.first_row)
    return categories_from_text(found)


def _json_column(cells: Sequence[Any], column: Column, first_row: int) -> NDArray[Any]:
    if column.type is ColumnType.NUMERIC:
        return numbers_from_json(cells, [column.name], first_row)[:, 0]
    return categories_from_json(cells, column.name, first_row)


def check_finite(features: NDArray[np.float64], names: Sequence[str]) -> None:
    """Refuse what the transform made infinite or undefined."""
    wrong = ~np.isfinite(features)
    if wrong.any():
        row, position = divmod(int(wrong.argmax()), features.shape[1])
        message = f"expected finite features, got {features[row, position]} after the transform"
        raise BadPayload(message, code="non_finite_after_transform", row=row + 1, column=names[position])


def count_unseen(records: Records, contract: Contract) -> dict[str, int]:
    """For each categorical column with some, how many of its cells hold a category that training has not seen."""
    counts = {c.name: sum(_unseen(records[c.name], c).values()) for c in contract.inputs if c.categories}
    return {name: count for name, count in counts.items() if count}


def refused_category(records: Records, contract: Contract) -> BadPayload | None:
    """The error for the first unseen category, when there is one."""
    for column in contract.inputs:
        if column.categories and (unseen := _unseen(records[column.name], column)):
            row = next(row for row, value in enumerate(records[column.name], 1) if value in unseen)
            shown = cut(", ".join(column.categories), 256)
            message = f"expected one of {shown}; got {cut(repr(records[column.name][row - 1]))}"
            return BadPayload(message, code="unknown_category", row=row, column=column.name)
    return None


def _unseen(values: NDArray[Any], column: Column) -> dict[Any, int]:
    found = Counter(values.tolist())
    return {value: count for value, count in found.items() if value == value and value not in column.known}
