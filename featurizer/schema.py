"""A data set described as data: columns, their types, the label, the task. Adding one means adding one file."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from serving.cells import categories, number_column, without_words
from serving.contract import MISSING, Column, ColumnType, LabelPlace, Task
from serving.errors import BadPayload
from serving.tables import read_table
from serving.training import BadJob


class BadDataset(BadJob):
    """A schema or data that do not fit it. The message says what was expected and what came."""


@dataclass(frozen=True)
class Schema:
    """`columns` in the order of the raw rows, exactly one of them the label.

    `labelled_rows`: where rows without names may have their label when the model is served.
    `seed`: of the split and the booster, where the user gives none. `search` and `references` are for those who train
    the booster: what they try, and what they show beside it.
    """

    name: str
    task: Task
    columns: tuple[Column, ...]
    test_size: float = 0.1
    source: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 42
    search: Mapping[str, Any] = field(default_factory=dict)
    references: Sequence[Mapping[str, Any]] = ()
    labelled_rows: LabelPlace = LabelPlace.NONE

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise BadDataset(f"schema {self.name}: expected each column once, got {repeated[0]} twice")
        labels = [column.name for column in self.columns if column.type is ColumnType.LABEL]
        if len(labels) != 1 or len(names) < 2:
            raise BadDataset(f"schema {self.name}: expected one label and at least one other column, got {labels}")
        if not 0 < self.test_size < 1:
            raise BadDataset(f"schema {self.name}: expected a test_size between 0 and 1, got {self.test_size}")
        if type(self.seed) is not int or not 0 <= self.seed < 2**31:
            raise BadDataset(f"schema {self.name}: expected a seed from 0 to 2,147,483,647, got {self.seed!r}")
        if not isinstance(self.search, Mapping) or not all(isinstance(one, Mapping) for one in self.references):
            raise BadDataset(f"schema {self.name}: expected tables [search] and [[references]]")
        try:  # the contract holds them, as JSON
            json.dumps([self.search, *self.references], allow_nan=False, default=str)
        except ValueError as error:
            raise BadDataset(
                f"schema {self.name}: expected finite numbers in [search] and [[references]], got nan or inf"
            ) from error
        tables = [self.source, self.source.get("arguments", {})] if isinstance(self.source, Mapping) else [None]
        if not all(isinstance(one, Mapping) for one in tables) or type(self.source.get("decimals", 0)) is not int:
            raise BadDataset(
                f"schema {self.name}: expected [source] with a table `arguments`, a whole number `decimals`"
            )

    @property
    def label(self) -> str:
        return next(column.name for column in self.columns if column.type is ColumnType.LABEL)

    @property
    def inputs(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.type is not ColumnType.LABEL)


def read_schema(text: str) -> Schema:
    """Read a schema's TOML. Raises `BadDataset`."""
    try:
        raw = tomllib.loads(text)
        columns = tuple(_column(column, number) for number, column in enumerate(_tables(raw["columns"]), 1))
        return Schema(
            name=_text(raw["name"]),
            task=read_task(raw["task"]),
            columns=columns,
            test_size=float(raw.get("split", {}).get("test_size", 0.1)),
            source=raw.get("source", {}),
            seed=raw.get("split", {}).get("seed", 42),
            search=raw.get("search", {}),
            references=tuple(raw.get("references", ())),
            labelled_rows=_labelled_rows(raw.get("labelled_rows", LabelPlace.NONE)),
        )
    except BadDataset:
        raise
    except KeyError as error:
        raise BadDataset(f"schema: expected name, task and [[columns]]; {error} is missing") from error
    except RecursionError as error:
        raise BadDataset("schema: expected TOML, got tables or lists too deep within others") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise BadDataset(f"schema: {error}") from error


