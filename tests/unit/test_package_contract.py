"""`package --contract`: what a contract of the user's says of models, and where the two do not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, PowerTransformer, StandardScaler

from pipeline.cli import main
from serving.contract import Column, ColumnType, Contract, Task

RANDOM = np.random.default_rng(2)
FRAME = pd.DataFrame(
    {"size": RANDOM.normal(size=40), "kind": pd.Series(RANDOM.choice(["a", "b"], 40), dtype=object), "unused": 1.0}
)
NAMES = ("numbers__size", "texts__kind_a", "texts__kind_b")
SCHEMA = """name = "things"
task = "TASK"
columns = [{name = "size", type = "numeric"}, {name = "worth", type = "label", categories = CLASSES},
           {name = "kind", type = "categorical"}]
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformer, boosters for each task, and `own`, the artifacts that the first of them make."""
    directory = tmp_path_factory.mktemp("models")
    numbers = make_pipeline(StandardScaler(), PowerTransformer())  # not compiled, which spares the proof
    parts = [("numbers", numbers, ["size"]), ("texts", OneHotEncoder(sparse_output=False), ["kind"])]
    transformer = ColumnTransformer(parts).fit(FRAME)
    joblib.dump(transformer, directory / "columns.joblib")
    data = xgboost.DMatrix(transformer.transform(FRAME), np.arange(40) % 3)
    two = xgboost.DMatrix(transformer.transform(FRAME), np.arange(40) % 2)
    boosters = {
        "regression": xgboost.train({"nthread": 1}, data, 2),
        "binary": xgboost.train({"nthread": 1, "objective": "binary:logistic"}, two, 2),
        "multiclass": xgboost.train({"nthread": 1, "objective": "multi:softprob", "num_class": 3}, data, 2),
    }
    for name, booster in boosters.items():
        booster.save_model(directory / f"{name}.json")
    assert (
        package(directory, directory / "own", "--predictor", "multiclass.json", "--featurizer", "columns.joblib") == 0
    )
    return directory


def package(models: Path, out: Path, *arguments: str) -> int:
    paths = [
        str(models / word) if word.endswith((".json", ".joblib")) and "/" not in word else word for word in arguments
    ]
    return main(["package", *paths, "--out", str(out)])


def schema(tmp_path: Path, task: str = "multiclass", classes: str = '["low", "mid", "high"]', **changed: str) -> str:
    text = SCHEMA.replace("TASK", task).replace("CLASSES", classes)
    for old, new in changed.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    (tmp_path / "schema.toml").write_text(text)
    return str(tmp_path / "schema.toml")


BOTH = ("--featurizer", "columns.joblib", "--predictor", "multiclass.json")


def test_a_schema_names_the_models_the_label_and_its_classes(models: Path, tmp_path: Path) -> None:
    assert package(models, tmp_path / "out", *BOTH, "--contract", schema(tmp_path)) == 0

    contract = Contract.load(tmp_path / "out" / "predictor" / "model")
    assert (contract.dataset, contract.task, contract.features) == ("things", Task.MULTICLASS, NAMES)
    assert contract.columns == (
        Column("size", ColumnType.NUMERIC),
        Column("worth", ColumnType.LABEL, ("low", "mid", "high")),
        Column("kind", ColumnType.CATEGORICAL, ("a", "b")),
    )


def test_what_is_said_on_the_command_line_goes_before_the_schema(models: Path, tmp_path: Path) -> None:
    said = ("--name", "mine", "--classes", "x,y,z")

    assert package(models, tmp_path / "out", *BOTH, "--contract", schema(tmp_path), *said) == 0

    contract = Contract.load(tmp_path / "out" / "featurizer" / "model")
    assert (contract.dataset, contract.columns[1]) == ("mine", Column("worth", ColumnType.LABEL, ("x", "y", "z")))


def test_a_featurizer_alone_takes_the_task_and_the_label_of_a_schema(models: Path, tmp_path: Path) -> None:
    told = schema(tmp_path, "binary", '["no", "yes"]')

    assert package(models, tmp_path / "out", "--featurizer", "columns.joblib", "--contract", told) == 0

    contract = Contract.load(tmp_path / "out" / "featurizer" / "model")
    assert (contract.task, contract.columns[1]) == (Task.BINARY, Column("worth", ColumnType.LABEL, ("no", "yes")))


def test_a_booster_alone_takes_its_features_names_of_a_schema(models: Path, tmp_path: Path) -> None:
    columns = [{"name": name, "type": "numeric"} for name in ("first", "label", "third")]
    (tmp_path / "schema.toml").write_text(
        'name = "n"\ntask = "regression"\ncolumns = [{name = "y", type = "label"}, '
        + ", ".join(f'{{name = "{one["name"]}", type = "numeric"}}' for one in columns)
        + "]\n"
    )
    told = ("--contract", str(tmp_path / "schema.toml"))

    assert package(models, tmp_path / "out", "--predictor", "regression.json", *told) == 0

    contract = Contract.load(tmp_path / "out" / "predictor" / "model")
    assert contract.features == ("first", "label", "third")
    assert contract.columns[0] == Column("y", ColumnType.LABEL)


def test_a_label_has_a_name_that_no_column_has(tmp_path: Path) -> None:
    data = xgboost.DMatrix(np.eye(4)[:, :2], [0, 1, 0, 1], feature_names=["label", "label_"])
    xgboost.train({"nthread": 1, "objective": "binary:logistic"}, data, 1).save_model(tmp_path / "model.json")

    assert package(tmp_path, tmp_path / "out", "--predictor", "model.json") == 0

    label = Contract.load(tmp_path / "out" / "predictor" / "model").label
    assert label == Column("label__", ColumnType.LABEL, ("0", "1"))


def test_a_contract_of_these_models_is_taken_over_with_its_hash(models: Path, tmp_path: Path) -> None:
    given = Contract.load(models / "own" / "predictor" / "model")
    own = replace(given, dataset="theirs", training={**given.training, "seed": 7}, report={"metrics": {"rmse": 1}})
    (tmp_path / "own.json").write_text("\n  " + own.to_json())

    assert package(models, tmp_path / "out", *BOTH, "--contract", f"{tmp_path}/own.json", "--name", "theirs") == 0

    for stage in ("featurizer", "predictor"):
        made = Contract.load(tmp_path / "out" / stage / "model")
        assert (made.hash, made.training) == (own.hash, own.training)
        assert "metrics" not in made.report  # of other models


def test_a_contract_without_categories_does_not_become_another(models: Path, tmp_path: Path, capsys: Any) -> None:
    given = Contract.load(models / "own" / "predictor" / "model")
    columns = tuple(replace(one, categories=()) if one.name == "kind" else one for one in given.columns)
    (tmp_path / "own.json").write_text(replace(given, columns=columns).to_json())

    assert package(models, tmp_path / "out", *BOTH, "--contract", f"{tmp_path}/own.json") == 2

    assert "expected the columns that the models have, got others in own-model's contract" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--name", "mine"), "--name: expected none beside a contract.json, which says own-model; got mine"),
        (("--classes", "x,y,z"), "--contract: expected the columns that the models have, got others in own-model's"),
    ],
)
def test_what_a_contract_says_cannot_be_said_otherwise_beside_it(
    models: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str, capsys: Any
) -> None:
    own = str(models / "own" / "predictor" / "model" / "contract.json")

    assert package(models, tmp_path / "out", *BOTH, "--contract", own, *arguments) == 2

    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_features_that_a_contract_has_otherwise_are_refused(models: Path, tmp_path: Path, capsys: Any) -> None:
    given = Contract.load(models / "own" / "predictor" / "model")
    (tmp_path / "own.json").write_text(replace(given, features=NAMES[::-1]).to_json())

    assert package(models, tmp_path / "out", *BOTH, "--contract", f"{tmp_path}/own.json") == 2

    assert "expected the features that the models have, got others in own-model's contract" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("booster", "task", "classes", "arguments", "reason"),
    [
        (
            "binary",
            "multiclass",
            "[]",
            (),
            "expected task binary, that of a booster of binary:logistic, got multiclass",
        ),
        ("binary", "binary", '["a", "b", "c"]', (), "--classes: expected 2 different classes, got a, b, c"),
        ("multiclass", "multiclass", '["a", "b"]', (), "--classes: expected 3 different classes, got a, b"),
        ("regression", "regression", '["a", "b"]', (), "expected none, the booster being a regression's, got a, b"),
        (
            "regression",
            "regression",
            "[]",
            ("--classes", "a"),
            "expected none, the booster being a regression's, got a",
        ),
    ],
)
def test_a_task_and_classes_are_those_of_the_booster(
    models: Path,
    tmp_path: Path,
    booster: str,
    task: str,
    classes: str,
    arguments: tuple[str, ...],
    reason: str,
    capsys: Any,
) -> None:
    told = schema(tmp_path, task, classes)
    given = ("--featurizer", "columns.joblib", "--predictor", f"{booster}.json")

    assert package(models, tmp_path / "out", *given, "--contract", told, *arguments) == 2

    assert reason in capsys.readouterr().err


def test_an_array_has_as_many_columns_as_the_contract_besides_the_label(tmp_path: Path, capsys: Any) -> None:
    joblib.dump(SimpleImputer().fit(np.eye(3)), tmp_path / "array.joblib")
    told = ("--contract", schema(tmp_path, kind="kind of it"))

    assert package(tmp_path, tmp_path / "out", "--featurizer", "array.joblib", *told) == 2

    assert "--contract: expected 3 columns besides the label, got 2" in capsys.readouterr().err


def test_columns_that_are_dropped_elsewhere_than_in_the_first_step_are_refused(tmp_path: Path, capsys: Any) -> None:
    columns = ColumnTransformer([("size", StandardScaler(), ["size"])], remainder="drop")
    joblib.dump(FeatureUnion([("columns", columns)]).fit(FRAME[["size", "unused"]]), tmp_path / "union.joblib")

    assert package(tmp_path, tmp_path / "out", "--featurizer", "union.joblib") == 2

    error = capsys.readouterr().err
    assert "expected unused columns to be dropped by a ColumnTransformer, the first step; got FeatureUnion" in error


def test_a_told_column_that_the_transformer_drops_is_a_column_of_a_row(
    models: Path, tmp_path: Path, capsys: Any
) -> None:
    told = schema(tmp_path).replace("schema", "more")
    text = (tmp_path / "schema.toml").read_text()
    Path(told).write_text(text.replace("columns = [", 'columns = [{name = "unused", type = "numeric"}, '))

    assert package(models, tmp_path / "out", *BOTH, "--contract", told) == 0

    inputs = Contract.load(tmp_path / "out" / "featurizer" / "model").inputs
    printed = capsys.readouterr().out
    assert [column.name for column in inputs] == ["unused", "size", "kind"]
    assert "nothing tells whether" not in printed
    assert "columns that the transformer drops are no part of a row" not in printed


def test_a_model_that_would_lead_the_predictor_astray_is_refused(models: Path, tmp_path: Path, capsys: Any) -> None:
    """XGBoost reads it without a word."""
    document = json.loads((models / "regression.json").read_text())
    document["learner"]["gradient_booster"]["model"]["tree_info"][0] = 5
    (tmp_path / "model.json").write_text(json.dumps(document))

    assert package(tmp_path, tmp_path / "out", "--predictor", "model.json") == 2

    assert "the predictor cannot serve this booster: xgboost-model.json: tree_info" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"\xff", "codec can't decode"),
        (b"{}", "contract.json is not a contract: KeyError('schema_version')"),
        (b"name = 5", "'columns' is missing"),
        (b"name = 5\ncolumns = []", "schema: expected names as text, in quotes; got 5"),
        (SCHEMA.replace("CLASSES", "[]").encode(), "task: expected one of regression, binary, multiclass, got 'TASK'"),
        (SCHEMA.replace("TASK", "binary").replace("CLASSES", "5").encode(), "categories to be a list of texts, got 5"),
    ],
)
def test_a_file_that_is_neither_contract_nor_schema_is_refused_in_one_line(
    models: Path, tmp_path: Path, content: bytes | None, reason: str, capsys: Any
) -> None:
    if content is not None:
        (tmp_path / "told").write_bytes(content)

    assert package(models, tmp_path / "out", *BOTH, "--contract", str(tmp_path / "told")) == 2

    error = capsys.readouterr().err
    assert error.startswith("pipeline: ")
    assert str(tmp_path / "told") in error
    assert reason in error
    assert error.count("\n") == 1
