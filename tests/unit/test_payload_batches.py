"""A file of rows becomes requests, and their answers one answer: nothing is lost, changed or cut."""

from __future__ import annotations

import csv
import io
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.endpoint import answers, payloads
from pipeline.endpoint.errors import PipelineError
from pipeline.endpoint.payloads import Batch, Limits
from serving.payload import CSV, JSON, JSONLINES, NPY

FIELD = st.lists(st.sampled_from(["a", "1", ",", '"', "\n", "\r\n", " ", "é"]), max_size=6).map("".join)
LINE_END = st.sampled_from(["\n", "\r\n"])


def cut(body: bytes, media: str = CSV, rows: int = 3, size: int = 200, header: bool | None = False) -> list[Batch]:
    return list(payloads.batches(io.BytesIO(body), media, Limits(rows, size), header))


def written(rows: list[list[str]], line_end: str = "\n") -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator=line_end).writerows(rows)
    return text.getvalue()


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    width = draw(st.integers(2, 4))
    return draw(st.lists(st.lists(FIELD, min_size=width, max_size=width), min_size=1, max_size=12))


@given(rows=tables(), line_end=LINE_END, most=st.integers(1, 5), ended=st.booleans())
def test_csv_with_quoted_newlines_loses_nothing(rows, line_end, most, ended):
    text = written(rows, line_end)
    body = (text if ended else text.removesuffix(line_end)).encode()

    batches = cut(body, rows=most)

    assert b"".join(batch.body for batch in batches) == body
    assert [row for batch in batches for row in read(batch.body.decode())] == read(text)
    assert [batch.rows for batch in batches] == [len(read(batch.body.decode())) for batch in batches]


@given(rows=tables(), most=st.integers(1, 5))
def test_each_request_begins_with_the_header(rows, most):
    header = [f"{name}\nwith a line end" for name, _ in enumerate(rows[0])]
    body = written([header, *rows]).encode()

    batches = cut(body, rows=most, size=400, header=True)

    parts = [read(batch.body.decode()) for batch in batches]
    assert all(part[0] == read(written([header]))[0] for part in parts)
    assert [row for part in parts for row in part[1:]] == read(written(rows))


@given(rows=tables(), size=st.integers(130, 200))
def test_no_request_is_over_the_limit_or_smaller_than_need_be(rows, size):
    batches = cut(written(rows).encode(), rows=1000, size=size)

    assert all(len(batch.body) <= size for batch in batches)
    for one, following in pairwise(batches):
        first = next(payloads.csv_records(io.BytesIO(following.body)))
        assert len(one.body) + len(first) > size


@given(rows=tables(), most=st.integers(1, 5))
def test_rows_are_numbered_as_the_file_has_them(rows, most):
    batches = cut(written(rows).encode(), rows=most)

    number = 1
    for batch in batches:
        assert batch.first_row == number
        number += batch.rows or 0
    assert number == len(rows) + 1


JSON_VALUES = st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)


@given(
    rows=st.lists(st.lists(JSON_VALUES, max_size=3) | st.dictionaries(st.text(max_size=3), JSON_VALUES), min_size=1),
    most=st.integers(1, 4),
    indent=st.none() | st.integers(0, 2),
    wrapped=st.booleans(),
)
def test_json_loses_nothing(rows, most, indent, wrapped):
    document = {"instances": rows} if wrapped else rows
    batches = cut(json.dumps(document, indent=indent).encode(), JSON, most, 100_000)

    parts = [json.loads(batch.body) for batch in batches]
    lists = [part["instances"] if wrapped else part for part in parts]
    assert [row for part in lists for row in part] == rows
    assert [batch.rows for batch in batches] == [len(part) for part in lists]
    assert max(map(len, lists)) <= most