def typed_frame(raw: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The inputs as serving reads them: numbers float64, categories `str` objects, NaN where missing.

    Columns that the schema does not name are left out. Raises `BadDataset` naming row and column.
    """
    if missing := [column.name for column in schema.columns if column.name not in raw.columns]:
        raise BadDataset(f"data: expected a column {missing[0]}, got {', '.join(map(str, raw.columns))}")
    try:
        return pd.DataFrame({c.name: _typed(_texts(raw[c.name]), c) for c in schema.inputs}).set_index(raw.index)
    except BadPayload as error:
        raise BadDataset(f"data, row {error.row}, column {error.column}: {error.message}") from error


def read_as_missing(raw: pd.DataFrame, schema: Schema) -> Iterator[str]:
    """What to say of each input with missing cells: how many there are, and the words that they were."""
    for column in schema.inputs:
        found = Counter(cell for cell in _texts(raw[column.name]) if cell in column.words)
        if found:
            words = ", ".join(f"{word or 'empty'} {count:,}" for word, count in found.most_common())
            yield f"{column.name}: {found.total():,} cells are read as missing ({words})"


def labels(
    raw: pd.DataFrame, schema: Schema, classes: tuple[str, ...] = ()
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], tuple[str, ...]]:
    """The label as float64, and for a classification its sorted classes, which the numbers then index.

    `classes`: those of the training rows, where these are others.
    """
    texts = _texts(raw[schema.label])
    if absent := [row for row, label in enumerate(texts, 1) if label in MISSING]:
        raise BadDataset(f"data, row {absent[0]}, column {schema.label}: expected a label, got none")
    if schema.task is Task.REGRESSION:
        try:
            return number_column(texts, schema.label), ()
        except BadPayload as error:
            raise BadDataset(f"data, row {error.row}, column {schema.label}: {error.message}") from error
    classes = classes or tuple(sorted(set(texts)))
    if len(classes) < 2 or (schema.task is Task.BINARY and len(classes) != 2):
        raise BadDataset(f"data: expected {schema.task.value} classes in {schema.label}, got {', '.join(classes[:5])}")
    return np.array([classes.index(text) for text in texts], dtype=np.float64), classes


def read_rows(paths: Sequence[Path]) -> pd.DataFrame:
    """The rows of CSV files with a header, every cell as its text. Raises `BadJob`.

    They are read as serving reads a request: what serving would refuse is no training row either.
    """
    table = read_table(paths)
    return pd.DataFrame(dict(zip(table.names, table.columns, strict=True)), dtype=object)


def read_task(text: str) -> Task:
    if text not in list(Task):
        raise BadDataset(f"task: expected one of {', '.join(Task)}, got {text!r}")
    return Task(text)


def _labelled_rows(text: object) -> LabelPlace:
    if text not in list(LabelPlace):
        raise BadDataset(f"labelled_rows: expected one of {', '.join(LabelPlace)}, got {text!r}")
    return LabelPlace(str(text))


def _tables(columns: object) -> Sequence[Mapping[str, Any]]:
    if not isinstance(columns, list) or not all(isinstance(column, Mapping) for column in columns):
        raise BadDataset("schema: expected [[columns]] with name and type, one for each column, got columns otherwise")
    return columns


def _column(raw: Mapping[str, Any], number: int) -> Column:
    if lacking := [key for key in ("name", "type") if key not in raw]:
        raise BadDataset(f"schema, [[columns]] number {number}: expected name and type, {lacking[0]} is missing")
    name = _text(raw["name"])
    if raw["type"] not in list(ColumnType):
        raise BadDataset(f"schema, column {name}: expected type {', '.join(ColumnType)}, got {raw['type']!r}")
    missing = raw.get("missing")
    if missing is not None and (raw["type"] != ColumnType.CATEGORICAL or not isinstance(missing, list)):
        raise BadDataset(
            f"schema, column {name}: expected `missing` to be a list of texts, and the column categorical; "
            f"got {missing!r}, type {raw['type']}"
        )
    return Column(name, ColumnType(raw["type"]), missing=None if missing is None else tuple(map(_text, missing)))


def _text(name: object) -> str:
    if not isinstance(name, str):
        raise BadDataset(f"schema: expected names as text, in quotes; got {name!r}")
    return name


def _texts(series: pd.Series[Any]) -> list[str]:
    """Cells as CSV would hold them: numbers in their shortest exact form."""
    return ["" if pd.isna(value) else value if isinstance(value, str) else repr(_plain(value)) for value in series]


def _plain(value: Any) -> object:  # noqa: ANN401
    return value.item() if isinstance(value, np.generic) else value


def _typed(cells: Sequence[str], column: Column) -> pd.Series[Any]:
    """A column with its type spelled out: pandas would call a column of text `str` or `object` by what is in it."""
    if column.type is ColumnType.NUMERIC:
        return pd.Series(number_column(cells, column.name), dtype="float64")
    return pd.Series(categories(without_words([*cells], column.words)), dtype=object)
