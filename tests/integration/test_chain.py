"""Featurizer and predictor over HTTP, against scikit-learn and XGBoost in this process."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import xgboost
from numpy.typing import NDArray

from tests.servers import Answer

CSV, JSON, JSONLINES, NPY = "text/csv", "application/json", "application/jsonlines", "application/x-npy"
LABEL = "rings"

WRITERS: dict[str, tuple[str, Callable[[pd.DataFrame], str]]] = {
    "csv": (CSV, lambda rows: rows.drop(columns=LABEL).to_csv(index=False, header=False)),
    "csv with header": (CSV, lambda rows: rows.drop(columns=LABEL).to_csv(index=False)),
    "csv with label": (CSV, lambda rows: rows.to_csv(index=False, header=False)),
    "csv with header, label, CRLF": (CSV, lambda rows: rows.to_csv(index=False, lineterminator="\r\n")),
    "json lists": (JSON, lambda rows: json.dumps({"instances": rows.drop(columns=LABEL).to_numpy().tolist()})),
    "json objects": (JSON, lambda rows: json.dumps(rows.drop(columns=LABEL).to_dict("records"))),
    "json lines": (JSONLINES, lambda rows: rows.drop(columns=LABEL).to_json(orient="records", lines=True)),
}

READERS: dict[str, Callable[[bytes], Any]] = {
    CSV: lambda body: [float(line) for line in body.decode().splitlines()],
    JSON: lambda body: json.loads(body)["result"],
    JSONLINES: lambda body: [json.loads(line)["result"] for line in body.splitlines()],
    NPY: lambda body: np.load(io.BytesIO(body), allow_pickle=False),
}


@dataclass(frozen=True)
class Truth:
    """The test rows and the model's predictions for them, made without our code."""

    rows: pd.DataFrame
    predictions: NDArray[np.float32]


@pytest.fixture(scope="session")
def truth(artifacts: Path) -> Truth:
    rows = pd.read_csv(artifacts / "test.csv")
    transformer = joblib.load(artifacts / "featurizer/model/preprocess.joblib")
    booster = xgboost.Booster(model_file=str(artifacts / "predictor/model/xgboost-model.json"))
    features = transformer.transform(rows).astype(np.float32)
    return Truth(rows, booster.predict(xgboost.DMatrix(features, feature_names=booster.feature_names)))


@pytest.mark.parametrize("written", WRITERS)
def test_every_prediction_equals_the_one_made_in_process(chain, truth, written):
    featurizer, predictor = chain
    media, write = WRITERS[written]
    body = write(truth.rows).encode()

    for hop in (CSV, NPY, JSON, JSONLINES):
        features = featurizer.invoke(body, media, Accept=hop)
        assert features.status == 200, features.body
        for wanted, read in READERS.items():
            answer = predictor.invoke(features.body, features.content_type, Accept=wanted)

            assert answer.status == 200, answer.body
            assert answer.content_type.partition(";")[0] == wanted
            assert_same(read(answer.body), truth.predictions)


def test_the_test_rows_are_the_418_of_the_published_split(truth):
    assert len(truth.rows) == len(truth.predictions) == 418


def test_one_row_alone_predicts_as_among_others(chain, truth):
    featurizer, predictor = chain
    got = []
    for line in WRITERS["csv"][1](truth.rows[:20]).splitlines():
        features = featurizer.invoke(line.encode(), CSV)
        got += READERS[JSON](predictor.invoke(features.body, features.content_type).body)

    assert_same(got, truth.predictions[:20])


def test_features_of_another_training_run_are_refused(chain, truth):
    features = featurize(chain, truth)
    before, _, contract = features.content_type.partition("contract=")
    other = f"{before}contract={contract[::-1]}"

    answer = chain[1].invoke(features.body, other)

    assert (answer.status, answer.content_type) == (409, "application/json")
    assert answer.json["code"] == "contract_mismatch"
    assert contract[:12] in answer.json["message"]


@pytest.mark.parametrize(
    "media",
    ["Text/CSV", "TEXT/CSV; Charset=UTF-8", 'text/csv;charset="utf-8"', "text/csv ; charset=us-ascii", " text/csv"],
)
def test_content_types_are_read_whatever_their_case(chain, truth, media):
    featurizer, predictor = chain
    body = WRITERS["csv"][1](truth.rows).encode()

    features = featurizer.invoke(body, media)
    answer = predictor.invoke(features.body, features.content_type.upper().replace("CONTRACT", "contract").lower())

    assert features.status == 200, features.body
    assert_same(READERS[JSON](answer.body), truth.predictions)


@pytest.mark.parametrize("stage", [0, 1], ids=["featurizer", "predictor"])
@pytest.mark.parametrize("media", ["text/csv; charset=latin-1", "text/csv; charset=utf-16", "text/html", ""])
def test_other_content_types_are_refused(chain, stage, media):
    answer = chain[stage].invoke(b"1,2,3", media)

    assert (answer.status, answer.content_type) == (415, "application/json")


def test_a_refused_value_is_named_to_the_caller_and_kept_out_of_the_log(chain):
    featurizer, _ = chain

    answer = featurizer.invoke(b"M,0.4,0.3,unmistakable,0.5,0.2,0.1,0.15", CSV)

    assert (answer.status, answer.json["row"], answer.json["column"]) == (400, 1, "height")
    assert "unmistakable" in answer.json["message"]
    assert "unmistakable" not in featurizer.output()


def test_a_csv_of_20_mb_is_predicted_whole(chain, truth):
    _, predictor = chain
    features = featurize(chain, truth)
    copies = 20_000_000 // len(features.body)

    answer = predictor.invoke(features.body * copies, features.content_type, Accept=NPY)

    assert answer.status == 200, answer.body[:200]
    assert_same(READERS[NPY](answer.body), np.tile(truth.predictions, copies))


def featurize(chain: Any, truth: Truth) -> Answer:
    answer: Answer = chain[0].invoke(WRITERS["csv"][1](truth.rows).encode(), CSV)
    assert answer.status == 200, answer.body
    return answer


def assert_same(got: Any, expected: NDArray[np.float32]) -> None:
    """Bit for bit: the text of a float32 reads back to the same float32."""
    assert np.array_equal(np.asarray(got, dtype=np.float32).view(np.int32), expected.view(np.int32))
