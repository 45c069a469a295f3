"""The errors that a training reports, on numbers that are worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from featurizer.schema import BadDataset
from pipeline.evaluate import Reference, baselines, metrics
from serving.contract import Column, ColumnType, Contract, Task


def contract(task: Task, classes: tuple[str, ...] = ()) -> Contract:
    columns = (Column("x", ColumnType.NUMERIC), Column("y", ColumnType.LABEL, classes))
    return Contract("t", task, columns, ("x",), {})


def numbers(*values: Any) -> Any:
    return np.array(values, dtype=np.float64)


@pytest.mark.parametrize(
    ("task", "predicted", "truth", "expected"),
    [
        # errors 1, -3, 0, 2 around a mean of 3.5, from which the truth is 2.5, 0.5, 0.5, 1.5 away
        (Task.REGRESSION, numbers(2, 0, 4, 7), numbers(1, 3, 4, 5), {"rmse": 1.8708, "mae": 1.5, "r2": -0.6}),
        (Task.REGRESSION, numbers(1, 3), numbers(1, 3), {"rmse": 0, "mae": 0, "r2": 1}),
        (Task.REGRESSION, numbers(2, 2), numbers(1, 1), {"rmse": 1, "mae": 1, "r2": 0}),  # a truth that does not vary
        # of the true classes 0.75 and 0.25 were predicted
        (
            Task.BINARY,
            numbers(0.25, 0.25),
            numbers(0, 1),
            {"logloss": round(-math.log(0.75 * 0.25) / 2, 4), "accuracy": 0.5},
        ),
        (Task.BINARY, numbers(0, 1), numbers(0, 1), {"logloss": 0, "accuracy": 1}),
        (Task.BINARY, numbers(1), numbers(0), {"logloss": 34.5388, "accuracy": 0}),  # as if 1e-15 had been predicted
        (
            Task.MULTICLASS,
            numbers([0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]),
            numbers(0, 2, 0),
            {"logloss": round(-math.log(0.5 * 0.8 * 0.3) / 3, 4), "accuracy": 0.6667},
        ),
    ],
)
def test_errors_are_those_of_their_definitions(
    task: Task, predicted: Any, truth: Any, expected: dict[str, float]
) -> None:
    assert metrics(task, predicted, truth) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("task", "classes", "train", "test", "expected"),
    [
        (Task.REGRESSION, (), numbers(1, 2, 6), numbers(3, 5), {"rmse": 1.4142, "mae": 1, "r2": -1}),
        (Task.BINARY, ("n", "y"), numbers(0, 1, 1, 1), numbers(1, 1), {"logloss": 0.2877, "accuracy": 1}),
        # a class that the training rows do not show is predicted with 1e-15
        (Task.MULTICLASS, ("a", "b", "c"), numbers(0, 0, 1, 0), numbers(0, 2), {"logloss": 17.4132, "accuracy": 0.5}),
    ],
)
def test_the_same_answer_for_every_row_is_what_the_training_rows_show(
    task: Task, classes: tuple[str, ...], train: Any, test: Any, expected: dict[str, float]
) -> None:
    rows = (np.zeros((len(train), 1)), train), (np.zeros((len(test), 1)), test)

    assert baselines(contract(task, classes), *rows, seed=1) == {"constant": pytest.approx(expected, abs=1e-12)}


def test_a_reference_is_trained_with_its_parameters_and_judged_on_the_same_rows() -> None:
    """With so large a step a tree of one level has both halves right at once."""
    features, target = np.array([[0.0], [1], [2], [3]] * 3), numbers(1, 1, 9, 9, *(1, 1, 9, 9) * 2)
    exact = {"max_depth": 1, "eta": 1, "lambda": 0, "min_child_weight": 0, "base_score": 0}
    given = [{"name": name, "rounds": rounds, "parameters": exact} for name, rounds in (("one", 1), ("two", 2))]
    given.append({"name": "none", "rounds": 1, "parameters": {**exact, "eta": 0}})

    found = baselines(
        contract(Task.REGRESSION), (features, target), (features, target), 1, [Reference.of(one) for one in given]
    )

    assert list(found) == ["one", "two", "none", "constant"]
    assert found["one"] == found["two"] == {"rmse": 0, "mae": 0, "r2": 1}
    assert found["none"]["mae"] == 5
    assert found["constant"]["rmse"] == 4


@pytest.mark.parametrize(
    "given",
    [
        {"name": "model", "rounds": 1, "parameters": {}},
        {"name": "constant", "rounds": 1, "parameters": {}},
        {"name": "", "rounds": 1, "parameters": {}},
        {"name": 5, "rounds": 1, "parameters": {}},
        {"name": "theirs", "rounds": 0, "parameters": {}},
        {"name": "theirs", "rounds": True, "parameters": {}},
        {"name": "theirs", "rounds": 1, "parameters": []},
        {"name": "theirs", "rounds": 1},
        {"rounds": 1, "parameters": {}},
    ],
)
def test_a_reference_that_says_too_little_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(BadDataset, match="expected a name of its own, rounds, parameters"):
        Reference.of(given)
