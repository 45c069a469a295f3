"""Stage 2: features to predictions."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from predictor.booster import Booster, BoosterError, version
from predictor.features import ACCEPTED, read_features
from predictor.outputs import Output, choose, numbers_a_row, select, write
from predictor.structure import checked
from serving import artifact, logs
from serving.contract import FILE, Column, ColumnType, Contract
from serving.errors import BadArtifact, NotAcceptable, ServingError
from serving.interface import Interface
from serving.media import MediaType, content_type, negotiate, preferred
from serving.payload import CSV, JSON, JSONLINES, NPY, Payload
from serving.sizes import check_numbers

log = logging.getLogger("predictor.model")

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
    fingerprint: str = ""  # of the artifact

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
        files = artifact.verify(model_dir)
        if others := sorted(name for name in files.entries if Path(name).stem == Path(MODEL).stem and name != MODEL):
            raise BadArtifact(f"expected one model, {MODEL}; {others[0]} is in {model_dir}, too")
        files.expect("predictor", MODEL)
        contract = Contract.from_json(files.text(FILE))
        try:
            booster = Booster(checked(files.read(MODEL), contract, MODEL))
        except BoosterError as error:
            raise BadArtifact(f"{MODEL} is not a booster that this XGBoost reads: {error}") from error
        _warn_of_version(contract)
        booster.predict(np.full((1, len(contract.features)), np.nan, np.float32))  # fails here, not with a request
        offered = preferred(OFFERED, default_accept)
        try:
            chosen = choose(output, offered[0], contract)
        except NotAcceptable as error:
            raise ValueError(f"SAGEMAKER_INFERENCE_OUTPUT: {error}") from error
        return cls(booster, contract, offered, chosen, max_rows, batch, max_response, files.fingerprint)

    def __call__(self, payload: Payload) -> Payload:
        media = content_type(payload.content_type, ACCEPTED)
        answer, output = self.answer_for(payload.accept)
        features = read_features(payload.body, media, self.contract, self.max_rows, batch=self.batch)
        logs.note(rows=len(features))
        check_numbers(len(features) * numbers_a_row(output, self.contract), self.max_response)
        scores = self.predict(features)
        if not np.isfinite(scores).all():
            # as JSON it would be null, and neither that nor infinity is a prediction
            raise ServingError("expected finite predictions, the model computed one that is none")
        return Payload(write(select(scores, output, self.contract), answer.name), answer.name)

    def answer_for(self, accept: str) -> tuple[MediaType, Output]:
        """What a caller gets who accepts this. Raises `NotAcceptable` (406)."""
        answer = negotiate(accept, self.offered)
        return answer, choose(answer.parameters.get("output", self.output), answer.name, self.contract)

    @property
    def interface(self) -> Interface:
        features = [Column(name, ColumnType.NUMERIC) for name in self.contract.features]
        return Interface(self.contract, features, ACCEPTED, self.offered)

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predictions, float32: one a row, or rows x classes. Equal to `Booster.predict` to the bit."""
        return self.booster.predict(features)


def _warn_of_version(contract: Contract) -> None:
    """XGBoost reads the JSON of older versions, and of newer ones what it knows."""
    installed = ".".join(map(str, version()))
    trained = str(contract.report.get("xgboost", installed))
    if trained.split(".")[:2] != installed.split(".")[:2]:
        log.warning("%s was written by XGBoost %s, and XGBoost %s reads it", MODEL, trained, installed)
