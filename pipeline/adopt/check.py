"""Whether what was made answers as the libraries do, loaded as the containers load it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurizer.model import Featurizer
from featurizer.records import Records
from pipeline.adopt.boosters import Matrix
from predictor.model import Predictor
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
    _same("predictions", "Booster.predict", predictor.predict(rows), expected)
    singles = [predictor.predict(np.ascontiguousarray(rows[row : row + 1])) for row in range(min(ALONE, len(rows)))]
    _same("predictions of single rows", "Booster.predict", np.concatenate(singles), expected[: len(singles)])


def check_featurizer(featurizer: Featurizer, rows: pd.DataFrame, expected: NDArray[np.float64]) -> None:
    """Compare the features of raw rows, read from a payload, with scikit-learn's. Raises `BadJob`."""
    if expected.shape[1] != len(featurizer.contract.features):
        named = len(featurizer.contract.features)
        raise BadJob(f"expected as many features as the transformer names, {named}; it makes {expected.shape[1]}")
    made = featurizer.engine(_records(featurizer, rows))
    _same("features", "scikit-learn's transform", made, expected)


def check_pipeline(featurizer: Featurizer, predictor: Predictor, rows: pd.DataFrame, expected: NDArray[Any]) -> None:
    """Compare the answers of both stages to raw rows with the libraries'. Raises `BadJob`."""
    try:
        answer = run_serially([featurizer, predictor], Payload(body_of(rows), JSON, NPY))
    except ServingError as error:
        raise BadJob(f"serving refuses row {error.row} of the rows compared: {error.message}") from error
    answered = np.asarray(read_npy(answer.body, 0))
    _same("predictions", "the libraries'", answered.reshape(expected.shape), expected)


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


def _same(what: str, whose: str, got: NDArray[Any], expected: NDArray[Any]) -> None:
    """To the bit, but for which of the many NaN it is."""
    if got.shape != expected.shape:
        raise BadJob(f"{what}: expected the shape that {whose} gives, {expected.shape}, got {got.shape}")
    for row, (mine, theirs) in enumerate(zip(_plain(got), _plain(expected), strict=True), 1):
        if mine.tobytes() != theirs.tobytes():
            raise BadJob(f"{what}: expected those of {whose}, {theirs.tolist()}; got {mine.tolist()} for row {row}")


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    return np.where(np.isnan(values), np.nan, values).astype(values.dtype)
