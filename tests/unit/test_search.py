"""The search for parameters: which it tries, on which rows it judges them, and which it takes."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import xgboost

from predictor import search
from predictor.search import Search, candidates, learn, learn_given
from serving.contract import Column, ColumnType, Contract, Task
from serving.training import BadJob

RANDOM = np.random.default_rng(4)
FEATURES = RANDOM.normal(size=(60, 2))
TARGET = FEATURES @ [2.0, -1.0] + RANDOM.normal(size=60) / 4


def contract(task: Task = Task.REGRESSION, classes: tuple[str, ...] = (), **training: Any) -> Contract:
    columns = (Column("x", ColumnType.NUMERIC), Column("y", ColumnType.LABEL, classes))
    return Contract("t", task, columns, ("a", "b"), training)


def folds_of(target: Any, seed: int = 1, **options: int) -> Any:
    return search._folds(np.asarray(target, dtype=np.float64), seed, Search(**options))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"fold": 5}, "search: expected folds, repeats, rounds, grid, got fold"),
        ({"folds": 1}, "search, folds: expected a whole number, at least 2, got 1"),
        ({"folds": "5"}, "search, folds: expected a whole number, at least 2, got '5'"),
        ({"repeats": 0}, "search, repeats: expected a whole number, at least 1, got 0"),
        ({"rounds": 0}, "search, rounds: expected a whole number, at least 1, got 0"),
        ({"rounds": True}, "search, rounds: expected a whole number, at least 1, got True"),
        ({"grid": []}, r"search, grid: expected a list of values for each parameter, got \[\]"),
        ({"grid": {"eta": 0.1}}, "search, grid: expected a list of values for each parameter"),
        ({"grid": {"eta": []}}, "search, grid: expected a list of values for each parameter"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadJob, match=reason):
        Search.of(contract(search=given))


def test_the_least_search_is_taken_and_none_is_ours() -> None:
    least = {"folds": 2, "repeats": 1, "rounds": 1}

    assert Search.of(contract(search=least)) == Search(**least)
    assert Search.of(contract()) == Search(folds=5, repeats=2, rounds=1000, grid=None)


@pytest.mark.parametrize(
    ("rows", "folds", "repeats", "expected"), [(20, 5, 2, 10), (21, 4, 1, 4), (3, 5, 2, 6), (2, 2, 1, 2)]
)
def test_every_row_is_judged_once_by_a_booster_that_never_saw_it(
    rows: int, folds: int, repeats: int, expected: int
) -> None:
    made = folds_of(range(rows), folds=folds, repeats=repeats)

    assert len(made) == expected
    for learned, judged in made:
        assert sorted([*learned, *judged]) == list(range(rows))
    assert Counter(row for _, judged in made for row in judged.tolist()) == dict.fromkeys(range(rows), repeats)


def test_every_fold_has_its_share_of_each_label() -> None:
    labels = np.repeat([0, 1, 2], [10, 15, 25])

    shares = {tuple(np.bincount(labels[judged])) for _, judged in folds_of(labels, folds=5, repeats=3)}

    assert shares == {(2, 3, 5)}


def test_folds_of_equal_labels_are_of_their_seed_and_drawn_anew_each_time() -> None:
    first, again, other = (
        [judged.tolist() for _, judged in folds_of([0, 1] * 10, seed, folds=4, repeats=2)] for seed in (1, 1, 2)
    )

    assert first == again != other
    assert first[:4] != first[4:]


def test_a_regression_of_positive_labels_tries_the_gamma_loss_too() -> None:
    def losses(task: Task, *target: float) -> Counter[Any]:
        return Counter((one.get("objective"), one["min_child_weight"]) for one in candidates(task, np.array(target)))

    squared, gamma = ("reg:squarederror", 20), ("reg:gamma", 1)
    assert losses(Task.REGRESSION, 0.5, 2) == {squared: 4, gamma: 4}
    assert losses(Task.REGRESSION, 0, 2) == {squared: 4}
    assert losses(Task.BINARY, 0, 1) == {(None, 1): 4}
    tried = [tuple(one.items()) for one in candidates(Task.BINARY, np.array([0, 1]))]
    assert len(set(tried)) == 4
    assert {(one["subsample"], one["colsample_bytree"]) for one in map(dict, tried)} == {(0.5, 0.8)}


def test_a_grid_is_tried_in_all_combinations() -> None:
    grid = Search(grid={"max_depth": [2, 3], "eta": [0.1, 0.3]}).candidates(Task.REGRESSION, TARGET)

    assert grid == [{"max_depth": depth, "eta": eta} for depth in (2, 3) for eta in (0.1, 0.3)]


def test_the_best_candidate_is_fitted_to_all_rows_in_its_best_rounds() -> None:
    """Both are computed once more, by XGBoost alone."""
    quick = {"folds": 3, "repeats": 1, "rounds": 40, "grid": {"max_depth": [1, 3], "eta": [0.5]}}
    progress: list[tuple[int, int]] = []

    learned = learn(FEATURES, TARGET, contract(search=quick), 5, lambda done, of: progress.append((done, of)))

    base = {"objective": "reg:squarederror", "eval_metric": "rmse", "tree_method": "hist", "nthread": 1, "seed": 5}
    folds = folds_of(TARGET, 5, folds=3, repeats=1)
    data = xgboost.DMatrix(FEATURES, TARGET, feature_names=["a", "b"])
    found = {}
    for depth in (1, 3):
        given = {**base, "max_depth": depth, "eta": 0.5}
        scores = xgboost.cv(given, data, 40, folds=folds, seed=5, as_pandas=False)["test-rmse-mean"]
        found[depth] = (min(scores), scores.index(min(scores)) + 1)
    depth, (score, rounds) = min(found.items(), key=lambda one: one[1])
    expected = xgboost.train({**base, "max_depth": depth, "eta": 0.5}, data, rounds)
    assert [(one.parameters["max_depth"], one.score, one.rounds) for one in learned.tried] == [
        (depth, *values) for depth, values in found.items()
    ]
    assert (learned.chosen.parameters["max_depth"], learned.chosen.score, learned.chosen.rounds) == (
        depth,
        score,
        rounds,
    )
    assert 1 < rounds < 40
    assert learned.booster.save_raw() == expected.save_raw()
    assert json.loads(learned.booster.save_config())["learner"]["generic_param"]["nthread"] == "1"
    assert learned.report() == {
        "metric": "rmse", "folds": 3, "repeats": 1, "chosen": learned.chosen.as_dict(),
        "tried": [one.as_dict() for one in learned.tried],
    }  # fmt: skip
    assert sorted(progress) == [(1, 2), (2, 2)]


def test_a_users_parameters_are_judged_in_as_many_rounds_as_they_say() -> None:
    some = learn_given(FEATURES, TARGET, contract(), 1, {"max_depth": 2, "num_round": 7})
    one = learn_given(FEATURES, TARGET, contract(), 1, {"max_depth": 2, "num_round": 1})
    default = learn_given(FEATURES, TARGET, contract(), 1, {"max_depth": 2})

    assert [made.booster.num_boosted_rounds() for made in (some, one, default)] == [7, 1, 100]
    assert [made.chosen.rounds for made in (some, one, default)] == [7, 1, 100]
    assert some.chosen.parameters == {"max_depth": 2}
    assert some.chosen.score < one.chosen.score
    assert some.tried == (some.chosen,)
    with pytest.raises(BadJob, match="num_round: expected at least 1, got 0"):
        learn_given(FEATURES, TARGET, contract(), 1, {"num_round": 0})


@pytest.mark.parametrize(
    ("task", "classes", "metric"),
    [(Task.BINARY, ("n", "y"), "logloss"), (Task.MULTICLASS, ("a", "b", "c"), "mlogloss")],
)
def test_a_classification_is_of_as_many_classes_as_the_contract_names(
    task: Task, classes: tuple[str, ...], metric: str
) -> None:
    target = np.arange(60.0) % len(classes)

    learned = learn_given(FEATURES, target, contract(task, classes), 1, {"num_round": 2})

    answers = learned.booster.predict(xgboost.DMatrix(FEATURES, feature_names=["a", "b"]))
    assert answers.shape == ((60,) if task is Task.BINARY else (60, 3))
    assert learned.metric == metric


@pytest.mark.parametrize("name", ["a[0", "a]0", "a<0"])
def test_a_feature_name_that_xgboost_cannot_hold_is_refused(name: str) -> None:
    wrong = Contract("t", Task.REGRESSION, contract().columns, ("fine", name), {})

    with pytest.raises(BadJob, match="expected a name without"):
        search.fit(FEATURES, TARGET, wrong, {}, 1, 1)


def test_a_candidate_is_given_up_after_30_rounds_that_were_no_better(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def scored(*_: Any, **how: Any) -> dict[str, list[float]]:
        asked.append(how)
        return {"test-rmse-mean": [2.0, 1.23456789, 1.5]}

    monkeypatch.setattr(xgboost, "cv", scored)
    few = {"grid": {"max_depth": [1]}}

    chosen = learn(FEATURES, TARGET, contract(search=few), 5).chosen
    learn_given(FEATURES, TARGET, contract(), 5, {"num_round": 3})

    assert chosen.as_dict() == {"parameters": {"max_depth": 1}, "rounds": 2, "score": 1.234568}
    assert [how["early_stopping_rounds"] for how in asked] == [30, None]  # a user's rounds are all gone through
