"""Whether what was made answers as the libraries do, loaded as the containers load it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurizer.model import Featurizer
from featurizer.records import Records
from pipeline.adopt.boosters import Matrix
from predictor.model import Predictor
from predictor.outputs import classes_of
from serving.contract import Contract
from serving.errors import BadArtifact, ServingError
from serving.formats.npy import read_npy
from serving.media import MediaType
from serving.payload import JSON, NPY, Payload, run_serially
from serving.training import BadJob

ALONE = 8  # rows asked one by one


def load_predictor(model_dir: Path) -> Predictor:
    try:
        return Predictor.load(model_dir)
    except BadArtifact as error:
        raise BadJob(f"the predictor cannot serve this booster: {error}") from error


def load_featurizer(model_dir: Path) -> Featurizer:
    try:
        return Featurizer.load(model_dir, NPY)
    except BadArtifact as error:
        raise BadJob(f"the featurizer cannot serve this transformer: {error}") from error


def check_predictor(predictor: Predictor, rows: Matrix, expected: NDArray[Any]) -> None:
    """Compare answers to rows of features with XGBoost's own, all at once and one by one. Raises `BadJob`."""
    classes = _class_names(predictor)
    _same("predictions", "Booster.predict", predictor.predict(rows), expected, classes)
    singles = [predictor.predict(np.ascontiguousarray(rows[row : row + 1])) for row in range(min(ALONE, len(rows)))]
    _same("predictions of single rows", "Booster.predict", np.concatenate(singles), expected[: len(singles)], classes)


def check_featurizer(featurizer: Featurizer, rows: pd.DataFrame, expected: NDArray[np.float64]) -> None:
    """Compare the features of raw rows, read from a payload, with scikit-learn's. Raises `BadJob`."""
    names = featurizer.contract.features
    if expected.shape[1] != len(names):
        raise BadJob(f"expected as many features as the transformer names, {len(names)}; it makes {expected.shape[1]}")
    with np.errstate(all="ignore"):
        features = featurizer.engine(_records(featurizer, rows))
    _same("features", "scikit-learn's transform", features, expected, [f"column {name}" for name in names])


def check_pipeline(featurizer: Featurizer, predictor: Predictor, rows: pd.DataFrame, expected: NDArray[Any]) -> None:
    """Compare the answers of both stages to raw rows with the libraries'. Raises `BadJob`."""
    try:
        answer = run_serially([featurizer, predictor], Payload(body_of(rows), JSON, NPY))
    except ServingError as error:
        raise BadJob(f"serving refuses row {error.row} of the rows compared: {error.message}") from error
    answered = np.asarray(read_npy(answer.body))  # of two dimensions, whatever was written
    if expected.ndim == 1:
        answered = answered.ravel()
    _same("predictions", "the libraries", answered, expected, _class_names(predictor))


def body_of(rows: pd.DataFrame) -> bytes:
    """Raw rows as a JSON payload, exact."""
    cells = [[None if cell != cell else cell for cell in row] for row in rows.to_numpy(dtype=object).tolist()]
    return json.dumps(cells).encode()


def _records(featurizer: Featurizer, rows: pd.DataFrame) -> Records:
    try:
        return featurizer.reader.read(body_of(rows), MediaType(JSON, {}))
    except ServingError as error:
        raise BadJob(f"serving refuses row {error.row}, column {error.column}: {error.message}") from error


def passes_missing_on(rows: pd.DataFrame, features: NDArray[np.float64], contract: Contract) -> list[str]:
    """Columns in which a missing value makes a feature missing, which the featurizer refuses."""
    lost = np.asarray(np.isnan(features).any(axis=1))
    missing = {column.name: np.asarray(rows[column.name].isna()) for column in contract.inputs}
    return [name for name, where in missing.items() if where.any() and np.all(lost[where])]


def _class_names(predictor: Predictor) -> list[str]:
    """The columns of the predictions of several classes, as messages name them."""
    return [f"class {name}" for name in classes_of(predictor.contract)]


def _same(what: str, whose: str, got: NDArray[Any], expected: NDArray[Any], columns: Sequence[str]) -> None:
    """Compare to the bit, but for which of the many NaN it is. Raises `BadJob` naming the first difference."""
    if (got.shape, got.dtype) != (expected.shape, expected.dtype):
        owed = f"{expected.dtype} of shape {expected.shape}"
        raise BadJob(f"{what}: expected {owed}, as those of {whose}; got {got.dtype} of shape {got.shape}")
    for row, *column in np.argwhere(_bits(got) != _bits(expected)).tolist():
        place = ", ".join([f"row {row + 1}", *(columns[index] for index in column)])
        values = [array[row, *column] for array in (expected, got)]
        raise BadJob(f"{what}, {place}: expected {values[0]}, as that of {whose}; got {values[1]}")


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers as whole numbers, of which each is equal to itself, and to no other."""
    return np.where(np.isnan(values), np.nan, values).astype(values.dtype).view(f"u{values.dtype.itemsize}")
