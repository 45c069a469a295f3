"""The data sets besides abalone, trained in little time, and what the libraries alone predict for their test rows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import xgboost
from numpy.typing import NDArray

from pipeline.data import load_rows, load_schema
from pipeline.train import train
from serving.contract import Contract

HOUSES = Path(__file__).resolve().parents[2] / "shared" / "data" / "california_housing.csv"
DATASETS = ("california_housing", "penguins", "penguins_sex")
# Searches that end soon. What the whole of the houses' chooses is judged in tests/unit/test_datasets.py.
QUICK = {
    "california_housing": {"repeats": 1, "folds": 2, "rounds": 60, "grid": {"max_depth": [6], "eta": [0.3]}},
    "penguins": {"repeats": 1, "folds": 2},
    "penguins_sex": {"repeats": 1, "folds": 2},
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
    """The test rows of a data set, cell by cell as text, and their scores, made without our code."""

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
    def labels(self) -> list[str]:
        classes = next(column.categories for column in self.contract.columns if column.type == "label")
        return [classes[best] for best in self.probabilities.argmax(axis=1)]


def golden(artifacts: Path) -> Golden:
    test = artifacts / "test.csv"
    with warnings.catch_warnings(action="ignore", category=pd.errors.Pandas4Warning):
        exact = pd.read_csv(test, float_precision="round_trip")
    rows = pd.read_csv(test, dtype=str, keep_default_na=False)
    contract = Contract.load(artifacts / "featurizer/model")
    transformer = joblib.load(artifacts / "featurizer/model/preprocess.joblib")
    booster = xgboost.Booster(model_file=artifacts / "predictor/model/xgboost-model.json")
    features = np.asarray(transformer.transform(exact[transformer.feature_names_in_]), dtype=np.float32)
    return Golden(contract, rows, booster.predict(xgboost.DMatrix(features, feature_names=booster.feature_names)))
