"""JSON and JSON Lines, read and written. The ids are rules of the corpus (tests/corpus)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from featurizer.model import write_features
from featurizer.records import read_records
from predictor.features import read_features
from predictor.outputs import write_predictions
from serving.errors import BadPayload
from serving.formats.document import parse
from serving.formats.exact import with_signed_zeros
from serving.media import MediaType
from serving.payload import CSV, JSON, JSONLINES
from tests.pace import cost, least_cost
from tests.unit.abalone import CONTRACT, HEADER, ROW

VALUES: list[Any] = ["M", *map(float, ROW.split(",")[1:])]
OBJECT: dict[str, Any] = dict(zip(HEADER.split(","), VALUES, strict=True))


Columns = dict[str, NDArray[Any]]


def read(body: str | bytes, media: str = JSON) -> Columns:
    return read_records(body if isinstance(body, bytes) else body.encode(), MediaType(media), CONTRACT).columns()


def refusal(body: str | bytes, media: str = JSON) -> BadPayload:
    with pytest.raises(BadPayload) as caught:
        read(body, media)
    return caught.value


def with_length(text: str) -> str:
    """The row as a list, its first number spelled as given."""
    return json.dumps([VALUES]).replace("0.455", text, 1)


def with_sex(text: str) -> str:
    return json.dumps([VALUES]).replace('"M"', text, 1)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(VALUES, id="one list"),
        pytest.param(OBJECT, id="one object"),
        pytest.param([VALUES], id="lists"),
        pytest.param([OBJECT], id="objects"),
        pytest.param({"features": VALUES}, id="one row of features"),
        pytest.param([{"features": VALUES}], id="rows of features"),
        pytest.param({"instances": [VALUES]}, id="instances of lists"),
        pytest.param({"instances": [OBJECT]}, id="instances of objects"),
        pytest.param({"instances": [{"features": VALUES}]}, id="instances of features"),
        pytest.param([[*VALUES, 15]], id="with the label"),
        pytest.param([{**OBJECT, "rings": 15}], id="J20 with the label by name"),
        pytest.param(dict(reversed(OBJECT.items())), id="J21"),
    ],
)
def test_every_shape_reads_as_the_csv_row_does(document: object) -> None:  # J1
    records = read(json.dumps(document))
    expected = read(ROW, CSV)

    assert len(records["sex"]) == 1
    assert {name: column.tolist() for name, column in records.items()} == {
        name: column.tolist() for name, column in expected.items()
    }


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        pytest.param("9" * 40, 1e40, id="J9"),
        pytest.param("-0", -0.0, id="J28 -0"),
        pytest.param("-0.0", -0.0, id="J28 -0.0"),
        pytest.param("1E5", 1e5, id="J28 exponent"),
        pytest.param("1e-400", 0.0, id="J28 underflow"),
        pytest.param("3", 3.0, id="an integer"),
        pytest.param("0.12345678901234567", 0.12345678901234567, id="17 digits"),
    ],
)
def test_a_number_is_read_exactly(cell: str, number: float) -> None:
    assert read(with_length(cell))["length"].tobytes() == np.float64(number).tobytes()


def test_null_is_missing() -> None:  # J27
    assert np.isnan(read(with_length("null"))["length"][0])
    assert np.isnan(read(with_sex("null"))["sex"][0])
    assert np.isnan(read(with_sex('"NA"'))["sex"][0])


def test_a_byte_order_mark_is_stripped_once() -> None:  # J12
    assert len(read(f"\ufeff{json.dumps(VALUES)}")["sex"]) == 1


@pytest.mark.parametrize(
    ("body", "code", "row"),
    [
        pytest.param("", "empty_body", None, id="J2"),
        pytest.param("  ", "empty_body", None, id="J2 spaces"),
        pytest.param("{", "json_syntax", None, id="J3 brace"),
        pytest.param("[1,]", "json_syntax", None, id="J3 trailing comma"),
        pytest.param("{'a':1}", "json_syntax", None, id="J3 apostrophes"),
        pytest.param("[1] // one", "json_syntax", None, id="J3 comment"),
        pytest.param("[1]x", "json_syntax", None, id="J3 trailing text"),
        pytest.param("[1] [2]", "json_syntax", None, id="J3 two documents"),
        *(pytest.param(with_length(x), "non_finite", 1, id=f"J4 {x}") for x in ("NaN", "Infinity", "-Infinity")),
        pytest.param(with_length("1e999"), "non_finite", 1, id="J5"),
        pytest.param('{"length":1,"length":2}', "duplicate_key", None, id="J6"),
        pytest.param('[{"features":[1],"features":[2]}]', "duplicate_key", None, id="J6 in a row"),
        pytest.param("[" * 100_000, "json_syntax", None, id="J7"),
        pytest.param("[" * 100_000 + "]" * 100_000, "json_syntax", None, id="J7 closed"),
        pytest.param('{"a":' * 1000 + "1" + "}" * 1000, "json_syntax", None, id="J7 objects"),
        pytest.param(with_length("1" * 5000), "non_finite", 1, id="J8"),
        pytest.param(with_sex('"\\ud800"'), "json_syntax", None, id="J10"),
        pytest.param(with_sex('"\\u0000"'), "nul_byte", 1, id="J11"),
        pytest.param(json.dumps(VALUES).encode("utf-16"), "bad_encoding", None, id="J13 UTF-16"),
        pytest.param(json.dumps(VALUES).encode("utf-32-le"), "nul_byte", None, id="J13 UTF-32"),
        pytest.param(with_sex('"\x01"'), "json_syntax", None, id="J14"),
        *(pytest.param(x, "json_shape", 1, id=f"J15 {x}") for x in ("true", "1", '"x"', "null")),
        pytest.param("[]", "empty_body", None, id="J16 []"),
        pytest.param('{"instances":[]}', "empty_body", None, id="J16 no instances"),
        pytest.param("{}", "missing_column", 1, id="J16 {}"),
        pytest.param("[{}]", "missing_column", 1, id="J16 [{}]"),
        pytest.param("[[]]", "column_count", 1, id="J16 [[]]"),
        pytest.param('{"instances":{}}', "json_shape", None, id="J17 object"),
        pytest.param('{"instances":null}', "json_shape", None, id="J17 null"),
        pytest.param(json.dumps([VALUES[:-1]]), "column_count", 1, id="J18 seven"),
        pytest.param(json.dumps([[*VALUES, 1, 2]]), "column_count", 1, id="J18 ten"),
        pytest.param(json.dumps([VALUES, [*VALUES, 15]]), "column_count", 2, id="J18 mixed"),
        pytest.param(json.dumps([OBJECT, {"sex": "M"}]), "missing_column", 2, id="J19"),
        pytest.param(json.dumps([OBJECT | {"colour": "red"}]), "unknown_column", 1, id="J20"),
        pytest.param(json.dumps([VALUES, OBJECT]), "json_shape", 2, id="J22"),
        pytest.param(json.dumps([VALUES, 1]), "json_shape", 2, id="J22 number"),
        pytest.param(with_length('"0.5"'), "json_type", 1, id="J23"),
        pytest.param(with_length("true"), "json_type", 1, id="J24"),
        pytest.param(with_sex("1"), "json_type", 1, id="J25"),
        pytest.param(with_sex("false"), "json_type", 1, id="J25 boolean"),
        pytest.param(with_length("[1]"), "json_type", 1, id="J26 list"),
        pytest.param(with_sex("{}"), "json_type", 1, id="J26 object"),
        *(pytest.param(with_length(x), "json_syntax", None, id=f"J29 {x}") for x in ("01", "+1", ".5", "0x1", "1.")),
        *(
            pytest.param(json.dumps(OBJECT | {key: 1}), "unknown_column", 1, id=f"J31 {key[:12]}")
            for key in ("__proto__", "constructor", "k" * 1_000_000)
        ),
        pytest.param('{"instances":[],"inputs":[]}', "json_shape", None, id="J32"),
    ],
)
def test_what_is_not_rows_of_the_contract_is_refused(body: str | bytes, code: str, row: int | None) -> None:
    error = refusal(body)

    assert (error.status, error.code, error.row) == (400, code, row)


@pytest.mark.parametrize("cell", ["-0", "-0.0", "0", "-0e5", "-0.0e-3"])
def test_a_zero_has_the_same_sign_in_every_format(cell: str) -> None:  # J28, C32
    row = with_length(cell)
    read_as = [read(row), read(row[1:-1], JSONLINES), read(f"M,{cell},{ROW.split(',', 2)[2]}", CSV)]

    assert {records["length"].tobytes() for records in read_as} == {np.float64(cell).tobytes()}


def test_what_only_looks_like_a_minus_zero_stays_as_it_is() -> None:
    assert read(with_sex('"-0,-0]"'))["sex"].tolist() == ["-0,-0]"]


@pytest.mark.parametrize("media", [JSON, JSONLINES])
@pytest.mark.parametrize("written", ["1e999", "-1e999", "1" * 5000, "1" * 310])
@pytest.mark.parametrize("row", [VALUES, OBJECT, {"features": VALUES}], ids=["list", "object", "features"])
def test_an_infinite_number_is_named_with_its_row_and_column(media: str, written: str, row: object) -> None:  # J5, J8
    rows = [json.dumps(row), json.dumps(row).replace("0.365", written)]
    body = f"[{','.join(rows)}]" if media == JSON else "\n".join(rows)

    error = refusal(body, media)

    assert (error.code, error.row, error.column) == ("non_finite", 2, "diameter")
    shown = written if len(written) <= 64 else written[:63] + "…"
    assert error.message == f"expected a finite number (float64: up to 1.8e308), got {shown}"


def test_among_millions_of_values_an_infinite_number_is_named_by_its_character() -> None:
    error = refusal("[" + "1," * 3_000_000 + "1e999]")

    assert (error.code, error.row) == ("non_finite", None)
    assert "at character 6000002" in error.message


@pytest.mark.parametrize("media", [JSON, JSONLINES])
@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("row", [VALUES, OBJECT, {"features": VALUES}], ids=["list", "object", "features"])
def test_what_python_writes_and_json_has_not_is_named_with_its_place(media: str, constant: str, row: object) -> None:
    rows = [json.dumps(row).replace("M", "é"), json.dumps(row).replace("0.365", constant)]
    body = f"[{','.join(rows)}]" if media == JSON else "\n".join(rows)

    error = refusal(body, media)

    assert (error.code, error.row, error.column) == ("non_finite", 2, "diameter")
    assert f"got {constant}" in error.message


def test_minus_zeros_of_a_large_body_are_those_of_the_standard_library() -> None:
    """Within strings, after escapes, in exponents, before blanks and at the very end."""
    odd = r"""-0,"-0,","a\"-0,",-0 ,1e-0,"\\",-0,"\\\"-0]",-0e0,1E-0,-0.0,[-0],{"-0":-0}"""
    text = f"[{','.join([odd] * 5000)},-0]"

    assert repr(parse(text)) == repr(json.loads(text, parse_int=float))
    assert with_signed_zeros("-0") == b"-0.0"


def test_a_control_character_does_not_become_a_zero() -> None:
    with pytest.raises(BadPayload, match="JSON"):
        parse("[" + "-0," * 100_000 + "\x010]")


def test_a_label_that_an_object_names_may_be_anything_and_one_of_a_list_may_not() -> None:
    assert len(read(json.dumps([{**OBJECT, "rings": 15}]).replace("15}]", "1e999}]"))["sex"]) == 1
    assert refusal(json.dumps([[*VALUES, 15]]).replace("15]]", "1e999]]")).column == "rings"


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        pytest.param('"\\ud800"', "surrogates", id="J10"),
        pytest.param("NaN", "unexpected NaN", id="J4"),
        pytest.param("", "character", id="J3"),
        pytest.param("[" * 500 + "]" * 500, "limit", id="deep"),
    ],
)
def test_what_follows_an_infinite_number_is_read_as_strictly(rest: str, says: str) -> None:
    error = refusal(f"[[1e999,{rest}]]")

    assert error.code == "json_syntax"
    assert says in error.message


@pytest.mark.parametrize("opened", ["[", '{"a":', '{"a":[', '{"instances":[', " ["])
def test_a_large_body_of_nothing_but_beginnings_is_no_json(opened: str) -> None:  # J7
    body = opened * (25 * 1024 * 1024 // len(opened))

    error = refusal(body)

    assert (error.code, error.row) == ("json_syntax", None)
    assert "depth" in error.message
    assert least_cost(lambda: cost(lambda: refusal(body)), 1) <= 1


def test_an_error_tells_the_column_and_where_the_syntax_breaks() -> None:
    assert refusal(with_length("true")).column == "length"
    assert "character 4" in refusal("[1]x").message
    assert len(refusal(json.dumps(OBJECT | {"k" * 1_000_000: 1})).as_dict()["column"]) == 64  # type: ignore[arg-type]


LINE = json.dumps(VALUES)


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        pytest.param(f"{LINE}\n{LINE}", 2, id="L1 no final newline"),
        pytest.param(f"{LINE}\n{LINE}\n", 2, id="L1 final newline"),
        pytest.param(f"{json.dumps(OBJECT)}\n" * 3, 3, id="objects"),
        pytest.param(f'{{"features": {LINE}}}\n', 1, id="features"),
        pytest.param(f"{LINE}\r\n{LINE}\r\n", 2, id="L6"),
    ],
)
def test_a_line_is_a_row(body: str, rows: int) -> None:
    records = read(body, JSONLINES)

    assert len(records["sex"]) == rows
    assert set(records["shell_weight"]) == {0.15}


def test_a_line_separator_inside_a_string_ends_no_line() -> None:  # L7
    line = json.dumps(["\u2028\x85", *VALUES[1:]], ensure_ascii=False)

    assert read(f"{line}\n", JSONLINES)["sex"].tolist() == ["\u2028\x85"]


@pytest.mark.parametrize(
    ("body", "code", "row"),
    [
        pytest.param(f"{LINE}\n\n{LINE}", "blank_row", 2, id="L2"),
        pytest.param(f"{LINE}\n{LINE[:-1]}", "json_syntax", 2, id="L3 syntax"),
        pytest.param(f"{LINE}\n{LINE.replace('0.455', 'true')}", "json_type", 2, id="L3 type"),
        pytest.param(json.dumps(VALUES, indent=1), "json_syntax", 1, id="L4"),
        pytest.param("1\n" * 3, "json_shape", 1, id="L8"),
        pytest.param(f"{LINE}\n{json.dumps(OBJECT)}", "json_shape", 2, id="mixed"),
        pytest.param('{"a":1,"a":2}\n', "duplicate_key", 1, id="twice"),
    ],
)
def test_a_line_that_is_no_row_is_refused(body: str, code: str, row: int | None) -> None:
    error = refusal(body, JSONLINES)

    assert (error.status, error.code, error.row) == (400, code, row)


def test_a_million_lines_that_are_no_rows_are_refused_at_once() -> None:  # L8
    body = b"1\n" * 1_000_000

    error = refusal(body, JSONLINES)

    assert error.code == "json_shape"
    assert least_cost(lambda: cost(lambda: refusal(body, JSONLINES)), 0.2) <= 0.2


@pytest.mark.parametrize("media", [JSON, JSONLINES])
def test_features_survive_to_the_bit(media: str) -> None:
    sent = np.random.default_rng(1).standard_normal((200, 10)) * 10.0 ** np.random.default_rng(2).integers(-300, 30, 10)

    body = write_features(sent, media)
    rows = json.loads(body)["instances"] if media == JSON else [json.loads(line) for line in body.splitlines()]

    assert np.array(rows, dtype=np.float64).tobytes() == sent.tobytes()
    assert read_features(body, MediaType(media), CONTRACT).tobytes() == sent.astype(np.float32).tobytes()


def test_features_by_name_may_come_in_any_order() -> None:
    names = dict(zip(CONTRACT.features, range(10), strict=True))

    matrix = read_features(orjson.dumps([dict(reversed(names.items()))]), MediaType(JSON), CONTRACT)

    assert matrix.tolist() == [list(range(10))]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        pytest.param([0] * 9, "column_count", id="P2"),
        pytest.param([0] * 11, "column_count", id="P3"),
        pytest.param([0] * 9 + [1e39], "non_finite", id="P6"),
        pytest.param([0] * 9 + [10**30], None, id="a large integer"),
        pytest.param([0] * 9 + ["0"], "json_type", id="P8"),
        pytest.param({"length": 1}, "missing_column", id="a missing feature"),
        pytest.param(dict.fromkeys([*CONTRACT.features, "more"], 0), "unknown_column", id="another feature"),
    ],
)
def test_features_of_another_shape_are_refused(row: object, code: str | None) -> None:
    got = None
    try:
        read_features(json.dumps([row]).encode(), MediaType(JSON), CONTRACT)
    except BadPayload as error:
        got = error.code

    assert got == code


@pytest.mark.parametrize(("written", "says"), [("1e39", "float32: up to 3.4e38), got 1e+39"), ("1e999", "got 1e999")])
def test_an_infinite_feature_is_named_with_its_row(written: str, says: str) -> None:  # P5, P6
    body = json.dumps([[0] * 10, [0] * 9 + ["x"]]).replace('"x"', written).encode()

    with pytest.raises(BadPayload) as caught:
        read_features(body, MediaType(JSON), CONTRACT)

    assert (caught.value.code, caught.value.row, caught.value.column) == ("non_finite", 2, "sex_M")
    assert says in caught.value.message


def read_result(body: bytes, media: str) -> list[Any]:
    if media == CSV:
        return [json.loads(f"[{line}]") for line in body.decode().splitlines()]
    if media == JSON:
        result: list[Any] = json.loads(body)["result"]
        return result
    return [json.loads(line)["result"] for line in body.splitlines()]


@pytest.mark.parametrize("media", [CSV, JSON, JSONLINES])
@pytest.mark.parametrize("shape", [(100,), (1,), (100, 3), (1, 3)])
def test_predictions_read_back_to_the_same_float32(media: str, shape: tuple[int, ...]) -> None:
    predictions = np.random.default_rng(3).standard_normal(shape).astype(np.float32)

    read_back = np.array(read_result(write_predictions(predictions, media), media), dtype=np.float32)

    assert read_back.reshape(shape).tobytes() == predictions.tobytes()
    assert len(read_back) == len(predictions)


@pytest.mark.parametrize("row", ["[]", "{}", '[[],"["]'])
def test_a_large_body_of_empty_rows_is_refused_before_they_are_made(row: str) -> None:
    body = "[" + ",".join([row] * (1 << 17)) + "]"

    error = refusal(body)

    assert (error.code, error.row) == ("column_count", None)
    assert "not of lists; got shorter rows or many lists in them" in error.message


@pytest.mark.parametrize(("most", "column"), [(4, "a"), (3, None)])
def test_a_repeated_name_is_looked_for_where_names_are_few(
    monkeypatch: pytest.MonkeyPatch, most: int, column: str | None
) -> None:
    monkeypatch.setattr("serving.formats.document._MOST_NAMED", most)

    error = refusal('[{"a":1,"b":2},{"a":1,"a":2}]')

    told = "got it twice" if column else "got one twice"
    assert (error.code, error.column, error.message) == ("duplicate_key", column, f"expected each name once, {told}")


@pytest.mark.parametrize(
    ("body", "media", "message"),
    [
        ("[1,]", JSON, "at character 3"),
        ('["M",,]', JSON, "at character 6"),
        (json.dumps(VALUES)[:-1].replace("0.15", "true]"), JSON, "expected a number or null, got True"),
        (with_length("[[1]]"), JSON, "expected a number or null, got a list or an object"),
        (with_length(f'"{"x" * 63}"'), JSON, f"expected a number or null, got '{'x' * 62}…"),
        (with_sex("1"), JSON, "expected a string or null, got 1"),
        (with_sex(f'"{"x" * 1025}"'), JSON, "expected at most 1024 characters, got 1025"),
        (with_sex('"\\u0000"'), JSON, "expected text, got a NUL"),
        (with_length("NaN"), JSON, "expected a number or null, got NaN, which is no JSON"),
        (f"{LINE}\n\n{LINE}", JSONLINES, "expected a row, got a blank line"),
        ("[]", JSON, "expected at least one row, got none"),
        ("[{}]", JSON, "expected this column"),
        (json.dumps([OBJECT | {"colour": 1}]), JSON, "expected only the contract's columns"),
        ('{"instances":[],"' + "k" * 65 + '":[]}', JSON, f'got "instances" beside {"k" * 63}…'),
        ('{"instances":null}', JSON, 'got "instances" as null'),
        ('{"inputs":[[1]]}', JSON, "got an object of lists and objects with inputs"),
        *(
            (text, JSON, f"got {kind} as a row")
            for text, kind in [("true", "a boolean"), ("1.5", "a number"), ('"x"', "a string"), ("null", "null")]
        ),
        (f"[{LINE},{json.dumps(OBJECT)}]", JSON, "got an object as a row"),
        (f"[{json.dumps(OBJECT)},{LINE}]", JSON, "got a list as a row"),
    ],
)
def test_a_refusal_says_what_was_expected(body: str, media: str, message: str) -> None:
    assert refusal(body, media).message.endswith(message)


@pytest.mark.parametrize("cell", ["x" * 1024, ""])
def test_a_category_is_as_long_as_it_may_be(cell: str) -> None:
    assert read(json.dumps([[cell, *VALUES[1:]]]))["sex"].tolist() == [cell or pytest.approx(np.nan, nan_ok=True)]
