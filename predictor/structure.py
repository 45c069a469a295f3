"""What XGBoost does not check of a model's JSON: that all its counts, lengths and indices agree.

XGBoost reads a model as it stands, and says that it will not be hardened: with an index out of its range it crashes,
and with a child that is its own ancestor it never answers. Whoever can forge a model can forge its manifest, so a
digest does not stand in for this. What passes is written anew from what was read here: there are no two readings of it.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from predictor.forest import Malformed, check_forest, count, integers, numbers
from serving.contract import Contract, Task
from serving.errors import BadArtifact, cut

LARGEST_CLASSES = 100_000
_NUMBER = re.compile(r"-?[0-9]{1,50}(\.[0-9]{1,50})?([eE][+-]?[0-9]{1,3})?")
# Those whose predictions are what the outputs take them for: a number, a probability, one of each class.
OBJECTIVES = {
    Task.REGRESSION: (
        "reg:squarederror", "reg:squaredlogerror", "reg:absoluteerror", "reg:pseudohubererror", "reg:quantileerror",
        "reg:gamma", "reg:tweedie", "reg:logistic", "count:poisson",
    ),
    Task.BINARY: ("binary:logistic",),
    Task.MULTICLASS: ("multi:softprob",),
}  # fmt: skip


def checked(document: bytes, contract: Contract, name: str) -> bytes:
    """The model to give to XGBoost. Raises `BadArtifact` naming the field that is wrong."""
    try:
        model = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise BadArtifact(f"{name} is not a model in XGBoost's JSON: {error}") from error
    try:
        _check_model(model, contract)
    except Malformed as error:
        raise BadArtifact(f"{name}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise BadArtifact(f"{name} is not a model in XGBoost's JSON: {cut(repr(error), 200)}") from error
    return orjson.dumps(model)


def _check_model(model: Any, contract: Contract) -> None:  # noqa: ANN401
    version = integers(model["version"], "version")
    if len(version) != 3 or version.min() < 0:
        raise Malformed(f"version: expected three numbers, got {cut(model['version'])}")
    learner = model["learner"]
    parameters = learner["learner_model_param"]
    features = count(parameters, "num_feature")
    if learner["feature_names"] != list(contract.features) or not features == len(contract.features) > 0:
        raise Malformed(
            f"feature_names: expected the contract's {len(contract.features)}, {cut(', '.join(contract.features))}; "
            f"got num_feature {features}, {cut(learner['feature_names'])}"
        )
    if not set(learner.get("feature_types", ())) <= {"float", "int", "i", "q"}:
        raise Malformed(f"feature_types: expected numbers, got {cut(learner['feature_types'])}")
    if not all(isinstance(text, str) for text in learner.get("attributes", {}).values()):
        raise Malformed("attributes: expected texts")
    groups = _check_groups(parameters, learner["objective"], contract)
    _check_booster(learner["gradient_booster"], features, groups)


def _check_groups(parameters: Any, objective: Any, contract: Contract) -> int:  # noqa: ANN401
    """How many numbers the model computes for a row."""
    if objective["name"] not in OBJECTIVES[contract.task]:
        expected = f"one of {', '.join(OBJECTIVES[contract.task])} for a {contract.task.value} model"
        raise Malformed(f"objective: expected {expected}, got {cut(objective['name'])}")
    classes, targets = count(parameters, "num_class"), count(parameters, "num_target")
    named = len(contract.label.categories) if contract.label else 0
    if contract.task is Task.MULTICLASS:
        fits = 2 <= classes <= LARGEST_CLASSES and classes == (named or classes)
        fits = fits and classes == count(objective["softmax_multiclass_param"], "num_class")
    else:
        fits = classes <= 1 and (contract.task is not Task.BINARY or named in (0, 2))
    if not fits or targets != 1:
        told = f"{classes}, {targets} for a {contract.task.value} model of {named} named classes"
        raise Malformed(f"num_class, num_target: got {told}")
    groups = max(1, classes)
    _check_base_score(parameters["base_score"], groups)
    return groups


def _check_base_score(text: str, groups: int) -> None:
    """A number in text, or since XGBoost 3.1 a list of one, or of one for each class."""
    scores = text[1:-1].split(",") if text.startswith("[") and text.endswith("]") else [text]
    if len(scores) not in (1, groups) or not all(_NUMBER.fullmatch(score) for score in scores):
        raise Malformed(f"base_score: expected one number or {groups}, got {cut(text)}")
    numbers([float(score) for score in scores], "base_score")


def _check_booster(booster: Any, features: int, groups: int) -> None:  # noqa: ANN401
    kind = booster["name"]
    if kind == "gbtree":
        check_forest(booster["model"], features, groups)
    elif kind == "dart":
        trees = check_forest(booster["gbtree"]["model"], features, groups)
        _same("weight_drop", len(numbers(booster["weight_drop"], "weight_drop")), trees)
    elif kind == "gblinear":
        weights = numbers(booster["model"]["weights"], "weights")
        _same("weights", len(weights), (features + 1) * groups)
    else:
        raise Malformed(f"gradient_booster: expected gbtree, dart or gblinear, got {cut(kind)}")


def _same(field: str, got: int, expected: int) -> None:
    if got != expected:
        raise Malformed(f"{field}: expected {expected}, got {got}")
