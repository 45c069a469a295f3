"""The two stages say, to the bit, what pandas, scikit-learn and XGBoost say of the same rows."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import xgboost
from numpy.typing import NDArray

from featurizer.model import PREPROCESS, Featurizer
from predictor.model import MODEL, Predictor
from serving.errors import BadPayload, ContractMismatch, PayloadTooLarge
from serving.payload import CSV, JSON, JSONLINES, NPY, Payload, run_serially

FORMATS = (CSV, JSON, JSONLINES, NPY)


def read_exactly(source: Path | io.StringIO, **options: Any) -> pd.DataFrame:
    """pandas' own reading of CSV, every number the float64 nearest to its text."""
    with warnings.catch_warnings(action="ignore", category=pd.errors.Pandas4Warning):  # pandas 4 will always be exact
        return pd.read_csv(source, float_precision="round_trip", **options)


@pytest.fixture(scope="module")
def featurizer(artifacts: Path) -> Featurizer:
    return Featurizer.load(artifacts / "featurizer" / "model")


@pytest.fixture(scope="module")
def predictor(artifacts: Path) -> Predictor:
    return Predictor.load(artifacts / "predictor" / "model")


@pytest.fixture(scope="module")
def raw(artifacts: Path) -> pd.DataFrame:
    """The held-out rows as text, so that no format can change a number on its way in."""
    return pd.read_csv(artifacts / "test.csv", dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def features(artifacts: Path) -> NDArray[np.float64]:
    """What the libraries alone make of the held-out rows."""
    frame = read_exactly(artifacts / "test.csv").drop(columns="rings")
    transformer = joblib.load(artifacts / "featurizer" / "model" / PREPROCESS)
    return np.asarray(transformer.transform(frame), dtype=np.float64)


@pytest.fixture(scope="module")
def predictions(artifacts: Path, features: NDArray[np.float64]) -> NDArray[np.float32]:
    booster = xgboost.Booster(model_file=artifacts / "predictor" / "model" / MODEL)
    matrix = xgboost.DMatrix(features.astype(np.float32), feature_names=booster.feature_names)
    predicted: NDArray[np.float32] = booster.predict(matrix)
    return predicted


def as_objects(raw: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {name: cell if name == "sex" else float(cell) for name, cell in row.items()} for row in raw.to_dict("records")
    ]


def as_lists(raw: pd.DataFrame) -> list[list[Any]]:
    return [list(row.values()) for row in as_objects(raw)]


def as_lines(rows: list[Any]) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n"


SHUFFLED = [
    "height",
    "rings",
    "sex",
    "shell_weight",
    "length",
    "viscera_weight",
    "diameter",
    "whole_weight",
    "shucked_weight",
]
INPUTS: dict[str, tuple[str, Callable[[pd.DataFrame], str]]] = {
    "CSV": (CSV, lambda raw: raw.drop(columns="rings").to_csv(index=False, header=False)),
    "CSV with the label": (CSV, lambda raw: raw.to_csv(index=False, header=False)),
    "CSV with a header": (CSV, lambda raw: raw.drop(columns="rings").to_csv(index=False)),
    "CSV with a header and the label": (CSV, lambda raw: raw.to_csv(index=False)),
    "CSV with shuffled columns": (CSV, lambda raw: raw[SHUFFLED].to_csv(index=False)),
    "CSV said to have a header": (f"{CSV}; header=present", lambda raw: raw[SHUFFLED].to_csv(index=False)),
    "CSV in quotes": (CSV, lambda raw: raw.to_csv(index=False, header=False, quoting=1)),
    "CSV with CRLF": (CSV, lambda raw: raw.to_csv(index=False, header=False, lineterminator="\r\n")),
    "JSON lists": (JSON, lambda raw: json.dumps(as_lists(raw.drop(columns="rings")))),
    "JSON lists with the label": (JSON, lambda raw: json.dumps(as_lists(raw))),
    "JSON objects": (JSON, lambda raw: json.dumps(as_objects(raw[SHUFFLED]))),
    "instances": (JSON, lambda raw: json.dumps({"instances": as_lists(raw)})),
    "instances of features": (JSON, lambda raw: json.dumps({"instances": [{"features": r} for r in as_lists(raw)]})),
    "JSON Lines of lists": (JSONLINES, lambda raw: as_lines(as_lists(raw))),
    "JSON Lines of objects": (JSONLINES, lambda raw: as_lines(as_objects(raw))),
}


def matrix(payload: Payload) -> NDArray[np.float64]:
    """The features of a payload, read without our own readers."""
    media = payload.content_type.partition(";")[0]
    if media == NPY:
        loaded: NDArray[np.float64] = np.load(io.BytesIO(payload.body), allow_pickle=False)
        return loaded
    if media == CSV:
        return np.array([line.split(",") for line in payload.body.decode().splitlines()], dtype=np.float64)
    rows = map(json.loads, payload.body.splitlines()) if media == JSONLINES else json.loads(payload.body)["instances"]
    return np.array(list(rows), dtype=np.float64)


def vector(payload: Payload) -> NDArray[np.float32]:
    """The predictions of a payload, read without our own readers."""
    media = payload.content_type.partition(";")[0]
    if media == NPY:
        loaded: NDArray[np.float32] = np.load(io.BytesIO(payload.body), allow_pickle=False)
        return loaded
    lines = payload.body.decode().splitlines()
    if media == JSON:
        return np.array(json.loads(payload.body)["result"], dtype=np.float32)
    return np.array([json.loads(x)["result"] for x in lines] if media == JSONLINES else lines, dtype=np.float32)


@pytest.mark.parametrize("kind", INPUTS)
def test_every_way_to_send_the_rows_gives_the_features_of_scikit_learn(
    kind: str, raw: pd.DataFrame, featurizer: Featurizer, features: NDArray[np.float64]
) -> None:
    media, write = INPUTS[kind]

    answer = featurizer(Payload(write(raw).encode(), media, CSV))

    assert len(features) == 418
    assert matrix(answer).tobytes() == features.tobytes()


@pytest.mark.parametrize("media", FORMATS)
def test_every_format_of_the_features_is_exact(
    media: str, raw: pd.DataFrame, featurizer: Featurizer, features: NDArray[np.float64]
) -> None:
    answer = featurizer(Payload(INPUTS["CSV"][1](raw).encode(), CSV, media))

    assert answer.content_type.startswith(media)
    assert matrix(answer).tobytes() == features.astype(np.float32 if media == NPY else np.float64).tobytes()


@pytest.mark.parametrize("hop", FORMATS)
@pytest.mark.parametrize("accept", FORMATS)
def test_every_hop_and_every_answer_give_the_predictions_of_xgboost(
    hop: str,
    accept: str,
    artifacts: Path,
    raw: pd.DataFrame,
    predictor: Predictor,
    predictions: NDArray[np.float32],
) -> None:
    stages = [Featurizer.load(artifacts / "featurizer" / "model", default_accept=hop), predictor]

    answer = run_serially(stages, Payload(INPUTS["CSV"][1](raw).encode(), CSV, accept))

    assert answer.content_type.startswith(accept)
    assert vector(answer).tobytes() == predictions.tobytes()


@pytest.mark.parametrize("kind", INPUTS)
def test_every_way_to_send_the_rows_gives_the_predictions_of_xgboost(
    kind: str, raw: pd.DataFrame, featurizer: Featurizer, predictor: Predictor, predictions: NDArray[np.float32]
) -> None:
    media, write = INPUTS[kind]

    answer = run_serially([featurizer, predictor], Payload(write(raw).encode(), media))

    assert vector(answer).tobytes() == predictions.tobytes()


def test_a_row_alone_is_predicted_as_among_the_others(
    raw: pd.DataFrame, featurizer: Featurizer, predictor: Predictor, predictions: NDArray[np.float32]
) -> None:  # C68
    lines = INPUTS["CSV"][1](raw).splitlines()

    alone = [vector(run_serially([featurizer, predictor], Payload(line.encode(), CSV)))[0] for line in lines[:40]]
    reversed_ = vector(run_serially([featurizer, predictor], Payload("\n".join(lines[::-1]).encode(), CSV)))

    assert np.array(alone).tobytes() == predictions[:40].tobytes()
    assert reversed_[::-1].tobytes() == predictions.tobytes()


def test_missing_and_unseen_cells_are_imputed_as_scikit_learn_does(artifacts: Path, featurizer: Featurizer) -> None:
    names = [column.name for column in featurizer.contract.inputs]
    body = ",,,,,,,\nX,0.1,NA,0.3,null,0.5,nan,0.7\nNA,1e-300,-0.0,5e300,1,2,3,4\n"
    frame = read_exactly(io.StringIO(body), names=names, dtype={"sex": object})
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # scikit-learn's, of the unseen category
        expected = joblib.load(artifacts / "featurizer" / "model" / PREPROCESS).transform(frame)

    answer = featurizer(Payload(body.encode(), CSV, JSON))

    assert matrix(answer).tobytes() == np.asarray(expected, dtype=np.float64).tobytes()


@pytest.mark.parametrize(("cell", "accept"), [("1e308", CSV), ("1e308", NPY), ("-1e39", NPY)])
def test_what_overflows_in_the_transform_is_refused(featurizer: Featurizer, cell: str, accept: str) -> None:  # C31
    body = f"M,0.1,0.1,0.1,0.1,0.1,0.1,0.1\nM,{cell},0.1,0.1,0.1,0.1,0.1,0.1"

    with pytest.raises(BadPayload) as caught:
        featurizer(Payload(body.encode(), CSV, accept))

    assert (caught.value.code, caught.value.row, caught.value.column) == ("non_finite_after_transform", 2, "length")
    assert "inf after the transform" in caught.value.message


def test_rows_whose_answer_must_be_too_large_are_not_transformed(featurizer: Featurizer) -> None:  # C65
    limited = replace(featurizer, max_response=399)
    body = b"M,1e308,0.1,0.1,0.1,0.1,0.1,0.1\n"

    with pytest.raises(PayloadTooLarge, match="at most 399 bytes, got at least 400: send fewer rows"):
        limited(Payload(body * 10, CSV, JSON))
    with pytest.raises(BadPayload, match="after the transform"):
        limited(Payload(body * 9, CSV, JSON))


def test_features_of_another_training_run_are_refused(
    raw: pd.DataFrame, featurizer: Featurizer, predictor: Predictor
) -> None:
    answer = featurizer(Payload(INPUTS["CSV"][1](raw).encode(), CSV))
    foreign = answer.content_type.replace(featurizer.contract.hash, "0" * 64)

    with pytest.raises(ContractMismatch):
        predictor(Payload(answer.body, foreign))
    assert predictor(Payload(answer.body, CSV)).body == predictor(answer).body
