"""`package` of models with functions and classes of somebody's own, which may do anything to a column.

Whether the artifacts answer right is asked here without the code that serves or packages: a CSV file is written, pandas
reads it, the original answers, and the artifacts are asked with the file's bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from featurizer.model import Featurizer
from pipeline.cli import main
from pipeline.model import Pipeline as Single
from serving.contract import Contract
from serving.errors import BadPayload
from serving.payload import CSV, NPY, Payload
from serving.settings import Settings
from tests.unit.test_parity import vector

COUNT = 60
RANDOM = np.random.default_rng(4)
FRAME = pd.DataFrame(
    {
        "zone": RANDOM.choice([101, 102, 205], COUNT),
        "share": [f"{share}%" for share in RANDOM.integers(1, 99, COUNT)],
        "size": RANDOM.normal(5, 2, COUNT).round(3),
        "sold": RANDOM.choice(["2024-01-31", "2023-07-04"], COUNT),
    }
)
PRICE = (FRAME["zone"] == 101) * 300.0 + FRAME["size"]
NAMES = {101: "north", 102: "south", 205: "west"}
ONE_TO_ONE = {"feature_names_out": "one-to-one"}


class ToText(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Cells as pandas writes them; remembers no names."""

    def fit(self, rows: Any, _target: Any = None) -> ToText:
        self.n_features_in_ = rows.shape[1]
        return self

    def transform(self, rows: Any) -> Any:
        return pd.DataFrame(rows).astype(str)


class Forgotten(ToText):
    """The same, which does not even remember how many columns there were."""

    def fit(self, _rows: Any, _target: Any = None) -> Forgotten:
        self.fitted_ = True
        return self

    def get_feature_names_out(self, names: Any = None) -> Any:
        return names


class Encoder(TransformerMixin, BaseEstimator):
    """Mean of the target for each category of some columns, in the manner of category_encoders and feature_engine."""

    def __init__(self, attribute: str = "cols", columns: tuple[str, ...] = ("sold",), kind: type = str) -> None:
        self.attribute, self.columns, self.kind = attribute, columns, kind

    def fit(self, rows: pd.DataFrame, target: Any) -> Encoder:
        setattr(self, self.attribute, list(self.columns))
        self.feature_names_in_ = np.asarray(rows.columns, dtype=object)
        self.n_features_in_ = rows.shape[1]
        self.means_ = {name: pd.Series(target).groupby(rows[name].to_numpy()).mean() for name in self.columns}
        return self

    def transform(self, rows: pd.DataFrame) -> pd.DataFrame:
        for name in self.columns:
            if not all(isinstance(value, self.kind | np.integer) for value in rows[name]):
                raise TypeError(f"{name}: expected {self.kind}")
        return rows.assign(**{name: rows[name].map(means) for name, means in self.means_.items()})

    def get_feature_names_out(self, _names: Any = None) -> Any:
        return self.feature_names_in_


