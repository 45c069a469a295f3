"""The fitted ColumnTransformer, run by scikit-learn: what the compiled transform must equal, and its fallback."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer

from featurizer.records import Records


@dataclass(frozen=True)
class FittedTransform:
    """Records to features, rows x features, float64."""

    transformer: ColumnTransformer

    @classmethod
    def load(cls, path: Path) -> FittedTransform:
        """Unpickle a file; only once the manifest vouches for it."""
        return cls(joblib.load(path))

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(map(str, self.transformer.get_feature_names_out()))

    def __call__(self, records: Records) -> NDArray[np.float64]:
        """Raises `ValueError` for rows that a step refuses."""
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            made = self.transformer.transform(pd.DataFrame(records.columns()))
        # sparse where few of the features are not zero
        return np.asarray(made.toarray() if hasattr(made, "toarray") else made, dtype=np.float64)
