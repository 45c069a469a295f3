"""Features of a payload as the matrix the booster reads: float32, rows x features, NaN where missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.cells import first_not_finite, numbers_from_json, numbers_from_text
from serving.contract import Contract
from serving.errors import BadPayload, ContractMismatch
from serving.formats.csv import column_count, read_csv
from serving.formats.json import Rows, list_columns, read_json, read_jsonlines
from serving.formats.npy import read_npy
from serving.media import MediaType
from serving.payload import CSV, JSON, JSONLINES, NPY

ACCEPTED = (CSV, NPY, JSON, JSONLINES)


def read_features(body: bytes, media: MediaType, contract: Contract) -> NDArray[np.float32]:
    """Read a body of one of the accepted types.

    Raises `BadPayload` (400) naming row and feature, `ContractMismatch` (409) for features of another run.
    """
    claimed = media.parameters.get("contract", contract.hash)
    if claimed != contract.hash:
        message = f"expected features of training run {contract.hash[:12]}, got those of {claimed[:12]}"
        raise ContractMismatch(message)
    features = _read(body, media.name, contract.features)
    with np.errstate(over="ignore"):
        matrix = np.ascontiguousarray(features, dtype=np.float32)
    if found := first_not_finite(matrix):
        row, column = found
        message = "expected finite features within float32's range"
        raise BadPayload(message, code="non_finite", row=row + 1, column=contract.features[column])
    return matrix


def _read(body: bytes, media: str, names: Sequence[str]) -> NDArray[np.generic]:
    if media == NPY:
        array = read_npy(body)
        if array.shape[1] != len(names):
            raise column_count([len(names)], array.shape[1], 1)
        return array
    if media == CSV:
        cells = read_csv(body, [len(names)])
        return np.column_stack([numbers_from_text(cells.column(i), name) for i, name in enumerate(names)])
    return _from_json(read_json(body) if media == JSON else read_jsonlines(body), names)


def _from_json(rows: Rows, names: Sequence[str]) -> NDArray[np.float64]:
    columns = _object_columns(rows, names) if rows.objects else list_columns(rows.lists, [len(names)])
    return np.column_stack([numbers_from_json(column, name) for column, name in zip(columns, names, strict=True)])


def _object_columns(rows: Rows, names: Sequence[str]) -> list[list[object]]:
    for row, record in enumerate(rows.objects, 1):
        if record.keys() != set(names):
            code = "missing_column" if set(names) - record.keys() else "unknown_column"
            wrong = min(set(names) ^ record.keys())
            raise BadPayload("expected exactly the contract's features", code=code, row=row, column=wrong)
    return [[record[name] for record in rows.objects] for name in names]
