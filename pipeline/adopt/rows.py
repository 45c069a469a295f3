"""Rows to compare on: of a file, or made from what the model itself knows of its columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurizer.fitted import REFUSALS
from pipeline.adopt.boosters import Matrix
from pipeline.adopt.columns import Derived
from serving.cells import MISSING, categories, number_column
from serving.contract import Column, ColumnType
from serving.errors import BadPayload
from serving.tables import read_table
from serving.training import BadJob

COUNT = 96
MOST_THRESHOLDS = 64  # of a feature


def sample(path: Path, columns: Sequence[Column], *, as_written: bool = False) -> pd.DataFrame:
    """These columns of a CSV file with a header, typed as serving reads them. Raises `BadJob`.

    `as_written`: a cell that is a category stays one, also where serving takes it as missing.
    """
    table = read_table([path])
    for column in columns:
        if column.name not in table.names:
            raise BadJob(f"{path}: expected a column {column.name}, got {', '.join(table.names)}")
    try:
        return pd.DataFrame({c.name: _typed(table.columns[table.names.index(c.name)], c, as_written) for c in columns})
    except BadPayload as error:
        raise BadJob(f"{path}, row {error.row}, column {error.column}: {error.message}") from error


def _typed(cells: list[str], column: Column, as_written: bool) -> pd.Series[Any]:
    if column.type is ColumnType.NUMERIC:
        return pd.Series(number_column(cells, column.name), dtype="float64")
    read = pd.Series(categories(cells), dtype=object)
    if not as_written:
        return read
    return pd.Series([c if c in column.categories else r for c, r in zip(cells, read, strict=True)], dtype=object)


def raw_rows(columns: Sequence[Derived]) -> pd.DataFrame:
    """Values around those that the transformer learned, known categories, and missing ones. Always the same."""
    random = np.random.default_rng(0)
    return pd.DataFrame({derived.column.name: _raw_column(derived, random) for derived in columns})


def _raw_column(derived: Derived, random: np.random.Generator) -> pd.Series[Any]:
    missing = random.random(COUNT) < 0.1
    missing[: COUNT // 4] = False  # some rows are whole
    if derived.column.type is ColumnType.CATEGORICAL:
        known = [text for text in derived.column.categories if text not in MISSING] or ["a", "b"]
        texts = np.array(known, dtype=object)[random.integers(len(known), size=COUNT)]
        texts[missing] = np.nan
        return pd.Series(texts, dtype=object)
    around = np.array(derived.around or (0.0, 1.0, 10.0))
    values = around[random.integers(len(around), size=COUNT)]
    moved = values * random.normal(1, 0.3, COUNT) + random.normal(0, 0.1, COUNT)
    values = np.where(random.random(COUNT) < 0.5, values, moved)
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