@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b'{"instances":[', b"]}")])
def test_json_is_cut_to_the_byte_that_a_request_may_have(begin, end):
    body, pair = begin + b"[1], [2], [3]" + end, begin + b"[1],[2]" + end

    assert [batch.body for batch in cut(body, JSON, rows=9, size=len(pair))] == [pair, begin + b"[3]" + end]
    assert [batch.rows for batch in cut(body, JSON, rows=9, size=len(pair) - 1)] == [1, 1, 1]
    assert [batch.body for batch in cut(body, JSON, rows=3, size=len(body))] == [body]


def test_json_rows_are_not_written_anew():
    batches = cut(b'[[-0, 1.10], [1e400], [{"a":1,"a":2}]]', JSON, rows=1)

    assert [batch.body for batch in batches] == [b"[[-0, 1.10]]", b"[[1e400]]", b'[[{"a":1,"a":2}]]']


@pytest.mark.parametrize("body", [b"[1, 2, 3]", b'{"a": 1}', b'{"instances": [[1], [2]], "more": 1}', b"[[1], oops"])
def test_json_that_is_no_list_of_rows_goes_as_it_is(body):
    assert cut(body, JSON, rows=1) == [Batch(body)]


def test_json_lines_are_cut_at_their_ends():
    batches = cut(b'{"a": "x\\ny"}\n[2]\n[3]\n\n', JSONLINES, rows=2)

    assert [(batch.body, batch.first_row, batch.rows) for batch in batches] == [
        (b'{"a": "x\\ny"}\n[2]\n', 1, 2),
        (b"[3]\n\n", 3, 1),
    ]


def test_npy_goes_whole():
    assert cut(b"\x93NUMPY\n\n", NPY, rows=1) == [Batch(b"\x93NUMPY\n\n")]


def test_blank_lines_between_rows_stay_with_the_row_below_them():
    batches = cut(b"1,2\n3,4\n\n5,6\n\n\n", rows=2)

    assert [(batch.body, batch.rows) for batch in batches] == [(b"1,2\n3,4\n", 2), (b"\n5,6\n\n\n", 2)]


def test_blank_lines_at_the_end_are_sent_for_the_endpoint_to_judge():
    """Of one column they may be missing values."""
    assert [(batch.body, batch.rows) for batch in cut(b"20\n70\n\n", rows=9)] == [(b"20\n70\n\n", 2)]


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (b"sex,length\n", b"M,0.4\n", True),
        (b"\xef\xbb\xbfsex,length\n", b"M,0.4\n", True),
        (b"M,0.4\n", b"F,0.5\n", False),
        (b"M,0.4\n", b"F,NA\n", False),
        (b'"a\nb",c\n', b'"1",x\n', True),
        (b"sex,color\n", b"M,red\n", None),
    ],
)
def test_a_header_is_told_by_the_numbers_below_it(first, second, found):
    assert payloads.is_header(first, second) is found


def test_a_row_too_long_for_any_request_is_refused_by_its_number():
    body = b"M," + b"9" * 7_000_000 + b"\n1,2\n"

    with pytest.raises(PipelineError, match=r"^row 1 has 6,291,457 bytes; a request may have 6,291,456"):
        list(payloads.batches(io.BytesIO(body), CSV, Limits()))


@pytest.mark.parametrize("body", [b"1,2\n", b"sex,color\n"])
def test_a_row_alone_is_no_header(body):
    assert cut(body, header=None) == [Batch(body, 1, 1, False)]


def test_words_above_words_are_sent_as_they_are_while_one_request_holds_them():
    assert [batch.header for batch in cut(b"sex,color\nM,red\n", rows=2, header=None)] == [None]

    with pytest.raises(PipelineError, match="cannot tell whether the first row is a header"):
        cut(b"sex,color\nM,red\nF,blue\n", rows=2, header=None)


