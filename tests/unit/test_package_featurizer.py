"""`package --featurizer` and `--pipeline`: scikit-learn's transformers, alone and before a booster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import xgboost
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.frozen import FrozenEstimator
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from featurizer.model import Featurizer
from featurizer.transform import Transform
from local_test.control_plane.unpacking import unpack
from pipeline.adopt.columns import first_steps
from pipeline.adopt.estimators import read_transformer
from pipeline.adopt.pickles import foreign_modules
from pipeline.adopt.precision import untold
from pipeline.cli import main
from pipeline.model import Pipeline as Single
from serving.contract import Contract, Task
from serving.payload import CSV, NPY, Payload
from serving.settings import Settings
from serving.training import BadJob
from tests.unit.test_parity import vector

ROOT = Path(__file__).resolve().parents[2]
COUNT = 90
RANDOM = np.random.default_rng(11)
FRAME = pd.DataFrame(
    {
        "id": np.arange(COUNT),
        "size": RANDOM.normal(5, 2, COUNT),
        "colour": pd.Series(RANDOM.choice(["red", "green", "blue, dark"], COUNT), dtype=object),
        "rooms": RANDOM.integers(1, 5, COUNT),
        "age": RANDOM.exponential(20, COUNT),
    }
)
FRAME.loc[::9, "size"] = np.nan
FRAME.loc[4::9, "colour"] = np.nan
PRICE = np.nan_to_num(FRAME["size"].to_numpy()) * 3 + (FRAME["colour"] == "red") * 7.0 - FRAME["age"].to_numpy() / 9
CLASSES = np.digitize(PRICE, [8, 16])
BODY = b'0.5,red,2,17\n,"blue, dark",4,3\n-1,,1,1e-3\n9,purple,2,80\n'  # size, colour, rooms, age: without the id
ROWS = pd.DataFrame(
    {
        "id": [np.nan] * 4,
        "size": [0.5, np.nan, -1, 9],
        "colour": pd.Series(["red", "blue, dark", np.nan, "purple"], dtype=object),
        "rooms": [2.0, 4, 1, 2],
        "age": [17, 3, 1e-3, 80],
    }
)


def columns(*, compiled: bool = True, **options: Any) -> ColumnTransformer:
    """What many a notebook has; or what scikit-learn serves, which spares the proof of what is compiled."""
    numeric = make_pipeline(SimpleImputer(strategy="median"), StandardScaler() if compiled else PowerTransformer())
    text = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="none given"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    return ColumnTransformer(
        [
            ("num", numeric, ["size", "age"]),
            ("text", text, ["colour"]),
            ("code", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["rooms"]),
        ],
        **options,
    )


def dumped(tmp_path: Path, model: Any) -> str:
    joblib.dump(model, tmp_path / "model.joblib")
    return str(tmp_path / "model.joblib")


def package(tmp_path: Path, *arguments: str) -> int:
    return main(["package", *arguments, "--out", str(tmp_path / "out")])


def served(tmp_path: Path) -> Featurizer:
    return Featurizer.load(tmp_path / "out" / "featurizer" / "model")


def features_of(featurizer: Featurizer, body: bytes = BODY) -> np.ndarray:
    return np.loadtxt(featurizer(Payload(body, CSV, CSV)).body.decode().splitlines(), delimiter=",", ndmin=2)


def test_the_columns_are_those_that_the_transformer_takes_as_it_takes_them(tmp_path: Path, capsys: Any) -> None:
    transformer = columns().fit(FRAME)

    assert package(tmp_path, "--featurizer", dumped(tmp_path, transformer)) == 0

    contract = served(tmp_path).contract
    found = {column.name: (column.type.value, column.categories) for column in contract.inputs}
    assert found == {
        "size": ("numeric", ()),
        "colour": ("categorical", ("blue, dark", "green", "red")),
        "rooms": ("numeric", ()),
        "age": ("numeric", ()),
    }
    assert contract.features == tuple(transformer.get_feature_names_out())
    assert np.array_equal(features_of(served(tmp_path)), transformer.transform(ROWS))
    printed = capsys.readouterr().out
    for part in ("transform: compiled", "colour: categorical: blue, dark, green, red", "no part of a row: id"):
        assert part in printed


def on_arrays() -> dict[str, tuple[Any, Any, bytes, Any, bool]]:
    """A transformer, rows to fit it on, a body, the same rows, and whether it can be compiled."""
    numbers = RANDOM.normal(size=(50, 3))
    numbers[::8, 1] = np.nan
    mixed = np.column_stack(
        [numbers[:, :1].astype(object), RANDOM.choice(["x", "y"], 50).astype(object), numbers[:, 2]]
    )
    given, rows = b"1,,3\n4,5,6\n", np.array([[1, np.nan, 3], [4, 5, 6]])
    impute = SimpleImputer(strategy="mean", add_indicator=True)
    parts = [
        ("scale", StandardScaler(), [2, 0]),
        ("encode", OneHotEncoder(sparse_output=False, handle_unknown="ignore"), slice(1, 2)),
    ]
    text_body, texts = b"1,y,3\n4,x,5\n", np.array([[1, "y", 3], [4, "x", 5]], dtype=object)
    union = FeatureUnion([("squares", PolynomialFeatures(2)), ("bins", KBinsDiscretizer(3, quantile_method="linear"))])
    return {
        "mixed": (ColumnTransformer(parts), mixed, text_body, texts, True),
        "alone": (impute, numbers, given, rows, True),
        "in a row": (make_pipeline(impute, StandardScaler()), numbers, given, rows, True),
        "squares": (make_pipeline(SimpleImputer(), PolynomialFeatures(2)), numbers, given, rows, False),
        "union": (make_pipeline(SimpleImputer(), union), numbers, given, rows, False),
        "after columns": (
            make_pipeline(ColumnTransformer(parts), StandardScaler()), mixed, text_body, texts, False,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["mixed", "alone", "in a row", "squares", "union", "after columns"])
def test_a_transformer_that_was_fitted_on_an_array_has_numbered_columns(tmp_path: Path, kind: str, capsys: Any) -> None:
    transformer, fitted_on, body, rows, compiled = on_arrays()[kind]
    transformer.fit(fitted_on)

    assert package(tmp_path, "--featurizer", dumped(tmp_path, transformer)) == 0

    featurizer = served(tmp_path)
    made = transformer.transform(rows)
    assert [column.name for column in featurizer.contract.inputs] == ["x0", "x1", "x2"]
    assert np.array_equal(features_of(featurizer, body), made.toarray() if hasattr(made, "toarray") else made)
    assert isinstance(featurizer.engine, Transform) == compiled
    assert ("scikit-learn serves it" in capsys.readouterr().out) == (not compiled)


SCHEMA = """
name = "houses"
task = "regression"
columns = [
  { name = "area", type = "numeric" }, { name = "price", type = "label" }, { name = "kind", type = "categorical" },
  { name = "year", type = "numeric" },
]
"""


def test_columns_that_are_dropped_before_later_steps_are_no_part_of_a_row(tmp_path: Path) -> None:
    whole = make_pipeline(columns(), SelectKBest(f_regression, k=3), xgboost.XGBRegressor(n_estimators=3, n_jobs=1))
    whole.fit(FRAME, PRICE)

    assert package(tmp_path, "--pipeline", dumped(tmp_path, whole)) == 0

    single = Single.load(Settings(model_dir=tmp_path / "out"))
    assert np.array_equal(vector(single(Payload(BODY, CSV, NPY))), whole.predict(ROWS))


def test_a_schema_names_the_columns_of_an_array_and_the_label(tmp_path: Path) -> None:
    transformer, fitted_on, body, rows, _ = on_arrays()["mixed"]
    transformer.fit(fitted_on)
    (tmp_path / "schema.toml").write_text(SCHEMA)

    assert package(
        tmp_path, "--featurizer", dumped(tmp_path, transformer), "--contract", str(tmp_path / "schema.toml")
    ) == 0  # fmt: skip

    contract = served(tmp_path).contract
    assert [column.name for column in contract.columns] == ["area", "price", "kind", "year"]
    assert contract.dataset == "houses"
    assert contract.columns[2].categories == ("x", "y")
    assert np.array_equal(features_of(served(tmp_path), body), transformer.transform(rows))


def test_texts_are_read_by_scikit_learn(tmp_path: Path) -> None:
    texts = pd.DataFrame({"said": ["a big house", "a small house", "small"], "size": [1.0, 2.0, 4.0]})
    transformer = ColumnTransformer([("words", CountVectorizer(), "said"), ("size", "passthrough", ["size"])]).fit(
        texts
    )

    assert package(tmp_path, "--featurizer", dumped(tmp_path, transformer)) == 0

    made = transformer.transform(texts)
    assert np.array_equal(features_of(served(tmp_path), b"a big house,1\na small house,2\nsmall,4\n"), made)


def pipelines() -> dict[str, tuple[Any, Any, Task]]:
    """Whole Pipelines, and what they are fitted to."""
    few = {"n_estimators": 8, "n_jobs": 1}
    return {
        "numbers": (xgboost.XGBRegressor(**few), PRICE, Task.REGRESSION),
        "two classes": (xgboost.XGBClassifier(**few), CLASSES > 0, Task.BINARY),
        "classes": (xgboost.XGBClassifier(**few), CLASSES, Task.MULTICLASS),
        "forest": (xgboost.XGBRFRegressor(**few), PRICE, Task.REGRESSION),
        "linear": (xgboost.XGBRegressor(**few, booster="gblinear"), PRICE, Task.REGRESSION),
        "dart": (xgboost.XGBRegressor(**few, booster="dart", rate_drop=0.3), PRICE, Task.REGRESSION),
        "probability": (xgboost.XGBRegressor(**few, objective="binary:logistic"), CLASSES > 0, Task.BINARY),
    }


@pytest.mark.parametrize("kind", ["numbers", "two classes", "classes", "forest", "linear", "dart", "probability"])
def test_a_pipeline_that_ends_in_a_model_becomes_both_artifacts(tmp_path: Path, kind: str, capsys: Any) -> None:
    model, target, task = pipelines()[kind]
    whole = Pipeline([("columns", columns(compiled=kind == "numbers")), ("model", model)]).fit(FRAME, target)

    assert package(tmp_path, "--pipeline", dumped(tmp_path, whole), "--single", str(tmp_path / "one.tar.gz")) == 0

    with (tmp_path / "one.tar.gz").open("rb") as file:
        unpack(file, tmp_path / "one")
    single = Single.load(Settings(model_dir=tmp_path / "one"))
    answered = vector(single(Payload(BODY, CSV, NPY)))
    booster = model.get_booster().predict(xgboost.DMatrix(whole[:-1].transform(ROWS)))
    assert single.predictor.contract.task is task
    assert np.array_equal(answered, booster)
    compared = capsys.readouterr().out
    assert ("both: equal to transform and Booster.predict to the bit" in compared) == (kind == "dart")
    if kind != "dart":  # which XGBModel predicts in place, with other bits than Booster.predict
        assert f"both: equal to {type(model).__name__} in the Pipeline to the bit" in compared
        theirs = whole.predict_proba(ROWS) if hasattr(whole, "predict_proba") else whole.predict(ROWS)
        assert np.array_equal(answered, theirs[:, 1] if kind == "two classes" else theirs)


def test_names_of_features_that_xgboost_learns_none_of_are_served(tmp_path: Path) -> None:
    encoder = ColumnTransformer(
        [("size", OneHotEncoder(sparse_output=False), ["size"])], verbose_feature_names_out=False
    )
    rows = pd.DataFrame({"size": ["<5", "[5,6]"] * 9})
    whole = make_pipeline(encoder, xgboost.XGBRegressor(n_estimators=2, n_jobs=1)).fit(rows, [1, 2] * 9)

    assert package(tmp_path, "--pipeline", dumped(tmp_path, whole)) == 0

    answered = vector(Single.load(Settings(model_dir=tmp_path / "out"))(Payload(b'"[5,6]"\n<5\n', CSV, NPY)))
    assert np.array_equal(answered, whole.predict(rows)[[1, 0]])


def pair(tmp_path: Path, names: list[str] | None = None, **options: Any) -> list[str]:
    """A transformer and a booster in files of their own."""
    transformer = columns(compiled=False, **options).fit(FRAME)
    data = xgboost.DMatrix(transformer.transform(FRAME), PRICE, feature_names=names)
    xgboost.train({"nthread": 1}, data, 5).save_model(tmp_path / "model.ubj")
    return ["--featurizer", dumped(tmp_path, transformer), "--predictor", str(tmp_path / "model.ubj")]


PLAIN = ["size", "age", "colour_blue, dark", "colour_green", "colour_none given", "colour_red", "rooms"]
PREFIXED = [*(f"num__{name}" for name in PLAIN[:2]), *(f"text__{name}" for name in PLAIN[2:6]), "code__rooms"]


@pytest.mark.parametrize(
    ("names", "more", "reason"),
    [
        (None, [], ""),
        (PREFIXED, [], ""),
        (PLAIN, ["--positional"], ""),
        (PLAIN, [], "expected feature 1 to be num__size, got size, which differs only in scikit-learn's prefix"),
        (PREFIXED[::-1], ["--positional"], "got code__rooms: the booster has the same features in another order"),
        (PLAIN[::-1], ["--positional"], "got rooms: the booster has the same features in another order"),
        ([*PREFIXED[:5], "red", "code__rooms"], [], "expected feature 6 to be text__colour_red, got red; if the order"),
    ],
)
def test_a_boosters_features_are_those_of_the_transformer(
    tmp_path: Path, names: list[str] | None, more: list[str], reason: str, capsys: Any
) -> None:
    code = package(tmp_path, *pair(tmp_path, names), *more)

    assert code == (2 if reason else 0)
    assert reason in capsys.readouterr().err
    if not reason:
        contracts = [Contract.load(tmp_path / "out" / stage / "model") for stage in ("featurizer", "predictor")]
        assert contracts[0] == contracts[1]
        assert contracts[0].features == tuple(PREFIXED)


def test_a_booster_of_another_width_is_refused(tmp_path: Path, capsys: Any) -> None:
    given = pair(tmp_path)
    xgboost.train({}, xgboost.DMatrix([[1.0], [2.0]], [1, 2]), 1).save_model(tmp_path / "model.ubj")

    assert package(tmp_path, *given) == 2

    assert "expected a booster of 7 features, got one of 1" in capsys.readouterr().err


def test_the_same_pipeline_gives_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    model = xgboost.XGBRegressor(n_estimators=3, n_jobs=1)
    path = dumped(tmp_path, Pipeline([("columns", columns()), ("model", model)]).fit(FRAME, PRICE))
    command = [sys.executable, "-m", "pipeline", "package", "--pipeline", path, "--out", tmp_path / "other"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "7"}, check=True, capture_output=True)

    package(tmp_path, "--pipeline", path)

    for stage in ("featurizer", "predictor"):
        files = [tmp_path / where / stage / "model.tar.gz" for where in ("other", "out")]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("dense", [True, False])
def test_the_zeros_of_a_sparse_matrix_are_refused_where_they_were_missing_values(
    tmp_path: Path, dense: bool, capsys: Any
) -> None:
    """XGBoost takes what a sparse matrix leaves out as missing; the container sends 0."""
    random = np.random.default_rng(2)
    frame = pd.DataFrame({"place": random.choice(list("abcdefgh"), 200), "size": random.normal(size=200)})
    parts = [
        ("place", OneHotEncoder(handle_unknown="ignore"), ["place"]),
        ("size", OneHotEncoder(handle_unknown="ignore"), ["size"]),
    ]
    frame["size"] = frame["size"].round()
    transformer = ColumnTransformer(parts).fit(frame)
    made = transformer.transform(frame)
    target = (frame["place"] < "d") * 4.0 + frame["size"]
    booster = xgboost.train(
        {"nthread": 1, "max_depth": 3}, xgboost.DMatrix(made.toarray() if dense else made, target), 9
    )
    booster.save_model(tmp_path / "model.json")
    given = ["--featurizer", dumped(tmp_path, transformer), "--predictor", str(tmp_path / "model.json")]

    refused = package(tmp_path, *given)
    error = capsys.readouterr().err

    assert hasattr(made, "toarray")
    assert refused == 2
    assert "expected a dense matrix of features" in error
    assert package(tmp_path, *given, "--dense") == 0


def test_a_missing_value_that_is_passed_on_is_said_to_be_refused(tmp_path: Path, capsys: Any) -> None:
    transformer = ColumnTransformer([("as they are", "passthrough", ["size", "age"])]).fit(FRAME)

    assert package(tmp_path, "--featurizer", dumped(tmp_path, transformer)) == 0

    assert "note: a row without size or age is refused" in capsys.readouterr().out


def shifted(values: Any) -> Any:
    return values + 1


def test_a_missing_value_that_a_step_refuses_is_said_to_be_refused(tmp_path: Path, capsys: Any) -> None:
    transformer = ColumnTransformer([("code", OneHotEncoder(), ["colour"]), ("as it is", "passthrough", ["rooms"])])
    transformer.fit(FRAME.fillna({"colour": "red"}))

    assert package(tmp_path, "--featurizer", dumped(tmp_path, transformer)) == 0

    assert "note: a row without colour or rooms is refused" in capsys.readouterr().out


@pytest.mark.parametrize("told", [False, True])
def test_a_column_of_which_no_step_tells_its_type_is_asked_for(tmp_path: Path, told: bool, capsys: Any) -> None:
    function = FunctionTransformer(shifted, feature_names_out="one-to-one")
    path = dumped(tmp_path, ColumnTransformer([("shift", function, ["age"])]).fit(FRAME))
    (tmp_path / "schema.toml").write_text(schema_of(age=NUMERIC))

    code = package(tmp_path, "--featurizer", path, *(["--contract", str(tmp_path / "schema.toml")] if told else []))

    assert code == (0 if told else 2)
    assert ("expected to be told what columns age are, which shifted takes" in capsys.readouterr().err) != told


def test_texts_that_are_called_numbers_are_said_to_be_refused(tmp_path: Path, capsys: Any) -> None:
    function = FunctionTransformer(lengths, feature_names_out="one-to-one")
    path = dumped(tmp_path, ColumnTransformer([("length", function, ["colour"])]).fit(FRAME))

    assert package(tmp_path, "--featurizer", path, "--columns", "colour=numeric") == 2

    assert "got none: AttributeError: Can only use .str accessor with string values" in capsys.readouterr().err


def lengths(values: pd.DataFrame) -> pd.DataFrame:
    return values.apply(lambda column: column.str.len())


def test_what_the_image_does_not_have_is_said(tmp_path: Path, capsys: Any) -> None:
    function = FunctionTransformer(shifted, feature_names_out="one-to-one")
    transformer = ColumnTransformer([("shift", function, ["age"])]).fit(FRAME)

    assert package(tmp_path, "--featurizer", dumped(tmp_path, transformer), "--columns", "age=numeric") == 0

    assert "note: the featurizer's image has no tests" in capsys.readouterr().out


def unusable() -> dict[str, tuple[Any, str, str]]:
    """What was pickled, how it is given, and why it is refused."""
    return {
        "not fitted": (columns(), "--featurizer", "expected a fitted ColumnTransformer"),
        "a model": (LinearRegression().fit([[1]], [1]), "--featurizer", "expected a scikit-learn transformer, got"),
        "anything": ({"a": 1}, "--featurizer", "expected a scikit-learn transformer, got builtins.dict"),
        "whole": (
            make_pipeline(StandardScaler(), xgboost.XGBRegressor(n_estimators=1)).fit([[1.0], [2]], [1, 2]),
            "--featurizer", "give it with --pipeline",
        ),
        "another model": (
            make_pipeline(StandardScaler(), LinearRegression()).fit([[1.0], [2]], [1, 2]),
            "--pipeline", "and then an XGBModel, got LinearRegression in its place",
        ),
        "wrapped": (
            TransformedTargetRegressor(xgboost.XGBRegressor(n_estimators=1)).fit([[1.0], [2]], [1, 2]),
            "--pipeline", "got TransformedTargetRegressor in its place: it cannot be served",
        ),
        "a search": (
            GridSearchCV(make_pipeline(StandardScaler(), xgboost.XGBRegressor(n_estimators=1)), {}, cv=2, refit=False)
            .fit([[1.0], [2], [3], [4]], [1, 2, 3, 4]),
            "--pipeline", "got GridSearchCV in its place, which has kept no best_estimator_: fit it with refit=True",
        ),
        "a model only": (
            xgboost.XGBClassifier(n_estimators=1).fit([[1.0], [2]], [0, 1]), "--pipeline", "give that with --predictor",
        ),
        "a model in a row": (
            make_pipeline(xgboost.XGBRegressor(n_estimators=1)).fit([[1.0], [2]], [1, 2]),
            "--pipeline", "expected a step that transforms before the model, got none: its rows are the features",
        ),
        "nothing done": (
            make_pipeline("passthrough", xgboost.XGBRegressor(n_estimators=1)).fit([[1.0], [2]], [1, 2]),
            "--pipeline", "give that with --predictor",
        ),
        "dates": (
            OneHotEncoder().fit(pd.DataFrame({"sold": pd.date_range("2020-01-01", periods=3)})),
            "--featurizer", "got datetime64: convert the column before fitting, with astype(str)",
        ),
        "32 bits": (
            make_pipeline(SimpleImputer(), StandardScaler(), xgboost.XGBRegressor(n_estimators=1))
            .fit(FRAME[["size", "age"]].astype("float32"), PRICE),
            "--pipeline", "column size: expected a transformer that was fitted on float64",
        ),
        "no names": (
            ColumnTransformer([("log", FunctionTransformer(np.log1p), ["age"])]).fit(FRAME),
            "--featurizer", "expected steps that name their features (get_feature_names_out)",
        ),
        "missing as None": (
            OneHotEncoder(handle_unknown="ignore").fit(pd.DataFrame({"colour": pd.Series(["a", None], dtype=object)})),
            "--featurizer", "column colour: expected missing values to be NaN, as in serving, got None",
        ),
        "large numbers": (
            OrdinalEncoder().fit(pd.DataFrame({"id": [2**53, 2**53 + 1]})),
            "--featurizer", "column id: expected whole numbers within 2**53",
        ),
        "numbers as objects": (
            OrdinalEncoder().fit(pd.DataFrame({"rooms": pd.Series([1, 2], dtype=object)})),
            "--featurizer", "column rooms: expected categories of text, or numbers in a column of numbers",
        ),
        "a classifier of no classes": (
            make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=1, objective="reg:logistic"))
            .fit([[1.0], [2]], [0, 1]),
            "--pipeline", "expected a classifier of binary:logistic or multi:softprob, got one of reg:logistic",
        ),
        "neither text nor number": (
            OneHotEncoder().fit(pd.DataFrame({"rooms": [True, False]})),
            "--featurizer", "column rooms: expected categories that are all text or all numbers, got bool: convert",
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def refused() -> dict[str, tuple[Any, str, str]]:
    return unusable()


@pytest.mark.parametrize(
    "kind",
    [
        *("not fitted", "a model", "anything", "whole", "another model", "wrapped", "a search", "a model only"),
        *("a model in a row", "nothing done", "no names", "neither text nor number", "dates", "32 bits"),
        *("missing as None", "large numbers", "numbers as objects", "a classifier of no classes"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(tmp_path: Path, refused: Any, kind: str, capsys: Any) -> None:
    model, option, reason = refused[kind]

    assert package(tmp_path, option, dumped(tmp_path, model)) == 2

    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_of_another_scikit_learn_is_refused(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    with monkeypatch.context() as other:
        other.setattr(sklearn.base, "__version__", "1.2.0")
        path = dumped(tmp_path, StandardScaler().fit([[1.0], [2.0]]))

    assert package(tmp_path, "--featurizer", path) == 2

    error = capsys.readouterr().err
    assert f"expected StandardScaler of scikit-learn {sklearn.__version__}" in error
    assert "got one of 1.2.0" in error


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "got an empty file"),
        (b"hello", "expected a file of joblib.dump or pickle.dump, got other bytes"),
        (b'{"learner": {}}', "begins like a model of save_model: give it with --predictor"),
        (b"{L" + bytes(9), "begins like a model of save_model: give it with --predictor"),
    ],
)
@pytest.mark.parametrize("option", ["--featurizer", "--pipeline"])
def test_a_file_that_is_no_pickle_is_refused(tmp_path: Path, option: str, content: bytes, reason: str, capsys: Any):
    (tmp_path / "model.joblib").write_bytes(content)

    assert package(tmp_path, option, str(tmp_path / "model.joblib")) == 2

    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("there", [True, False])
def test_a_class_of_a_notebook_is_refused(tmp_path: Path, there: bool, capsys: Any, monkeypatch: Any) -> None:
    class Scaler(StandardScaler):
        __module__ = "__main__"
        __qualname__ = "Scaler"

    with monkeypatch.context() as notebook:
        notebook.setattr(sys.modules["__main__"], "Scaler", Scaler, raising=False)
        path = dumped(tmp_path, make_pipeline(SimpleImputer(), Scaler()).fit(FRAME[["size"]]))
    if there:  # as where `package` is called from that notebook
        monkeypatch.setattr(sys.modules["__main__"], "Scaler", Scaler, raising=False)

    assert package(tmp_path, "--featurizer", path) == 2

    assert "one of __main__, which is a notebook or a script: put it in a package of its own" in capsys.readouterr().err


def untold_of(transformer: Any, kind: str = "float64") -> tuple[str, ...]:
    rows = FRAME[["size", "age"]].fillna(0).astype(kind)
    return untold(Path("model.joblib"), tuple(rows), first_steps(transformer.fit(rows), range(2)))


@pytest.mark.parametrize(
    "step",
    [
        *(SimpleImputer(), SimpleImputer(strategy="median"), KNNImputer(), MinMaxScaler(), MaxAbsScaler()),
        *(RobustScaler(), PowerTransformer(), PCA(2), OneHotEncoder(), OrdinalEncoder()),
    ],
)
def test_a_step_shows_that_it_was_fitted_on_32_bits(step: Any) -> None:
    assert untold_of(step) == ()
    assert untold_of(step, "int8") == ()
    for transformer in (step, make_pipeline("passthrough", step), FeatureUnion([("one", step)])):
        with pytest.raises(BadJob, match=f"column size: .* fitted on float64.* got {type(step).__name__} of float32"):
            untold_of(transformer, "float32")


@pytest.mark.parametrize("step", [StandardScaler(), PolynomialFeatures(2), QuantileTransformer(n_quantiles=9)])
def test_a_step_that_does_not_show_its_bits_is_told_of(step: Any) -> None:
    assert untold_of(step, "float32") == ("size", "age")
    assert untold_of(make_pipeline(SimpleImputer(), step)) == ()
    assert untold_of(ColumnTransformer([("s", step, ["age"])], remainder="passthrough")) == ("age",)
    for nothing in ("passthrough", None):
        assert untold_of(ColumnTransformer([("n", make_pipeline(nothing), ["size"]), ("s", step, ["age"])])) == ("age",)


def test_what_the_transformer_itself_makes_narrow_is_not_refused() -> None:
    narrowing = FunctionTransformer(np.float32, feature_names_out="one-to-one")

    assert untold_of(make_pipeline(narrowing, MinMaxScaler())) == ("size", "age")


def test_a_category_that_serving_takes_as_missing_is_refused_unless_that_may_be(tmp_path: Path, capsys: Any) -> None:
    frame = pd.DataFrame({"land": pd.Series(["NA", "US", "None", "DE"] * 5, dtype=object), "size": np.arange(20.0)})
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    transformer = ColumnTransformer([("land", encode, ["land"]), ("size", SimpleImputer(), ["size"])]).fit(frame)
    path = dumped(tmp_path, transformer)
    frame.to_csv(tmp_path / "rows.csv", index=False)

    refused = package(tmp_path, "--featurizer", path)
    error = capsys.readouterr().err
    taken = package(tmp_path, "--featurizer", path, "--missing-categories", "--sample", str(tmp_path / "rows.csv"))

    assert refused == 2
    assert "none of serving's words for a missing value, got 'NA', 'None'" in error
    assert taken == 0
    assert "10 rows of rows.csv have it, 10 of them have other features" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        (["passthrough", StandardScaler()], ["StandardScaler"]),
        ([make_pipeline("passthrough", None), StandardScaler(), MaxAbsScaler()], ["StandardScaler", "MaxAbsScaler"]),
        ([make_pipeline(make_pipeline(None)), make_pipeline(None, StandardScaler())], ["Pipeline"]),
        ([StandardScaler(), MaxAbsScaler()], ["StandardScaler", "MaxAbsScaler"]),
    ],
)
def test_the_steps_that_do_something_are_left(tmp_path: Path, steps: list[Any], left: list[str]) -> None:
    read = read_transformer(Path(dumped(tmp_path, make_pipeline(*steps).fit([[1.0], [2.0]]))))

    assert [type(step).__name__ for _, step in read.steps] == left


def test_a_pipeline_of_nothing_is_refused(tmp_path: Path) -> None:
    nothing = make_pipeline(make_pipeline("passthrough"), None)

    with pytest.raises(BadJob, match="expected a step that transforms, got none: give the booster alone"):
        read_transformer(Path(dumped(tmp_path, nothing)))


def test_steps_that_do_nothing_do_not_matter(tmp_path: Path) -> None:
    inner = make_pipeline("passthrough", SimpleImputer())
    model = xgboost.XGBRegressor(n_estimators=3, n_jobs=1)
    whole = make_pipeline("passthrough", inner, None, StandardScaler(), model).fit(FRAME[["size", "age"]], PRICE)

    assert package(tmp_path, "--pipeline", dumped(tmp_path, whole)) == 0

    answered = vector(Single.load(Settings(model_dir=tmp_path / "out"))(Payload(b"0.5,17\n,3\n", CSV, NPY)))
    rows = pd.DataFrame({"size": [0.5, np.nan], "age": [17.0, 3]})
    assert np.array_equal(answered, whole.predict(rows))


HOLDERS: dict[str, Any] = {
    "the whole": lambda whole: FrozenEstimator(FrozenEstimator(whole)),
    "a search": lambda whole: GridSearchCV(whole, {}, cv=2).fit(FRAME[["size", "age"]], PRICE),
    "the model": lambda whole: Pipeline([*whole.steps[:-1], ("model", FrozenEstimator(whole[-1]))]),
    "the first step": lambda whole: Pipeline([("first", FrozenEstimator(whole[0])), *whole.steps[1:]]),
    "a first step that drops columns": lambda whole: make_pipeline(
        FrozenEstimator(ColumnTransformer([("s", make_pipeline(*whole[:-1]), ["size", "age"])]).fit(FRAME)),
        whole[-1],
    ),
    "all that transforms": lambda whole: make_pipeline(FrozenEstimator(whole[:-1]), whole[-1]),
}


@pytest.mark.parametrize("kind", HOLDERS)
def test_what_only_holds_an_estimator_is_looked_through(tmp_path: Path, kind: str, capsys: Any) -> None:
    model = xgboost.XGBRegressor(n_estimators=3, n_jobs=1)
    whole = make_pipeline(SimpleImputer(), StandardScaler(), model).fit(FRAME[["size", "age"]], PRICE)
    given = HOLDERS[kind](whole)

    assert package(tmp_path, "--pipeline", dumped(tmp_path, given)) == 0

    answered = vector(Single.load(Settings(model_dir=tmp_path / "out"))(Payload(b"0.5,17\n,3\n", CSV, NPY)))
    rows = pd.DataFrame({"size": [0.5, np.nan], "age": [17.0, 3]})
    assert np.array_equal(answered, given.predict(rows.reindex(columns=given.feature_names_in_)))
    printed = capsys.readouterr().out
    assert "both: equal to XGBRegressor in the Pipeline to the bit" in printed
    assert "transform: compiled" in printed


def test_what_the_image_does_not_have_is_seen_in_what_is_frozen() -> None:
    own = FunctionTransformer(shifted, feature_names_out="one-to-one")
    frozen = make_pipeline(SimpleImputer(), FrozenEstimator(make_pipeline(own)))

    assert foreign_modules(frozen) == foreign_modules(FrozenEstimator(own)) == ["tests"]


def schema_of(**columns: str) -> str:
    tables = [f'[[columns]]\nname = "{name}"\n{more}\n' for name, more in columns.items()]
    return 'name = "houses"\ntask = "regression"\n' + "".join(tables) + '[[columns]]\nname = "price"\ntype = "label"\n'


NUMERIC, TEXT = 'type = "numeric"', 'type = "categorical"'
USED = {"size": NUMERIC, "colour": TEXT, "rooms": NUMERIC, "age": NUMERIC}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"colour": NUMERIC}, "column colour: expected categorical, as it was fitted; got numeric"),
        ({"size": TEXT}, "column size: expected numeric, as it was fitted; got categorical"),
        ({"extra": NUMERIC}, "that the transformer was fitted on, id, size, colour, rooms, age; got extra"),
        ({"colour": TEXT + '\ncategories = ["red"]'}, "column colour: expected the categories that it was fitted on"),
        ({"colour": TEXT + "\ncategories = [3]"}, "column colour: expected categories to be a list of texts"),
        ({"age": NUMERIC + '\ncategories = ["3"]'}, "column age: expected categories of a categorical column"),
    ],
)
def test_a_contract_that_contradicts_the_transformer_is_refused(
    tmp_path: Path, changed: dict[str, str], reason: str, capsys: Any
) -> None:
    (tmp_path / "schema.toml").write_text(schema_of(**{**USED, **changed}))
    path = dumped(tmp_path, columns().fit(FRAME))

    assert package(tmp_path, "--featurizer", path, "--contract", str(tmp_path / "schema.toml")) == 2

    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("more", ["", ', "none given"'])
def test_categories_that_a_contract_tells_may_have_what_an_imputer_fills_in(tmp_path: Path, more: str) -> None:
    told = TEXT + f'\ncategories = ["red", "green", "blue, dark"{more}]'
    (tmp_path / "schema.toml").write_text(schema_of(**{**USED, "colour": told}))
    path = dumped(tmp_path, columns(compiled=False).fit(FRAME))

    assert package(tmp_path, "--featurizer", path, "--contract", str(tmp_path / "schema.toml")) == 0

    assert served(tmp_path).contract.columns[1].categories[:3] == ("red", "green", "blue, dark")


def test_a_type_that_no_row_can_have_is_refused(tmp_path: Path, capsys: Any) -> None:
    """NumPy raises a TypeError for text."""
    logarithm = FunctionTransformer(np.log1p, feature_names_out="one-to-one")
    (tmp_path / "schema.toml").write_text(schema_of(age=TEXT))
    path = dumped(tmp_path, ColumnTransformer([("log", logarithm, ["age"])]).fit(FRAME))

    assert package(tmp_path, "--featurizer", path, "--contract", str(tmp_path / "schema.toml")) == 2

    assert "expected rows that it transforms, got none" in capsys.readouterr().err


def test_a_contract_without_a_column_that_is_taken_is_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "schema.toml").write_text(SCHEMA)
    path = dumped(tmp_path, columns().fit(FRAME))

    assert package(tmp_path, "--featurizer", path, "--contract", str(tmp_path / "schema.toml")) == 2

    assert "expected a column size, which the transformer takes; got area, kind, year" in capsys.readouterr().err


def test_rows_of_a_file_are_compared(tmp_path: Path, capsys: Any) -> None:
    path = dumped(tmp_path, columns(transformer_weights={"num": 0.5}).fit(FRAME))
    FRAME.to_csv(tmp_path / "rows.csv", index=False)

    assert package(tmp_path, "--featurizer", path, "--sample", str(tmp_path / "rows.csv")) == 0

    assert f"equal to scikit-learn's to the bit in {COUNT} rows" in capsys.readouterr().out


def test_columns_are_found_however_they_were_selected(tmp_path: Path) -> None:
    selector = make_column_selector(dtype_include="number")
    parts = [
        ("n", SimpleImputer(), selector),
        ("c", OneHotEncoder(handle_unknown="ignore"), [False, False, True, False, False]),
    ]
    transformer = ColumnTransformer(parts, remainder="drop").fit(FRAME)

    assert package(tmp_path, "--featurizer", dumped(tmp_path, transformer)) == 0

    inputs = served(tmp_path).contract.inputs
    assert [(column.name, column.type.value) for column in inputs] == [
        ("id", "numeric"), ("size", "numeric"), ("colour", "categorical"), ("rooms", "numeric"), ("age", "numeric"),
    ]  # fmt: skip
    assert json.loads((tmp_path / "out/featurizer/model/contract.json").read_text())["report"]["transform"].startswith(
        "c"
    )
