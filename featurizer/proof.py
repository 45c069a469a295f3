"""Whether a compiled transform gives what scikit-learn gives, bit for bit, on training rows and on edge rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from featurizer.compile import NotCovered
from featurizer.records import Records

Transform = Callable[[Records], NDArray[np.float64]]

EDGES = (
    *(0.0, -0.0, 1.0, -1.0, np.nan, 0.5, 1e-3, 1e6, 5e-324, -5e-324, 2.2e-308, 1e-17, 1e17, 9007199254740993.0),
    *(1e154, -1e154, 1e300, -1e300, 1.7976931348623157e308, -1.7976931348623157e308),
)
STRANGERS = ("", "a stranger", " ", "0", "1.0", "M ", "missing", "\u65e5\u672c", "None", "nan", "True")
ALONE, TOGETHER = 8, 7  # rows compared one by one, and rows in a chunk
CELLS = 1 << 22  # of a block: some 32 MiB of each kind


class NoFeatures(Enum):
    """Why a row has none. Either way its request is refused."""

    REFUSED = auto()
    NOT_FINITE = auto()


def prove(compiled: Transform, fitted: Transform, records: Records) -> int:
    """Compare both on these rows and on edge rows, whole, one by one and in chunks. Returns how many rows.

    No more than `CELLS` cells or features are held at once, for as many columns and categories as there are.
    Raises `NotCovered` naming the first difference.
    """
    most = max(ALONE * TOGETHER, CELLS // _width(compiled, records))
    compared = 0
    for start in range(0, len(records), most):
        block = records[start : start + most]
        for rows in (block, *_singles(block)):
            compared += _compare(compiled, fitted, rows)
    for block in edge_rows(records, most):
        for rows in (block, *_singles(block), *_chunks(block)):
            compared += _compare(compiled, fitted, rows)
    return compared


def _width(compiled: Transform, records: Records) -> int:
    columns = len(records.numeric) + len(records.categorical)
    with np.errstate(all="ignore"), contextlib.suppress(ValueError):
        return max(columns, int(compiled(records[:1]).shape[1]))
    return columns


def edge_rows(records: Records, most: int) -> Iterator[Records]:
    """Every edge value of each column in a row that is otherwise of the training rows, and all of them mixed.

    In blocks of at most so many rows.
    """
    numbers: list[list[float]] = [_edges_of(records.numbers[:, index]) for index in range(records.numbers.shape[1])]
    texts: list[list[str | None]] = [
        [*sorted({text for text in column if text}), None, *STRANGERS] for column in records.texts
    ]
    longest = max([*map(len, numbers), *map(len, texts)])
    count = longest * (len(numbers) + len(texts) + 1)
    for start in range(0, count, most):
        # which column has an edge value, and which one; behind the last column, all have
        column, edge = np.divmod(np.arange(start, min(start + most, count)), longest)
        source = np.arange(start, start + len(column)) % len(records)
        made_numbers = records.numbers[source]
        made_texts = [[cells[index] for index in source] for cells in records.texts]
        mixed = column == len(numbers) + len(texts)
        for index, values in enumerate(numbers):
            rows = np.flatnonzero((column == index) | mixed)
            made_numbers[rows, index] = np.array(values)[(edge[rows] + index * mixed[rows]) % len(values)]
        for index, strings in enumerate(texts):
            for row in np.flatnonzero((column == len(numbers) + index) | mixed):
                made_texts[index][row] = strings[(edge[row] + index * mixed[row]) % len(strings)]
        yield Records(records.numeric, records.categorical, made_numbers, tuple(made_texts))


def _edges_of(values: NDArray[np.float64]) -> list[float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return list(EDGES)
    around = np.unique(np.concatenate([np.quantile(known, np.linspace(0, 1, 5)), known[:3]]))
    near = [around, np.nextafter(around, np.inf), np.nextafter(around, -np.inf), -around]
    return [*EDGES, *np.concatenate(near).tolist()]


def _singles(records: Records) -> Iterator[Records]:
    for row in np.linspace(0, len(records) - 1, min(ALONE, len(records)), dtype=int).tolist():
        yield records[row : row + 1]


def _chunks(records: Records) -> Iterator[Records]:
    for start in range(0, min(len(records), ALONE * TOGETHER), TOGETHER):
        yield records[start : start + TOGETHER]


def _compare(compiled: Transform, fitted: Transform, records: Records) -> int:
    with np.errstate(all="ignore"):
        ours = _outcomes(compiled, records)
        theirs = _outcomes(fitted, records, [row for row, outcome in enumerate(ours) if outcome is NoFeatures.REFUSED])
    for row, (got, expected) in enumerate(zip(ours, theirs, strict=True)):
        if got != expected and not (isinstance(got, NoFeatures) and isinstance(expected, NoFeatures)):
            raise NotCovered(f"other features than scikit-learn's for row {row} of {_shown(records, row)}")
    return len(records)


def _outcomes(transform: Transform, records: Records, suspects: Sequence[int] = ()) -> list[bytes | NoFeatures]:
    """The bytes of every row's features, or why it has none. `suspects`: rows that are likely to be refused."""
    try:
        features = np.ascontiguousarray(transform(records), dtype=np.float64)
    except ValueError:
        if len(records) == 1:
            return [NoFeatures.REFUSED]
        cuts = {0, len(records), *(suspects or [len(records) // 2]), *(row + 1 for row in suspects)}
        parts = [records[start:end] for start, end in pairwise(sorted(cuts))]
        return [outcome for part in parts for outcome in _outcomes(transform, part)]
    finite = np.isfinite(features).all(axis=-1)
    return [
        row.tobytes() if fine else NoFeatures.NOT_FINITE
        for row, fine in zip(features, np.atleast_1d(finite), strict=True)
    ]


def _shown(records: Records, row: int) -> dict[str, object]:
    return {name: values[0] for name, values in records[row : row + 1].columns().items()}
