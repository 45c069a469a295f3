"""What the two stages of one training run agree on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.contract import FILE, Column, ColumnType, Contract, LabelPlace, Task
from serving.errors import BadArtifact
from tests.fuzz.loading import with_right_hash
from tests.unit.abalone import CONTRACT


def test_a_contract_reads_back_as_it_was_written(tmp_path: Path) -> None:
    contract = replace(CONTRACT, dataset="Muscheln: größer", report={"metrics": {"rmse": 2.1}})

    (tmp_path / FILE).write_text(contract.to_json(), encoding="utf-8")

    assert Contract.load(tmp_path) == contract


def test_inputs_are_the_columns_without_the_label() -> None:
    assert [column.name for column in CONTRACT.inputs] == [column.name for column in CONTRACT.columns[:-1]]
    assert CONTRACT.label == Column("rings", ColumnType.LABEL, range=(1.0, 29.0), whole=True)
    assert replace(CONTRACT, columns=CONTRACT.inputs).label is None


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "other"},
        {"task": Task.BINARY},
        {"columns": CONTRACT.columns[::-1]},
        {"columns": (replace(CONTRACT.columns[0], categories=("F", "I")), *CONTRACT.columns[1:])},
        {"columns": (replace(CONTRACT.columns[0], type=ColumnType.NUMERIC), *CONTRACT.columns[1:])},
        {"features": CONTRACT.features[::-1]},
        {"training": {"seed": 43, "rows": 3759}},
        {"labelled_rows": LabelPlace.FIRST},
        {"missing_features": True},
    ],
)
def test_another_run_has_another_hash(change: dict[str, Any]) -> None:
    assert replace(CONTRACT, **change).hash != CONTRACT.hash


def test_what_was_measured_afterwards_leaves_the_hash_alone() -> None:
    assert replace(CONTRACT, report={"metrics": {"rmse": 2.1}}).hash == CONTRACT.hash


def changed(**fields: Any) -> str:
    return json.dumps(json.loads(CONTRACT.to_json()) | fields)


def without(field: str) -> str:
    return json.dumps({name: value for name, value in json.loads(CONTRACT.to_json()).items() if name != field})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a contract"),
        ("{", "is not a contract"),
        ("[]", "is not a contract"),
        ("null", "is not a contract"),
        (changed(schema_version=2), "expected schema_version 1, got 2"),
        (changed(task="ranking"), "ranking"),
        (changed(columns=[{"name": "sex"}]), "type"),
        (changed(columns=[{"name": "sex", "type": "date"}]), "date"),
        (changed(columns=None), "is not a contract"),
        (changed(features=["length"]), "its hash is"),
        (changed(training={"seed": 1}), "its hash is"),
        (changed(hash="0" * 64), "its hash is"),
        *((without(field), field) for field in json.loads(CONTRACT.to_json()) if field != "labelled_rows"),
        (without("labelled_rows"), "its hash is"),
        (changed(labelled_rows="middle"), "middle"),
        (changed(missing_features="yes"), "missing_features as true or false"),
    ],
)
def test_a_damaged_contract_is_refused(text: str, reason: str) -> None:
    with pytest.raises(BadArtifact) as caught:
        Contract.from_json(text)

    assert FILE in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"report": {}', '"report": {"rmse": 1e999}'),
        ('"report": {}', '"report": {"rmse": NaN}'),
        ('"report": {}', '"report": "good"'),
        ('"seed": 42', '"seed": 1e999'),
        ('"seed": 42', '"versions": "1.9"'),
        ('"name": "length"', '"name": 7'),
        ('"name": "length"', '"name": "sex"'),
        ('"length",', '"length", "length",'),
        ('"length",', '"length", 7,'),
        ('"schema_version"', '"deep": ' + "[" * 100_000 + ', "schema_version"'),
    ],
)
def test_what_is_written_as_something_else_is_a_bad_artifact_whatever_its_hash(before: str, after: str) -> None:
    text = CONTRACT.to_json()
    assert before in text

    with pytest.raises(BadArtifact, match=r"is not a contract"):
        Contract.from_json(with_right_hash(text.replace(before, after, 1).encode()).decode())


def test_the_hash_is_of_the_fields_as_json_in_their_shortest_form() -> None:
    contract = Contract(
        dataset="größe",
        task=Task.BINARY,
        columns=(Column("a", ColumnType.CATEGORICAL, ("x", "y")), Column("b", ColumnType.LABEL)),
        features=("f",),
        training={"seed": 1},
        report={"not": "hashed"},
    )
    text = (
        '{"columns":[{"categories":["x","y"],"name":"a","type":"categorical"},{"name":"b","type":"label"}],'
        '"dataset":"größe","features":["f"],"schema_version":1,"task":"binary","training":{"seed":1}}'
    )

    assert contract.hash == hashlib.sha256(text.encode()).hexdigest()
    assert contract.to_json().startswith('{\n  "schema_version": 1,\n  "dataset": "größe",\n')
    assert contract.to_json().endswith("}\n")


def test_only_a_column_of_whole_numbers_is_said_to_be_one() -> None:
    plain = Contract("t", Task.REGRESSION, (Column("zone", ColumnType.NUMERIC),), ("zone",), {})
    whole = replace(plain, columns=(Column("zone", ColumnType.NUMERIC, whole=True),))

    assert "whole" not in plain.to_json()  # as of an earlier release, with the same hash
    assert plain.hash == "0f4d29ce14e6f82efb413b0c35077e67338da273395257741ff28dd6079da59d"
    assert Contract.from_json(whole.to_json()) == whole
    assert whole.hash != plain.hash
    text = replace(plain, columns=(Column("zone", ColumnType.CATEGORICAL, whole=True),))
    with pytest.raises(BadArtifact, match="expected whole numbers in a numeric column, got zone"):
        Contract.from_json(text.to_json())
