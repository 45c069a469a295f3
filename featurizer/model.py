"""Stage 1: raw records to features."""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from featurizer import program
from featurizer.records import ACCEPTED, RecordReader, Records, check_finite, refusal
from featurizer.transform import Transform
from serving import artifact, logs
from serving.artifact import Artifact
from serving.cells import LONGEST_FIELD
from serving.contract import FILE, ColumnType, Contract
from serving.errors import BadArtifact, BadPayload
from serving.formats.csv import write_csv
from serving.formats.npy import write_npy
from serving.interface import Interface
from serving.media import content_type, negotiate, preferred
from serving.payload import CSV, JSON, JSONLINES, NPY, Payload
from serving.sizes import check_numbers

log = logging.getLogger("featurizer.model")

PREPROCESS = "preprocess.joblib"
ENGINE = "engine"  # in a contract's report: `sklearn`, where `train` or `package` says that the pickle may be read
OFFERED = (CSV, JSON, JSONLINES, NPY)


class Engine(Protocol):
    """What transforms. Raises `ValueError` for rows that it refuses."""

    @property
    def features(self) -> tuple[str, ...]: ...

    def __call__(self, records: Records) -> NDArray[np.float64]: ...


@dataclass(frozen=True)
class Featurizer:
    """Turn raw records into the features that the predictor of the same training run learned from."""

    engine: Engine
    contract: Contract
    offered: tuple[str, ...] = OFFERED
    max_rows: int = 0  # of a request; 0: no limit
    batch: bool = False  # under Batch Transform, where a body is a piece of a file
    max_response: int = 0  # bytes; 0: no limit
    fingerprint: str = ""  # of the artifact
    max_field: int = LONGEST_FIELD  # characters of a category

    @classmethod
    def load(
        cls,
        model_dir: Path,
        default_accept: str = "",
        engine: str = "auto",
        max_rows: int = 0,
        batch: bool = False,
        max_response: int = 0,
        max_field: int = LONGEST_FIELD,
    ) -> Featurizer:
        """Load the transform once the manifest vouches for it. Raises `BadArtifact`.

        `engine`: `compiled` runs `transform.json`, `sklearn` runs `preprocess.joblib`, `auto` the first there, the
        second only if the contract says so.
        """
        files = artifact.verify(model_dir)
        files.expect("featurizer", program.FILE, PREPROCESS)
        contract = Contract.from_json(files.text(FILE))
        offered = preferred(OFFERED, default_accept)
        loaded = _load_engine(files, contract, engine)
        return cls(loaded, contract, offered, max_rows, batch, max_response, files.fingerprint, max_field)

    def __call__(self, payload: Payload) -> Payload:
        media = content_type(payload.content_type, ACCEPTED)
        answer = negotiate(payload.accept, self.offered).name
        records = self.reader.read(payload.body, media)
        check_numbers(len(records) * len(self.contract.features), self.max_response)
        logs.note(rows=len(records))
        if unseen := self.reader.count_unseen(records):
            logs.note(unseen=unseen)
        features = self.transform(records, np.float32 if answer == NPY else np.float64)
        return Payload(write_features(features, answer), self._answer_type(answer))

    @property
    def interface(self) -> Interface:
        return Interface(self.contract, self.contract.inputs, ACCEPTED, self.offered)

    @cached_property
    def reader(self) -> RecordReader:
        return RecordReader(self.contract, self.max_rows, batch=self.batch, max_field=self.max_field)

    def transform(self, records: Records, dtype: type[np.floating[Any]] = np.float64) -> NDArray[np.floating[Any]]:
        """Features, rows x features; in float32 they are what XGBoost works in.

        Raises `BadPayload` for a row that is refused or not finite.
        """
        with np.errstate(all="ignore"):
            try:
                features = self.engine(records).astype(dtype, copy=False)
            except ValueError:
                raise self._refusal(records) from None
        check_finite(features, records, self.contract)
        return features

    def _refusal(self, records: Records) -> BadPayload:
        """The error for the first row that the transform refuses, found by halving."""
        fine, refused = 0, len(records)
        while refused - fine > 1:
            half = (fine + refused) // 2
            try:
                self.engine(records[:half])
                fine = half
            except ValueError:
                refused = half
        return refusal(records[refused - 1 : refused], self.contract, refused)

    def _answer_type(self, name: str) -> str:
        """The media type, with the training run that the next stage must be of."""
        return f"{name}; contract={self.contract.hash}"


def _load_engine(files: Artifact, contract: Contract, engine: str) -> Engine:
    compiled = program.FILE in files
    if engine == "compiled" and not compiled:
        raise BadArtifact(f"FEATURIZER_ENGINE=compiled: there is no {program.FILE} in {files.directory}")
    if engine == "auto" and not compiled and contract.report.get(ENGINE) != "sklearn":
        raise BadArtifact(
            f"there is no {program.FILE} in {files.directory}, and its {FILE} does not say, as `train` and `package` "
            f"write it, that {PREPROCESS} may be read, a pickle, which runs code of whoever wrote it: set "
            "FEATURIZER_ENGINE=sklearn if you trust it"
        )
    found: Engine
    if compiled and engine != "sklearn":
        _warn_of_version(contract)
        name, found = program.FILE, _load_compiled(files, contract)
    else:
        if not compiled:
            log.warning("scikit-learn transforms: %s", contract.report.get("transform", f"no {program.FILE}"))
        # imported here, because it brings scikit-learn, pandas and pickle, which the compiled transform does without
        fitted = importlib.import_module("featurizer.fitted")
        name, found = PREPROCESS, fitted.FittedTransform.load(files, contract)
    if found.features != contract.features:
        raise BadArtifact(f"{name} makes features {found.features}, the contract has {contract.features}")
    return found


def _load_compiled(files: Artifact, contract: Contract) -> Transform:
    found = Transform.from_json(files.text(program.FILE))
    for kind, names in ((ColumnType.NUMERIC, found.numeric), (ColumnType.CATEGORICAL, found.categorical)):
        if names != (owed := tuple(column.name for column in contract.inputs if column.type is kind)):
            raise BadArtifact(f"{program.FILE} takes {kind} columns {names}, the contract has {owed}")
    return found


def _warn_of_version(contract: Contract) -> None:
    """Numbers in JSON mean the same to every version; what a function makes of them may differ in its last bit."""
    trained = str(contract.training.get("versions", {}).get("numpy", np.__version__))
    if trained.split(".")[:2] != np.__version__.split(".")[:2]:
        log.warning("%s was proved with numpy %s, and numpy %s runs it", program.FILE, trained, np.__version__)


def write_features(features: NDArray[np.floating[Any]], media: str) -> bytes:
    """Features as text in their shortest exact form, or as NPY."""
    if media == NPY:
        return write_npy(features)
    if media == CSV:
        return write_csv(_as_json(features))
    if media == JSONLINES:
        rows = _as_json(features).replace(b"],[", b"]\n[")
        return b"".join((memoryview(rows)[1:-1], b"\n"))
    return b"".join((b'{"instances":', _as_json(features), b"}"))


def _as_json(features: NDArray[np.floating[Any]]) -> bytes:
    return orjson.dumps(np.ascontiguousarray(features), option=orjson.OPT_SERIALIZE_NUMPY)
