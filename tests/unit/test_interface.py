"""What a caller may ask a container about itself."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from featurizer.records import ACCEPTED as RAW
from predictor.features import ACCEPTED as FEATURES
from serving.app import create_app
from serving.interface import Interface
from serving.payload import CSV, JSON
from serving.settings import Settings
from tests.unit.abalone import CONTRACT, HEADER


@pytest.fixture
def client() -> FlaskClient:
    interface = Interface(CONTRACT, CONTRACT.inputs, RAW, (CSV, JSON))
    return create_app(lambda payload: payload, Settings(stage="featurizer"), interface=interface).test_client()


def test_a_container_tells_what_it_expects(client: FlaskClient) -> None:
    described = client.get("/contract").json

    assert described["reads"] == HEADER.split(",")
    assert described["accepts"] == list(RAW)
    assert described["answers"] == [CSV, JSON]
    assert described["max_body_bytes"] == Settings().max_body
    assert described["contract"]["hash"] == CONTRACT.hash
    assert described["contract"]["columns"][0] == {"name": "sex", "type": "categorical", "categories": ["F", "I", "M"]}


def test_the_openapi_document_describes_a_row_column_by_column(client: FlaskClient) -> None:
    document = client.get("/openapi.json").json
    content = document["paths"]["/invocations"]["post"]["requestBody"]["content"]
    row = content[JSON]["schema"]["oneOf"][3]

    assert document["openapi"] == "3.1.0"
    assert list(content) == list(RAW)
    assert [cell["description"] for cell in row["prefixItems"]] == HEADER.split(",")
    assert [cell["type"][0] for cell in row["prefixItems"]] == ["string"] + ["number"] * 7
    assert row["minItems"] == row["maxItems"] == 8


def test_a_stage_that_reads_npy_says_so() -> None:
    document = Interface(CONTRACT, (), FEATURES, (JSON,)).openapi(Settings())

    assert list(document["paths"]["/invocations"]["post"]["requestBody"]["content"]) == list(FEATURES)


def test_neither_path_takes_a_body_or_exists_without_an_interface(client: FlaskClient) -> None:
    bare = create_app(lambda payload: payload).test_client()

    assert client.post("/contract").status_code == 405
    assert client.options("/openapi.json").status_code == 405
    assert bare.get("/contract").status_code == 404
    assert bare.get("/openapi.json").status_code == 404
