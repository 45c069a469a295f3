"""NPY, the hop between the containers. The ids are rules of the corpus (tests/corpus)."""

from __future__ import annotations

import io
import pickle
import struct

import numpy as np
import pytest
from numpy.typing import NDArray

from featurizer.model import write_features
from predictor.features import read_features
from predictor.outputs import write_predictions
from serving.errors import BadPayload, PayloadTooLarge
from serving.formats.npy import read_npy, write_npy
from serving.media import MediaType
from serving.payload import NPY
from tests.unit.abalone import CONTRACT

COUNTS = np.arange(20).reshape(2, 10) % 2


def saved(array: NDArray[np.generic], **options: bool) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def with_header(header: str, data: bytes = b"", version: int = 1) -> bytes:
    """An NPY file with a header of any text."""
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + data


def read(body: bytes) -> NDArray[np.float32]:
    return read_features(body, MediaType(NPY), CONTRACT)


@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<f2", ">f8", ">f4", "<i8", ">i2", "u1", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_any_type_and_order_are_the_same_matrix(dtype: str, order: str) -> None:  # P12
    array = np.array(COUNTS, dtype=dtype, order="C" if order == "C" else "F")

    assert read(saved(array)).tobytes() == COUNTS.astype(np.float32).tobytes()


def test_a_vector_is_one_row() -> None:  # P15
    assert read(saved(COUNTS[1].astype(np.float32))).tolist() == [COUNTS[1].tolist()]


def test_nan_is_missing_and_small_numbers_stay() -> None:  # P4, P7
    row = np.array([[np.nan, -0.0, 1e-45, 1e-300, 3.4e38, 0, 0, 0, 0, 0]])

    assert read(saved(row)).tobytes() == row.astype(np.float32).tobytes()


FLOATS = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(saved(np.zeros((2, 9))), "column_count", id="P2 nine"),
        pytest.param(saved(np.zeros((2, 1))), "column_count", id="P2 one"),
        pytest.param(saved(np.zeros((2, 11))), "column_count", id="P3"),
        pytest.param(saved(np.full((2, 10), np.inf)), "non_finite", id="P5"),
        pytest.param(saved(np.full((2, 10), 1e39)), "non_finite", id="P6"),
        pytest.param(b"", "empty_body", id="P10"),
        pytest.param(saved(np.zeros((0, 10))), "empty_body", id="P11"),
        pytest.param(saved(np.zeros((2, 0))), "empty_body", id="P11 no columns"),
        pytest.param(saved(np.array(["x"] * 10)), "npy_syntax", id="P14 strings"),
        pytest.param(saved(np.zeros((1, 10), dtype=complex)), "npy_syntax", id="P14 complex"),
        pytest.param(saved(np.zeros((1, 10), dtype="M8[s]")), "npy_syntax", id="P14 datetime"),
        pytest.param(saved(np.zeros(10, dtype=[("a", "f4")])), "npy_syntax", id="P14 structured"),
        pytest.param(saved(np.zeros((1, 10), dtype="V4")), "npy_syntax", id="P14 void"),
        pytest.param(saved(np.zeros((1, 1, 10))), "npy_syntax", id="P15 3-D"),
        pytest.param(saved(np.float32(1)), "npy_syntax", id="P15 scalar"),
        pytest.param(saved(COUNTS)[:-1], "npy_syntax", id="P16 truncated data"),
        pytest.param(saved(COUNTS)[:40], "npy_syntax", id="P16 truncated header"),
        pytest.param(saved(COUNTS)[:6], "npy_syntax", id="P16 magic only"),
        pytest.param(b"\x93NUMPY\x09\x00" + saved(COUNTS)[8:], "npy_syntax", id="P16 version"),
        pytest.param(with_header(FLOATS % "1, 10" + " " * 65_000, bytes(40)), "npy_syntax", id="P16 64 KB header"),
        pytest.param(with_header("[1]"), "npy_syntax", id="P16 no dict"),
        pytest.param(with_header("__import__('os').abort()"), "npy_syntax", id="P16 code"),
        pytest.param(with_header("{'descr': ("), "npy_syntax", id="P16 unclosed bracket"),
        pytest.param(with_header("'''"), "npy_syntax", id="P16 unclosed string"),
        pytest.param(with_header("{" * 900), "npy_syntax", id="P16 nested"),
        pytest.param(with_header("\\"), "npy_syntax", id="P16 backslash"),
        pytest.param(with_header("\0"), "npy_syntax", id="P16 NUL"),
        pytest.param(with_header(FLOATS % "9999999999, 10"), "npy_syntax", id="P17 huge"),
        pytest.param(with_header(FLOATS % "-1, 10", bytes(40)), "npy_syntax", id="P17 negative"),
        pytest.param(with_header(FLOATS % "-1, -10", bytes(40)), "npy_syntax", id="P17 both negative"),
        pytest.param(saved(COUNTS) + b"x", "npy_syntax", id="P18"),
        pytest.param(b"PK\x03\x04" + bytes(100), "npy_syntax", id="P19"),
        pytest.param(b"0,1,2,3,4,5,6,7,8,9", "npy_syntax", id="CSV"),
    ],
)
def test_what_is_not_a_matrix_of_numbers_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(BadPayload) as caught:
        read(body)

    assert (caught.value.status, caught.value.code) == (400, code)


