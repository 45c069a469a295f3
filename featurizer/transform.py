"""The compiled transform: a fitted ColumnTransformer as data, run with numpy alone.

`transform.json` holds, in the order of the features, parts: the columns that a part takes and the steps that it takes
them through. `featurizer.compile` writes it. Every step does to an array just what scikit-learn does, operation by
operation, so that the features are the same to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurizer.program import FILE, check_program
from featurizer.records import Records
from serving.errors import BadArtifact

Matrix = NDArray[np.float64]
Step = Callable[[Matrix], Matrix]


class Refused(ValueError):
    """A value that scikit-learn's step would refuse: an unknown category, a missing value, an infinite one."""


@dataclass(frozen=True)
class Transform:
    """Records to features, rows x features, float64."""

    parts: tuple[Callable[[Records], Matrix], ...]
    features: tuple[str, ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]

    @classmethod
    def from_json(cls, text: str) -> Transform:
        """Read `transform.json`. Raises `BadArtifact`."""
        try:
            program = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadArtifact(f"{FILE} is not a transform: {error!r}") from error
        check_program(program)
        numeric, categorical = program["numeric"], program["categorical"]
        parts = tuple(_part(part, numeric, categorical) for part in program["parts"])
        return cls(parts, tuple(program["features"]), tuple(numeric), tuple(categorical))

    def __call__(self, records: Records) -> Matrix:
        """Raises `Refused` for rows that scikit-learn would refuse."""
        made = [part(records) for part in self.parts]
        return made[0] if len(made) == 1 else np.concatenate(made, axis=1)


def _part(part: Mapping[str, Any], numeric: Sequence[str], categorical: Sequence[str]) -> Callable[[Records], Matrix]:
    steps = [_step(step) for step in part["steps"]]
    if part["kind"] == "numeric":
        take = _taker([numeric.index(name) for name in part["columns"]], len(numeric))
        return lambda records: _run(steps, take(records.numbers))
    encode = _text_encoder(part, [categorical.index(name) for name in part["columns"]])
    return lambda records: _run(steps, encode(records))


def _run(steps: Sequence[Step], matrix: Matrix) -> Matrix:
    for step in steps:
        matrix = step(matrix)
    return matrix


def _taker(positions: Sequence[int], width: int) -> Step:
    """Some columns of a matrix, one beside the other in memory, as a DataFrame hands them on."""
    if list(positions) == list(range(width)):
        return np.ascontiguousarray
    chosen = np.array(positions, dtype=np.intp)
    return lambda matrix: np.take(matrix, chosen, axis=1)


def _step(step: Mapping[str, Any]) -> Step:
    return _STEPS[step["do"]](**{name: value for name, value in step.items() if name != "do"})


def _values(values: Sequence[float | str]) -> NDArray[np.float64]:
    return np.array([float(value) for value in values])


def _impute(values: Sequence[float], indicate: Sequence[int]) -> Step:
    filler, shown = _values(values), np.array(indicate, dtype=np.intp)

    def impute(matrix: Matrix) -> Matrix:
        missing = np.isnan(matrix)
        filled = np.where(missing, filler, matrix) if missing.any() else matrix
        return np.concatenate([filled, missing[:, shown]], axis=1) if len(shown) else filled

    return impute


def _arithmetic(operation: np.ufunc, values: Sequence[float]) -> Step:
    other = _values(values)
    return lambda matrix: operation(matrix, other)


def _clip(low: float, high: float) -> Step:
    return lambda matrix: np.clip(matrix, low, high)


def _function(name: str) -> Step:
    function: Step = getattr(np, name)
    return lambda matrix: function(np.ascontiguousarray(matrix))


def _refuse(missing: bool) -> Step:
    def refuse(matrix: Matrix) -> Matrix:
        if (~np.isfinite(matrix) if missing else np.isinf(matrix)).any():
            raise Refused
        return matrix

    return refuse


def _bins(edges: Sequence[Sequence[float]]) -> Step:
    """The bin of each value, from 0; `edges`: those between the bins of each column."""
    inner = [_values(column) for column in edges]

    def find(matrix: Matrix) -> Matrix:
        found = np.empty(matrix.shape)
        for index, column in enumerate(inner):
            found[:, index] = np.searchsorted(column, matrix[:, index], side="right")
        return found

    return find


class _Codes(dict[Any, int]):
    """Codes of categories, and of a missing cell; `unknown` for all others, None to refuse them."""

    def __init__(self, codes: Mapping[Any, int], unknown: int | None) -> None:
        super().__init__(codes)
        self.unknown = unknown

    def __missing__(self, key: object) -> int:
        if self.unknown is None:
            raise Refused
        return self.unknown

    def of(self, cells: Sequence[Any]) -> NDArray[np.intp]:
        return np.fromiter(map(self.__getitem__, cells), np.intp, len(cells))


def _encode(columns: Sequence[Mapping[str, Any]]) -> Step:
    """Numbers as categories: each is looked up among the values of its column."""
    encoders = [_encoder(column) for column in columns]

    def encode(matrix: Matrix) -> Matrix:
        # a NaN is no key that a dictionary finds again
        cells = np.where(np.isnan(matrix), None, matrix.astype(object))  # type: ignore[call-overload]
        return np.concatenate([found(cells[:, i].tolist()) for i, found in enumerate(encoders)], axis=1)

    return encode


def _text_encoder(part: Mapping[str, Any], positions: Sequence[int]) -> Callable[[Records], Matrix]:
    encoders = [(position, _encoder(column)) for position, column in zip(positions, part["encode"], strict=True)]
    if len(encoders) == 1:
        position, only = encoders[0]
        return lambda records: only(records.texts[position])
    return lambda records: np.concatenate([found(records.texts[i]) for i, found in encoders], axis=1)


def _encoder(column: Mapping[str, Any]) -> Callable[[Sequence[Any]], Matrix]:
    """Cells of one column to its features. A code is an index into `outputs`, or the number of a one-hot feature."""
    unknown = column["unknown"]
    missing = unknown if column["missing"] is None else column["missing"]
    codes = dict(zip(column["values"], column["codes"], strict=True))
    if missing is not None:
        codes[None] = missing
    known = _Codes(codes, unknown)
    if "outputs" in column:
        outputs = _values(column["outputs"]).reshape(-1, 1)
        return lambda cells: np.take(outputs, known.of(cells), axis=0)
    return partial(_one_hot, known, column["width"])


def _one_hot(codes: _Codes, width: int, cells: Sequence[Any]) -> Matrix:
    """A code of `width` is that of no feature."""
    found = codes.of(cells)
    made = np.zeros((len(found), width + 1))
    made[np.arange(len(found)), found] = 1.0
    return made[:, :width]


_STEPS: Mapping[str, Callable[..., Step]] = {
    "impute": _impute,
    "add": partial(_arithmetic, np.add),
    "subtract": partial(_arithmetic, np.subtract),
    "multiply": partial(_arithmetic, np.multiply),
    "divide": partial(_arithmetic, np.divide),
    "clip": _clip,
    "function": _function,
    "refuse": _refuse,
    "bins": _bins,
    "encode": _encode,
}
