"""How the predictor's parameters are chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xgboost

from predictor.search import Search, _folds, candidates, learn, learn_given
from serving.contract import Column, ColumnType, Contract, Task
from serving.training import BadJob

FEATURES = np.random.default_rng(5).normal(size=(80, 2))
TARGET = np.exp(FEATURES[:, 0] + np.random.default_rng(6).normal(size=80))
COLUMNS = (Column("a", ColumnType.NUMERIC), Column("b", ColumnType.NUMERIC), Column("y", ColumnType.LABEL))
SEARCH = {"folds": 2, "repeats": 2, "rounds": 40, "grid": {"max_depth": [2], "eta": [0.3, 0.05]}}
CONTRACT = Contract("made", Task.REGRESSION, COLUMNS, ("a", "b"), {"search": SEARCH})


@pytest.mark.parametrize(
    ("search", "reason"),
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
def test_a_search_that_cannot_be_made_is_refused(search: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadJob, match=reason):
        Search.of(replace(CONTRACT, training={"search": search}))


def test_the_least_search_is_taken_and_none_is_ours() -> None:
    least = {"folds": 2, "repeats": 1, "rounds": 1}

    assert Search.of(replace(CONTRACT, training={"search": least})) == Search(**least)
    assert Search.of(replace(CONTRACT, training={})) == Search()


@pytest.mark.parametrize(("task", "least", "losses"), [
    (Task.REGRESSION, 0.1, ["reg:gamma", "reg:squarederror"]),
    (Task.REGRESSION, 0.0, ["reg:squarederror"]),
    (Task.BINARY, 0.1, []),
])  # fmt: skip
def test_the_gamma_loss_is_tried_where_every_label_is_positive(task: Task, least: float, losses: list[str]) -> None:
    tried = candidates(task, np.array([least, 1.0]))

    assert sorted({one["objective"] for one in tried if "objective" in one}) == losses
    assert len(tried) == 4 * max(1, len(losses))
    assert len({str(one) for one in tried}) == len(tried)


@pytest.mark.parametrize(("rows", "folds"), [(60, 5), (3, 3)])
def test_every_row_is_judged_by_once_and_every_fold_has_its_share_of_each_label(rows: int, folds: int) -> None:
    target = np.arange(rows) % 3

    drawn = _folds(target.astype(float), 1, Search(folds=5, repeats=2))

    assert len(drawn) == 2 * folds
    for learned_from, judged_by in drawn:
        assert sorted([*learned_from, *judged_by]) == list(range(rows))
        counts = np.bincount(target[judged_by], minlength=3)
        assert counts.max() - counts.min() <= 1
    for repeat in (drawn[:folds], drawn[folds:]):
        assert sorted(np.concatenate([judged for _, judged in repeat])) == list(range(rows))
    assert rows < 9 or {str(judged) for _, judged in drawn[:folds]} != {str(judged) for _, judged in drawn[folds:]}


def test_the_candidate_of_the_best_score_is_fitted_in_the_rounds_that_reached_it() -> None:
    progress: list[tuple[int, int]] = []
    data = xgboost.DMatrix(FEATURES.astype(np.float32), TARGET)

    learned = learn(FEATURES, TARGET, CONTRACT, 3, lambda done, of: progress.append((done, of)))

    folds = _folds(TARGET, 3, Search(**SEARCH))
    for eta, tried in zip((0.3, 0.05), learned.tried, strict=True):
        parameters = {"tree_method": "hist", "nthread": 1, "seed": 3, "max_depth": 2, "eta": eta, "eval_metric": "rmse"}
        scores = xgboost.cv(parameters, data, 40, folds=folds, as_pandas=False, seed=3)["test-rmse-mean"]
        assert tried.parameters == {"max_depth": 2, "eta": eta}
        assert (tried.rounds, tried.score) == (int(np.argmin(scores)) + 1, min(scores))
    assert learned.chosen == min(learned.tried, key=lambda candidate: candidate.score)
    assert learned.booster.num_boosted_rounds() == learned.chosen.rounds < 40
    assert progress == [(1, 2), (2, 2)]
    report = learned.report()
    assert (report["metric"], report["folds"], report["repeats"]) == ("rmse", 2, 2)
    assert report["chosen"] in report["tried"]


@pytest.mark.parametrize(("given", "rounds"), [({"num_round": 1, "eta": 0.5}, 1), ({"eta": 0.5}, 100)])
def test_parameters_that_a_user_gives_are_scored_in_as_many_rounds(given: dict[str, float], rounds: int) -> None:
    learned = learn_given(FEATURES, TARGET, CONTRACT, 3, given)

    assert learned.booster.num_boosted_rounds() == learned.chosen.rounds == rounds
    assert learned.chosen.parameters == {"eta": 0.5}
    folds = _folds(TARGET, 3, Search())
    data = xgboost.DMatrix(FEATURES.astype(np.float32), TARGET)
    scores = xgboost.cv({"eta": 0.5, "seed": 3, "nthread": 1}, data, rounds, folds=folds, as_pandas=False)
    assert learned.chosen.score == scores["test-rmse-mean"][-1]
