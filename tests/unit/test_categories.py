"""Categories that training has not seen: counted where the encoder forgives them, refused where it does not."""

from __future__ import annotations

import json
import logging

import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder

from featurizer.fitted import FittedTransform
from featurizer.model import Featurizer
from serving.app import create_app
from serving.contract import Column, ColumnType, Contract, Task
from serving.errors import BadPayload
from serving.payload import CSV, JSON, Payload

COLUMNS = (
    Column("size", ColumnType.NUMERIC),
    Column("sex", ColumnType.CATEGORICAL, ("F", "M")),
    Column("colour", ColumnType.CATEGORICAL, ("blue", "red")),
)
BODY = b"1,F,blue\n2,X,green\n3,M,green\n4,,red\n"


def featurizer(handle_unknown: str) -> Featurizer:
    seen = pd.DataFrame({"size": [1.0, 2.0], "sex": ["F", "M"], "colour": ["blue", "red"]}, dtype=object)
    encoder = OneHotEncoder(handle_unknown=handle_unknown, sparse_output=False)
    transformer = ColumnTransformer([("c", encoder, ["sex", "colour"])], remainder="passthrough").fit(seen)
    return Featurizer(
        FittedTransform(transformer), Contract("t", Task.REGRESSION, COLUMNS, ("a", "b", "c", "d", "size"), {})
    )


def test_forgiven_categories_are_counted_in_the_log_without_their_values(caplog: pytest.LogCaptureFixture) -> None:
    client = create_app(featurizer("ignore")).test_client()

    with caplog.at_level(logging.INFO, "serving.app"):
        first = client.post("/invocations", data=BODY, content_type=CSV)
        second = client.post("/invocations", data=BODY[:9], content_type=CSV)

    fields = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert (first.status_code, second.status_code) == (200, 200)
    assert fields[0]["unseen"] == {"sex": 1, "colour": 2}
    assert "unseen" not in fields[1]
    assert "green" not in json.dumps(fields)


@pytest.mark.parametrize(
    ("body", "media"),
    [(BODY, CSV), (b'[[1,"F","blue"],[2,"X","green"]]', JSON)],
)
def test_an_encoder_that_refuses_them_refuses_the_request_and_names_the_first(body: bytes, media: str) -> None:
    with pytest.raises(BadPayload) as caught:
        featurizer("error")(Payload(body, media))

    assert (caught.value.code, caught.value.row, caught.value.column) == ("unknown_category", 2, "sex")
    assert caught.value.message == "expected one of F, M; got 'X'"
