"""What of a model's JSON is looked at before XGBoost reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from predictor.booster import Booster
from predictor.forest import DEEPEST, Malformed, count, numbers
from predictor.model import MODEL, Predictor
from predictor.structure import _check_groups, checked
from serving import artifact
from serving.contract import FILE, Column, ColumnType, Contract, Task
from serving.errors import BadArtifact, ServingError
from serving.payload import Payload

NAMES = ("a", "b", "c")
ROWS = np.random.default_rng(3).normal(size=(400, 3)).astype(np.float32)
REGRESSION = Contract("made", Task.REGRESSION, (), NAMES, {})
CLASSES = (Column("label", ColumnType.LABEL, ("x", "y", "z")),)
SOUND: dict[str, tuple[dict[str, Any], Contract]] = {
    "regression": ({"objective": "reg:squarederror"}, REGRESSION),
    "pruned": (
        {"objective": "reg:squarederror", "tree_method": "exact", "updater": "grow_colmaker,prune", "gamma": 1.0},
        REGRESSION,
    ),
    "leafwise": ({"objective": "reg:absoluteerror", "grow_policy": "lossguide", "max_leaves": 9}, REGRESSION),
    "forest": ({"objective": "count:poisson", "num_parallel_tree": 3, "subsample": 0.5}, REGRESSION),
    "dart": (
        {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.3},
        replace(REGRESSION, task=Task.BINARY),
    ),
    "linear": ({"objective": "reg:squarederror", "booster": "gblinear"}, REGRESSION),
    "multiclass": (
        {"objective": "multi:softprob", "num_class": 3},
        replace(REGRESSION, task=Task.MULTICLASS, columns=CLASSES),
    ),
}


def trained(name: str) -> xgboost.Booster:
    parameters, contract = SOUND[name]
    classes = {Task.REGRESSION: 0, Task.BINARY: 2, Task.MULTICLASS: 3}[contract.task]
    target = np.digitize(ROWS[:, 0], [-0.5, 0.5])[:] % classes if classes else np.exp(ROWS[:, 0])
    data = xgboost.DMatrix(ROWS, target, feature_names=list(NAMES))
    return xgboost.train({"max_depth": 4, "nthread": 1, "verbosity": 0, **parameters}, data, 6)


@pytest.mark.parametrize("name", SOUND)
def test_a_model_that_passed_predicts_as_before_to_the_bit(name: str) -> None:
    booster = trained(name)

    passed = checked(bytes(booster.save_raw("json")), SOUND[name][1], "model.json")

    ours, theirs = Booster(passed).predict(ROWS), booster.predict(xgboost.DMatrix(ROWS, feature_names=list(NAMES)))
    assert ours.tobytes() == theirs.tobytes()


def put(*path: Any) -> Callable[[Any], None]:
    """Write the last of `path` where the others lead; numbers lead into the first tree's field."""
    *names, last, value = path

    def change(model: Any) -> None:
        for name in names:
            model = model[name]
        model[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("version", [3, 0, 0]),
        put("learner", "feature_types", ["float", "int", "q"]),
        put("learner", "attributes", {"best_score": "5"}),
        put("learner", "learner_model_param", "base_score", "5E-1"),
    ],
    ids=["version", "feature types", "attributes", "base score of older versions"],
)
def test_what_a_sound_model_may_have_passes(change: Callable[[Any], None], regression: bytes) -> None:
    model = json.loads(regression)
    change(model)

    assert json.loads(checked(json.dumps(model).encode(), REGRESSION, "model.json")) == model


def test_pruned_trees_are_among_the_sound_ones() -> None:
    model = json.loads(trained("pruned").save_raw("json"))

    assert any(tree["tree_param"]["num_deleted"] != "0" for tree in trees(model))


def trees(model: Any) -> list[Any]:
    found: list[Any] = model["learner"]["gradient_booster"]["model"]["trees"]
    return found


TREE = ("learner", "gradient_booster", "model", "trees", 1)
FOREST = TREE[:3]
LEARNER = ("learner", "learner_model_param")


