"""What the image check makes of a payload and of a Dockerfile, before anything is started."""

from __future__ import annotations

import io

import numpy as np
import pytest

from local_test.check.asking import Asking
from local_test.check.dockerfile import configuration

LABEL = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"
REPEATED = {
    "rows": (b"1,a\n2,b\n", b"1,a\n2,b\n" * 2),
    "a header stands once": (b"size,city\n1,a\n", b"size,city\n" + b"1,a\n" * 2),
    "a quoted header stands once": (b'"size, 1",city\r\n1,a\r\n', b'"size, 1",city\r\n' + b"1,a\r\n" * 2),
    "a byte order mark stands once": (b"\xef\xbb\xbf1,a\n", b"\xef\xbb\xbf" + b"1,a\n" * 2),
    "text without a number may be rows": (b"a,b\nc,d\n", b"a,b\nc,d\n" * 2),
    "a row with a cell of any length is a row": (
        b"1," + b"x" * 131_073 + b"\n2,y\n",
        (b"1," + b"x" * 131_073 + b"\n2,y\n") * 2,
    ),
    "a line that nobody can read is no header": (b'1,"x" \ry\n2,y\n', b'1,"x" \ry\n2,y\n' * 2),
    "the last line gets its newline": (b"1,2", b"1,2\n" * 2),
}


@pytest.mark.parametrize("fact", REPEATED)
def test_rows_are_repeated_and_what_stands_before_them_is_not(fact: str) -> None:
    body, expected = REPEATED[fact]

    repeated = Asking(body, "text/csv").repeated(len(expected) + 1)

    assert repeated == expected


def test_a_payload_that_is_larger_than_asked_for_is_sent_once() -> None:
    assert Asking(b"1,2\n" * 9, "text/csv").repeated(8) == b"1,2\n" * 9


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (np.ones(4), (2, 4)),
        (np.ones((1, 4), np.uint8), (2, 4)),
        (np.ones((1, 2, 3, 3), np.float16), (2, 2, 3, 3)),
        (np.array([["a", "b"]]), (2, 2)),
    ],
)
def test_an_array_of_any_type_is_repeated_by_rows(array: np.ndarray, shape: tuple[int, ...]) -> None:
    file = io.BytesIO()
    np.save(file, array)
    asking = Asking(file.getvalue(), "application/x-npy")

    repeated, once = (asking.repeated(256 + 2 * array.nbytes - less) for less in (0, 1))

    assert asking.repeats
    assert np.load(io.BytesIO(repeated)).shape == shape
    assert np.load(io.BytesIO(once)).shape == (1, *shape[1:])


@pytest.mark.parametrize("body", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_what_is_no_array_is_not_repeated(body: bytes) -> None:
    asking = Asking(body, "application/x-npy")

    assert not asking.repeats
    assert asking.repeated(3) == b"000"


def test_an_array_that_has_no_values_or_needs_pickle_is_not_repeated() -> None:
    for array in (np.ones((0, 4)), np.array([{}], dtype=object)):
        file = io.BytesIO()
        np.save(file, array, allow_pickle=True)

        assert not Asking(file.getvalue(), "application/x-npy").repeats


@pytest.mark.parametrize("media", ["application/jsonlines", "Text/CSV ; header=absent"])
def test_rows_are_repeated_whatever_the_parameters_of_their_type(media: str) -> None:
    assert Asking(b"[1]", media).repeats
    assert Asking(b"[1]", media).repeated(9) == b"[1]\n" * 2
    assert not Asking(b"", media).repeats


def test_a_row_with_a_cell_of_any_length_is_repeated() -> None:
    rows = b"a\n" + b"x" * 140_000 + b",1\n"

    assert Asking(rows, "text/csv").repeated(2 * len(rows)) == rows * 2


LABELLED = {
    "in the usual form": (f"FROM a\nLABEL x=1 {LABEL}=true", "true"),
    "in quotes": (f'FROM a\nLABEL note=\'b c\' "{LABEL}"="true"', "true"),
    "in the older form": (f"FROM a\nLABEL {LABEL} true", "true"),
    "over two lines with a comment between": (f"FROM a\nLABEL x=1 \\\n# why\n  {LABEL}=true", "true"),
    "of the stage that it is built on": (f"FROM a AS Base\nLABEL {LABEL}=true\nFROM base", "true"),
    "not of a stage that it copies from": (f"FROM a AS build\nLABEL {LABEL}=true\nFROM a", None),
}


@pytest.mark.parametrize("fact", LABELLED)
def test_a_label_is_the_last_stages(fact: str) -> None:
    text, value = LABELLED[fact]

    assert configuration(text)["Labels"].get(LABEL) == value


def test_user_and_entrypoint_of_a_stage_that_only_builds_are_not_the_images() -> None:
    config = configuration('FROM a AS build\nUSER 1000\nENTRYPOINT make\nFROM a\nCMD ["serve"]')

    assert (config["User"], config["Entrypoint"], config["Cmd"]) == ("", None, ["serve"])
