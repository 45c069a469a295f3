"""Raw records of a payload, as the contract has their columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.cells import LONGEST_FIELD, categories, check_strings, numbers_from_json, without_words
from serving.contract import Column, ColumnType, Contract
from serving.errors import BadPayload, cut
from serving.formats.csv import Lines, read_csv
from serving.formats.grid import Cells, Grid, chosen, reordered
from serving.formats.header import Positions, named_blocks
from serving.formats.json import Rows, read_json, read_jsonlines
from serving.formats.layout import PARAMETERS, Layout, check_label_classes, check_label_numbers
from serving.media import MediaType
from serving.payload import CSV, JSON, JSONLINES

ACCEPTED = (CSV, JSON, JSONLINES)
EXACT = 2**53  # from it on a float64 does not hold every whole number


@dataclass(frozen=True)
class Records:
    """Input columns of one kind together, each kind in the order of the contract.

    `numbers`: rows x numeric columns, float64, NaN where missing. `texts`: a list for each categorical column, None
    where missing.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    numbers: NDArray[np.float64]
    texts: tuple[list[str | None], ...]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice) -> Records:
        return Records(self.numeric, self.categorical, self.numbers[rows], tuple(text[rows] for text in self.texts))

    def columns(self) -> dict[str, NDArray[Any]]:
        """Every column by name: float64, or an object array of `str` with NaN where missing."""
        texts = {name: categories(cells) for name, cells in zip(self.categorical, self.texts, strict=True)}
        return {name: self.numbers[:, index] for index, name in enumerate(self.numeric)} | texts


class RecordReader:
    """Reads rows as a contract says."""

    def __init__(
        self, contract: Contract, max_rows: int = 0, *, batch: bool = False, max_field: int = LONGEST_FIELD
    ) -> None:
        self.max_rows, self.batch, self.max_field = max_rows, batch, max_field
        self.names = [column.name for column in contract.inputs]
        self.contract, self.layout = contract, Layout.of(contract, {})
        self.label = contract.label or Column("", ColumnType.LABEL)
        self.numeric = tuple(column.name for column in _of_type(contract.inputs, ColumnType.NUMERIC))
        self.texts = _of_type(contract.inputs, ColumnType.CATEGORICAL)
        self.categorical = tuple(column.name for column in self.texts)

    def read(self, body: bytes, media: MediaType) -> Records:
        """Read a body of one of the accepted types. Raises `BadPayload` (400) naming row, column and expectation."""
        asked = not PARAMETERS.isdisjoint(media.parameters)
        layout = Layout.of(self.contract, media.parameters) if asked else self.layout
        if media.name == CSV:
            lines = read_csv(body, self.max_rows, self.max_field)
            blocks = self._from_csv(lines, media.parameters.get("header", ""), layout)
        else:
            limits = len(self.names), self.max_rows
            blocks = self._from_json((read_json if media.name == JSON else read_jsonlines)(body, *limits), layout)
        try:
            first, *others = blocks
        except BadPayload as error:
            layout.hint(error, body if media.name == CSV else b"")
            raise
        if not others:
            return first
        numbers = np.concatenate([block.numbers for block in (first, *others)])
        texts = zip(*(block.texts for block in (first, *others)), strict=True)
        return Records(first.numeric, first.categorical, numbers, tuple(list(chain(*parts)) for parts in texts))

    def count_unseen(self, records: Records) -> dict[str, int]:
        """For each categorical column with some, how many cells hold a category that training has not seen."""
        counts: dict[str, int] = {}
        for column, cells in zip(self.texts, records.texts, strict=True):
            if column.categories and (unseen := set(cells) - column.known - {None}):
                counts[column.name] = sum(count for cell, count in Counter(cells).items() if cell in unseen)
        return counts

    def _from_csv(self, lines: Lines, header: str, layout: Layout) -> Iterator[Records]:
        def read(cells: Cells | Grid, positions: Positions) -> Records:
            texts = tuple(cells.column(positions[name]) for name in self.categorical)
            wanted = self._numbers_of(positions)
            places = [positions[name] for name in wanted]
            numbers = cells.numbers(places, wanted) if wanted else np.empty((len(cells), 0))
            label = cells.column(positions[self.label.name]) if self.label.name in positions else None
            return self._records(numbers, texts, label, cells.first_row)

        return named_blocks(lines, header, layout, read, in_order=self.batch)

    def _from_json(self, blocks: Iterable[Rows], layout: Layout) -> Iterator[Records]:
        widths: Collection[int] = layout.widths
        for rows in blocks:
            if rows.named:
                found = dict(zip(self.names, rows.by_name(self.names, [self.label.name]), strict=True))
                columns: Sequence[str] = self.names
                texts = tuple(found[name] for name in self.categorical)
                flat = list(chain.from_iterable(zip(*(found[name] for name in self.numeric), strict=True)))
                wanted: Sequence[str] = self.numeric
                order = list(range(len(self.numeric)))
            else:
                cells, width = rows.flat(widths)
                widths = (width,)
                columns = [column.name for column in layout.cells(width)]
                texts = tuple(cells[columns.index(name) :: width] for name in self.categorical)
                wanted = self._numbers_of(columns)
                flat, order = chosen(cells, width, [columns.index(name) for name in wanted])
            for name, text in zip(self.categorical, texts, strict=True):
                check_strings(text, name, rows.first_row, self.max_field)
            numbers = np.empty((len(rows), 0))
            if wanted:
                numbers = reordered(numbers_from_json(flat, [wanted[at] for at in order], rows.first_row), order)
            classes = cells[columns.index(self.label.name) :: width] if self.label.name in columns else None
            yield self._records(numbers, texts, classes, rows.first_row)

    def _records(
        self, numbers: NDArray[np.float64], texts: tuple[list[Any], ...], label: Sequence[Any] | None, first_row: int
    ) -> Records:
        """`label`: its cells, where the rows have it; one that is a number is in the last column of `numbers`."""
        if label is not None and self.label.categories:
            check_label_classes(label, self.label, first_row)
        elif label is not None:
            check_label_numbers(numbers[:, -1], self.label, first_row)
            numbers = numbers[:, :-1]
        there = tuple(without_words(cells, column.words) for column, cells in zip(self.texts, texts, strict=True))
        return Records(self.numeric, self.categorical, numbers, there)

    def _numbers_of(self, columns: Collection[str]) -> Sequence[str]:
        """The numbers among the columns: the numeric ones, and the label last where it is there and no class."""
        labelled = self.label.name in columns and not self.label.categories
        return (*self.numeric, self.label.name) if labelled else self.numeric


