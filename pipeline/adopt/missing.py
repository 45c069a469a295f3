"""Categories such as NA, which the model knows as a category and serving takes as a missing value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featurizer.fitted import REFUSALS
from pipeline.adopt.columns import Derived
from pipeline.adopt.raw import Transform
from pipeline.adopt.rows import sample
from pipeline.adopt.transformers import dense
from serving.contract import Column
from serving.training import BadJob


def refuse(columns: Sequence[Derived]) -> None:
    """Raises `BadJob` for the first such category."""
    for column, texts in _such(columns):
        raise BadJob(
            f"column {column}: expected categories that are none of serving's words for a missing value, got {texts}: "
            "rows with it would be answered otherwise than by the model; give the column its own words "
            "in a schema of --contract (missing = []), or the category another name and fit again, or give "
            "--missing-categories if that may be"
        )


def notes(transform: Transform, rows: Path | None) -> Iterator[str]:
    """What such a category means; `rows`: a file in which to count what is answered otherwise."""
    for column, texts in _such(transform.columns):
        told = f"note: column {column}: serving takes {texts} as a missing value: "
        if rows is None:
            yield told + "rows with it are answered otherwise than by the model"
        else:
            other, count = _differing(transform, rows, column)
            yield told + f"{count} rows of {rows.name} have it, {other} of them have other features in the model"


def _such(columns: Sequence[Derived]) -> Iterator[tuple[str, str]]:
    for derived in columns:
        if texts := sorted({text for text in derived.column.categories if text in derived.column.words}):
            yield derived.column.name, ", ".join(map(repr, texts))


def _differing(transform: Transform, path: Path, column: str) -> tuple[int, int]:
    """Of the rows with such a category in the column: those with other features in the model, and all."""
    columns: list[Column] = [derived.column for derived in transform.columns]
    read, written = sample(path, columns), sample(path, columns, as_written=True)
    having = written[column].notna() & read[column].isna()
    pairs = [_features(transform, frame[having]) for frame in (read, written)]
    if not having.any() or pairs[0] is None or pairs[1] is None:  # the transformer refuses the one or the other
        return int(having.sum()), int(having.sum())
    same = (pairs[0] == pairs[1]) | (np.isnan(pairs[0]) & np.isnan(pairs[1]))
    return int((~same.all(axis=1)).sum()), int(having.sum())


def _features(transform: Transform, frame: pd.DataFrame) -> Any:  # noqa: ANN401
    try:
        return dense(transform.of(frame))
    except REFUSALS:
        return None
