"""What a caller may ask a container about itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator

from featurizer.records import ACCEPTED as RAW
from featurizer.records import RecordReader
from predictor.features import ACCEPTED as FEATURES
from serving.app import create_app
from serving.errors import BadPayload, ServingError
from serving.interface import Interface
from serving.media import MediaType
from serving.payload import CSV, JSON, JSONLINES, NPY
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
    row = content[JSON]["schema"]["oneOf"][4]

    assert document["openapi"] == "3.1.0"
    assert list(content) == list(RAW)
    assert [cell["description"] for cell in row["prefixItems"]] == HEADER.split(",")
    assert [cell["type"][0] for cell in row["prefixItems"]] == ["string"] + ["number"] * 7
    assert row["minItems"] == row["maxItems"] == 8


ROW = ["M", *[0.5] * 7]
RECORD = dict(zip(HEADER.split(","), ROW, strict=True))


@pytest.mark.parametrize(
    ("document", "fits"),
    [
        (ROW, True),
        ([ROW, ROW], True),
        ({"instances": [ROW]}, True),
        ({"instances": [RECORD, RECORD]}, True),
        (RECORD, True),
        ([RECORD], True),
        ([None] * 8, True),
        (["another", *[1] * 7], True),
        (ROW[:-1], False),
        ([], False),
        ([[]], False),
        ({"instances": []}, False),
        ({"instances": [ROW], "more": 1}, False),
        ({"instances": ROW}, False),
        (["M", "0.5", *[0.5] * 6], False),
        ([1, *[0.5] * 7], False),
        ({name: cell for name, cell in RECORD.items() if name != "length"}, False),
        (RECORD | {"more": 1}, False),
        ("M", False),
        (None, False),
    ],
)
def test_what_the_openapi_document_says_of_json_is_what_is_read(
    client: FlaskClient, document: object, fits: bool
) -> None:
    described = client.get("/openapi.json").json
    schema = described["paths"]["/invocations"]["post"]["requestBody"]["content"][JSON]["schema"]
    body = json.dumps(document).encode()

    assert Draft202012Validator(schema).is_valid(document) is fits
    if fits:
        assert len(RecordReader(CONTRACT).read(body, MediaType(JSON))) > 0
    else:
        with pytest.raises(BadPayload):
            RecordReader(CONTRACT).read(body, MediaType(JSON))


def test_the_openapi_document_describes_every_path_and_format() -> None:
    document = Interface(CONTRACT, CONTRACT.inputs, (*RAW, NPY), (JSON, NPY)).openapi(Settings(stage="featurizer"))
    post = document["paths"]["/invocations"]["post"]
    schemas = {media: described["schema"] for media, described in post["requestBody"]["content"].items()}
    cells = schemas[JSON]["oneOf"][4]["prefixItems"]

    assert document["info"] == {"title": "featurizer of abalone", "version": CONTRACT.hash[:12]}
    assert document["paths"].keys() == {"/invocations", "/ping", "/contract", "/openapi.json", "/execution-parameters"}
    assert [len(document["paths"][path]["get"]["responses"]["200"]) for path in ("/contract", "/openapi.json")] == [
        2,
        2,
    ]
    assert post["requestBody"]["required"] is True
    assert schemas[CSV] == {"type": "string", "description": f"rows of {HEADER}, and last of them rings or not"}
    assert schemas[JSONLINES] == {"type": "string", "description": "a row, in JSON, a line"}
    assert schemas[NPY] == {"type": "string", "format": "binary"}
    assert [cell.get("examples") for cell in cells] == [["F", "I", "M"], *[None] * 7]


def test_every_refusal_is_described(client: FlaskClient) -> None:
    described = client.get("/openapi.json").json
    responses = described["paths"]["/invocations"]["post"]["responses"]
    error = described["components"]["schemas"]["Error"]
    ours = {kind for kind in every_error(ServingError) if kind.__module__.startswith("serving.")}
    statuses = {kind.status for kind in ours} - {405, 501}  # of another method, of no HTTP

    assert {str(status) for status in statuses} | {"503"} == responses.keys() - {"200"}
    assert {str(found) for found in find_references(described)} == {"#/components/schemas/Error"}
    assert Draft202012Validator(error).is_valid(BadPayload("no", row=1, column="a").as_dict() | {"request_id": "x"})
    for wrong in ({"code": "a"}, {"code": "a", "message": "b", "request_id": "c", "row": 0}):
        assert not Draft202012Validator(error).is_valid(wrong)


def every_error(kind: type[ServingError]) -> set[type[ServingError]]:
    return {kind}.union(*map(every_error, kind.__subclasses__()))


def find_references(node: Any) -> Iterator[str]:
    for name, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if name == "$ref":
            yield value
        yield from find_references(value)


def test_a_stage_that_reads_npy_says_so() -> None:
    document = Interface(CONTRACT, (), FEATURES, (JSON,)).openapi(Settings())

    assert list(document["paths"]["/invocations"]["post"]["requestBody"]["content"]) == list(FEATURES)


def test_neither_path_takes_a_body_or_exists_without_an_interface(client: FlaskClient) -> None:
    bare = create_app(lambda payload: payload).test_client()

    assert client.post("/contract").status_code == 405
    assert client.options("/openapi.json").status_code == 405
    assert bare.get("/contract").status_code == 404
    assert bare.get("/openapi.json").status_code == 404


def test_the_openapi_document_says_how_large_a_body_may_be_and_what_each_answer_is(client: FlaskClient) -> None:
    paths = client.get("/openapi.json").json["paths"]
    post = paths["/invocations"]["post"]
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    document = {"application/json": {"schema": {"type": "object"}}}

    assert post["requestBody"]["description"] == f"At most {25 * 1024 * 1024} bytes."
    assert post["responses"]["200"]["content"] == {CSV: {"schema": {"type": "string"}}, JSON: document[JSON]}
    assert {
        status: found["content"] for status, found in post["responses"].items() if status != "200"
    } == dict.fromkeys(("400", "406", "408", "409", "413", "415", "500", "503"), error)
    assert paths["/ping"]["get"]["responses"] == {
        "200": {"description": "ready"},
        "503": {"description": "not ready", "content": error},
    }
    for path in ("/contract", "/openapi.json", "/execution-parameters"):
        assert paths[path]["get"]["responses"]["200"]["content"] == document
