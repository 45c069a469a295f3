"""Choose a booster's parameters by cross-validation, and fit it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from serving.contract import Contract, Task
from serving.settings import usable_cpus
from serving.training import BadJob

PATIENCE = 30
DEFAULT_ROUNDS = 100  # where a user gives other parameters only
OBJECTIVES = {
    Task.REGRESSION: ("reg:squarederror", "rmse"),
    Task.BINARY: ("binary:logistic", "logloss"),
    Task.MULTICLASS: ("multi:softprob", "mlogloss"),
}
GRID: Mapping[str, Sequence[float]] = {"max_depth": (5, 6), "eta": (0.02, 0.05)}
SHARED = {"subsample": 0.5, "colsample_bytree": 0.8}
# One thread a booster: the result must not depend on how many cores the machine has. Candidates run side by side.
SINGLE = {"nthread": 1, "tree_method": "hist"}

Parameters = Mapping[str, Any]
Grid = Mapping[str, Sequence[Any]]
Folds = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Search:
    """How thoroughly candidates are judged, and which: all combinations of a grid's values, without one ours.

    The folds are drawn twice: with few rows, one drawing alone ranks close candidates by luck.
    """

    folds: int = 5
    repeats: int = 2
    rounds: int = 1000
    grid: Grid | None = None

    @classmethod
    def of(cls, contract: Contract) -> Search:
        """What the data set's schema says in its section `search`. Raises `BadJob`."""
        given = contract.training.get("search", {})
        known = [field.name for field in fields(cls)]
        if unknown := sorted({*given} - {*known}):
            raise BadJob(f"search: expected {', '.join(known)}, got {unknown[0]}")
        for name, least in (("folds", 2), ("repeats", 1), ("rounds", 1)):
            if name in given and (type(given[name]) is not int or given[name] < least):
                raise BadJob(f"search, {name}: expected a whole number, at least {least}, got {given[name]!r}")
        grid = given.get("grid", {})
        if not isinstance(grid, dict) or not all(isinstance(values, list) and values for values in grid.values()):
            raise BadJob(f"search, grid: expected a list of values for each parameter, got {grid!r}")
        return cls(**given)

    def candidates(self, task: Task, target: NDArray[np.float64]) -> list[dict[str, Any]]:
        return candidates(task, target) if self.grid is None else _combinations(self.grid)


@dataclass(frozen=True)
class Candidate:
    """Parameters tried, with their cross-validated score (lower is better) and the rounds that reached it."""

    parameters: Parameters
    rounds: int
    score: float

    def as_dict(self) -> dict[str, Any]:
        return {"parameters": dict(self.parameters), "rounds": self.rounds, "score": round(self.score, 6)}


@dataclass(frozen=True)
class Learned:
    """A booster, the candidate it was made from, all that were tried, and the metric that chose."""

    booster: Any
    chosen: Candidate
    tried: tuple[Candidate, ...]
    metric: str
    search: Search = Search()

    def report(self) -> dict[str, Any]:
        tried = [candidate.as_dict() for candidate in self.tried]
        return {
            "metric": self.metric,
            "folds": self.search.folds,
            "repeats": self.search.repeats,
            "chosen": self.chosen.as_dict(),
            "tried": tried,
        }


def learn(
    features: NDArray[np.floating[Any]],
    target: NDArray[np.float64],
    contract: Contract,
    seed: int,
    progress: Progress = lambda _done, _of: None,
) -> Learned:
    """Choose parameters by cross-validation on these rows, then fit on all of them. `features`: rows x features."""
    search = Search.of(contract)
    grid = search.candidates(contract.task, target)
    base = base_parameters(contract, seed)
    folds = _folds(target, seed, search)
    tried: list[Candidate] = []
    pool = ThreadPoolExecutor(usable_cpus())
    try:
        jobs = [pool.submit(_cross_validate, base, p, features, target, folds, search.rounds) for p in grid]
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            progress(done, len(jobs))
        tried = [job.result() for job in jobs]
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted search starts no further candidate
    chosen = min(tried, key=lambda candidate: candidate.score)
    booster = fit(features, target, contract, chosen.parameters, chosen.rounds, seed)
    return Learned(booster, chosen, tuple(tried), str(base["eval_metric"]), search)


