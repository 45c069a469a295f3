"""Stage 1: raw records to features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer

from featurizer.records import ACCEPTED, Records, check_finite, count_unseen, read_records, refused_category
from serving import artifact, logs
from serving.contract import Contract
from serving.errors import BadArtifact
from serving.formats.csv import write_csv
from serving.formats.npy import write_npy
from serving.interface import Interface
from serving.media import content_type, negotiate, preferred
from serving.payload import CSV, JSON, JSONLINES, NPY, Payload

PREPROCESS = "preprocess.joblib"
OFFERED = (CSV, JSON, JSONLINES, NPY)


@dataclass(frozen=True)
class Featurizer:
    """Turn raw records into the features that the predictor of the same training run learned from."""

    transformer: ColumnTransformer
    contract: Contract
    offered: tuple[str, ...] = OFFERED

    @classmethod
    def load(cls, model_dir: Path, default_accept: str = "") -> Featurizer:
        """Load `preprocess.joblib` once its manifest vouches for it. Raises `BadArtifact`."""
        artifact.verify(model_dir)
        contract = Contract.load(model_dir)
        transformer = joblib.load(model_dir / PREPROCESS)
        names = tuple(transformer.get_feature_names_out())
        if names != contract.features:
            raise BadArtifact(f"{PREPROCESS} makes features {names}, the contract has {contract.features}")
        return cls(transformer, contract, preferred(OFFERED, default_accept))

    def __call__(self, payload: Payload) -> Payload:
        media = content_type(payload.content_type, ACCEPTED)
        answer = negotiate(payload.accept, self.offered).name
        records = read_records(payload.body, media, self.contract)
        if unseen := count_unseen(records, self.contract):
            logs.note(unseen=unseen)
        features = self.transform(records)
        return Payload(write_features(features, answer), self._answer_type(answer))

    @property
    def interface(self) -> Interface:
        return Interface(self.contract, self.contract.inputs, ACCEPTED, self.offered)

    def transform(self, records: Records) -> NDArray[np.float64]:
        """Features, rows x features, float64. Raises `BadPayload` when one is not finite."""
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore", category=UserWarning):
            try:
                features = np.asarray(self.transformer.transform(pd.DataFrame(records)), dtype=np.float64)
            except ValueError as error:  # an encoder that was told to refuse what it has not seen
                raise refused_category(records, self.contract) or error from error
        check_finite(features, self.contract.features)
        return features

    def _answer_type(self, name: str) -> str:
        """The media type, with the training run that the next stage must be of."""
        charset = "; charset=utf-8" if name == CSV else ""
        return f"{name}{charset}; contract={self.contract.hash}"


def write_features(features: NDArray[np.float64], media: str) -> bytes:
    """Features as text in their shortest exact form, or as NPY in the float32 that XGBoost works in."""
    if media == NPY:
        return write_npy(features.astype(np.float32))
    rows = orjson.dumps(np.ascontiguousarray(features), option=orjson.OPT_SERIALIZE_NUMPY)
    if media == CSV:
        return write_csv(rows)
    if media == JSONLINES:
        return rows[1:-1].replace(b"],[", b"]\n[") + b"\n"
    return b'{"instances":' + rows + b"}"