def both(*changes: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda model: [change(model) for change in changes] and None


def drop(field: str) -> Callable[[Any], None]:
    return lambda model: trees(model)[1][field].pop() and None


WRONG: dict[str, tuple[Callable[[Any], None], str]] = {
    "a child behind the last node": (put(*TREE, "left_children", 0, 10**6), "left_children of tree 1, node 0"),
    "a child below zero": (put(*TREE, "right_children", 0, -2), "right_children of tree 1, node 0"),
    "a node that is its own child": (put(*TREE, "left_children", 0, 0), "left_children of tree 1, node 0"),
    "a child that is above": (put(*TREE, "left_children", 1, 2), "of tree 1"),
    "half a leaf": (put(*TREE, "left_children", 0, -1), "right_children of tree 1, node 0: expected -1"),
    "another parent": (put(*TREE, "parents", 2, 1), "parents of tree 1, node 2"),
    "a root with a parent": (put(*TREE, "parents", 0, 0), "parents of tree 1, node 0"),
    "a feature that is none": (
        put(*TREE, "split_indices", 0, 3),
        "split_indices of tree 1, node 0: expected a feature",
    ),
    "a feature below zero": (put(*TREE, "split_indices", 0, -1), "split_indices of tree 1, node 0"),
    "an index with a fraction": (put(*TREE, "split_indices", 0, 0.5), "split_indices: expected whole numbers"),
    "an index as text": (put(*TREE, "split_indices", 0, "0"), "split_indices"),
    "an index of a hundred bits": (put(*TREE, "split_indices", 0, 2**63), "split_indices: expected whole numbers"),
    "a split by category": (put(*TREE, "split_type", 0, 1), "split_type of tree 1, node 0"),
    "a third way for the missing": (put(*TREE, "default_left", 0, 2), "default_left of tree 1, node 0"),
    "a threshold beyond float32": (put(*TREE, "split_conditions", 0, 1e39), "split_conditions: expected finite"),
    "a threshold that is none": (put(*TREE, "split_conditions", 0, None), "split_conditions: expected numbers"),
    "a list in a list": (put(*TREE, "split_conditions", 0, [1.0]), "split_conditions: expected a list of numbers"),
    **{
        f"{field}, one short": (drop(field), f"{field} of tree 1: expected num_nodes")
        for field in ("left_children", "parents", "split_conditions", "base_weights", "loss_changes", "sum_hessian")
    },
    "a count of nodes": (put(*TREE, "tree_param", "num_nodes", "4294967296"), "num_nodes: expected a count"),
    "no nodes": (put(*TREE, "tree_param", "num_nodes", "0"), "expected num_nodes"),
    "deleted nodes": (put(*TREE, "tree_param", "num_deleted", "1"), "num_deleted of tree 1"),
    "leaves that are vectors": (put(*TREE, "tree_param", "size_leaf_vector", "2"), "scalar leaves"),
    "a tree of other features": (put(*TREE, "tree_param", "num_feature", "4"), "tree_param of tree 1"),
    "another tree's number": (put(*TREE, "id", 0), "id of tree 1: expected 1, got 0"),
    "categories": (put(*TREE, "categories_nodes", [0]), "categories of tree 1"),
    "categories of a data frame": (put(*FOREST, "cats", "enc", [1]), "cats: expected no categories"),
    "a count of trees": (put(*FOREST, "gbtree_model_param", "num_trees", "7"), "num_trees: expected 7 trees, got 6"),
    "a count of parallel trees": (
        put(*FOREST, "gbtree_model_param", "num_parallel_tree", "x"),
        "num_parallel_tree: exp",
    ),
    "rounds from 1": (put(*FOREST, "iteration_indptr", 0, 1), "iteration_indptr: expected what rises from 0 to 6"),
    "a base score of 51 digits": (put(*LEARNER, "base_score", "0" * 51), "base_score: expected one number"),
    "a tree of an output that is none": (put(*FOREST, "tree_info", 0, 1), "tree_info: expected outputs below 1"),
    "rounds that go back": (put(*FOREST, "iteration_indptr", 1, 5), "iteration_indptr"),
    "rounds beyond the trees": (put(*FOREST, "iteration_indptr", -1, 7), "iteration_indptr"),
    "no rounds": (put(*FOREST, "iteration_indptr", []), "iteration_indptr"),
    "a booster that is none": (put("learner", "gradient_booster", "name", "gbmagic"), "gradient_booster: expected"),
    "an objective of another task": (put("learner", "objective", "name", "binary:logistic"), "objective: expected one"),
    "classes of a regression": (put(*LEARNER, "num_class", "3"), "num_class"),
    "two targets": (put(*LEARNER, "num_target", "2"), "num_target"),
    "a feature more": (put(*LEARNER, "num_feature", "4"), "feature_names: expected the contract's 3"),
    "another feature": (put("learner", "feature_names", ["a", "b", "d"]), "feature_names"),
    "a base score that is none": (put(*LEARNER, "base_score", "nan"), "base_score"),
    "a base score beyond float32": (put(*LEARNER, "base_score", "[1E39]"), "base_score: expected finite"),
    "two base scores": (put(*LEARNER, "base_score", "[1E0,2E0]"), "base_score: expected one number"),
    "a version as text": (put("version", "3"), "version"),
    "a version of two numbers": (put("version", [3, 1]), "version: expected three numbers"),
    "a version below zero": (put("version", [3, -1, 0]), "version: expected three numbers"),
    "a feature that is a category": (put("learner", "feature_types", ["float", "c", "q"]), "feature_types: expected"),
    "an attribute that is no text": (put("learner", "attributes", {"best_score": 5}), "attributes: expected texts"),
    "no learner": (put("learner", None), "is not a model in XGBoost's JSON"),
    "a list of trees": (put(*FOREST, "trees", {}), "num_trees"),
}


@pytest.fixture(scope="module")
def regression() -> bytes:
    return bytes(trained("regression").save_raw("json"))


@pytest.mark.parametrize("name", WRONG)
def test_what_would_lead_xgboost_astray_is_named(name: str, regression: bytes) -> None:
    change, said = WRONG[name]
    model = json.loads(regression)
    change(model)

    with pytest.raises(BadArtifact) as caught:
        checked(json.dumps(model).encode(), REGRESSION, "model.json")

    assert str(caught.value).startswith("model.json")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "dart",
            lambda model: model["learner"]["gradient_booster"]["weight_drop"].pop(),
            "weight_drop: expected 6, got 5",
        ),
        ("dart", put("learner", "gradient_booster", "weight_drop", 0, "x"), "weight_drop: expected numbers"),
        ("linear", put("learner", "gradient_booster", "model", "weights", 0, "x"), "weights: expected numbers"),
        ("linear", lambda model: model["learner"]["gradient_booster"]["model"]["weights"].pop(), "weights: expected 4"),
        ("multiclass", put("learner", "objective", "softmax_multiclass_param", "num_class", "4"), "num_class"),
        ("multiclass", put(*LEARNER, "num_class", "2"), "num_class"),
        ("multiclass", put(*FOREST, "tree_info", 0, 3), "tree_info: expected outputs below 3"),
    ],
)
def test_every_kind_of_booster_is_looked_at(name: str, change: Callable[[Any], object], said: str) -> None:
    model = json.loads(trained(name).save_raw("json"))
    change(model)

    with pytest.raises(BadArtifact, match=said):
        checked(json.dumps(model).encode(), SOUND[name][1], "model.json")


