"""Stage 2: features to predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from predictor.booster import Booster, BoosterError
from predictor.features import ACCEPTED, read_features
from predictor.outputs import Output, choose, numbers_a_row, select, write
from serving import artifact
from serving.contract import Column, ColumnType, Contract
from serving.errors import BadArtifact, NotAcceptable
from serving.interface import Interface
from serving.media import content_type, negotiate, preferred
from serving.payload import CSV, JSON, JSONLINES, NPY, Payload
from serving.sizes import check_numbers

MODEL = "xgboost-model.json"
OFFERED = (JSON, CSV, JSONLINES, NPY)


@dataclass(frozen=True)
class Predictor:
    """Score features of the same training run: a number a row, or for several classes their probabilities."""

    booster: Booster
    contract: Contract
    offered: tuple[str, ...] = OFFERED
    output: str = Output.SCORE
    max_rows: int = 0  # of a request; 0: no limit
    batch: bool = False  # under Batch Transform, where a body is a piece of a file
    max_response: int = 0  # bytes; 0: no limit

    @classmethod
    def load(
        cls,
        model_dir: Path,
        default_accept: str = "",
        output: str = Output.SCORE,
        max_rows: int = 0,
        batch: bool = False,
        max_response: int = 0,
    ) -> Predictor:
        """Load the booster once its manifest vouches for it. `output`: what a request gets that asks for none.

        Raises `BadArtifact`, and `ValueError` for an output or a media type that this model does not have.
        """
        artifact.verify(model_dir)
        contract = Contract.load(model_dir)
        try:
            booster = Booster(model_dir / MODEL)
        except BoosterError as error:
            raise BadArtifact(f"{MODEL} is not a booster that this XGBoost reads: {error}") from error
        if booster.feature_names != contract.features:
            raise BadArtifact(f"{MODEL} has features {booster.feature_names}, the contract has {contract.features}")
        offered = preferred(OFFERED, default_accept)
        try:
            chosen = choose(output, offered[0], contract)
        except NotAcceptable as error:
            raise ValueError(f"SAGEMAKER_INFERENCE_OUTPUT: {error}") from error
        return cls(booster, contract, offered, chosen, max_rows, batch, max_response)

    def __call__(self, payload: Payload) -> Payload:
        media = content_type(payload.content_type, ACCEPTED)
        answer = negotiate(payload.accept, self.offered)
        output = choose(answer.parameters.get("output", self.output), answer.name, self.contract)
        features = read_features(payload.body, media, self.contract, self.max_rows, batch=self.batch)
        check_numbers(len(features) * numbers_a_row(output, self.contract), self.max_response)
        scores = self.predict(features)
        charset = "; charset=utf-8" if answer.name == CSV else ""
        return Payload(write(select(scores, output, self.contract), answer.name), answer.name + charset)

    @property
    def interface(self) -> Interface:
        features = [Column(name, ColumnType.NUMERIC) for name in self.contract.features]
        return Interface(self.contract, features, ACCEPTED, self.offered)

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predictions, float32: one a row, or rows x classes. Equal to `Booster.predict` to the bit."""
        return self.booster.predict(features)