@pytest.mark.parametrize(
    ("body", "media", "reason"),
    [
        (b"1,2\n" + b"3" * 300 + b"\n", CSV, "row 2 has 301 bytes"),
        (b'1,2\n3,4\n"' + b"5\n" * 200, CSV, "row 3 has 401 bytes"),
        (b"x" * 300, NPY, "the file, which is sent whole, has 300 bytes"),
        (b"[[1], [" + b"2" * 300 + b"]]", JSON, "row 2 has 303 bytes"),
        (b"[" + b" " * 300, JSON, "expected JSON"),
        (b"", CSV, "no rows"),
        (b"\n\n", CSV, "no rows"),
        (b"", NPY, "no rows"),
    ],
)
def test_what_no_request_can_hold_is_refused(body, media, reason):
    with pytest.raises(PipelineError, match=reason) as refused:
        cut(body, media)

    assert refused.value.code == 2


@pytest.mark.parametrize(
    ("media", "body"),
    [(NPY, b"x" * 200), (CSV, b"3" * 199 + b"\n"), (JSON, b"[" + b" " * 199), (JSONLINES, b"1" * 200)],
)
def test_a_request_may_have_as_many_bytes_as_its_limit_and_not_one_more(media, body):
    assert [batch.body for batch in cut(body, media)] == [body]

    with pytest.raises(PipelineError) as refused:
        cut(body[:1] + body, media)
    expected = "expected JSON: " if media == JSON else " has 201 bytes; a request may have 200"
    assert expected in refused.value.message


def test_json_without_a_comma_is_refused_by_the_place_of_it():
    with pytest.raises(PipelineError, match=r"^expected JSON: expected a comma or the end of the list at character 6$"):
        cut(b"[[1] [2]" + b" " * 200, JSON)


@pytest.mark.parametrize(
    ("media", "bodies", "whole"),
    [
        (CSV, [b"1\n2\n", b"3\n"], b"1\n2\n3\n"),
        (CSV, [b"1\n2", b"3"], b"1\n2\n3\n"),
        (JSONLINES, [b'{"result":1}\n', b'{"result":2}\n'], b'{"result":1}\n{"result":2}\n'),
        (JSON, [b'{"result":[1.10,2]}', b'{"result": [[3,4]] }'], b'{"result":[1.10,2,[3,4]]}'),
        (JSON, [b'{"anything":1}'], b'{"anything":1}'),
        ("text/plain", [b"as it is"], b"as it is"),
    ],
)
def test_the_answers_become_one_answer(media, bodies, whole):
    assert b"".join(answers.joined(bodies, media)) == whole


def test_arrays_become_one_array():
    bodies = []
    for values in ([1.5, 2.5], [3.5]):
        bodies.append(io.BytesIO())
        np.save(bodies[-1], np.array(values, dtype=np.float32))

    whole = b"".join(answers.joined([body.getvalue() for body in bodies], NPY))

    found = np.load(io.BytesIO(whole))
    assert (found.tolist(), found.dtype) == ([1.5, 2.5, 3.5], np.float32)


@pytest.mark.parametrize(
    ("media", "bodies", "reason"),
    [
        ("text/plain", [b"1", b"2"], "answers of type text/plain to several requests cannot be put together"),
        ("", [b"1", b"2"], "answers of type unknown to several requests cannot be put together"),
        (JSON, [b"[" + b"1" * 99, b"2"], f'expected answers of {{"result": [...]}}, got {b"[" + b"1" * 79!r}'),
        (NPY, [b"1", b"2"], "expected an answer of type application/x-npy, got another: "),
    ],
)
def test_answers_that_cannot_be_put_together_are_refused_with_their_beginning(media, bodies, reason):
    with pytest.raises(PipelineError) as refused:
        b"".join(answers.joined(bodies, media))

    assert refused.value.message.startswith(reason)
    assert refused.value.next_step.startswith("give --accept ")


@pytest.mark.parametrize(
    ("media", "body", "rows"),
    [
        (CSV, b'1\n"a\nb"\n3\n', 3),
        (JSONLINES, b"1\n2\n", 2),
        (JSONLINES, b"1\n\n2\n \n", 2),
        (JSON, b'{"result":[[1,2],[3,4]]}', 2),
        (JSON, b"[1]", None),
        ("text/plain", b"1", None),
    ],
)
def test_rows_of_an_answer_are_counted(media, body, rows):
    assert answers.count(body, media) == rows
