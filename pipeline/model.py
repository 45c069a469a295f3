"""Both stages in one process: raw records to predictions, without a hop between."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from featurizer.model import Featurizer
from featurizer.records import ACCEPTED
from pipeline.older import OlderRequest
from predictor.model import Predictor
from serving.errors import BadArtifact, cut
from serving.interface import Interface
from serving.media import content_type
from serving.payload import NPY, Payload, run_serially
from serving.settings import Settings


@dataclass(frozen=True)
class Pipeline:
    """The featurizer and the predictor of one training run."""

    featurizer: Featurizer
    predictor: Predictor

    @classmethod
    def load(cls, settings: Settings) -> Pipeline:
        """Load both artifacts from `featurizer/` and `predictor/` of the model directory.

        The directory that `python -m pipeline train` writes will do: each artifact is in a directory `model` there.
        Raises `BadArtifact`, also for two artifacts of different training runs.
        """
        model_dir = settings.model_dir
        if not model_dir.is_dir():
            raise BadArtifact(f"there is no model directory {model_dir}")
        for stage in ("featurizer", "predictor"):
            if not _artifact(model_dir, stage).is_dir():
                got = cut(", ".join(sorted(path.name for path in model_dir.iterdir())) or "nothing", 200)
                raise BadArtifact(
                    f"there is no model directory {model_dir / stage}: expected both stages, as in the archive that "
                    f"`python -m pipeline package --single` writes; got {got}"
                )
        # What the rows and the answer may be is for the first and for the last to say.
        featurizer = Featurizer.load(
            _artifact(model_dir, "featurizer"),
            NPY,
            settings.engine,
            settings.max_rows,
            settings.batch,
            max_field=settings.max_field,
        )
        predictor = Predictor.load(
            _artifact(model_dir, "predictor"),
            settings.default_accept,
            settings.output,
            max_response=settings.max_response,
        )
        if featurizer.contract.hash != predictor.contract.hash:
            raise BadArtifact(
                f"the predictor is of training run {predictor.contract.hash[:12]}, "
                f"the featurizer of {featurizer.contract.hash[:12]}: expected two artifacts of one run"
            )
        return cls(featurizer, predictor)

    def __call__(self, payload: Payload) -> Payload:
        if older := OlderRequest.read(payload):
            return older.answer(self._run(older.payload))
        return self._run(payload)

    @property
    def fingerprint(self) -> str:
        """Of both artifacts."""
        both = bytes.fromhex(self.featurizer.fingerprint + self.predictor.fingerprint)
        return hashlib.sha256(both).hexdigest()

    @property
    def interface(self) -> Interface:
        contract = self.predictor.contract  # its report has the metrics
        return Interface(contract, contract.inputs, ACCEPTED, self.predictor.offered)

    def _run(self, payload: Payload) -> Payload:
        content_type(payload.content_type, ACCEPTED)  # which is refused first, as by a container of one stage
        self.predictor.answer_for(payload.accept)  # before anything is computed
        return run_serially([self.featurizer, self.predictor], payload)


def _artifact(model_dir: Path, stage: str) -> Path:
    trained = model_dir / stage / "model"
    return trained if trained.is_dir() else model_dir / stage
