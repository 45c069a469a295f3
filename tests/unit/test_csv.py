"""CSV, read and written. The ids are rules of the corpus (tests/corpus)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from featurizer.model import write_features
from featurizer.records import RecordReader, read_records
from predictor.features import read_features
from serving.contract import Column, ColumnType
from serving.errors import BadPayload
from serving.media import MediaType
from serving.payload import CSV, JSON
from tests.unit.abalone import CONTRACT, HEADER, LENGTH, MEASURES, REST, ROW, SEX, with_length, with_sex

Columns = dict[str, NDArray[Any]]


def read(body: str | bytes, header: str = "") -> Columns:
    raw = body if isinstance(body, bytes) else body.encode()
    return read_records(raw, MediaType(CSV, {"header": header} if header else {}), CONTRACT).columns()


def refusal(body: str | bytes, header: str = "") -> BadPayload:
    with pytest.raises(BadPayload) as caught:
        read(body, header)
    return caught.value


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        pytest.param(ROW, 1, id="C1 no final newline"),
        pytest.param(f"{ROW}\n", 1, id="C1 final newline"),
        pytest.param(f"{ROW}\n{ROW}", 2, id="C2"),
        pytest.param(f"{ROW}\r\n{ROW}\r\n", 2, id="C5"),
        pytest.param(f"{ROW}\n{ROW}\r\n{ROW}", 3, id="C6"),
        pytest.param(f"\ufeff{ROW}", 1, id="C8"),
        pytest.param(f"{HEADER}\n{ROW}", 1, id="C14 header"),
        pytest.param(f"{HEADER},rings\n{ROW},15", 1, id="C14 header with the label"),
        pytest.param(f"{ROW},15", 1, id="C17"),
        pytest.param(f"{ROW}\n\n\r\n\n", 1, id="C23"),
        pytest.param('"M","0.455",' + REST, 1, id="C50"),
        pytest.param(f"{ROW}\n" * 1000, 1000, id="C63 order of a thousand"),
    ],
)
def test_rows_are_read_whatever_their_line_ends_and_label(body: str, rows: int) -> None:
    records = read(body)

    assert len(records["sex"]) == rows
    assert set(records["sex"]) == {SEX}
    assert set(records["length"]) == {LENGTH}
    assert set(records["shell_weight"]) == {0.15}


def test_a_header_in_another_order_moves_the_columns() -> None:
    names, cells = HEADER.split(","), ROW.split(",")

    records = read(",".join(["rings", *names[::-1]]) + "\n" + ",".join(["15", *cells[::-1]]))

    assert {name: column[0] for name, column in records.items()} == {
        "sex": "M",
        **dict(zip(MEASURES, map(float, cells[1:]), strict=True)),
    }


@pytest.mark.parametrize(
    "missing", ["", "NA", "N/A", "null", "NULL", "None", "nan", "NaN", "#N/A", "<NA>", "-nan", "1.#QNAN"]
)
def test_what_pandas_takes_as_missing_is_missing(missing: str) -> None:  # C24, C25, C27, C28
    assert np.isnan(read(with_length(missing))["length"][0])
    assert np.isnan(read(with_sex(missing))["sex"][0])


def test_a_row_of_empty_cells_is_all_missing() -> None:  # C26
    assert all(np.isnan(column[0]) for column in read(",,,,,,,").values())


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("1e-999", 0.0),
        ("4.9e-324", 5e-324),
        ("-0.0", -0.0),
        ("+0.5", 0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("00.5", 0.5),
        ("5E-1", 0.5),
        ("  0.5 ", 0.5),
        ("\t0.5\t", 0.5),
        ("0.12345678901234567", 0.12345678901234567),
        ("-3", -3.0),
        ("1e6", 1e6),
        ("1e308", 1e308),
        ('"0.5"', 0.5),
    ],
)
def test_a_number_is_read_exactly(cell: str, number: float) -> None:  # C31, C32, C39, C44, C45, C50
    assert read(with_length(cell))["length"].tobytes() == np.float64(number).tobytes()


@pytest.mark.parametrize(
    "cell",
    [
        *("X", "m", " M", "M ", "\uff2d", "M\u0301", "1", "1.0", "True", "日本", "🐚", "\u202eM", "#", "\\M"),
        *("=cmd|' /C calc'!A0", "'; DROP TABLE x;--", "<script>", "${jndi:ldap://x}", "1;2"),
    ],
)
def test_a_category_is_kept_as_it_came(cell: str) -> None:  # C46 to C49, C58, C59, C66
    assert read(with_sex(cell))["sex"].tolist() == [cell]


@pytest.mark.parametrize(("cell", "value"), [('"M"', "M"), ('"M,F"', "M,F"), ('"M""F"', 'M"F')])
def test_quotes_are_those_of_rfc_4180(cell: str, value: str) -> None:  # C50, C51, C53
    assert read(with_sex(cell))["sex"].tolist() == [value]


NOT_NUMBERS = [
    *("?", "-", "missing", "n.a.", "nil"),  # C29
    *("0x10", "0b1", "0o7", "1_000", "١٢", "\uff11\uff12"),  # C33 to C35
    *("1.000.5", "1'000", "\u22120.5", "½", "٪", "0.5\u00a0", "\u20090.5"),  # C36 to C38
    *("1.5e", "e5", "--1", "1..2", "1d5", "1f", "50%", "$5", "2024-01-01"),  # C40
    *("True", "FALSE", "yes", "abc", "=1+1", "@SUM(A1)", "+cmd", " ", "NAN", "1 2"),  # C41, C42, C59
    *('"1,000"', '"0,5"'),  # C36
]


@pytest.mark.parametrize("cell", NOT_NUMBERS)
def test_what_float_would_guess_is_no_number(cell: str) -> None:
    error = refusal(with_length(cell))

    assert (error.status, error.code, error.row, error.column) == (400, "not_a_number", 1, "length")


@pytest.mark.parametrize("cell", ["inf", "-inf", "+Infinity", "1e999", "-1e999"])
def test_an_infinite_number_is_refused(cell: str) -> None:  # C30
    error = refusal(with_length(cell))

    assert (error.code, error.row, error.column) == ("non_finite", 1, "length")
    assert error.message == f"expected a finite number (float64: up to 1.8e308), got '{cell}'"


def test_an_infinite_number_is_named_in_a_large_body_too() -> None:  # C30
    error = refusal(f"{ROW}\n" * 20_000 + with_length("-1e999"))

    assert (error.code, error.row, error.column) == ("non_finite", 20_001, "length")
    assert error.message.endswith("got '-1e999'")


@pytest.mark.parametrize(
    ("row", "got"),
    [(with_sex("x" * 1025), 1025), (with_sex(f'"{"x" * 1025}"'), 1025), (with_length("0." + "1" * 63), 65)],
)
@pytest.mark.parametrize("before", [0, 500])
def test_a_field_that_is_too_long_is_refused_in_a_large_body_too(row: str, got: int, before: int) -> None:
    error = refusal(f"{ROW}\n" * before + row)

    assert (error.code, error.row) == ("field_too_long", before + 1)
    assert str(got) in error.message


@pytest.mark.parametrize(("more", "said"), [(0, "1024 characters, got "), (1, "20520 characters, got one of 20521")])
def test_a_record_is_at_most_twice_what_its_fields_and_one_more_may_be(more: int, said: str) -> None:
    empty = len(with_sex('""'))

    error = refusal(with_sex(f'"{"x" * (20_520 + more - empty)}"'))

    assert (error.code, error.row) == ("field_too_long", 1)
    assert said in error.message


@pytest.mark.parametrize("rows", [1, 20_000])
def test_an_infinite_feature_is_named_with_its_row(rows: int) -> None:  # P6
    body = "0,0,0,0,0,0,0,0,0,0\n" * rows + "0,0,0,-1e39,0,0,0,0,0,0\n"

    with pytest.raises(BadPayload) as caught:
        read_features(body.encode(), MediaType(CSV), CONTRACT)

    assert (caught.value.code, caught.value.row, caught.value.column) == ("non_finite", rows + 1, "whole_weight")
    assert caught.value.message == "expected a finite number (float32: up to 3.4e38), got -1e+39"


@pytest.mark.parametrize(
    ("body", "code", "row"),
    [
        pytest.param("", "empty_body", None, id="C3"),
        pytest.param("\n", "empty_body", None, id="C4 LF"),
        pytest.param("\r\n", "empty_body", None, id="C4 CRLF"),
        pytest.param("   ", "empty_body", None, id="C4 spaces"),
        pytest.param("\n\n\n", "empty_body", None, id="C4 many"),
        pytest.param("\ufeff", "empty_body", None, id="a byte order mark alone"),
        pytest.param(f"{ROW}\r{ROW}", "csv_syntax", 1, id="C7"),
        pytest.param(f"\ufeff\ufeff{ROW}", "bad_encoding", None, id="C9 two"),
        pytest.param(f"{ROW}\n\ufeff{ROW}", "bad_encoding", 2, id="C9 inside"),
        pytest.param(ROW.encode("utf-16"), "bad_encoding", None, id="C10 LE"),
        pytest.param(b"\xfe\xff" + ROW.encode("utf-16-be"), "bad_encoding", None, id="C10 BE"),
        pytest.param(with_sex("é").encode("latin-1"), "bad_encoding", None, id="C11 latin-1"),
        pytest.param(b"\x80" + ROW.encode(), "bad_encoding", None, id="C11 continuation"),
        pytest.param(b"\xc0\xaf" + ROW.encode(), "bad_encoding", None, id="C11 overlong"),
        pytest.param(b"\xed\xa0\x80" + ROW.encode(), "bad_encoding", None, id="C11 surrogate"),
        pytest.param(with_sex("M\0"), "nul_byte", None, id="C12 category"),
        pytest.param(with_length("0.4\0"), "nul_byte", None, id="C12 number"),
        pytest.param(f"{ROW}\n\0", "nul_byte", None, id="C12 end"),
        pytest.param(with_sex("M\x01"), "csv_syntax", 1, id="C13 SOH"),
        pytest.param(f"{ROW}\n{with_sex('M' + chr(0x1F))}", "csv_syntax", 2, id="C13 US"),
        pytest.param(with_sex("\x7f"), "csv_syntax", 1, id="C13 DEL"),
        pytest.param(f"{HEADER.replace('length', 'lenght')}\n{ROW}", "unknown_column", None, id="C14 other names"),
        pytest.param(f"{HEADER}\n", "empty_body", None, id="C15"),
        pytest.param(ROW.rpartition(",")[0], "column_count", 1, id="C16 seven"),
        pytest.param(f"{ROW},15,1", "column_count", 1, id="C16 ten"),
        pytest.param("M", "column_count", 1, id="C16 one"),
        pytest.param(f"{ROW}\n{ROW},15", "column_count", 2, id="C19 8 then 9"),
        pytest.param(f"{ROW},15\n{ROW}", "column_count", 2, id="C19 9 then 8"),
        pytest.param(f"{ROW}\n{ROW.rpartition(',')[0]}", "column_count", 2, id="C19 8 then 7"),
        pytest.param(f"{ROW}\n{ROW},", "column_count", 2, id="C20 in one row"),
        pytest.param(f"{ROW},", "empty_label", 1, id="C20"),
        pytest.param(f"{ROW},15\n{ROW},", "empty_label", 2, id="C20 second row"),
        pytest.param(f",{ROW},15", "column_count", 1, id="C21 leading comma"),
        pytest.param(f"M,,0.455,{REST},15", "column_count", 1, id="C21 double comma"),
        pytest.param(f"{ROW}\n\n{ROW}", "blank_row", 2, id="C22"),
        pytest.param(f"\n{ROW}", "blank_row", 1, id="C22 first"),
        pytest.param(f"{ROW}\n  \n{ROW}", "blank_row", 2, id="C22 spaces"),
        pytest.param(with_length("1" * 400), "field_too_long", 1, id="C43 digits"),
        pytest.param(with_length("0." + "1" * 100_000), "field_too_long", 1, id="C43 decimals"),
        pytest.param(with_sex('"M\nF"'), "csv_syntax", 1, id="C52"),
        pytest.param(f'"{ROW}', "csv_syntax", 1, id="C54"),
        pytest.param(with_sex('M"x'), "csv_syntax", 1, id="C55 inside"),
        pytest.param(with_sex('"M"x'), "csv_syntax", 1, id="C55 after"),
        pytest.param(with_sex(' "M"'), "csv_syntax", 1, id="C55 before"),
        pytest.param(with_sex("M\\,F") + ",15", "column_count", 1, id="C56"),
        *(pytest.param(ROW.replace(",", other), "column_count", 1, id=f"C57 {other!r}") for other in ";\t| "),
        pytest.param("x" * 1_000_000, "field_too_long", 1, id="C60"),
        pytest.param(with_sex("x" * 1025), "field_too_long", 1, id="C60 in a row"),
        pytest.param("1," * 1_000_000, "column_count", 1, id="C61"),
        pytest.param(f"{ROW}" + "\n" * 1_000_000 + ROW, "blank_row", 2, id="C62"),
        pytest.param(f"{ROW}\n" * 50_000 + with_length("abc"), "not_a_number", 50_001, id="C69"),
    ],
)
def test_what_is_not_rows_of_the_contract_is_refused(body: str | bytes, code: str, row: int | None) -> None:
    error = refusal(body)

    assert (error.status, error.code, error.row) == (400, code, row)


@pytest.mark.parametrize(
    ("header", "body", "code", "column"),
    [
        ("maybe", ROW, "bad_header", None),  # M5
        ("absent", f"{HEADER}\n{ROW}", "not_a_number", "length"),  # C14
        ("present", HEADER, "empty_body", None),  # C15
        ("present", f"{ROW}\n{ROW}", "unknown_column", "M"),
        ("present", f"{HEADER},colour\n{ROW},red", "unknown_column", "colour"),  # M4
        ("present", f"{HEADER},length\n{ROW},1", "duplicate_column", "length"),
        ("present", f"{HEADER.replace('length', 'rings')}\n{ROW}", "missing_column", "length"),
    ],
)
def test_the_header_parameter_is_taken_at_its_word(header: str, body: str, code: str, column: str | None) -> None:
    error = refusal(body, header)

    assert (error.status, error.code, error.column) == (400, code, column)


def test_header_present_and_absent_read_what_they_say() -> None:  # M4
    assert len(read(f"{HEADER}\n{ROW}", "present")["sex"]) == 1
    assert len(read(f"{ROW}\n{ROW}", "absent")["sex"]) == 2


def test_an_error_repeats_at_most_64_characters_of_a_value() -> None:
    error = refusal(with_length("z" * 64))

    assert error.message.endswith("…")
    assert len(error.message) < 100


def test_features_survive_csv_to_the_bit() -> None:
    sent = np.random.default_rng(1).standard_normal((200, 10)) * 10.0 ** np.random.default_rng(2).integers(-300, 30, 10)

    body = write_features(sent, CSV)
    received = np.array([line.split(",") for line in body.decode().splitlines()], dtype=np.float64)

    assert body.endswith(b"\n")
    assert not body.endswith(b"\n\n")
    assert received.tobytes() == sent.tobytes()
    assert read_features(body, MediaType(CSV), CONTRACT).tobytes() == sent.astype(np.float32).tobytes()


WORDS = replace(
    CONTRACT,
    columns=(
        Column("color", ColumnType.CATEGORICAL, ("r", "g")),
        Column("size", ColumnType.CATEGORICAL, ("S", "L")),
        Column("sold", ColumnType.LABEL),
    ),
)


def read_words(body: str, header: str = "") -> Columns:
    return read_records(body.encode(), MediaType(CSV, {"header": header} if header else {}), WORDS).columns()


@pytest.mark.parametrize("first", ["Color,Size", "colour,size", " color , size ", "SIZE,COLOR", "color,size2"])
def test_a_header_of_other_names_is_no_row_where_no_column_has_numbers(first: str) -> None:
    with pytest.raises(BadPayload, match="got a column's name") as caught:
        read_words(f"{first}\nr,S\ng,L\n")

    assert (caught.value.code, caught.value.row) == ("bad_header", 1)


def test_what_a_caller_calls_data_is_data_whatever_it_says() -> None:
    assert list(read_words("Color,Size\nr,S\n", "absent")["color"]) == ["Color", "r"]
    assert list(read_words("color,size\nr,S\n")["color"]) == ["r"]
    assert list(read_words("r,colossal\ng,S\n")["size"]) == ["colossal", "S"]


@pytest.mark.parametrize(("length", "shown"), [(62, f"'{'z' * 62}'"), (63, f"'{'z' * 62}…")])
def test_a_value_is_repeated_whole_where_it_has_64_characters(length: int, shown: str) -> None:
    assert refusal(with_length("z" * length)).message == f"expected a number, got {shown}"


@pytest.mark.parametrize("before", [0, 500])
def test_a_field_and_a_number_are_as_long_as_they_may_be(before: int) -> None:
    text, number = with_sex("x" * 1024), with_length("0.".ljust(64, "1"))

    assert read(f"{ROW}\n" * before + f"{text}\n{number}")["sex"][before] == "x" * 1024
    assert refusal(with_sex("x" * 1025)).message == "expected fields of at most 1024 characters, got one of 1025"
    assert refusal(with_length("0.".ljust(65, "1"))).message == "expected a number of at most 64 characters, got 65"


@pytest.mark.parametrize("before", [0, 1000])
def test_a_container_may_take_longer_text(before: int) -> None:
    reader = RecordReader(CONTRACT, max_field=5000)

    def ask(sex: str, media: str) -> list[str | None]:
        objects = [dict(zip(HEADER.split(","), [one, *[1] * 7], strict=True)) for one in ["M"] * before + [sex]]
        bodies = {CSV: f"{ROW}\n" * before + with_sex(sex), JSON: json.dumps(objects)}
        return reader.read(bodies[media].encode(), MediaType(media)).texts[0]

    for media in (CSV, JSON):
        assert ask("x" * 5000, media)[before] == "x" * 5000
        with pytest.raises(BadPayload, match=r"at most 5000 characters, got .*5001"):
            ask("x" * 5001, media)
    assert ask('"' + "x," * 2500 + '"', CSV)[before] == "x," * 2500


COMMAS = "this row has as many {} as it should have commas"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        *((ROW.replace(",", mark), COMMAS.format(name)) for mark, name in [(";", "semicolons"), ("|", "bars")]),
        *((ROW.replace(",", mark), COMMAS.format(name)) for mark, name in [("\t", "tabs"), (" ", "spaces")]),
        (f"{ROW};15;".replace(",", ";"), COMMAS.format("semicolons")),
        (f"sep=;\n{ROW}", "this row tells Excel what separates cells: leave it out, and separate them by commas"),
        (f"SEP=,\n{ROW}", "this row tells Excel what separates cells: leave it out, and separate them by commas"),
    ],
)
def test_a_row_that_something_else_separates_than_commas_is_told_so(body: str, says: str) -> None:
    error = refusal(body)

    assert (error.row, error.message.rpartition("; ")[2]) == (1, says.rpartition("; ")[2])


@pytest.mark.parametrize("cells", [7, 10])
def test_as_many_semicolons_as_no_row_has_commas_are_nothing_to_tell_of(cells: int) -> None:
    assert "semicolons" not in refusal(";".join(["1"] * cells)).message


def test_a_row_that_may_be_a_header_is_told_which_names_it_must_have() -> None:
    error = refusal("a,b,c\nd,e,f\n")

    assert error.message == f"expected 8 or 9 columns, got 3; if this row is a header, its names must be {HEADER}"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("x," * 17 + "x", f"expected a header of {HEADER}; got another name"),
        ("x," * 18 + "x", "expected a header of at most 9 names, got far more"),
    ],
)
def test_a_header_of_far_more_names_is_not_looked_through(header: str, message: str) -> None:
    assert refusal(f"{header}\n{ROW}", "present").message == message


@pytest.mark.parametrize(
    ("body", "header", "message"),
    [
        (ROW, "z" * 65, f"expected header=present or header=absent, got header={'z' * 63}…"),
        (f"{HEADER},length\n{ROW},1", "", "expected each column once in the header"),
        (f"{HEADER.replace('length', 'rings')}\n{ROW}", "present", "expected this column in the header"),
        (HEADER, "present", "expected at least one row after the header, got none"),
        (f"{ROW},", "", "expected a label in each row, or in none; this one's is empty"),
        (f"{ROW}\n\n{ROW}", "", "expected a record, got a blank line"),
        (f"{ROW}\r{ROW}", "", "expected rows to end with LF or CRLF, got a lone CR"),
        (f"{ROW}\n\ufeff{ROW}", "", "expected a byte order mark at the start only, got another"),
        (f"\ufeff\ufeff{ROW}", "", "expected one byte order mark at most, got two"),
        (with_sex("M\x01"), "", "expected text, got a control character"),
        (with_sex("M\0"), "", "expected text, got a NUL at character 2"),
        (b"M,\xff", "", "expected UTF-8, got a wrong byte at offset 2"),
        (b"\x1f\x8b\x08", "", "expected UTF-8, got gzip: send the body uncompressed"),
        (b"\xef\xbb\xbfM,\xff", "", "expected UTF-8, got a wrong byte at offset 5"),
        (
            with_sex('M"x'),
            "",
            "expected a quoted field to be quoted whole and closed on its line, got " + with_sex('M"x'),
        ),
    ],
)
def test_a_refusal_says_what_was_expected(body: str | bytes, header: str, message: str) -> None:
    assert refusal(body, header).message == message


def test_256_characters_of_the_names_of_a_header_are_told() -> None:
    columns = tuple(Column(f"c{number:03}", ColumnType.NUMERIC) for number in range(60))
    contract = replace(CONTRACT, columns=columns)

    with pytest.raises(BadPayload) as caught:
        read_records(b"x\n1", MediaType(CSV, {"header": "present"}), contract)

    names = ",".join(column.name for column in columns)
    assert caught.value.message == f"expected a header of {names[:255]}…; got another name"
