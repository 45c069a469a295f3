"""Stage 2: features to predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import xgboost
from numpy.typing import NDArray

from predictor.features import ACCEPTED, read_features
from serving import artifact
from serving.contract import Contract
from serving.errors import BadArtifact
from serving.formats.csv import write_csv
from serving.formats.npy import write_npy
from serving.media import content_type, negotiate, preferred
from serving.payload import CSV, JSON, JSONLINES, NPY, Payload

MODEL = "xgboost-model.json"
OFFERED = (JSON, CSV, JSONLINES, NPY)


@dataclass(frozen=True)
class Predictor:
    """Score features of the same training run: a number a row, or for several classes their probabilities."""

    booster: Any  # xgboost.Booster; the package is untyped
    contract: Contract
    offered: tuple[str, ...] = OFFERED

    @classmethod
    def load(cls, model_dir: Path, default_accept: str = "") -> Predictor:
        """Load the booster once its manifest vouches for it. Raises `BadArtifact`."""
        artifact.verify(model_dir)
        contract = Contract.load(model_dir)
        # One thread: the workers share the cores, and OpenMP teams of many workers would fight for them.
        booster = xgboost.Booster({"nthread": 1})
        try:
            booster.load_model(model_dir / MODEL)
        except xgboost.core.XGBoostError as error:
            raise BadArtifact(f"{MODEL} is not a booster that XGBoost {xgboost.__version__} reads") from error
        if tuple(booster.feature_names or ()) != contract.features:
            raise BadArtifact(f"{MODEL} has features {booster.feature_names}, the contract has {contract.features}")
        return cls(booster, contract, preferred(OFFERED, default_accept))

    def __call__(self, payload: Payload) -> Payload:
        media = content_type(payload.content_type, ACCEPTED)
        answer = negotiate(payload.accept, self.offered)
        predictions = self.predict(read_features(payload.body, media, self.contract))
        return Payload(write_predictions(predictions, answer), f"{answer}; charset=utf-8" if answer == CSV else answer)

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predictions, float32: one a row, or rows x classes. Equal to `Booster.predict` to the bit."""
        predictions: NDArray[np.float32] = self.booster.inplace_predict(features, validate_features=False)
        return predictions


def write_predictions(predictions: NDArray[np.float32], media: str) -> bytes:
    """Predictions in the shortest text that reads back to the same float32, or as NPY."""
    if media == NPY:
        return write_npy(predictions)
    numbers = orjson.dumps(np.ascontiguousarray(predictions), option=orjson.OPT_SERIALIZE_NUMPY)
    if media == JSON:
        return b'{"result":' + numbers + b"}"
    rows = numbers if predictions.ndim == 2 else b"[" + numbers.replace(b",", b"],[") + b"]"
    if media == CSV:
        return write_csv(rows)
    lines = rows[1:-1].replace(b"],[", b"]\n[") if predictions.ndim == 2 else numbers[1:-1].replace(b",", b"\n")
    return b"\n".join(b'{"result":' + line + b"}" for line in lines.split(b"\n")) + b"\n"
