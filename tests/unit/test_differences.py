"""What counts as a difference between two answers to one request."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from local_test.recording.differences import Comparison, outcome
from local_test.recording.exchanges import Answered


def npy(*numbers: float) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(numbers, np.float32), allow_pickle=False)
    return file.getvalue()


def answer(body: bytes | str, media: str = "application/json", status: int = 200) -> Answered:
    return Answered(status, media, body.encode() if isinstance(body, str) else body)


SAME = [
    (answer('{"result":[1.5,2]}'), answer('{"result": [1.5, 2.0]}')),
    (answer("1.5\n2\n", "text/csv; charset=utf-8"), answer("1.50\n2", "text/csv")),
    (answer(npy(1.5, 2), "application/x-npy"), answer(npy(1.5, 2), "application/x-npy")),
    (answer("[0.25,0.75]\n", "application/jsonlines"), answer("[0.250, 0.75]", "application/jsonlines")),
    (answer(b"", "application/x-npy"), answer(b"", "application/x-npy")),
    (answer("[" * 100_000), answer("[" * 100_000)),
    (answer("[" * 900 + "1" + "]" * 900), answer("[" * 900 + "1" + "]" * 900)),
    (answer('{"OriginalStatusCode":"abc"}', status=500), answer('{"OriginalStatusCode":null}', status=500)),
    (answer('{"result":["F"]}'), answer('{"result":["F"]}')),
    (answer('[{"a":1,"b":[2,3]}]'), answer('[{"b":[2,3],"a":1}]')),
    (answer("nan\n", "text/csv"), answer("NaN\n", "text/csv")),
    (answer(b"\x00", "image/png"), answer(b"\x00", "image/png")),
    (answer("1\n\n2\n", "text/csv"), answer("1\n2\n", "text/csv")),
    (answer("[1]\n\n", "application/jsonlines"), answer("[1]", "application/jsonlines")),
    (answer("-3\n", "text/csv"), answer("-3.0\n", "text/csv")),
    (answer("1", "TEXT/CSV"), answer("1", "text/csv")),
]


@pytest.mark.parametrize(("before", "after"), SAME)
def test_the_same_numbers_in_another_spelling_or_format_are_no_difference(before: Answered, after: Answered) -> None:
    comparison = Comparison(0.0)

    assert comparison.compare(before, after) == []
    assert comparison.largest == 0


DIFFERENT = [
    (answer('{"result":[1.5,2]}'), answer('{"result":[1.5,2.25]}'), "row 2: 2 -> 2.25 (+0.25)"),
    (answer("1\n2\n", "text/csv"), answer("1\n", "text/csv"), "2 rows -> 1 rows"),
    (answer('{"result":["F"]}'), answer('{"result":["M"]}'), "row 1: F -> M"),
    (answer('{"result":[[0.25,0.75]]}'), answer('{"result":[[0.5,0.75]]}'), "row 1: 0.25 -> 0.5 (+0.25)"),
    (answer('{"result":[1]}'), answer("{}", status=500), "200 -> 500"),
    (answer('{"result":[[1,2]]}'), answer('{"result":[[1]]}'), "row 1: [1, 2] -> [1]"),
    (answer('{"result":[[1,2]]}'), answer('{"result":["F"]}'), "row 1: [1, 2] -> F"),
    (answer('{"result":[{"a":1}]}'), answer('{"result":[{"b":1}]}'), "row 1: {'a': 1} -> {'b': 1}"),
    (answer('{"result":[1]}'), answer('{"code":"c","row":3,"column":"x"}', status=400), "200 -> 400 c row 3 column x"),
    (answer(b"\x00", "image/png"), answer(b"\x01", "image/png"), "\x00 -> \x01"),
    (answer('{"result":[null]}'), answer('{"result":[0]}'), "row 1: None -> 0"),
    (answer('{"result":[1.0]}'), answer("1.0\n", "text/csv"), "application/json -> text/csv"),
    (answer("[9007199254740993]"), answer("[9007199254740992]"), "row 1: 9007199254740993 -> 9007199254740992 (-1)"),
    (answer("9" * 200_000, "text/csv"), answer("8" * 200_000, "text/csv"), f"{'9' * 119}… -> {'8' * 119}…"),
    (answer(npy(1.5), "application/x-npy"), answer(b"", "application/x-npy"), ""),
    (answer('{"result":[1]}'), answer('{"predictions":[1]}'), '{"result": [rows]} -> {"predictions": [rows]}'),
    (answer('{"result":[1]}'), answer("[1]"), '{"result": [rows]} -> [rows]'),
    (answer('{"result":[1]}'), answer('{"result":1}'), '{"result": [rows]} -> {"result": value}'),
    (answer("[1]"), answer("1"), "[rows] -> one value"),
    (answer("[false]"), answer("[true]"), "row 1: False -> True"),
    (answer("[1.23456789012]"), answer("[2.23456789012]"), "row 1: 1.23456789 -> 2.23456789 (+1)"),
    (answer("[0.5]"), answer("[0.123456789]"), "row 1: 0.5 -> 0.123456789 (-0.376543)"),
    (answer("[1.5]"), answer("[1" + "0" * 400 + "]"), f"row 1: 1.5 -> 1{'0' * 400} (+nan)"),
    (answer("1,2\n3,4\n", "text/csv"), answer("1,2\n3,5\n", "text/csv"), "row 2: 4 -> 5 (+1)"),
    (answer(json.dumps(["x" * 120])), answer(json.dumps(["y" * 121])), f"row 1: {'x' * 120} -> {'y' * 119}…"),
    (answer("x" * 120, "a/b"), answer("y" * 121, "a/b"), f"{'x' * 120} -> {'y' * 119}…"),
    (answer(json.dumps({"x" * 121: [1]})), answer("[1]"), f'{{"{"x" * 119}\\u2026": [rows]}} -> [rows]'),
    (answer("1", ""), answer("1", "text/csv"), "no type -> text/csv"),
]


@pytest.mark.parametrize(("before", "after", "said"), DIFFERENT)
def test_a_difference_says_where_and_how_far(before: Answered, after: Answered, said: str) -> None:
    (found,) = Comparison(0.0).compare(before, after)

    assert said in str(found)


def test_lists_within_lists_are_compared_however_many_there_are() -> None:
    deep = ((answer("[" * n + "1" + "]" * n), answer("[" * n + "2" + "]" * n)) for n in range(900, 1100, 5))

    assert [len(Comparison(0.0).compare(*pair)) for pair in deep] == [1] * 40


@pytest.mark.parametrize(
    ("before", "after", "differs"), [(2.0, 2.15, False), (2.0, 2.25, True), (0.0, 0.15, True), (0.0, 0.05, False)]
)
def test_the_tolerance_is_relative_above_one_and_absolute_below(before: float, after: float, differs: bool) -> None:
    comparison = Comparison(0.1)

    found = comparison.compare(answer(json.dumps([before])), answer(json.dumps([after])))

    assert bool(found) is differs
    assert comparison.largest == pytest.approx(after - before)


def test_a_containers_refusal_is_the_same_through_the_platform_and_alone() -> None:
    alone = answer('{"code":"not_a_number","message":"...","row":1,"column":"length","request_id":"a"}', status=400)
    passed_on = {"OriginalStatusCode": 400, "OriginalMessage": alone.body.decode(), "LogStreamArn": "arn:..."}

    through = answer(json.dumps(passed_on), status=424)

    assert outcome(alone) == outcome(through) == "400 not_a_number row 1 column length"
    assert Comparison(0.0).compare(alone, through) == []


def test_differences_of_whole_answers_are_counted_by_their_kind() -> None:
    comparison = Comparison(0.0)
    given = answer('{"result":[1]}')
    others = [
        answer("{}", status=500), answer("{}", status=400), answer("1", "text/csv"), answer("[1]"),
        answer('{"result":[1,2]}'), answer('{"result":[2]}'),
    ]  # fmt: skip

    for other in others:
        comparison.compare(given, other)
    comparison.compare(answer("a", "a/b"), answer("b", "a/b"))

    assert comparison.kinds == {"refusal": 2, "type": 1, "shape": 1, "row count": 1, "body": 1}
    assert (comparison.rows, comparison.numbers, comparison.different_rows) == (1, 1, 1)


def test_a_row_with_several_differences_is_one_row() -> None:
    comparison = Comparison(0.0)

    found = comparison.compare(answer("[[1,2],[3,4],[5,6]]"), answer("[[2,4],[3,4],[5,7]]"))

    assert [one.row for one in found] == [1, 1, 3]
    assert (comparison.rows, comparison.different_rows, comparison.numbers, comparison.sum) == (3, 2, 6, 4.0)
