"""Rows to compare on: of a file, or made from what the model itself knows of its columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurizer.fitted import REFUSALS, whole_numbers
from pipeline.adopt.boosters import Matrix
from pipeline.adopt.columns import Derived
from serving.cells import categories, number_column, without_words
from serving.contract import Column, ColumnType
from serving.errors import BadPayload
from serving.tables import read_table
from serving.training import BadJob

COUNT = 96
MOST_THRESHOLDS = 64  # of a feature


def sample(
    path: Path, columns: Sequence[Column], undecided: Collection[str] = (), *, as_written: bool = False
) -> pd.DataFrame:
    """These columns of a CSV file with a header as pandas reads them, those of categories as text.

    `undecided`: columns that may be of any type. `as_written`: a cell that is a category stays one, also where serving
    takes it as missing. Raises `BadJob`, also for cells that are not of their column's type in serving.
    """
    table = read_table([path])
    cells = dict(zip(table.names, table.columns, strict=True))
    for column in columns:
        if column.name not in cells:
            raise BadJob(f"{path}: expected a column {column.name}, got {', '.join(table.names)}")
    known = [column for column in columns if column.name not in undecided]
    texts = {column.name: "str" for column in known if column.type is ColumnType.CATEGORICAL}
    count = len(table.columns[0])  # without empty lines at the end, which are missing values to pandas in a lone column
    read = pd.read_csv(path, dtype=texts, low_memory=False, skip_blank_lines=len(cells) > 1, nrows=count)
    for column in known:
        read[column.name] = _typed(cells[column.name], read[column.name], column, path, as_written)
    return read[[column.name for column in columns]]


def _typed(cells: list[str], read: pd.Series[Any], column: Column, path: Path, as_written: bool) -> pd.Series[Any]:
    if column.type is ColumnType.CATEGORICAL:
        if column.missing is not None:
            return pd.Series(categories(without_words([*cells], column.words)), dtype="str")
        kept = [c if c in column.categories else r for c, r in zip(cells, read, strict=True)]
        return pd.Series(kept, dtype="str") if as_written else read
    try:
        numbers = number_column(cells, column.name)
        if column.whole:
            return pd.Series(whole_numbers(numbers))
    except BadPayload as error:
        raise BadJob(f"{path}, row {error.row}, column {error.column}: {error.message}") from error
    except ValueError as error:
        raise BadJob(f"{path}, column {column.name}: {error}, none missing; got others") from error
    return read if read.dtype.kind in "iu" else pd.Series(numbers)


def seen(derived: Derived, values: pd.Series[Any]) -> Derived:
    """A column that is undecided, of the type that pandas gave its values; undecided still where all are missing."""
    present = values.dropna()
    if not derived.own or present.empty:
        return derived
    kind = values.dtype.kind
    if kind not in "iuf" and not all(isinstance(value, str) for value in present):
        raise BadJob(
            f"column {derived.column.name}: expected numbers or text, got true and false, as pandas reads it: write 1 "
            f"and 0, or give --columns {derived.column.name}=categorical if it was text when the model was fitted"
        )
    found = ColumnType.NUMERIC if kind in "iuf" else ColumnType.CATEGORICAL
    return replace(derived, column=replace(derived.column, type=found, whole=kind in "iu"), own="")


def raw_rows(columns: Sequence[Derived]) -> pd.DataFrame:
    """Values around those that the transformer learned, known categories, and missing ones. Always the same."""
    random = np.random.default_rng(0)
    return pd.DataFrame({derived.column.name: _raw_column(derived, random) for derived in columns})


def _raw_column(derived: Derived, random: np.random.Generator) -> pd.Series[Any]:
    missing = random.random(COUNT) < 0.1
    missing[: COUNT // 4] = False  # some rows are whole
    if derived.column.type is ColumnType.CATEGORICAL:
        known = [text for text in derived.column.categories if text not in derived.column.words] or ["a", "b"]
        texts = np.array(known, dtype=object)[random.integers(len(known), size=COUNT)]
        texts[missing] = np.nan
        return pd.Series(texts, dtype="str")
    around = np.array(derived.around or (0.0, 1.0, 10.0))
    values = around[random.integers(len(around), size=COUNT)]
    moved = values * random.normal(1, 0.3, COUNT) + random.normal(0, 0.1, COUNT)
    values = np.where(random.random(COUNT) < 0.5, values, moved)
    if derived.column.whole:
        return pd.Series(np.rint(values), dtype="int64")
    values[missing] = np.nan
    return pd.Series(values, dtype="float64")


def accepted(transform: Callable[[pd.DataFrame], Any], rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that a transformer does not refuse."""
    try:
        transform(rows)
    except REFUSALS:
        if len(rows) == 1:
            return rows[:0]
        half = len(rows) // 2
        return pd.concat([accepted(transform, rows[:half]), accepted(transform, rows[half:])])
    return rows


def needed(transform: Callable[[pd.DataFrame], Any], rows: pd.DataFrame, taken: pd.DataFrame) -> tuple[str, ...]:
    """The columns without which a row is refused. `taken`: the rows that are not."""
    rare = [name for name in rows if rows[name].isna().any() and not taken[name].isna().any()]
    whole = taken[taken.notna().all(axis=1)][:1]
    without = {name: whole.assign(**{name: pd.Series(np.nan, whole.index, rows[name].dtype)}) for name in rare}
    return tuple(name for name, row in without.items() if len(row) and accepted(transform, row).empty)


def feature_rows(trees: Sequence[Any], features: int) -> Matrix:
    """Rows on both sides of the trees' thresholds, with 0 and missing values in any feature. Always the same."""
    random = np.random.default_rng(0)
    found: dict[int, set[float]] = {}
    for tree in trees:
        splits = zip(tree["split_indices"], tree["split_conditions"], tree["left_children"], strict=True)
        for feature, threshold, child in splits:
            if child != -1:
                found.setdefault(feature, set()).add(threshold)
    rows = np.column_stack([_feature(found.get(index, set()), random) for index in range(features)])
    rows[0], rows[1] = np.nan, 0
    return np.ascontiguousarray(rows, dtype=np.float32)


def _feature(thresholds: set[float], random: np.random.Generator) -> NDArray[np.float32]:
    edges = np.array(sorted(thresholds), dtype=np.float32)
    edges = edges[np.linspace(0, len(edges) - 1, min(len(edges), MOST_THRESHOLDS), dtype=int)]
    beside = [np.nextafter(edges, np.float32(side)) for side in (-np.inf, np.inf)]
    common = np.array([0, -1, 1, 0.5, np.nan], dtype=np.float32)
    pool = np.concatenate([edges, *beside, common])
    values: NDArray[np.float32] = pool[random.integers(len(pool), size=COUNT)]
    return values
