"""Which rows may have their label, and which first rows are a header: by contracts of several shapes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from featurizer.model import ACCEPTED
from featurizer.records import RecordReader, Records
from predictor.features import ACCEPTED as ACCEPTED_FEATURES
from predictor.features import read_features
from serving.contract import Column, ColumnType, Contract, LabelPlace, Task
from serving.errors import BadArtifact, BadPayload
from serving.media import content_type

NUMERIC, CATEGORICAL, LABEL = ColumnType.NUMERIC, ColumnType.CATEGORICAL, ColumnType.LABEL
PRICE = Column("price", LABEL, range=(14999.0, 500001.0), whole=True)
HOUSES = Contract(
    "houses", Task.REGRESSION, (PRICE, Column("income", NUMERIC), Column("age", NUMERIC), Column("rooms", NUMERIC)),
    ("income", "age", "rooms"), {},
)  # fmt: skip
STAY = Column("left", LABEL, ("leave", "stay"))
STAFF = Contract(
    "staff", Task.BINARY, (Column("age", NUMERIC), Column("hours", NUMERIC), STAY), ("age", "hours"), {},
)  # fmt: skip
SPOKEN = Contract(
    "spoken", Task.BINARY, (Column("word", CATEGORICAL, ("a", "b")), Column("tone", CATEGORICAL, ("low",)), STAY),
    ("word_a", "word_b", "tone_low"), {},
)  # fmt: skip
ONE = Contract("one", Task.REGRESSION, (Column("age", NUMERIC), PRICE), ("age",), {})
DIGITS = Contract(
    "digits", Task.REGRESSION, (Column("0", NUMERIC), Column("1", NUMERIC), Column("y", LABEL)), ("0", "1"), {},
)  # fmt: skip
ZIP = Contract("zip", Task.REGRESSION, (Column("zip", CATEGORICAL, ("n/k", "zip")), PRICE), ("zip_zip",), {})


def labelled(contract: Contract, place: str) -> Contract:
    return replace(contract, labelled_rows=LabelPlace(place))


def read(contract: Contract, body: object, said: str = "text/csv") -> Records:
    text = body if isinstance(body, str) else json.dumps(body)
    return RecordReader(contract).read(text.encode(), content_type(said, ACCEPTED))


def refusal(contract: Contract, body: object, said: str = "text/csv") -> BadPayload:
    with pytest.raises(BadPayload) as caught:
        read(contract, body, said)
    return caught.value


LINES = "application/jsonlines"
ASK = "; if one is the label, add label=first or label=last to the Content-Type"


@pytest.mark.parametrize(
    ("contract", "body", "said"),
    [
        pytest.param(HOUSES, "0,8.3,41,880\n", "text/csv", id="the index of a frame"),
        pytest.param(HOUSES, "452600,8.3,41,880", "text/csv", id="the label first"),
        pytest.param(HOUSES, "8,3,41,880", "text/csv", id="a decimal comma"),
        pytest.param(HOUSES, "8,3,41,880\n" * 2000, "text/csv; header=absent", id="a large body"),
        pytest.param(HOUSES, [[0, 8.3, 41, 880]], "application/json", id="a list"),
        pytest.param(HOUSES, {"instances": [{"features": [0, 8.3, 41, 880]}]}, "application/json", id="features"),
        pytest.param(HOUSES, [0, 8.3, 41, 880], LINES, id="a line"),
        pytest.param(ONE, "20,70", "text/csv", id="one column"),
        pytest.param(ONE, [20, 70], "application/json", id="one column, a list"),
        pytest.param(STAFF, "17,40,stay", "text/csv", id="a class"),
    ],
)
def test_a_cell_too_many_is_refused_with_how_to_ask(contract: Contract, body: object, said: str) -> None:
    error = refusal(contract, body, said)

    width = len(contract.inputs)
    assert (error.code, error.row) == ("column_count", 1)
    assert error.message == f"expected {width} columns, got {width + 1}{ASK}"


@pytest.mark.parametrize("count", [1, 2000])
@pytest.mark.parametrize(
    ("contract", "row", "place"),
    [
        (HOUSES, "452600,8.3,41,880", "label=first"),
        (HOUSES, "452600,8.3,41,880", "label_size=1"),
        (HOUSES, "8.3,41,880,452600", "label=LAST"),
        (HOUSES, "8.3,41,880,452600.0", "label=last"),
        (HOUSES, "8.3,41,880", "label=none"),
        (HOUSES, "8.3,41,880", "label_size=0"),
    ],
)
def test_a_label_that_the_request_asks_for_is_left_out(contract: Contract, row: str, place: str, count: int) -> None:
    cells = [json.loads(cell) for cell in row.split(",")]

    for body, media in ((f"{row}\n" * count, "text/csv"), ([cells] * count, "application/json")):
        records = read(contract, body, f"{media}; {place}")
        assert np.array_equal(records.numbers, [[8.3, 41, 880]] * count)


@pytest.mark.parametrize("count", [1, 2000])
def test_a_class_that_the_request_asks_for_is_left_out(count: int) -> None:
    for place, row in (("first", "stay,17,40"), ("last", "17,40,leave")):
        records = read(STAFF, f"{row}\n" * count, f"text/csv; label={place}")
        assert np.array_equal(records.numbers, [[17, 40]] * count)
    assert len(read(SPOKEN, [["a", "low", "stay"]] * count, "application/json; label=last")) == count


def test_a_contract_may_take_rows_with_their_label_and_without() -> None:
    first, last = labelled(HOUSES, "first"), labelled(HOUSES, "last")

    assert read(first, "452600,8.3,41,880").numbers.tolist() == [[8.3, 41, 880]]
    assert read(last, "8.3,41,880,452600").numbers.tolist() == [[8.3, 41, 880]]
    assert read(first, "8.3,41,880").numbers.tolist() == read(last, "8.3,41,880").numbers.tolist() == [[8.3, 41, 880]]
    assert refusal(last, "8.3,41").message == "expected 3 or 4 columns, got 2"
    assert refusal(last, "8.3,41,880,452600", "text/csv; label=none").message == "expected 3 columns, got 4"
    assert refusal(last, "8.3,41,880", "text/csv; label=last").message == "expected 4 columns, got 3"
    assert refusal(last, "8.3,41,880,452600\n8.3,41,880").row == 2


@pytest.mark.parametrize("before", [0, 2000])
@pytest.mark.parametrize(
    ("contract", "good", "row", "code", "says"),
    [
        (HOUSES, "8,41,880,15000", "8.3,41,880,8.3", "bad_label", "a whole number from 14999 to 500001"),
        (HOUSES, "8,41,880,15000", "8.3,41,880,452600.5", "bad_label", "got 452600.5"),
        (HOUSES, "8,41,880,15000", "8.3,41,880,500002", "bad_label", "got 500002"),
        (HOUSES, "8,41,880,15000", "8.3,41,880,", "empty_label", "empty"),
        (HOUSES, "8,41,880,15000", "8.3,41,880,NA", "empty_label", "empty"),
        (HOUSES, "8,41,880,15000", "8.3,41,880,old", "not_a_number", "got 'old'"),
        (STAFF, "17,40,stay", "17,40,3", "bad_label", "one of leave, stay"),
        (STAFF, "17,40,stay", "17,40,", "empty_label", "empty"),
    ],
)
def test_a_label_that_training_cannot_have_had_is_refused(
    contract: Contract, good: str, row: str, code: str, says: str, before: int
) -> None:
    error = refusal(labelled(contract, "last"), f"{good}\n" * before + row)

    assert (error.code, error.row) == (code, before + 1)
    assert says in error.message


@pytest.mark.parametrize("label", [None, True, 3, 2.5, ["stay"], {"a": 1}, "gone"])
def test_a_value_of_json_that_is_no_class_is_no_label(label: object) -> None:
    error = refusal(labelled(STAFF, "last"), [[17, 40, "stay"], [17, 40, label]], "application/json")

    assert (error.code, error.row) == ("bad_label" if label is not None else "empty_label", 2)


def test_a_class_that_is_a_number_may_be_one_in_json() -> None:
    contract = labelled(replace(STAFF, columns=(*STAFF.inputs, Column("left", LABEL, ("0", "1")))), "last")

    assert len(read(contract, [[17, 40, 1], [17, 40, "0"]], "application/json")) == 2
    assert refusal(contract, [[17, 40, 2]], "application/json").code == "bad_label"


@pytest.mark.parametrize("said", ["label=middle", "label_size=2", "label=first; label_size=0"])
def test_a_place_that_is_none_is_refused(said: str) -> None:
    for read_one in (read, lambda *given: read_features(given[1].encode(), content_type(given[2], ("text/csv",)), ONE)):
        with pytest.raises(BadPayload) as caught:
            read_one(HOUSES, "1,2,3", f"text/csv; {said}")  # type: ignore[operator]
        assert caught.value.code == "bad_label"
        assert "expected label=first, label=last or label=none" in caught.value.message


def test_features_have_no_label() -> None:
    def ask(body: str, said: str) -> object:
        return read_features(body.encode(), content_type(said, ACCEPTED_FEATURES), HOUSES)

    assert np.array_equal(ask("1,2,3", "text/csv; label_size=0"), [[1, 2, 3]])
    with pytest.raises(BadPayload, match="leave the label out"):
        ask("1,2,3,4", "text/csv; label=last")


@pytest.mark.parametrize(
    ("contract", "body"),
    [
        pytest.param(DIGITS, "1,0\n1,0\n", id="names in another order"),
        pytest.param(DIGITS, "0,1\n1,1\n", id="names in their order"),
        pytest.param(ZIP, "zip\nn/k\n", id="a category"),
        pytest.param(labelled(replace(DIGITS, columns=(*DIGITS.inputs, replace(PRICE, name="7"))), "last"),
                     "0,1,7\n1,1,15000\n", id="with the label"),
    ],
)  # fmt: skip
def test_a_first_row_of_names_that_could_be_data_is_asked_about(contract: Contract, body: str) -> None:
    error = refusal(contract, body)

    assert (error.code, error.row) == ("bad_header", 1)
    assert "expected header=present or header=absent in the Content-Type" in error.message
    rows = body.count("\n")
    assert len(read(contract, body, "text/csv; header=present")) == rows - 1
    assert len(read(contract, body.replace(",7", ",15000"), "text/csv; header=absent")) == rows


def test_features_called_by_numbers_are_asked_about_too() -> None:
    def ask(said: str) -> object:
        return read_features(b"1,0\n3,4\n", content_type(said, ACCEPTED_FEATURES), DIGITS)

    with pytest.raises(BadPayload, match="header=present or header=absent"):
        ask("text/csv")
    assert np.array_equal(ask("text/csv; header=present"), [[4, 3]])
    assert np.array_equal(ask("text/csv; header=absent"), [[1, 0], [3, 4]])


def test_a_header_with_one_wrong_name_names_it() -> None:
    wrong = refusal(HOUSES, "Income,age,rooms\n1,2,3\n")
    missing = refusal(HOUSES, "age,rooms\n1,2\n")

    assert (wrong.code, wrong.column, wrong.row) == ("unknown_column", "Income", None)
    assert (missing.code, missing.column) == ("missing_column", "income")
    assert len(read(DIGITS, "0,5\n1,6\n")) == 2, "one cell of two is a name, and both are numbers"


@pytest.mark.parametrize("first", ["x,y,z,3,4,5,6,7", 'x,y,z,3,4,5,6,"7,8"'])
def test_a_header_whose_first_names_are_wrong_is_no_row(first: str) -> None:
    """Its other names are numbers, and the wrong ones stand where a category may be any text."""
    last = "7,8" if "7,8" in first else "7"
    kinds = dict.fromkeys("abc", ColumnType.CATEGORICAL) | dict.fromkeys(["3", "4", "5", "6"], ColumnType.NUMERIC)
    inputs = [Column(name, kind, ("r",) * (kind is ColumnType.CATEGORICAL)) for name, kind in kinds.items()]
    contract = replace(DIGITS, columns=(*inputs, Column(last, ColumnType.CATEGORICAL, ("r",)), PRICE))

    error = refusal(contract, f"{first}\nr,r,r,1,2,3,4,r\n")

    assert (error.code, error.column) == ("unknown_column", "x")


@pytest.mark.parametrize("body", ["20\n70\n\n", "20\n70\n\n\n", "20\r\n70\r\n\r\n", "20\n70\r\n\n"])
def test_of_one_column_a_blank_line_at_the_end_is_refused(body: str) -> None:
    for start, said in (("", "text/csv"), ("age\n", "text/csv"), ("x\n", "text/csv; header=present")):
        if said == "text/csv":
            error = refusal(ONE, start + body)
            assert (error.code, error.row) == ("blank_row", 3)
    with pytest.raises(BadPayload, match="blank line"):
        read_features(body.encode(), content_type("text/csv", ACCEPTED_FEATURES), ONE)
    assert len(read(ONE, body.rstrip() + "\n")) == 2
    assert len(read(ONE, '20\n""\n')) == 2
    assert len(read(HOUSES, "1,2,3\n\n\n")) == 1


def test_a_contract_keeps_the_place_and_the_range_of_its_label() -> None:
    contract = labelled(HOUSES, "last")

    again = Contract.from_json(contract.to_json())

    assert again == contract
    assert again.hash != HOUSES.hash
    assert '"labelled_rows"' not in HOUSES.to_json()
    for wrong, right in (
        ('"last"', '"middle"'),
        ("14999.0", '"low"'),
        ("14999.0,", ""),
        ('"whole": true', '"whole": 1'),
    ):
        assert wrong in contract.to_json()
        with pytest.raises(BadArtifact, match="is not a contract"):
            Contract.from_json(contract.to_json().replace(wrong, right))


def test_under_batch_transform_a_header_has_the_order_of_rows_without_one() -> None:
    """A later piece of the file has no header, and its rows must mean the same."""

    def ask(contract: Contract, header: str) -> Records:
        body = f"{header}\n{','.join('15000' if name == 'price' else '1' for name in header.split(','))}\n"
        return RecordReader(contract, batch=True).read(body.encode(), content_type("text/csv", ACCEPTED))

    for contract, right, wrong in (
        (HOUSES, "income,age,rooms", "age,income,rooms"),
        (HOUSES, "price,income,age,rooms", "price,age,income,rooms"),  # later rows with a label are refused
        (labelled(HOUSES, "first"), "price,income,age,rooms", "income,age,rooms,price"),
        (labelled(HOUSES, "last"), "income,age,rooms,price", "price,income,age,rooms"),
    ):
        assert len(ask(contract, right)) == 1
        with pytest.raises(BadPayload, match="expected a header in the order income,age,rooms"):
            ask(contract, wrong)


def test_a_line_end_that_a_shell_left_in_two_characters_is_named() -> None:
    said = r"; the body has \n in two characters: send line ends themselves, as a file or bash's $'...' has them"

    assert refusal(HOUSES, r"8.3,41,880\n8.3,41,880").message.endswith(said)
    assert refusal(HOUSES, r"8.3,41,880\n").message.endswith(said)
    assert not refusal(HOUSES, "8.3,41,x\n8.3,41,880\\n").message.endswith(said)
    assert not refusal(HOUSES, r'[["8.3\n", 41, 880]]', "application/json").message.endswith(said)
