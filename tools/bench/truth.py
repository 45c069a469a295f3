"""What the answers must be, and how fast one thread gets them without HTTP: pandas, scikit-learn and XGBoost here."""

from __future__ import annotations

import csv
import io
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray

from featurizer.model import PREPROCESS
from predictor.model import MODEL
from serving.contract import Column, ColumnType, Contract
from tools.bench.processes import BenchError


@dataclass(frozen=True)
class Truth:
    """The two models of one training run, and raw rows to try them on, as text without the label."""

    artifacts: Path
    contract: Contract
    rows: tuple[str, ...]
    transformer: Any
    booster: Any

    @classmethod
    def load(cls, artifacts: Path) -> Truth:
        directory = artifacts.resolve()
        table = directory / "test.csv"
        if not table.is_file():
            raise BenchError(f"there is no {artifacts}/test.csv: run `python -m pipeline train`")
        contract = Contract.load(directory / "featurizer" / "model")
        inputs = [column.name for column in contract.inputs]
        text = pd.read_csv(table, dtype=str, keep_default_na=False)[inputs].to_csv(
            index=False, header=False, lineterminator="\n"
        )
        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(directory / "predictor" / "model" / MODEL)
        transformer = joblib.load(directory / "featurizer" / "model" / PREPROCESS)
        return cls(directory, contract, tuple(text.splitlines()), transformer, booster)

    @property
    def transformer_file(self) -> Path:
        return self.artifacts / "featurizer" / "model" / PREPROCESS

    @property
    def booster_file(self) -> Path:
        return self.artifacts / "predictor" / "model" / MODEL

    def body(self, count: int, first: int = 0) -> bytes:
        """`count` rows of CSV from row `first` on, over and over."""
        start = first % len(self.rows)
        rows = itertools.islice(itertools.cycle(self.rows), start, start + count)
        return ("\n".join(rows) + "\n").encode()

    def features(self, body: bytes) -> NDArray[np.float64]:
        """The exact ones: numbers as `float()` reads them."""
        cells = zip(*csv.reader(io.StringIO(body.decode())), strict=True)
        columns = zip(self.contract.inputs, cells, strict=True)
        return self._transformed(pd.DataFrame({column.name: _values(column, texts) for column, texts in columns}))

    def _transformed(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        return np.asarray(self.transformer.transform(frame), dtype=np.float64)

    def predictions(self, features: NDArray[np.float64]) -> NDArray[np.float32]:
        matrix = xgboost.DMatrix(features, feature_names=self.booster.feature_names, nthread=1)
        return np.asarray(self.booster.predict(matrix), dtype=np.float32)

    def seconds(self, body: bytes, lasting: float) -> list[float]:
        """How long one thread took for the body, each time within `lasting` seconds; three times at least."""
        names = [column.name for column in self.contract.inputs]
        kinds = {column.name: str for column in self.contract.inputs if column.type is ColumnType.CATEGORICAL}
        took: list[float] = []
        while len(took) < 3 or sum(took) < lasting:
            begun = time.perf_counter()
            frame = pd.read_csv(io.BytesIO(body), header=None, names=names, dtype=kinds)
            self.predictions(self._transformed(frame))
            took.append(time.perf_counter() - begun)
        return took


def _values(column: Column, texts: Sequence[str]) -> list[Any]:
    if column.type is ColumnType.CATEGORICAL:
        return [text or np.nan for text in texts]
    return [float(text or "nan") for text in texts]