def codes_to_names(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.replace({"zone": NAMES})


def with_ratio(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(ratio=rows["size"] / rows["zone"])


def named_with_ratio(_step: Any, names: Any) -> list[str]:
    return [*names, "ratio"]


def percent(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.apply(lambda column: column.str.rstrip("%").astype(float))


def month(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.apply(lambda column: pd.to_datetime(column).dt.month)


def size_and_zone(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["size", "zone"]]


def named_size_and_zone(_step: Any, _names: Any) -> list[str]:
    return ["size", "zone"]


def tenth(array: Any) -> Any:
    return np.column_stack([array[:, 0] // 10, array[:, 1]])


def one_hot() -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="ignore", sparse_output=False)


def scale_and_encode() -> ColumnTransformer:
    """Of an array of size and zone."""
    return ColumnTransformer([("scale", StandardScaler(), ["size"]), ("encode", one_hot(), ["zone"])])


MODELS: dict[str, tuple[Any, list[str], dict[str, str]]] = {
    "codes to text": (make_pipeline(ToText(), one_hot()), ["zone"], {"zone": "integer"}),
    "codes to names": (
        make_pipeline(FunctionTransformer(codes_to_names, **ONE_TO_ONE), one_hot()),
        ["zone"],
        {"zone": "integer"},
    ),
    "a column more": (
        make_pipeline(FunctionTransformer(with_ratio, feature_names_out=named_with_ratio), StandardScaler()),
        ["size", "zone"],
        {"size": "numeric", "zone": "integer"},
    ),
    "a column more for columns": (
        make_pipeline(
            FunctionTransformer(with_ratio, feature_names_out=named_with_ratio),
            ColumnTransformer([("ratio", StandardScaler(), [2]), ("zone", one_hot(), [1])]),
        ),
        ["size", "zone"],
        {"size": "numeric", "zone": "integer"},
    ),
    "text to numbers": (
        make_pipeline(FunctionTransformer(percent, **ONE_TO_ONE), StandardScaler()),
        ["share"],
        {"share": "categorical"},
    ),
    "dates": (
        ColumnTransformer([("m", FunctionTransformer(month, **ONE_TO_ONE), ["sold"]), ("s", "passthrough", ["size"])]),
        ["sold", "size"],
        {"sold": "categorical"},
    ),
    "columns selected in another order": (
        make_pipeline(FunctionTransformer(size_and_zone, feature_names_out=named_size_and_zone), scale_and_encode()),
        ["zone", "sold", "size"],
        {"zone": "integer", "sold": "categorical", "size": "numeric"},
    ),
    "whole numbers turned upside down": (
        ColumnTransformer([("r", FunctionTransformer(np.reciprocal, **ONE_TO_ONE), ["zone"])]),
        ["zone"],
        {"zone": "integer"},
    ),
    "an encoder with cols": (Encoder("cols"), ["size", "sold"], {"sold": "categorical"}),
    "an encoder with variables_": (
        make_pipeline(Encoder("variables_"), Encoder("cols", ("zone",), int), StandardScaler()),
        ["sold", "size", "zone"],
        {"sold": "categorical", "zone": "integer"},
    ),
    "an encoder before a known step": (
        make_pipeline(Encoder("cols", ("zone",), int), ColumnTransformer([("sold", one_hot(), ["sold"])])),
        ["sold", "zone"],
        {"zone": "integer"},
    ),
}  # fmt: skip


def fitted(kind: str) -> tuple[Any, pd.DataFrame, dict[str, str]]:
    model, names, types = MODELS[kind]
    return model.fit(FRAME[names], PRICE), FRAME[names], types


def package(tmp_path: Path, model: Any, *arguments: str, option: str = "--featurizer") -> int:
    joblib.dump(model, tmp_path / "model.joblib")
    return main(["package", option, str(tmp_path / "model.joblib"), "--out", str(tmp_path / "out"), *arguments])


def answers(tmp_path: Path, csv: Path) -> Any:
    """The features that the artifact answers to the file."""
    body = Featurizer.load(tmp_path / "out/featurizer/model")(Payload(csv.read_bytes(), CSV, CSV)).body
    return np.loadtxt(body.decode().splitlines(), delimiter=",", ndmin=2)


def written(tmp_path: Path, rows: pd.DataFrame) -> Path:
    rows.to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


def named(types: dict[str, str]) -> str:
    return ",".join(f"{name}={kind}" for name, kind in types.items())


@pytest.mark.parametrize("way", ["sample", "columns"])
@pytest.mark.parametrize("kind", MODELS)
def test_own_steps_get_what_pandas_would_give_them(tmp_path: Path, kind: str, way: str, capsys: Any) -> None:
    model, rows, types = fitted(kind)
    csv = written(tmp_path, rows)

    if kind in NEED_ROWS and way == "columns":
        assert package(tmp_path, model, "--columns", named(types)) == 2
        assert "expected rows that it transforms, got none: " in capsys.readouterr().err
        return
    told = ["--sample", str(csv)] if way == "sample" else ["--columns", named(types)]
    assert package(tmp_path, model, *told) == 0, capsys.readouterr().err

    assert np.array_equal(answers(tmp_path, csv), np.asarray(model.transform(pd.read_csv(csv)), dtype=float))


NEED_ROWS = {"text to numbers", "dates", "codes to names"}  # of which none can be made


@pytest.mark.parametrize("kind", MODELS)
def test_what_own_steps_take_is_asked_for_by_name(tmp_path: Path, kind: str, capsys: Any) -> None:
    model, _, types = fitted(kind)

    assert package(tmp_path, model) == 2

    error = capsys.readouterr().err
    asked = error.partition("--columns ")[2].partition(", TYPE being")[0]
    if kind == "codes to text":  # of which nobody knows the names
        assert "expected the names of all 1 columns in the order of fitting" in error
    else:
        assert set(asked.split(",")) == {f"{name}=TYPE" for name in types}
        assert "--sample FILE.csv" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_model_behind_own_steps_answers_as_it_does(tmp_path: Path, capsys: Any) -> None:
    whole = make_pipeline(ToText(), one_hot(), xgboost.XGBRegressor(n_estimators=9, n_jobs=1)).fit(
        FRAME[["zone"]], PRICE
    )
    csv = written(tmp_path, FRAME[["zone"]])

    assert package(tmp_path, whole, "--sample", str(csv), option="--pipeline") == 0

    answered = vector(Single.load(Settings(model_dir=tmp_path / "out"))(Payload(csv.read_bytes(), CSV, NPY)))
    assert np.array_equal(answered, whole.predict(pd.read_csv(csv)))
    assert len(set(answered.tolist())) == 2  # nearly: what is in zone 101, and what is not
    assert f"XGBRegressor in the Pipeline to the bit in {COUNT} rows" in capsys.readouterr().out


@pytest.fixture
def codes(tmp_path: Path) -> Featurizer:
    model = make_pipeline(FunctionTransformer(codes_to_names, **ONE_TO_ONE), one_hot()).fit(FRAME[["zone"]])
    assert package(tmp_path, model, "--sample", str(written(tmp_path, FRAME[["zone"]]))) == 0
    return Featurizer.load(tmp_path / "out/featurizer/model")


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"101\n1.5\n", "transform_refused", "expected a whole number below 2**53, got 1.5"),
        (b"101\n9007199254740992\n", "transform_refused", "got 9007199254740992.0"),
        (b"101\nNA\n", "missing_value", "expected a value"),
    ],
)
def test_a_column_of_whole_numbers_takes_no_others(codes: Featurizer, body: bytes, code: str, message: str) -> None:
    assert [column.whole for column in codes.contract.inputs] == [True]
    assert codes(Payload(b"101\n9007199254740991\n", CSV, CSV)).body == b"1.0,0.0,0.0\n0.0,0.0,0.0\n"

    with pytest.raises(BadPayload) as caught:
        codes(Payload(body, CSV, CSV))

    assert (caught.value.code, caught.value.row, caught.value.column) == (code, 2, "zone")
    assert message in caught.value.message


def test_a_contract_that_says_whole_numbers_keeps_saying_so(codes: Featurizer) -> None:
    assert Contract.from_json(codes.contract.to_json()) == codes.contract
    assert codes.interface.openapi(Settings())["paths"]["/invocations"]["post"]


def test_a_contract_of_whole_numbers_is_taken_over(tmp_path: Path, capsys: Any) -> None:
    model = make_pipeline(ToText(), one_hot()).fit(FRAME[["zone"]])
    csv = written(tmp_path, FRAME[["zone"]])
    assert package(tmp_path, model, "--sample", str(csv)) == 0
    contract = Contract.load(tmp_path / "out/featurizer/model")
    (tmp_path / "contract.json").write_text(contract.to_json())

    assert package(tmp_path, model, "--contract", str(tmp_path / "contract.json")) == 0

    assert Contract.load(tmp_path / "out/featurizer/model") == contract
    assert "get 101 as 101.0" not in capsys.readouterr().out


def test_a_class_is_told_as_many_columns_as_it_remembers(tmp_path: Path, capsys: Any) -> None:
    model = make_pipeline(ToText(), one_hot()).fit(FRAME[["zone"]])

    assert package(tmp_path, model, "--columns", "zone=integer,size=numeric") == 2

    assert "expected the names of all 1 columns in the order of fitting" in capsys.readouterr().err


SCHEMA = """name = "zones"
task = "regression"
columns = [{name = "price", type = "label"}, {name = "zone", type = "TYPE"}]
"""


@pytest.mark.parametrize(
    ("kind", "sample", "whole"), [("numeric", False, False), ("numeric", True, True), ("categorical", True, False)]
)
def test_a_contract_says_what_own_steps_take_and_rows_whether_it_is_whole(
    tmp_path: Path, kind: str, sample: bool, whole: bool, capsys: Any
) -> None:
    """`str` of a text is the text, so that each of the three is served."""
    (tmp_path / "schema.toml").write_text(SCHEMA.replace("TYPE", kind))
    csv = written(tmp_path, FRAME[["zone"]])
    model = make_pipeline(ToText(), one_hot()).fit(FRAME[["zone"]])
    told = ["--contract", str(tmp_path / "schema.toml"), *(["--sample", str(csv)] if sample else [])]

    assert package(tmp_path, model, *told) == 0

    (column,) = Contract.load(tmp_path / "out/featurizer/model").inputs
    assert (column.name, column.type.value, column.whole) == ("zone", kind, whole)
    said = "steps of your own get 101 as 101.0 in these columns, which are numeric in --contract: zone"
    assert (said in capsys.readouterr().out) == (not sample)
    if sample:
        assert np.array_equal(answers(tmp_path, csv), model.transform(pd.read_csv(csv)))


@pytest.mark.parametrize(
    ("values", "more", "reason"),
    [
        ([np.nan] * 3, [], "expected to be told what columns zone are, which codes_to_names takes"),
        ([True, False, True], [], "column zone: expected numbers or text, got true and false, as pandas reads it"),
        ([True, None, True], [], "column zone: expected numbers or text, got true and false, as pandas reads it"),
        ([1, 2.5, 3], ["--columns", "zone=integer"], "column zone: expected whole numbers, none missing; got others"),
        ([1, None, 3], ["--columns", "zone=integer"], "column zone: expected whole numbers, none missing; got others"),
        ([1, "a", 3], ["--columns", "zone=numeric"], "row 2, column zone: expected a number, got 'a'"),
        ([1, 2, 3], ["--columns", "zone=text"], "--columns: expected NAME=TYPE,..., each type one of numeric, integer"),
        ([1, 2, 3], ["--columns", "zone"], "--columns: expected NAME=TYPE,..., each type one of numeric, integer"),
        ([1, 2, 3], ["--columns", "land=numeric"], "that the transformer takes, zone, size; got land"),
        ([1, 2, 3], ["--columns", "size=categorical"], "--columns, column size: expected numeric, as it was fitted"),
    ],
)
def test_what_no_own_step_can_be_given_is_refused(
    tmp_path: Path, values: list[Any], more: list[str], reason: str, capsys: Any
) -> None:
    parts = [("zone", FunctionTransformer(codes_to_names, **ONE_TO_ONE), ["zone"]), ("s", StandardScaler(), ["size"])]
    model = ColumnTransformer(parts).fit(FRAME[["zone", "size"]])
    csv = written(tmp_path, pd.DataFrame({"zone": values, "size": 1.0}))

    assert package(tmp_path, model, "--sample", str(csv), *more) == 2

    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_whole_numbers_that_are_called_numeric_are_numbers_with_a_fraction(tmp_path: Path) -> None:
    model = make_pipeline(ToText(), one_hot()).fit(FRAME[["zone"]].astype("float64"))
    csv = written(tmp_path, FRAME[["zone"]])

    assert package(tmp_path, model, "--sample", str(csv), "--columns", "zone=numeric") == 0

    rows = pd.read_csv(csv, dtype="float64")
    assert np.array_equal(answers(tmp_path, csv), model.transform(rows))
    assert not Contract.load(tmp_path / "out/featurizer/model").whole


def test_a_function_of_arrays_gets_arrays(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(tenth, **ONE_TO_ONE), one_hot()).fit(FRAME[["zone", "size"]].to_numpy())
    csv = written(tmp_path, FRAME[["zone", "size"]].rename(columns={"zone": "x0", "size": "x1"}))

    assert package(tmp_path, model, "--sample", str(csv)) == 0

    assert np.array_equal(answers(tmp_path, csv), model.transform(pd.read_csv(csv).to_numpy()))


@pytest.mark.parametrize("way", ["columns", "sample", "nobody"])
def test_a_class_that_does_not_know_its_columns_is_told_them(tmp_path: Path, way: str, capsys: Any) -> None:
    rows = FRAME[["zone", "sold"]]
    model = make_pipeline(Forgotten(), one_hot()).fit(rows)
    csv = written(tmp_path, rows)
    told = {"columns": ["--columns", "zone=integer,sold=categorical"], "sample": ["--sample", str(csv)], "nobody": []}

    assert package(tmp_path, model, *told[way]) == (2 if way == "nobody" else 0)

    if way == "nobody":
        assert "expected the names of all  columns in the order of fitting" in capsys.readouterr().err
    else:
        assert np.array_equal(answers(tmp_path, csv), model.transform(pd.read_csv(csv)))


def test_features_that_are_text_are_refused(tmp_path: Path, capsys: Any) -> None:
    assert package(tmp_path, ToText().fit(FRAME[["sold"]]), "--columns", "sold=categorical") == 2

    assert "expected a transformer that makes numbers of every column: could not convert" in capsys.readouterr().err


def test_what_is_imputed_with_a_mean_is_known_to_have_a_fraction(tmp_path: Path) -> None:
    model = make_pipeline(SimpleImputer(), FunctionTransformer(with_tenth, **ONE_TO_ONE)).fit(FRAME[["zone"]])

    assert package(tmp_path, model) == 0


def with_tenth(array: Any) -> Any:
    return array // 10
