"""Features of a payload as the matrix the booster reads: float32, rows x features, NaN where missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.cells import first_not_finite, not_finite, numbers_from_json
from serving.contract import Contract
from serving.errors import ContractMismatch
from serving.formats.csv import WrongWidth, read_csv
from serving.formats.grid import Cells, Grid
from serving.formats.header import Positions, named_blocks
from serving.formats.json import Rows, read_json, read_jsonlines
from serving.formats.layout import Layout
from serving.formats.npy import read_npy
from serving.media import MediaType
from serving.payload import CSV, JSON, JSONLINES, NPY

ACCEPTED = (CSV, NPY, JSON, JSONLINES)


def read_features(
    body: bytes, media: MediaType, contract: Contract, max_rows: int = 0, *, batch: bool = False
) -> NDArray[np.float32]:
    """Read a body of one of the accepted types, of at most `max_rows` rows; 0 is no limit.

    Raises `BadPayload` (400) naming row and feature, `ContractMismatch` (409) for features of another run.
    """
    claimed = media.parameters.get("contract", contract.hash)
    if claimed != contract.hash:
        message = f"expected features of training run {contract.hash[:12]}, got those of {claimed[:12]}"
        raise ContractMismatch(message)
    first, *others = _blocks(body, media, contract, max_rows, batch=batch)
    return np.concatenate([first, *others]) if others else first


def _blocks(
    body: bytes, media: MediaType, contract: Contract, most: int, *, batch: bool
) -> Iterator[NDArray[np.float32]]:
    names, layout = contract.features, Layout.of_features(contract.features, media.parameters)
    if media.name == NPY:
        array = read_npy(body, most)
        if array.shape[1] != len(names):
            raise WrongWidth([len(names)], array.shape[1], 1)
        yield _float32(array, names)
    elif media.name == CSV:
        header = media.parameters.get("header", "")
        yield from named_blocks(read_csv(body, most), header, layout, _from_cells, in_order=batch)
    else:
        limits = len(names), most
        for rows in (read_json if media.name == JSON else read_jsonlines)(body, *limits):
            yield _float32(numbers_from_json(_flat(rows, names), names, rows.first_row), names, rows.first_row)


def _from_cells(cells: Cells | Grid, positions: Positions) -> NDArray[np.float32]:
    """In the order of the contract, which `Positions` keep, whatever the order of the columns in the payload."""
    names = list(positions)
    return _float32(cells.numbers(list(positions.values()), names), names, cells.first_row)


def _flat(rows: Rows, names: Sequence[str]) -> list[Any]:
    if rows.named:
        return list(chain.from_iterable(zip(*rows.by_name(names), strict=True)))
    return rows.flat([len(names)])[0]


def _float32(numbers: NDArray[Any], names: Sequence[str], first_row: int = 1) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        matrix = np.require(numbers, np.float32, ["C_CONTIGUOUS", "ALIGNED"])
    if found := first_not_finite(matrix):
        row, column = found
        raise not_finite(numbers[found].item(), (first_row + row, names[column]), "float32", "3.4e38")
    return matrix
