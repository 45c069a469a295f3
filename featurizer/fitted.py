"""The fitted ColumnTransformer, run by scikit-learn: what the compiled transform must equal, and its fallback."""

from __future__ import annotations

import io
import pickle
import warnings
import zlib
from dataclasses import dataclass

import joblib
import numpy as np
import pandas as pd
import sklearn
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer

from featurizer.model import PREPROCESS
from featurizer.records import EXACT, Records
from serving.artifact import Artifact
from serving.contract import Contract
from serving.errors import BadArtifact

_UNREADABLE = (
    pickle.UnpicklingError, zlib.error, EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError,
    ValueError,
)  # fmt: skip
# What a step raises for a row that it does not take: scikit-learn's a ValueError, functions of others what comes of it.
REFUSALS = (ValueError, TypeError, AttributeError, LookupError)


@dataclass(frozen=True)
class FittedTransform:
    """Records to features, rows x features, float64."""

    transformer: ColumnTransformer
    whole: tuple[str, ...] = ()  # columns that are int64 in the frame

    @classmethod
    def load(cls, files: Artifact, contract: Contract) -> FittedTransform:
        """Unpickle the file that the manifest vouches for. Raises `BadArtifact`, before that for another scikit-learn.

        What another version makes of a pickle may fail with the first request, or give other features.
        """
        _check_version(contract)
        content = io.BytesIO(files.read(PREPROCESS))
        try:
            transformer = joblib.load(content)
        except _UNREADABLE as error:
            raise BadArtifact(f"{PREPROCESS} is no pickle of joblib's: {error!r}") from error
        if not isinstance(transformer, ColumnTransformer):
            raise BadArtifact(f"{PREPROCESS}: expected a ColumnTransformer, got a {type(transformer).__name__}")
        return cls(transformer, contract.whole)

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(map(str, self.transformer.get_feature_names_out()))

    def __call__(self, records: Records) -> NDArray[np.float64]:
        """Raises `ValueError` for rows that a step refuses."""
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            try:
                columns = records.columns()
                columns |= {name: whole_numbers(columns[name]) for name in self.whole}
                made = self.transformer.transform(pd.DataFrame(columns))
            except REFUSALS as error:
                raise ValueError(str(error)) from error
        # sparse where few of the features are not zero
        return np.asarray(made.toarray() if hasattr(made, "toarray") else made, dtype=np.float64)


def whole_numbers(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Numbers as int64. Raises `ValueError` where one is missing, not whole, or so large that float64 rounds it."""
    if not np.all((values == np.rint(values)) & (np.abs(values) < EXACT)):
        raise ValueError("expected whole numbers")
    return values.astype(np.int64)


def _check_version(contract: Contract) -> None:
    trained = str(contract.training.get("versions", {}).get("scikit-learn", "an unknown version"))
    if trained.split(".")[:2] != sklearn.__version__.split(".")[:2]:
        raise BadArtifact(
            f"{PREPROCESS} was written by scikit-learn {trained} and would be read by {sklearn.__version__}: expected "
            "the same major and minor version; train anew, or serve with the image that it was trained with"
        )
