"""The featurizer's artifact: which engine transforms, what is refused at the start, and which row of a request."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from contextvars import Context
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, OneHotEncoder, OrdinalEncoder, StandardScaler

from featurizer.compile import compile_transformer
from featurizer.fitted import FittedTransform
from featurizer.model import PREPROCESS, Featurizer
from featurizer.program import FILE as COMPILED
from featurizer.records import Records, refusal
from featurizer.schema import Schema
from featurizer.train import fit, write
from featurizer.transform import Transform
from predictor.features import read_features
from serving import logs
from serving.artifact import write_manifest
from serving.contract import FILE, Column, ColumnType, Contract, Task
from serving.errors import BadArtifact, BadPayload
from serving.media import content_type
from serving.payload import CSV, JSON, NPY, Payload

ROWS = {"rain": ["1", "2", "", "4"], "soil": ["clay", "sand", "", "clay"], "age": ["1", "2", "3", "4"]}
COLUMNS = (
    Column("rain", ColumnType.NUMERIC),
    Column("soil", ColumnType.CATEGORICAL, ("clay", "sand")),
    Column("age", ColumnType.LABEL),
)
ROW = Payload(b"3,sand\n", CSV, JSON)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plants")
    columns = tuple(Column(column.name, column.type) for column in COLUMNS)
    write(fit(Schema("plants", Task.REGRESSION, columns), pd.DataFrame(ROWS), {"seed": 1}), directory)
    return directory


@pytest.fixture
def plants(trained: Path, tmp_path: Path) -> Path:
    """An artifact to be changed."""
    return shutil.copytree(trained, tmp_path / "model")


def change_contract(directory: Path, change: Callable[[Contract], Contract]) -> None:
    (directory / FILE).write_text(change(Contract.load(directory)).to_json(), encoding="utf-8")
    write_manifest(directory)


def change_program(directory: Path, **fields: Any) -> None:
    program = json.loads((directory / COMPILED).read_text())
    (directory / COMPILED).write_text(json.dumps(program | fields))
    write_manifest(directory)


def of_versions(**versions: str) -> Callable[[Contract], Contract]:
    return lambda contract: replace(contract, training={**contract.training, "versions": versions})


@pytest.mark.parametrize(
    ("engine", "runs"), [("auto", Transform), ("compiled", Transform), ("sklearn", FittedTransform)]
)
def test_the_setting_says_which_engine_transforms(plants: Path, engine: str, runs: type) -> None:
    featurizer = Featurizer.load(plants, engine=engine)

    assert isinstance(featurizer.engine, runs)
    assert featurizer(ROW).body == Featurizer.load(plants)(ROW).body


def test_scikit_learn_transforms_with_a_warning_where_nothing_is_compiled(
    plants: Path, caplog: pytest.LogCaptureFixture
) -> None:
    owed = Featurizer.load(plants)(ROW).body
    (plants / COMPILED).unlink()
    report = {"transform": "not compiled: PowerTransformer", "engine": "sklearn"}
    change_contract(plants, lambda contract: replace(contract, report=report))

    featurizer = Featurizer.load(plants)

    assert featurizer(ROW).body == owed
    assert caplog.messages == ["scikit-learn transforms: not compiled: PowerTransformer"]


@pytest.mark.parametrize("said", [{}, {"engine": True}, {"engine": "compiled"}])
def test_where_nothing_is_compiled_a_pickle_is_read_only_as_the_artifact_or_a_setting_says(
    plants: Path, said: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    owed = Featurizer.load(plants)(ROW).body
    (plants / COMPILED).unlink()
    change_contract(plants, lambda contract: replace(contract, report=said))  # as an earlier release wrote it

    with monkeypatch.context() as unread:
        unread.setattr("featurizer.fitted.joblib.load", None)
        with pytest.raises(BadArtifact, match="set FEATURIZER_ENGINE=sklearn if you trust it"):
            Featurizer.load(plants)
    assert Featurizer.load(plants, engine="sklearn")(ROW).body == owed


def test_an_engine_that_is_not_there_is_named(plants: Path) -> None:
    (plants / COMPILED).unlink()
    write_manifest(plants)

    with pytest.raises(BadArtifact, match=r"FEATURIZER_ENGINE=compiled: there is no transform\.json in "):
        Featurizer.load(plants, engine="compiled")


@pytest.mark.parametrize(("engine", "file"), [("compiled", COMPILED), ("sklearn", PREPROCESS)])
def test_an_engine_of_other_features_is_refused(plants: Path, engine: str, file: str) -> None:
    change_contract(plants, lambda contract: replace(contract, features=contract.features[::-1]))

    with pytest.raises(BadArtifact, match=rf"{file} makes features \('rain', .* the contract has \('soil_sand', "):
        Featurizer.load(plants, engine=engine)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"numeric": ["rain", "wind"]}, r"takes numeric columns \('rain', 'wind'\), the contract has \('rain',\)"),
        (
            {"categorical": ["soil", "sun"]},
            r"takes categorical columns \('soil', 'sun'\), the contract has \('soil',\)",
        ),
    ],
)
def test_a_transform_of_other_columns_is_refused(plants: Path, fields: dict[str, Any], reason: str) -> None:
    change_program(plants, **fields)

    with pytest.raises(BadArtifact, match=reason):
        Featurizer.load(plants)


@pytest.mark.parametrize(
    ("versions", "written_by"), [({"scikit-learn": "0.24.2"}, "0.24.2"), ({"numpy": "2.0"}, "an unknown version")]
)
def test_a_pickle_of_another_scikit_learn_is_refused(plants: Path, versions: dict[str, str], written_by: str) -> None:
    change_contract(plants, of_versions(**versions))

    with pytest.raises(
        BadArtifact, match=f"{PREPROCESS} was written by scikit-learn {written_by} and would be read by"
    ):
        Featurizer.load(plants, engine="sklearn")


@pytest.mark.parametrize(
    ("version", "warned"), [("1.0.1", True), (".".join([*np.__version__.split(".")[:2], "999"]), False)]
)
def test_a_transform_of_another_numpy_runs_with_a_warning(
    plants: Path, caplog: pytest.LogCaptureFixture, version: str, warned: bool
) -> None:
    change_contract(plants, of_versions(numpy=version))

    Featurizer.load(plants)

    assert [message.startswith(f"{COMPILED} was proved with numpy {version}") for message in caplog.messages] == (
        [True] if warned else []
    )


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no pickle of joblib's"),
        (b"garbage", "is no pickle of joblib's"),
        (b"cnowhere\nnothing\n.", "is no pickle of joblib's"),
        (pickled([1])[:-1], "is no pickle of joblib's"),
        (pickled({"a": 1}), "expected a ColumnTransformer, got a dict"),
        (pickled(StandardScaler()), "expected a ColumnTransformer, got a StandardScaler"),
    ],
)
def test_a_file_that_is_no_transformer_is_refused(plants: Path, content: bytes, reason: str) -> None:
    (plants / PREPROCESS).write_bytes(content)
    write_manifest(plants)

    with pytest.raises(BadArtifact, match=f"{PREPROCESS}.*{reason}"):
        Featurizer.load(plants, engine="sklearn")


BINS = KBinsDiscretizer(2, encode="ordinal", quantile_method="averaged_inverted_cdf")
STRICT = OneHotEncoder(handle_unknown="error")
LENIENT = OneHotEncoder(handle_unknown="ignore")
NAN = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
LOG = FunctionTransformer(np.log, feature_names_out="one-to-one")


@pytest.mark.filterwarnings("ignore:Bins whose width")
@pytest.mark.parametrize("engine", ["compiled", "sklearn"])
@pytest.mark.parametrize(
    ("numeric", "text", "row", "code", "column", "says"),
    [
        ("passthrough", STRICT, "1,loam", "unknown_category", "soil", "expected one of clay, sand; got 'loam'"),
        ("passthrough", OrdinalEncoder(), "1,loam", "unknown_category", "soil", "expected one of clay, sand"),
        ("passthrough", STRICT, "1,", "missing_value", "soil", "expected a value"),
        (BINS, STRICT, ",clay", "missing_value", "rain", "expected a value"),
        (OrdinalEncoder(), STRICT, "7,clay", "transform_refused", None, "out of a step's range"),
        (LOG, STRICT, "-1,clay", "non_finite_after_transform", "rain", "expected finite features, got nan"),
        (LOG, STRICT, "0,sand", "non_finite_after_transform", "rain", "expected finite features, got -inf"),
        ("passthrough", STRICT, ",clay", "missing_value", "rain", "expected a value"),
        ("passthrough", NAN, "1,loam", "unknown_category", "soil", "expected one of clay, sand; got 'loam'"),
        ("passthrough", NAN, "1,", "missing_value", "soil", "expected a value"),
        (LOG, LENIENT, "-1,", "non_finite_after_transform", "rain", "expected finite features, got nan"),
    ],
)
def test_a_row_that_a_step_refuses_is_named_wherever_it_stands(
    numeric: Any, text: Any, row: str, code: str, column: str | None, says: str, engine: str
) -> None:
    frame = pd.DataFrame({"rain": [1.0, 2.0, 4.0, 5.0], "soil": ["clay", "sand", "clay", "sand"]})
    parts = [("numbers", numeric, ["rain"]), ("texts", text, ["soil"])]
    transformer = ColumnTransformer(parts, verbose_feature_names_out=False).fit(frame)
    contract = Contract("plants", Task.REGRESSION, COLUMNS, tuple(transformer.get_feature_names_out()), {})
    compiled = Transform.from_json(compile_transformer(transformer, contract))
    featurizer = Featurizer(compiled if engine == "compiled" else FittedTransform(transformer), contract)

    for before, after in ((0, 0), (0, 5), (1, 0), (3, 1), (4, 9)):
        body = "".join(["1,clay\n"] * before + [f"{row}\n"] + ["2,sand\n"] * after)
        with pytest.raises(BadPayload, match=says) as caught:
            featurizer(Payload(body.encode(), CSV, JSON))
        assert (caught.value.code, caught.value.row, caught.value.column) == (code, before + 1, column)


@pytest.mark.parametrize(("accept", "said"), [(CSV, CSV), (JSON, JSON), (NPY, NPY)])
def test_an_answer_says_its_media_type_and_the_training_it_is_of(trained: Path, accept: str, said: str) -> None:
    answer = Featurizer.load(trained)(Payload(b"3,sand\n", CSV, accept))

    assert answer.content_type == f"{said}; contract={Contract.load(trained).hash}"


def test_the_rows_and_what_training_has_not_seen_are_noted(trained: Path) -> None:
    featurizer = Featurizer.load(trained)

    def noted(body: bytes) -> dict[str, Any]:
        logs.notes.set({})
        featurizer(Payload(body, CSV, JSON))
        return logs.notes.get()

    assert Context().run(noted, b"1,clay\n2,loam\n3,\n4,loam\n5,mud\n") == {"rows": 5, "unseen": {"soil": 3}}
    assert Context().run(noted, b"1,clay\n") == {"rows": 1}


def test_a_feature_that_float32_does_not_hold_is_refused_where_the_answer_has_it() -> None:
    contract = Contract("plants", Task.REGRESSION, COLUMNS, ("rain",), {})
    transformer = ColumnTransformer([("numbers", "passthrough", ["rain"])], verbose_feature_names_out=False)
    transformer.fit(pd.DataFrame({"rain": [1.0], "soil": ["clay"]}))
    featurizer = Featurizer(FittedTransform(transformer), contract)

    assert featurizer(Payload(b"1e39,clay\n", CSV, JSON)).body == b'{"instances":[[1e+39]]}'
    with pytest.raises(BadPayload, match="expected finite features, got inf"):
        featurizer(Payload(b"1e39,clay\n", CSV, NPY))


def test_a_pickle_of_another_patch_of_scikit_learn_is_served(plants: Path) -> None:
    change_contract(plants, of_versions(**{"scikit-learn": ".".join([*sklearn.__version__.split(".")[:2], "999"])}))

    assert isinstance(Featurizer.load(plants, engine="sklearn").engine, FittedTransform)


def test_of_many_known_categories_256_characters_are_named() -> None:
    known = tuple(f"soil{number:03}" for number in range(50))
    columns = (COLUMNS[0], replace(COLUMNS[1], categories=known))
    row = Records(("rain",), ("soil",), np.ones((1, 1)), (["loam"],))

    refused = refusal(row, Contract("plants", Task.REGRESSION, columns, ("rain",), {}), 3)

    assert refused.message == f"expected one of {', '.join(known)[:255]}…; got 'loam'"
    assert (refused.code, refused.row, refused.column) == ("unknown_category", 3, "soil")


@pytest.mark.parametrize("engine", ["compiled", "sklearn"])
@pytest.mark.parametrize("accept", [CSV, JSON, NPY])
def test_what_is_missing_in_a_row_may_be_missing_in_its_features_where_the_contract_says_so(
    engine: str, accept: str
) -> None:
    frame = pd.DataFrame({"rain": [1.0, 2.0, 4.0, 5.0], "soil": ["clay", "sand", "clay", "sand"]})
    parts = [("numbers", LOG, ["rain"]), ("texts", NAN, ["soil"])]
    transformer = ColumnTransformer(parts, verbose_feature_names_out=False).fit(frame)
    contract = Contract("plants", Task.REGRESSION, COLUMNS, ("rain", "soil"), {}, missing_features=True)
    compiled = Transform.from_json(compile_transformer(transformer, contract))
    featurizer = Featurizer(compiled if engine == "compiled" else FittedTransform(transformer), contract)

    answer = featurizer(Payload(b"1,clay\n,sand\n1,loam\n1,\n", CSV, accept))

    features = read_features(answer.body, content_type(answer.content_type, (CSV, JSON, NPY)), contract)
    assert np.array_equal(features, [[0, 0], [np.nan, 1], [0, np.nan], [0, np.nan]], equal_nan=True)
    for row, value in (("-1,clay", "nan"), ("0,", "-inf")):
        with pytest.raises(BadPayload, match=f"expected finite features, got {value}"):
            featurizer(Payload(f"1,clay\n{row}\n".encode(), CSV, accept))
    assert Contract.from_json(contract.to_json()).missing_features
