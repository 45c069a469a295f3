"""What pandas, json and numpy read from a body, and what scikit-learn and XGBoost make of it, without our code."""

from __future__ import annotations

import csv
import io
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray
from pandas._libs.parsers import STR_NA_VALUES

from featurizer.model import PREPROCESS
from predictor.model import MODEL
from serving.contract import ColumnType, Contract
from serving.payload import CSV, JSON, NPY
from tests.unit.test_parity import read_exactly


class Uncountable(Exception):
    """The libraries do not read this body, or not as a table of these columns."""


@dataclass(frozen=True)
class Oracle:
    """The two models of a training run, asked directly."""

    artifacts: Path

    @cached_property
    def contract(self) -> Contract:
        return Contract.load(self.artifacts / "featurizer" / "model")

    @cached_property
    def transformer(self) -> Any:
        return joblib.load(self.artifacts / "featurizer" / "model" / PREPROCESS)

    @cached_property
    def booster(self) -> Any:
        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(self.artifacts / "predictor" / "model" / MODEL)
        return booster

    def features(self, records: pd.DataFrame) -> NDArray[np.float64]:
        # of unseen categories, and of numbers that overflow
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            return np.asarray(self.transformer.transform(records), dtype=np.float64)

    def predictions(self, features: NDArray[Any]) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            matrix = xgboost.DMatrix(features.astype(np.float32), feature_names=self.booster.feature_names, nthread=1)
        predicted: NDArray[np.float32] = self.booster.predict(matrix)
        return predicted

    def answer(self, stage: str, body: bytes, media: str, header: str = "") -> NDArray[Any]:
        """What a stage owes for a body that it takes. Raises `Uncountable`."""
        if stage == "pipeline":
            return self.predictions(self.answer("featurizer", body, media, header))
        if stage == "featurizer":
            names = [column.name for column in self.contract.inputs]
            texts = [column.name for column in self.contract.inputs if column.type is ColumnType.CATEGORICAL]
            every = [column.name for column in self.contract.columns]
            return self.features(_read(body, media, header, names, every, texts)[names])
        if media == NPY:
            return self.predictions(np.atleast_2d(np.load(io.BytesIO(body), allow_pickle=False)))
        names = list(self.contract.features)
        return self.predictions(_read(body, media, header, names, names, [])[names].to_numpy(np.float64))


def _read(
    body: bytes, media: str, header: str, names: Sequence[str], every: Sequence[str], texts: Sequence[str]
) -> pd.DataFrame:
    if media == CSV:
        return _read_csv(body, header, names, every, texts)
    return _read_json(_documents(body.decode("utf-8-sig"), media), names, every, texts)


def _read_csv(
    body: bytes, header: str, names: Sequence[str], every: Sequence[str], texts: Sequence[str]
) -> pd.DataFrame:
    text = body.decode("utf-8-sig")
    first = next(csv.reader([text.partition("\n")[0].rstrip("\r")]))
    named = header == "present" or (header != "absent" and set(first) >= set(names))
    columns = first if named else names if len(first) == len(names) else every
    numbers = dict.fromkeys(
        set(names) - set(texts), np.float64
    )  # of itself pandas has integers beyond 64 bits as objects
    # Where a piece of 262,144 characters begins with a blank, pandas' C parser drops that: none begins a line here.
    behind = "\n".join(f"0,{line}" if line.strip() else line for line in text.split("\n"))
    return read_exactly(
        io.StringIO(behind, newline=""),
        header=None,
        skiprows=int(named),
        names=["", *columns],
        dtype=dict.fromkeys(every, object) | numbers,
        index_col=False,
    )


def _documents(text: str, media: str) -> list[Any]:
    """The rows of JSON or JSON Lines."""
    if media != JSON:
        return [_document(line) for line in text.split("\n") if line.strip()]
    document = _document(text)
    if isinstance(document, dict):
        return list(document["instances"]) if "instances" in document else [document]
    return document if any(isinstance(row, list | dict) for row in document) else [document]


def _document(text: str) -> Any:
    """A label may be anything, as deep as our reader reads; the standard library stops earlier."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 2000)
    try:
        return json.loads(text)
    finally:
        sys.setrecursionlimit(limit)


def _read_json(
    documents: Sequence[Any], names: Sequence[str], every: Sequence[str], texts: Sequence[str]
) -> pd.DataFrame:
    rows = [row["features"] if isinstance(row, dict) and "features" in row else row for row in documents]
    columns = names if len(rows[0]) == len(names) else every
    records = [row if isinstance(row, dict) else dict(zip(columns, row, strict=True)) for row in rows]
    read = {
        name: np.array([_text(record[name]) for record in records], dtype=object)
        if name in texts
        else np.array([_number(record[name]) for record in records], dtype=np.float64)
        for name in names
    }
    return pd.DataFrame(read)


def _text(value: object) -> object:
    if value is not None and not isinstance(value, str):
        raise Uncountable(f"{value!r} is no text")
    return np.nan if value is None or value in STR_NA_VALUES else value


def _number(value: object) -> float:
    if value is not None and type(value) not in (int, float):
        raise Uncountable(f"{value!r} is no number")
    return np.nan if value is None else float(value)  # type: ignore[arg-type]
