"""How good the predictions are on rows that training never saw, beside those of others' parameters and of none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurizer.schema import BadDataset
from predictor.search import fit
from serving.contract import Contract, Task

Matrix = NDArray[np.floating[Any]]
Metrics = dict[str, float]


@dataclass(frozen=True)
class Reference:
    """Parameters that others published for these data."""

    name: str
    rounds: int
    parameters: Mapping[str, Any]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Reference:
        """One of a schema's [[references]]. Raises `BadDataset`."""
        name, rounds, parameters = (given.get(field) for field in ("name", "rounds", "parameters"))
        named = isinstance(name, str) and name not in ("", "model", "constant")
        if not named or type(rounds) is not int or rounds < 1 or not isinstance(parameters, dict):
            raise BadDataset(f"schema, references: expected a name of its own, rounds, parameters; got {dict(given)}")
        return cls(str(name), rounds, parameters)


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
    contract: Contract, train: tuple[Matrix, NDArray[np.float64]], test: tuple[Matrix, NDArray[np.float64]], seed: int,
    references: Sequence[Reference] = (),
) -> Mapping[str, Metrics]:  # fmt: skip
    """The references on the same rows, and the same answer for every row: the training rows' mean or class shares."""
    found = {}
    for reference in references:
        booster = fit(*train, contract, reference.parameters, reference.rounds, seed)
        predicted = booster.inplace_predict(np.asarray(test[0], dtype=np.float32), validate_features=False)
        found[reference.name] = metrics(contract.task, predicted, test[1])
    constant = _constant(contract, train[1], len(test[1]))
    return {**found, "constant": metrics(contract.task, constant, test[1])}


def _constant(contract: Contract, target: NDArray[np.float64], rows: int) -> Matrix:
    if contract.task is not Task.MULTICLASS:
        return np.full(rows, target.mean())
    classes = len(contract.label.categories) if contract.label else 0
    shares = np.bincount(target.astype(int), minlength=classes) / len(target)
    return np.tile(shares, (rows, 1))


def _rounded(values: Mapping[str, Any]) -> Metrics:
    return {name: round(float(value), 4) for name, value in values.items()}