def read_records(body: bytes, media: MediaType, contract: Contract) -> Records:
    """Read one body. Raises `BadPayload` (400)."""
    return RecordReader(contract).read(body, media)


def check_finite(features: NDArray[np.floating[Any]], records: Records, contract: Contract) -> None:
    """Refuse what the transform made infinite or undefined, and what it made missing where that may not be."""
    wrong = ~np.isfinite(features)
    if not wrong.any():
        return
    lacking = _lacking(records, contract)
    if contract.missing_features:
        wrong &= ~(np.isnan(features) & np.any(list(lacking.values()), axis=0)[:, None])
    if wrong.any():
        row, position = divmod(int(wrong.argmax()), features.shape[1])
        name, value = contract.features[position], features[row, position]
        sources = [column for column in lacking if column in name] or list(lacking)
        if value != value and any(lacking[column][row] for column in sources):
            only = records[row : row + 1]
            raise refusal(only, contract, row + 1, [column for column in sources if lacking[column][row]])
        message = f"expected finite features, got {value} after the transform"
        raise BadPayload(message, code="non_finite_after_transform", row=row + 1, column=name)


def _lacking(records: Records, contract: Contract) -> dict[str, NDArray[np.bool_]]:
    """For each input the rows in which its cell is missing, or a category that training has not seen."""
    lacking = {name: np.isnan(records.numbers[:, at]) for at, name in enumerate(records.numeric)}
    for column, cells in zip(_of_type(contract.inputs, ColumnType.CATEGORICAL), records.texts, strict=True):
        known = column.known or set(cells) - {None}
        lacking[column.name] = np.array([cell not in known for cell in cells], dtype=bool)
    return lacking


def refusal(row: Records, contract: Contract, number: int, columns: Collection[str] = ()) -> BadPayload:
    """Why the transform refuses the only row of `row`, which is `number` in its payload: for one of these columns."""
    suspects = [column for column in contract.inputs if not columns or column.name in columns]
    for column in _of_type(suspects, ColumnType.CATEGORICAL):
        cell = row.texts[row.categorical.index(column.name)][0]
        if column.categories and cell not in column.known and cell is not None:
            shown = cut(", ".join(column.categories), 256)
            message = f"expected one of {shown}; got {cut(repr(cell))}"
            return BadPayload(message, code="unknown_category", row=number, column=column.name)
    cells = {name: values[0] for name, values in row.columns().items()}
    for name in (column.name for column in suspects if column.whole):
        if cells[name] == cells[name] and not (cells[name].is_integer() and abs(cells[name]) < EXACT):
            message = f"expected a whole number below 2**53, got {cells[name]}"
            return BadPayload(message, code="transform_refused", row=number, column=name)
    for column in sorted(suspects, key=lambda column: not column.whole):  # which takes no missing value for sure
        if cells[column.name] != cells[column.name]:
            message = "expected a value: the transform has none for a missing one"
            return BadPayload(message, code="missing_value", row=number, column=column.name)
    message = "expected values that the transform can take, got one out of a step's range"
    return BadPayload(message, code="transform_refused", row=number)


def _of_type(columns: Iterable[Column], kind: ColumnType) -> tuple[Column, ...]:
    return tuple(column for column in columns if column.type is kind)
