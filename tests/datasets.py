"""The data sets besides abalone, trained in little time, and what the libraries alone predict for their test rows."""

from __future__ import annotations

import csv
import io
import json
import warnings
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import xgboost
from numpy.typing import NDArray

from pipeline.data import load_rows, load_schema
from pipeline.train import train
from serving.contract import Contract, Task
from serving.payload import CSV, JSON, JSONLINES, NPY

HOUSES = Path(__file__).resolve().parents[2] / "shared" / "data" / "california_housing.csv"
DATASETS = ("california_housing", "penguins", "penguins_sex")
# Searches that end soon. What the whole of the houses' chooses is judged in tests/unit/test_datasets.py.
QUICK = {
    "california_housing": {"repeats": 1, "folds": 2, "rounds": 60, "grid": {"max_depth": [6], "eta": [0.3]}},
    "penguins": {"repeats": 1, "folds": 2, "rounds": 60, "grid": {"max_depth": [3, 4], "eta": [0.3]}},
    "penguins_sex": {"repeats": 1, "folds": 2, "rounds": 60, "grid": {"max_depth": [3, 4], "eta": [0.3]}},
}


def houses() -> Path:
    """The file of California Housing; without it the test is skipped."""
    if not HOUSES.is_file():
        pytest.skip(f"{HOUSES} is not there, and the network may not be either")
    return HOUSES


def train_dataset(name: str, out: Path) -> Path:
    """Train as `python -m pipeline train --dataset NAME` does, with a quick search; the houses are their file's."""
    schema = load_schema(name)
    quick = replace(schema, search=QUICK[name], references=schema.references[:1])
    train(quick, load_rows(quick, houses() if name == "california_housing" else None), out, schema.seed)
    return out


@dataclass(frozen=True)
class Golden:
    """The test rows of a training run, cell by cell as text, and their scores, made without our code."""

    artifacts: Path
    contract: Contract
    rows: pd.DataFrame
    scores: NDArray[np.float32]

    @property
    def label(self) -> str:
        return next(column.name for column in self.contract.columns if column.type == "label")

    @property
    def probabilities(self) -> NDArray[np.float32]:
        return np.column_stack([1 - self.scores, self.scores]) if self.scores.ndim == 1 else self.scores

    @property
    def classes(self) -> tuple[str, ...]:
        return next(column.categories for column in self.contract.columns if column.type == "label")

    @property
    def labels(self) -> list[str]:
        return [self.classes[best] for best in self.probabilities.argmax(axis=1)]

    @property
    def outputs(self) -> tuple[str, ...]:
        """What a model of this task can be asked for."""
        return ("score",) if self.contract.task is Task.REGRESSION else ("score", "probabilities", "label")

    def owed(self, output: str) -> NDArray[np.float32] | list[str]:
        """A row of numbers for each row, or its label."""
        if output == "label":
            return self.labels
        return (self.scores if output == "score" else self.probabilities).reshape(len(self.rows), -1)

    @cached_property
    def bare(self) -> pd.DataFrame:
        """The rows as a client has them: without the label, wherever that stands."""
        return self.rows.drop(columns=self.label)

    @cached_property
    def objects(self) -> list[dict[str, str | float | None]]:
        """The rows as JSON has them, a missing cell as null."""
        numeric = {column.name for column in self.contract.columns if column.type == "numeric"}
        return [
            {name: (float(cell) if name in numeric else cell) if cell else None for name, cell in row.items()}
            for row in self.bare.to_dict("records")
        ]

    @property
    def lists(self) -> list[list[str | float | None]]:
        return [list(row.values()) for row in self.objects]

    @cached_property
    def bodies(self) -> dict[str, tuple[str, str]]:
        """The rows in every way that a request may bring them: media type and text."""
        return {
            "CSV with header and label": (CSV, self.rows.to_csv(index=False)),
            "CSV": (CSV, self.bare.to_csv(index=False, header=False)),
            "objects": (JSON, json.dumps(self.objects)),
            "instances": (JSON, json.dumps({"instances": self.lists})),
            "lines": (JSONLINES, "\n".join(map(json.dumps, self.lists))),
        }


@cache
def golden(artifacts: Path) -> Golden:
    test = artifacts / "test.csv"
    with warnings.catch_warnings(action="ignore", category=pd.errors.Pandas4Warning):
        exact = pd.read_csv(test, float_precision="round_trip")
    rows = pd.read_csv(test, dtype=str, keep_default_na=False)
    contract = Contract.load(artifacts / "featurizer/model")
    transformer = joblib.load(artifacts / "featurizer/model/preprocess.joblib")
    booster = xgboost.Booster(model_file=artifacts / "predictor/model/xgboost-model.json")
    features = np.asarray(transformer.transform(exact[transformer.feature_names_in_]), dtype=np.float32)
    scores = booster.predict(xgboost.DMatrix(features, feature_names=booster.feature_names))
    return Golden(artifacts, contract, rows, scores)


def read_answers(body: bytes, media: str, rows: int) -> NDArray[np.float32] | list[str]:
    """Answers in any format: a row of numbers for each row, or its label."""
    if media.startswith(NPY):
        return np.asarray(np.load(io.BytesIO(body), allow_pickle=False)).reshape(rows, -1)
    found: list[Any]
    if media.startswith(JSONLINES):
        found = [json.loads(line)["result"] for line in body.splitlines()]
    elif media.startswith(JSON) and "result" in (document := json.loads(body)):
        found = document["result"]
    else:
        text = document["Predicted value"] if media.startswith(JSON) else body.decode()
        found = [cells if len(cells) > 1 else cells[0] for cells in csv.reader(text.splitlines())]
    try:
        return np.asarray(found, dtype=np.float32).reshape(rows, -1)
    except ValueError:  # no numbers
        return found


def same(answered: NDArray[np.float32] | list[str], owed: NDArray[np.float32] | list[str]) -> bool:
    """Labels by name, numbers to the bit."""
    if isinstance(answered, list) or isinstance(owed, list):
        return isinstance(answered, list) and isinstance(owed, list) and answered == owed
    return (answered.dtype, answered.shape, answered.tobytes()) == (owed.dtype, owed.shape, owed.tobytes())
