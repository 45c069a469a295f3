"""Objects taken apart into payloads, and answers put together again."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_test.control_plane.records import BadObject, assemble, pack, split, unpack

ROWS = b"M,0.1\nF,0.2\r\nI,0.3"


@given(
    content=st.lists(st.sampled_from([b"a", b"bb,1", b"\n", b"\r", b'"x', b"\xff"]), max_size=60).map(b"".join),
    split_type=st.sampled_from(["None", "Line"]),
    strategy=st.sampled_from(["MultiRecord", "SingleRecord"]),
    most=st.sampled_from([0, 300, 1000]),
)
def test_no_byte_is_lost_and_none_added(content: bytes, split_type: str, strategy: str, most: int) -> None:
    payloads = [b"".join(group) for group in pack(split(content, split_type), strategy, most)]

    assert assemble(payloads, "None") == content


@given(st.lists(st.integers(1, 9), max_size=50), st.integers(9, 30))
def test_a_payload_is_as_full_as_it_may_be_and_never_fuller(sizes: list[int], most: int) -> None:
    groups = list(pack([b"x" * size for size in sizes], "MultiRecord", most))

    totals = [sum(map(len, group)) for group in groups]
    assert all(total <= most for total in totals)
    for total, following in zip(totals, groups[1:], strict=False):
        assert total + len(following[0]) > most


def test_a_line_keeps_its_end() -> None:
    assert split(ROWS, "Line") == [b"M,0.1\n", b"F,0.2\r\n", b"I,0.3"]


def test_without_a_split_the_object_is_one_record() -> None:
    assert split(ROWS, "None") == [ROWS]


@pytest.mark.parametrize("split_type", ["None", "Line"])
def test_an_empty_object_has_no_record(split_type: str) -> None:
    assert split(b"", split_type) == []


def test_single_record_sends_every_record_alone() -> None:
    assert list(pack(split(ROWS, "Line"), "SingleRecord", 100)) == [[b"M,0.1\n"], [b"F,0.2\r\n"], [b"I,0.3"]]


def test_a_limit_of_zero_is_none() -> None:
    records = [b"x" * 1000, b"y" * 1000]

    assert list(pack(records, "MultiRecord", 0)) == [records]


def test_a_record_that_fits_into_no_payload_is_refused() -> None:
    with pytest.raises(BadObject, match="a record of 11 bytes does not fit into MaxPayloadInMB, 10 bytes"):
        list(pack([b"x" * 11], "MultiRecord", 10))


@pytest.mark.parametrize(
    ("answers", "assemble_with", "expected"),
    [
        ([b"1", b"2"], "None", b"12"),
        ([b"1", b"2"], "Line", b"1\n2\n"),
        ([b"1\n", b"2\n"], "None", b"1\n2\n"),
        ([b"1\n", b"2\n"], "Line", b"1\n\n2\n\n"),
        ([], "Line", b""),
    ],
)
def test_line_adds_a_newline_to_every_answer_whatever_it_ends_in(
    answers: list[bytes], assemble_with: str, expected: bytes
) -> None:
    assert assemble(answers, assemble_with) == expected


def test_gzip_is_unpacked() -> None:
    assert unpack(gzip.compress(ROWS), "Gzip") == ROWS
    assert unpack(ROWS, "None") == ROWS


@pytest.mark.parametrize("content", [ROWS, gzip.compress(ROWS)[:-4], b"\x1f\x8b\x08\x00" + b"\x00" * 20])
def test_what_is_no_gzip_is_refused(content: bytes) -> None:
    with pytest.raises(BadObject, match="expected gzip"):
        unpack(content, "Gzip")
