"""How good the predictions are on rows that training never saw, beside two baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictor.search import fit
from serving.contract import Contract, Task

# The parameters of the article that this pipeline follows.
ARTICLE = {"max_depth": 5, "eta": 0.2, "gamma": 4, "min_child_weight": 6, "subsample": 0.7}
ARTICLE_ROUNDS = 50

Matrix = NDArray[np.floating[Any]]
Metrics = dict[str, float]


def metrics(task: Task, predicted: Matrix, truth: NDArray[np.float64]) -> Metrics:
    """RMSE, MAE and R² of a regression; log loss and accuracy of a classification."""
    if task is Task.REGRESSION:
        errors = predicted - truth
        spread = np.sum((truth - truth.mean()) ** 2)
        r2 = 1 - np.sum(errors**2) / spread if spread else 0.0
        return _rounded({"rmse": np.sqrt(np.mean(errors**2)), "mae": np.mean(np.abs(errors)), "r2": r2})
    probabilities = np.column_stack([1 - predicted, predicted]) if predicted.ndim == 1 else predicted
    of_truth = probabilities[np.arange(len(truth)), truth.astype(int)]
    accuracy = np.mean(probabilities.argmax(axis=1) == truth)
    return _rounded({"logloss": -np.mean(np.log(np.clip(of_truth, 1e-15, 1))), "accuracy": accuracy})


def baselines(
    contract: Contract, train: tuple[Matrix, NDArray[np.float64]], test: tuple[Matrix, NDArray[np.float64]], seed: int
) -> Mapping[str, Metrics]:
    """The article's parameters, and the same answer for every row: the training rows' mean or class shares."""
    booster = fit(*train, contract, ARTICLE, ARTICLE_ROUNDS, seed)
    article = booster.inplace_predict(np.asarray(test[0], dtype=np.float32), validate_features=False)
    return {
        "article": metrics(contract.task, article, test[1]),
        "constant": metrics(contract.task, _constant(contract, train[1], len(test[1])), test[1]),
    }


def _constant(contract: Contract, target: NDArray[np.float64], rows: int) -> Matrix:
    if contract.task is not Task.MULTICLASS:
        return np.full(rows, target.mean())
    classes = len(contract.label.categories) if contract.label else 0
    shares = np.bincount(target.astype(int), minlength=classes) / len(target)
    return np.tile(shares, (rows, 1))


def _rounded(values: Mapping[str, Any]) -> Metrics:
    return {name: round(float(value), 4) for name, value in values.items()}