@pytest.mark.parametrize("classes", [("a",), ("a", "b", "c")])
def test_a_binary_model_of_other_than_two_named_classes_is_refused(classes: tuple[str, ...]) -> None:
    """A label would be asked for by the index of a class that is none."""
    contract = replace(SOUND["dart"][1], columns=(Column("y", ColumnType.LABEL, classes),))

    with pytest.raises(BadArtifact, match=f"binary model of {len(classes)} named classes"):
        checked(trained("dart").save_raw("json"), contract, "model.json")


@pytest.mark.parametrize(
    "document", [b"", b"{}", b"[]", b"null", b"{" * 100_000, b'{"version":[3,1,3]}', b"\xff", b"NaN"]
)
def test_a_document_that_is_no_model_is_refused(document: bytes) -> None:
    with pytest.raises(BadArtifact, match="is not a model in XGBoost's JSON"):
        checked(document, REGRESSION, "model.json")


def test_of_a_name_that_stands_twice_xgboost_sees_the_one_that_was_checked(regression: bytes) -> None:
    twice = regression.replace(b'"left_children":', b'"left_children":[9,9,9],"left_children":')

    passed = checked(twice, REGRESSION, "model.json")

    assert passed == checked(regression, REGRESSION, "model.json")


def test_a_prediction_that_is_not_finite_is_never_answered(regression: bytes, tmp_path: Path) -> None:
    model = json.loads(regression)
    for tree in trees(model):
        tree["split_conditions"] = [3e38] * len(tree["split_conditions"])
    (tmp_path / MODEL).write_text(json.dumps(model))
    (tmp_path / FILE).write_text(REGRESSION.to_json())
    artifact.write_manifest(tmp_path)
    predictor = Predictor.load(tmp_path)

    with pytest.raises(ServingError, match="expected finite predictions") as caught:
        predictor(Payload(b"1,2,3\n", "text/csv"))
    assert (caught.value.status, caught.value.code) == (500, "internal_error")