def candidates(task: Task, target: NDArray[np.float64]) -> list[dict[str, Any]]:
    """What the search tries. A regression of positive labels also tries the gamma loss, whose errors grow with them.

    `min_child_weight` adds up second derivatives, so each loss has a scale of its own.
    """
    losses: list[dict[str, Any]] = [{"min_child_weight": 1}]
    if task is Task.REGRESSION:
        losses = [{"objective": OBJECTIVES[task][0], "min_child_weight": 20}]
        losses += [{"objective": "reg:gamma", "min_child_weight": 1}] if target.min() > 0 else []
    return [{**loss, **values, **SHARED} for loss in losses for values in _combinations(GRID)]


def _combinations(grid: Grid) -> list[dict[str, Any]]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def fit(
    features: NDArray[np.floating[Any]],
    target: NDArray[np.float64],
    contract: Contract,
    parameters: Parameters,
    rounds: int,
    seed: int,
) -> Any:  # noqa: ANN401 - xgboost.Booster is untyped
    """A booster of `rounds` rounds that knows its feature names."""
    for name in contract.features:
        if any(sign in name for sign in "[]<"):
            raise BadJob(f"feature {name}: expected a name without [, ] and <, which XGBoost refuses; rename it")
    data = _matrix(features, target, list(contract.features))
    return xgboost.train({**base_parameters(contract, seed), **parameters}, data, rounds)


def base_parameters(contract: Contract, seed: int) -> dict[str, Any]:
    objective, metric = OBJECTIVES[contract.task]
    classes = len(contract.label.categories) if contract.label else 0
    several = {"num_class": classes} if contract.task is Task.MULTICLASS else {}
    return {**SINGLE, "objective": objective, "eval_metric": metric, "seed": seed, **several}


def learn_given(
    features: NDArray[Any], target: NDArray[np.float64], contract: Contract, seed: int, given: Parameters
) -> Learned:
    """A booster with a user's parameters, and its cross-validated score in as many rounds."""
    parameters = {name: value for name, value in given.items() if name != "num_round"}
    rounds = int(given.get("num_round", DEFAULT_ROUNDS))
    if rounds < 1:
        raise BadJob(f"hyperparameter num_round: expected at least 1, got {rounds}")
    base = base_parameters(contract, seed)
    scores = _scores(base, parameters, features, target, _folds(target, seed, Search()), rounds)
    chosen = Candidate(parameters, rounds, scores[-1])
    booster = fit(features, target, contract, parameters, rounds, seed)
    return Learned(booster, chosen, (chosen,), str(base["eval_metric"]))


def _folds(target: NDArray[np.float64], seed: int, search: Search) -> Folds:
    """Rows to learn from and rows to judge by, once a fold; every fold has its share of each label.

    Made here, since `xgboost.cv` would draw them from numpy's global generator, which the threads share, and
    would need scikit-learn, which the predictor's image lacks, to give every fold its share.
    """
    generator = np.random.default_rng(seed)
    count = min(search.folds, len(target))
    folds = []
    for _ in range(search.repeats):
        shuffled = generator.permutation(len(target))
        by_label = shuffled[np.argsort(target[shuffled], kind="stable")]
        folds += [np.sort(by_label[fold::count]) for fold in range(count)]
    return [(np.setdiff1d(shuffled, judged), judged) for judged in folds]


def _cross_validate(
    base: Parameters, parameters: Parameters, features: NDArray[Any], target: NDArray[np.float64], folds: Folds,
    rounds: int,
) -> Candidate:  # fmt: skip
    scores = _scores(base, parameters, features, target, folds, rounds, PATIENCE)
    best = int(np.argmin(scores))
    return Candidate(parameters, best + 1, scores[best])


def _scores(
    base: Parameters, parameters: Parameters, features: NDArray[Any], target: NDArray[np.float64], folds: Folds,
    rounds: int, patience: int | None = None,
) -> list[float]:  # fmt: skip
    """The mean score over the folds after each round."""
    history: dict[str, Any] = xgboost.cv(
        {**base, **parameters}, _matrix(features, target), rounds, folds=folds,
        early_stopping_rounds=patience, seed=base["seed"], as_pandas=False,
    )  # fmt: skip
    return [float(score) for score in history[f"test-{base['eval_metric']}-mean"]]


def _matrix(features: NDArray[Any], target: NDArray[np.float64], names: list[str] | None = None) -> Any:  # noqa: ANN401
    return xgboost.DMatrix(np.asarray(features, dtype=np.float32), target, feature_names=names, nthread=1)