@pytest.mark.parametrize(
    ("dtype", "value", "shown"),
    [("<f8", 1e39, "1e+39"), ("<f8", -np.inf, "-inf"), (">f4", np.inf, "inf"), ("<f2", np.inf, "inf")],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_infinite_number_is_named_with_its_row(dtype: str, value: float, shown: str, order: str) -> None:  # P5, P6
    array = np.zeros((3, 10), dtype)
    array[1, 3] = value

    with pytest.raises(BadPayload) as caught:
        read(saved(np.asfortranarray(array) if order == "F" else array))

    assert (caught.value.row, caught.value.column) == (2, "whole_weight")
    assert caught.value.message == f"expected a finite number (float32: up to 3.4e38), got {shown}"


class Canary:
    """Sings when somebody unpickles it."""

    sung = 0

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return Canary.sing, ()

    @staticmethod
    def sing() -> None:
        Canary.sung += 1


@pytest.mark.parametrize("body", [saved(np.array([Canary()], dtype=object), allow_pickle=True), pickle.dumps(Canary())])
def test_no_pickle_is_ever_opened(body: bytes) -> None:  # P13
    with pytest.raises(BadPayload):
        read(body)

    assert Canary.sung == 0


def test_features_and_predictions_keep_their_float32() -> None:
    sent = np.random.default_rng(3).standard_normal((50, 10))
    predictions = np.random.default_rng(4).standard_normal(50).astype(np.float32)

    assert read(write_features(sent, NPY)).tobytes() == sent.astype(np.float32).tobytes()
    assert np.load(io.BytesIO(write_predictions(predictions, NPY))).tobytes() == predictions.tobytes()


def test_what_is_written_is_what_numpy_reads() -> None:
    array = np.asfortranarray(np.random.default_rng(5).standard_normal((7, 3)).astype(np.float32))

    body = write_npy(array)

    assert np.load(io.BytesIO(body), allow_pickle=False).tolist() == array.tolist()
    assert read_npy(body).tolist() == array.tolist()


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
@pytest.mark.parametrize("width", [None, *(10**power for power in range(6))])
@pytest.mark.parametrize("rows", [1, 9, 10, 12_345])
def test_an_array_is_written_as_numpy_writes_it(rows: int, width: int | None, dtype: str) -> None:
    array = np.zeros((rows if width is None or width < 100 else 2, *([] if width is None else [width])), dtype)

    assert write_npy(array) == saved(array)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("length", "read"), [(1024, True), (1025, False)])
def test_a_header_has_at_most_1024_bytes(version: int, length: int, read: bool) -> None:
    body = with_header((FLOATS % "1, 1").ljust(length - 1) + "\n", bytes(4), version)

    if read:
        assert read_npy(body).tolist() == [[0.0]]
    else:
        with pytest.raises(BadPayload, match="expected an NPY file of version 1 or 2 with an ordinary header"):
            read_npy(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            saved(np.zeros(1, [("abcdefgh", "f4")])),
            "expected an array of numbers of at most 64 bits, got elements of type |V4",
        ),
        (
            saved(np.zeros((1,) * 30)),
            "expected an array of 1 or 2 dimensions, got shape " + str((1,) * 30)[:64],
        ),
        (with_header(FLOATS % "2, 3", bytes(4)), "expected 24 bytes of data for shape (2, 3), got 4"),
        (with_header(FLOATS % f"{10**60}, {10**60}"), f"bytes of data for shape {str((10**60, 10**60))[:64]}, got 0"),
        (with_header(FLOATS % "True, 1", bytes(4)), "expected whole numbers as shape, got (True, 1)"),
        (saved(np.zeros((2, 0))), "expected at least one row, got an empty array"),
        (b"", "expected at least one row, got an empty body"),
    ],
)
def test_a_refusal_says_what_the_array_is_instead(body: bytes, message: str) -> None:
    with pytest.raises(BadPayload) as caught:
        read_npy(body)

    assert caught.value.message.endswith(message)


@pytest.mark.parametrize(("shape", "rows"), [((3, 2), 3), ((5,), 1)])
def test_rows_are_counted_up_to_their_limit(shape: tuple[int, ...], rows: int) -> None:
    assert len(read_npy(saved(np.zeros(shape)), rows)) == rows
    if rows > 1:
        with pytest.raises(PayloadTooLarge, match=f"expected at most {rows - 1} rows in a request, got {rows}"):
            read_npy(saved(np.zeros(shape)), rows - 1)