def test_a_booster_of_another_xgboost_is_served_with_a_warning(
    regression: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / MODEL).write_bytes(regression)
    (tmp_path / FILE).write_text(replace(REGRESSION, report={"xgboost": "1.7.6"}).to_json())
    artifact.write_manifest(tmp_path)

    Predictor.load(tmp_path)

    assert f"{MODEL} was written by XGBoost 1.7.6" in caplog.text


def test_a_count_has_up_to_nine_digits() -> None:
    assert count({"num_trees": "999999999"}, "num_trees") == 999_999_999
    for text in ("1000000000", "-1", "", 5):
        with pytest.raises(Malformed, match=r"^num_trees: expected a count, got"):
            count({"num_trees": text}, "num_trees")


def test_the_greatest_numbers_of_float32_are_finite() -> None:
    greatest = 3.4028234663852886e38

    assert numbers([greatest, -greatest], "weights").tolist() == [greatest, -greatest]
    with pytest.raises(Malformed, match=r"^weights: expected finite numbers, got "):
        numbers([0, float(np.nextafter(greatest, np.inf))], "weights")


@pytest.mark.parametrize(
    ("task", "classes", "groups"),
    [
        (Task.MULTICLASS, 2, 2),
        (Task.MULTICLASS, 100_000, 100_000),
        (Task.MULTICLASS, 1, None),
        (Task.MULTICLASS, 100_001, None),
        (Task.BINARY, 0, 1),
        (Task.BINARY, 1, 1),
        (Task.BINARY, 2, None),
    ],
)
def test_a_model_of_nameless_classes_has_from_2_to_100000(task: Task, classes: int, groups: int | None) -> None:
    parameters = {"num_class": str(classes), "num_target": "1", "base_score": "0.5"}
    name = {Task.MULTICLASS: "multi:softprob", Task.BINARY: "binary:logistic"}[task]
    objective = {"name": name, "softmax_multiclass_param": {"num_class": str(classes)}}
    contract = replace(REGRESSION, task=task)

    if groups:
        assert _check_groups(parameters, objective, contract) == groups
    else:
        told = f"^num_class, num_target: got {classes}, 1 for a {task.value} model of 0 named classes$"
        with pytest.raises(Malformed, match=told):
            _check_groups(parameters, objective, contract)


def test_a_booster_of_another_patch_is_served_without_a_warning(
    regression: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    patch = ".".join([*xgboost.__version__.split(".")[:2], "999"])
    (tmp_path / MODEL).write_bytes(regression)
    (tmp_path / FILE).write_text(replace(REGRESSION, report={"xgboost": patch}).to_json())
    artifact.write_manifest(tmp_path)

    Predictor.load(tmp_path)

    assert caplog.messages == []


def chain(levels: int) -> bytes:
    """A model whose only tree goes to the right until so many levels below its root."""
    model = json.loads(trained("regression").save_raw("json"))
    forest = model["learner"]["gradient_booster"]["model"]
    nodes, tree = 2 * levels + 1, forest["trees"][0]
    tree["left_children"] = [2 * at + 1 if side == 0 else -1 for at in range(levels) for side in (0, 1)] + [-1]
    tree["right_children"] = [2 * at + 2 if side == 0 else -1 for at in range(levels) for side in (0, 1)] + [-1]
    tree["parents"] = [2**31 - 1, *(2 * at for at in range(levels) for _ in (0, 1))]
    for field in ("base_weights", "loss_changes", "sum_hessian", "split_conditions"):
        tree[field] = [0.5] * nodes
    for field in ("default_left", "split_indices", "split_type"):
        tree[field] = [0] * nodes
    tree["tree_param"] |= {"num_nodes": str(nodes), "num_deleted": "0"}
    forest["trees"], forest["tree_info"], forest["iteration_indptr"] = [tree], [0], [0, 1]
    forest["gbtree_model_param"]["num_trees"] = "1"
    return json.dumps(model).encode()


def test_a_tree_may_be_as_deep_as_xgboost_walks_and_no_deeper() -> None:
    passed = checked(chain(DEEPEST), REGRESSION, MODEL)

    assert np.isfinite(Booster(passed).predict(ROWS)).all()
    with pytest.raises(BadArtifact, match=f"left_children of tree 0: expected at most {DEEPEST} levels, got more"):
        checked(chain(DEEPEST + 1), REGRESSION, MODEL)
