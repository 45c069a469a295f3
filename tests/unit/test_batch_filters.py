"""InputFilter, JoinSource and OutputFilter."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_test.control_plane.filters import FilterError, parse, processing

ROW = [10, 20, 30, 40]
DOCUMENT = {"id": 7, "features": [1, 2, 3], "deep": {"a": 1, "b": [{"c": 5}, {"c": 6}]}, "odd name": 9}
CSV, JSON, LINES = "text/csv", "application/json", "application/jsonlines"


@pytest.mark.parametrize(
    ("path", "document", "expected"),
    [
        ("$", ROW, ROW),
        ("$[1:]", ROW, [20, 30, 40]),
        ("$[:-1]", ROW, [10, 20, 30]),
        ("$[0:2]", ROW, [10, 20]),
        ("$[1:99]", ROW, [20, 30, 40]),
        ("$[:]", ROW, ROW),
        ("$[0]", ROW, 10),
        ("$[-1]", ROW, 40),
        ("$[0,-1]", ROW, [10, 40]),
        ("$[3, 0]", ROW, [40, 10]),
        ("$[*]", ROW, ROW),
        ("$.id", DOCUMENT, 7),
        ("$.deep.a", DOCUMENT, 1),
        ("$.features", DOCUMENT, [1, 2, 3]),
        ("$.features[1:]", DOCUMENT, [2, 3]),
        ("$.deep.b[*].c", DOCUMENT, [5, 6]),
        ("$.deep.b[0].c", DOCUMENT, 5),
        ("$['odd name']", DOCUMENT, 9),
        ("$['id','features']", DOCUMENT, {"id": 7, "features": [1, 2, 3]}),
        ("$.deep.['a','b']", DOCUMENT, DOCUMENT["deep"]),
        ("$.deep.*", {"deep": {"x": 1, "y": 2}}, [1, 2]),
    ],
)
def test_a_path_chooses_what_it_names(path: str, document: Any, expected: Any) -> None:
    assert parse(path).of(document) == expected


@pytest.mark.parametrize(
    "path", ["", "id", "[1:]", "$id", "$.", "$[", "$[a]", "$['a'", "$..a", "$[?(@.a>1)]", "$[1:2:3]", "$['a','b'].c"]
)
def test_what_aws_does_not_support_is_refused(path: str) -> None:
    with pytest.raises(FilterError, match="expected"):
        parse(path)


@pytest.mark.parametrize(
    ("path", "document"),
    [("$[4]", ROW), ("$[0,9]", ROW), ("$[-5]", ROW), ("$.x", DOCUMENT), ("$.id.x", DOCUMENT), ("$.a", ROW),
     ("$[0]", DOCUMENT), ("$['id','x']", DOCUMENT), ("$[1:]", "text"), ("$.*", 5)],
)  # fmt: skip
def test_what_is_not_there_is_refused(path: str, document: Any) -> None:
    with pytest.raises(FilterError, match="chooses what is not there"):
        parse(path).of(document)


@pytest.mark.parametrize(
    ("path", "row", "expected"),
    [
        ("$[1:]", b"id,M,0.5\n", b"M,0.5\n"),
        ("$[1:]", b"id,M,0.5", b"M,0.5"),
        ("$[1:]", b"id,M,0.5\r\n", b"M,0.5\r\n"),
        ("$[0,-1]", b"id,M,0.5\n", b"id,0.5\n"),
        ("$[-1]", b"id,M,\n", b"\n"),
        ("$[1]", b'"a,""b",M\n', b"M\n"),
        ("$[0,0]", b'"a,""b",M\n', b'"a,""b","a,""b"\n'),
        ("$", b" any , thing\n", b" any , thing\n"),
    ],
)
def test_columns_of_csv_are_chosen_and_left_as_they_are(path: str, row: bytes, expected: bytes) -> None:
    assert processing({"InputFilter": path}, CSV, "").sent(row) == expected


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), min_size=2, max_size=8))
def test_choosing_all_columns_changes_nothing(cells: list[str]) -> None:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerow(cells)
    row = written.getvalue().encode()

    assert processing({"InputFilter": "$[0:]"}, CSV, "").sent(row) == row
    assert processing({"InputFilter": "$[-1]"}, CSV, "").sent(row) == row[row.rindex(_last(cells)) :]


def _last(cells: list[str]) -> bytes:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerow(["", cells[-1]])
    return written.getvalue()[1:].encode()


def test_a_part_of_a_json_record_is_sent_as_json() -> None:
    record = b'{"id": 1, "features": {"Sex": "M", "Height": 0.1, "name": "\xc3\xa9"}}\n'

    sent = processing({"InputFilter": "$.features"}, LINES, "").sent(record)

    assert sent == '{"Sex":"M","Height":0.1,"name":"é"}\n'.encode()


def test_csv_answers_are_appended_to_their_records() -> None:
    process = processing({"JoinSource": "Input"}, CSV, CSV)

    assert process.written([b"a,1\n", b"b,2\n"], b"9.5\n8.5\n", by_line=True) == b"a,1,9.5\nb,2,8.5"


def test_the_join_has_the_whole_record_also_what_the_model_was_not_sent() -> None:
    process = processing({"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"}, CSV, CSV)

    assert process.sent(b"id7,M,0.5\n") == b"M,0.5\n"
    assert process.written([b"id7,M,0.5\n"], b"9.5\n", by_line=True) == b"id7,9.5"


def test_json_answers_go_under_sagemakeroutput() -> None:
    process = processing({"JoinSource": "Input"}, LINES, LINES)

    written = process.written([b'{"id": 1}\n', b"[1, 2]\n"], b"9.5\n[8]", by_line=True)

    assert [json.loads(line) for line in written.splitlines()] == [
        {"id": 1, "SageMakerOutput": 9.5},
        {"SageMakerInput": [1, 2], "SageMakerOutput": [8]},
    ]


def test_the_output_filter_chooses_of_the_joined_record() -> None:
    process = processing({"JoinSource": "Input", "OutputFilter": "$['id','SageMakerOutput']"}, JSON, JSON)

    assert process.written([b'{"id":1,"x":2}'], b'{"y":3}', by_line=False) == b'{"id":1,"SageMakerOutput":{"y":3}}'


def test_the_output_filter_alone_chooses_of_the_answer() -> None:
    process = processing({"OutputFilter": "$.result"}, CSV, LINES)

    assert process.written([b"a\n", b"b\n"], b'{"result":1}\n{"result":2}\n', by_line=True) == b"1\n2"


def test_without_data_processing_the_answer_is_not_looked_into() -> None:
    assert processing({}, "application/x-npy", "").written([b"a\n", b"b\n"], b"\x00\n\n", by_line=True) == b"\x00\n\n"


def test_fewer_answers_than_records_are_refused() -> None:
    process = processing({"JoinSource": "Input"}, CSV, CSV)

    with pytest.raises(
        FilterError, match="expected an answer of 2 lines, one for each record, got 1; is the first record a header"
    ):
        process.written([b"header\n", b"a,1\n"], b"9.5\n", by_line=True)


@pytest.mark.parametrize(
    ("asked", "content_type", "accept", "reason"),
    [
        ({"JoinSource": "Input"}, CSV, JSON, "ContentType and Accept to be the same"),
        ({"JoinSource": "Input"}, CSV, "", "ContentType and Accept to be the same"),
        ({"JoinSource": "Input"}, "application/x-npy", "application/x-npy", "requires ContentType to be one of"),
        ({"InputFilter": "$.a"}, "", "", "requires ContentType to be one of"),
        ({"InputFilter": "$.a"}, CSV, "", "chosen by index"),
        ({"InputFilter": "$[0][1]"}, CSV, "", "chosen by index"),
        ({"OutputFilter": "$['a']"}, JSON, CSV, "chosen by index"),
        ({"OutputFilter": "$.a"}, CSV, "application/x-npy", "requires Accept to be one of"),
        ({"InputFilter": "a"}, CSV, "", "begins with"),
    ],
)
def test_combinations_that_aws_refuses_are_refused(
    asked: dict[str, str], content_type: str, accept: str, reason: str
) -> None:
    with pytest.raises(FilterError, match=reason):
        processing(asked, content_type, accept)


@pytest.mark.parametrize("record", [b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(record: bytes) -> None:
    with pytest.raises(FilterError, match="expected JSON"):
        processing({"InputFilter": "$.a"}, JSON, "").sent(record)
