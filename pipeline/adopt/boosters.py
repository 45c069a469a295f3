"""A booster in any of XGBoost's formats, as far as the predictor can serve it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from pipeline.adopt.booster_files import loaded
from pipeline.adopt.pickles import BEGINNINGS, PICKLE, read_bytes, unpickled
from predictor.structure import OBJECTIVES
from serving.contract import Task
from serving.errors import cut
from serving.training import BadJob

TASKS = {objective: task for task, objectives in OBJECTIVES.items() for objective in objectives}
# What answers something else than the outputs take it for, and what has the same trees and does not.
INSTEAD = {"multi:softmax": "multi:softprob", "binary:logitraw": "binary:logistic", "binary:hinge": "binary:logistic"}
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Given:
    """A booster as it was given, and the part of its rounds that answers; 0: all of them."""

    file: Path
    booster: Any  # xgboost.Booster
    rounds: int
    classes: tuple[str, ...] = ()  # names of a pickled classifier's classes

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.booster.feature_names or ())

    @property
    def as_its_model(self) -> bool:
        """Whether XGBModel.predict gives the bits of `Booster.predict`: not so dart, which it predicts in place."""
        return _kind(self.booster) != "dart"

    def predict(self, features: Any) -> Matrix:  # noqa: ANN401 - an array or a sparse matrix
        """What XGBoost's Python package answers."""
        data = xgboost.DMatrix(features, feature_names=self.booster.feature_names, nthread=1)
        answer: Matrix = self.booster.predict(data, iteration_range=(0, self.rounds))
        return answer

    def served(self, names: Sequence[str]) -> Any:  # noqa: ANN401
        """The booster that goes into the artifact: the rounds that answer, and these names of its features."""
        booster = self.booster[: self.rounds] if self.rounds else self.booster.copy()
        booster.feature_names = list(names)
        return booster


@dataclass(frozen=True)
class Shape:
    """What a booster takes and gives."""

    task: Task
    objective: str
    features: int
    classes: int
    trees: list[Any]


def read_booster(path: Path, trees: str = "", *, allow_pickle: bool = False) -> Given:
    """Read a file of `save_model`, or with `allow_pickle` a pickled Booster or XGBModel. Raises `BadJob`.

    `trees`: `best` for the rounds that early stopping found best, `all`. Without it the file answers as what was saved
    does: `XGBModel.predict` stops at the best round, `Booster.predict` goes through all.
    """
    content = read_bytes(path)
    if content.startswith(BEGINNINGS):
        if not allow_pickle:
            kind = "a pickle" if content.startswith(PICKLE) else "compressed bytes: unpack them, or is it a pickle?"
            raise BadJob(
                f"{path}: expected a file of save_model, got {kind}. To read one runs code of whoever wrote it: "
                "give --allow-pickle if you trust it, or save the model with save_model('model.json')"
            )
        return given(path, unpickled(path), trees)
    return given(path, loaded(path, content), trees)


def given(path: Path, model: Any, trees: str = "") -> Given:  # noqa: ANN401
    """A Booster or a fitted XGBModel. Raises `BadJob`."""
    if isinstance(model, xgboost.Booster):
        return Given(path, model, _rounds(path, model, trees or ("best" if model.attr("scikit_learn") else "all")))
    if not isinstance(model, xgboost.XGBModel):
        raise BadJob(f"{path}: expected a Booster or an XGBModel, got {type(model).__module__}.{type(model).__name__}")
    if model.missing is not None and not np.isnan(model.missing):
        raise BadJob(f"{path}: expected missing values to be NaN, as in serving, got missing={model.missing!r}")
    if not model.__sklearn_is_fitted__():
        raise BadJob(f"{path}: expected a fitted {type(model).__name__}, got one that is not")
    classes = tuple(map(str, model.classes_)) if hasattr(model, "classes_") else ()
    return Given(path, model.get_booster(), _rounds(path, model.get_booster(), trees or "best"), classes)


def _rounds(path: Path, booster: Any, trees: str) -> int:  # noqa: ANN401
    best = booster.attr("best_iteration")
    if trees == "all" or best is None or _kind(booster) == "gblinear":
        return 0
    if not best.isdecimal() or int(best) >= booster.num_boosted_rounds():
        raise BadJob(f"{path}: expected a best_iteration among {booster.num_boosted_rounds()} rounds, got {cut(best)}")
    return int(best) + 1


def _kind(booster: Any) -> str:  # noqa: ANN401
    return str(json.loads(booster.save_config())["learner"]["gradient_booster"]["name"])


def shape_of(given: Given) -> Shape:
    """What serving has to know. Raises `BadJob` for what it cannot serve."""
    learner = json.loads(given.booster.save_raw("json"))["learner"]
    parameters, objective = learner["learner_model_param"], learner["objective"]["name"]
    if objective not in TASKS:
        other = f": train it with {INSTEAD[objective]}, which gives probabilities" if objective in INSTEAD else ""
        raise BadJob(f"{given.file}: expected objective {', '.join(TASKS)}; got {objective}{other}")
    if (targets := int(parameters.get("num_target", 1))) > 1:
        raise BadJob(f"{given.file}: expected a model of one target, got {targets} targets")
    if categorical := [n for n, kind in enumerate(learner.get("feature_types", ())) if kind == "c"]:
        shown = given.names[categorical[0]] if given.names else f"f{categorical[0]}"
        raise BadJob(
            f"{given.file}: expected numeric features, got {shown}, which is categorical in the booster: "
            "encode it in the featurizer, and train on numbers"
        )
    task = TASKS[objective]
    classes = {Task.BINARY: 2, Task.MULTICLASS: int(parameters["num_class"])}.get(task, 0)
    return Shape(task, objective, int(parameters["num_feature"]), classes, _trees(learner["gradient_booster"]))


def _trees(gradient_booster: Any) -> list[Any]:  # noqa: ANN401
    forest = gradient_booster.get("gbtree", gradient_booster)["model"]
    return list(forest.get("trees", ()))  # gblinear has none


def zeros_are_as_missing(trees: Sequence[Any]) -> bool:
    """Whether every split sends 0 where it sends a missing value: a sparse matrix and a dense one are the same then."""
    return all(
        (threshold > 0) == bool(left)
        for tree in trees
        for threshold, left, child in zip(
            tree["split_conditions"], tree["default_left"], tree["left_children"], strict=True
        )
        if child != -1
    )
