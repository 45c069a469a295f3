"""What XGBoost does not check of a model's JSON: that all its counts, lengths and indices agree.

XGBoost reads a model as it stands, and says that it will not be hardened: with an index out of its range it crashes,
and with a child that is its own ancestor it never answers. Whoever can forge a model can forge its manifest, so a
digest does not stand in for this. What passes is written anew from what was read here: there are no two readings of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from predictor.forest import Malformed, check_forest, count, integers, numbers
from serving.contract import Contract, Task
from serving.errors import BadArtifact, cut

LARGEST_CLASSES = 100_000
_READER = "XGBoost 3.1"
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
# The fields that XGBoost 3.1 reads, and those of older versions that changed no answer; of another one its writer would
# make something that the reader does not, as the weights of dropout that XGBoost 3.3 moved.
_TREES = {
    "gbtree_model_param": dict.fromkeys(("num_trees", "num_parallel_tree", "size_leaf_vector")),
    "trees": None, "tree_info": None, "iteration_indptr": None, "cats": None,
}  # fmt: skip
_BOOSTERS: dict[str, dict[str, Any]] = {
    "gbtree": {"name": None, "model": _TREES},
    "dart": {"name": None, "gbtree": {"name": None, "model": _TREES}, "weight_drop": None},
    "gblinear": {"name": None, "model": {"weights": None, "boosted_rounds": None}},
}
_PARAMETERS = {"base_score", "num_class", "num_feature", "num_target", "boost_from_average"}
_TREE = {
    "base_weights", "categories", "categories_nodes", "categories_segments", "categories_sizes", "default_left", "id",
    "left_children", "loss_changes", "parents", "right_children", "split_conditions", "split_indices", "split_type",
    "sum_hessian", "tree_param", "leaf_child_counts",
}  # fmt: skip
_TREE_PARAMETERS = {"num_deleted", "num_feature", "num_nodes", "size_leaf_vector"}
_OBJECTIVE = {
    "name": None, "reg_loss_param": {"scale_pos_weight": None}, "softmax_multiclass_param": {"num_class": None},
    "tweedie_regression_param": {"tweedie_variance_power": None}, "quantile_loss_param": {"quantile_alpha": None},
    "poisson_regression_param": {"max_delta_step": None}, "pseduo_huber_param": {"huber_slope": None},
    "pseudo_huber_param": {"huber_slope": None},
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


def check_fields(model: Any) -> None:  # noqa: ANN401
    """Raise `Malformed` for a field that is not known, and for what newer versions read otherwise than its writer."""
    learner = model["learner"]
    booster, objective = learner["gradient_booster"], learner["objective"]
    known = {
        "attributes": None, "feature_names": None, "feature_types": None,
        "learner_model_param": dict.fromkeys(_PARAMETERS),
        "gradient_booster": _BOOSTERS.get(booster["name"]), "objective": _OBJECTIVE,
    }  # fmt: skip
    if objective["name"] not in {name for names in OBJECTIVES.values() for name in names}:
        known["objective"] = None  # it is refused by its name
    _refuse_unknown(model, {"version": None, "learner": known}, "")
    if booster["name"] == "gblinear" and "boosted_rounds" not in booster["model"]:
        raise Malformed("boosted_rounds: expected it; of a linear model written before XGBoost 1.5 answers are others")
    for number, tree in enumerate(booster.get("gbtree", booster)["model"].get("trees", ())):
        for field in sorted((tree.keys() - _TREE) | (tree["tree_param"].keys() - _TREE_PARAMETERS)):
            raise Malformed(f"{cut(field)} of tree {number}: expected no such field, which {_READER} does not know")


def _refuse_unknown(found: Any, known: Mapping[str, Any], place: str) -> None:  # noqa: ANN401
    for field, value in found.items():
        where = f"{place}.{field}".lstrip(".")
        if field not in known:
            raise Malformed(f"{cut(where)}: expected no such field, which {_READER} does not know")
        if known[field] is not None:
            _refuse_unknown(value, known[field], where)


def _check_model(model: Any, contract: Contract) -> None:  # noqa: ANN401
    check_fields(model)
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
