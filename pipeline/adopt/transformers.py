"""A fitted scikit-learn transformer as the ColumnTransformer that the featurizer serves."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from pipeline.adopt.columns import first_steps, is_own, takes_frames
from pipeline.adopt.pickles import within
from serving.training import BadJob


def as_column_transformer(transformer: Any, names: Sequence[str], rows: pd.DataFrame) -> Any:  # noqa: ANN401
    """The same transform of named columns; `rows`: some that it takes."""
    transformer = within(transformer)
    while isinstance(transformer, Pipeline) and len(transformer.steps) == 1:
        transformer = within(transformer.steps[0][1])
    sights = [sight for _, sight in first_steps(transformer, range(len(names)))]
    of_arrays = not takes_frames(transformer) and any(is_own(step) for _, step in sights)
    if isinstance(transformer, ColumnTransformer) and not of_arrays:
        named = copy.copy(transformer)
        named.feature_names_in_ = np.array(names, dtype=object)  # of one that was fitted on an array
        return named
    used = list(rows.columns)
    if len(used) < len(names):
        transformer = _without_dropped(transformer, rows)
        names = [name for name in names if name in used]
    if of_arrays:  # which serving has not: its frame becomes one
        array = FunctionTransformer(np.asarray, feature_names_out="one-to-one")
        transformer = Pipeline([("array", array), ("all", transformer)])
    return _around([("all", transformer, list(names))], rows, verbose_feature_names_out=False)


def _around(parts: Sequence[tuple[str, Any, Any]], rows: pd.DataFrame, **options: Any) -> Any:  # noqa: ANN401
    """A ColumnTransformer of fitted parts, which stay as they are."""
    frozen = [
        (label, part if isinstance(part, str) else FrozenEstimator(part), chosen) for label, part, chosen in parts
    ]
    around = ColumnTransformer(frozen, **options)
    with warnings.catch_warnings(action="ignore"):
        around.fit(rows)
    given = {label: part for label, part, _ in parts}
    around.transformers_ = [
        (label, part if isinstance(given[label], str) else given[label], chosen)
        for label, part, chosen in around.transformers_
        if label in given  # and not what remains
    ]
    return around


def _without_dropped(transformer: Any, rows: pd.DataFrame) -> Any:  # noqa: ANN401
    """The same of the columns of `rows`, the others being those that it drops. Raises `BadJob`."""
    transformer = within(transformer)
    if isinstance(transformer, Pipeline):
        (label, first), *others = transformer.steps
        return Pipeline([(label, _without_dropped(first, rows)), *others])
    if not isinstance(transformer, ColumnTransformer):
        kind = type(transformer).__name__
        raise BadJob(f"expected unused columns to be dropped by a ColumnTransformer, the first step; got {kind}")
    parts = []
    for label, part, chosen in transformer.transformers_:
        if not (isinstance(part, str) and part == "drop"):
            places = transformer._transformer_to_input_indices[label]
            names = [str(transformer.feature_names_in_[place]) for place in places]
            parts.append((label, part, names[0] if isinstance(chosen, str | int) else names))
    made = _around(
        parts, rows, sparse_threshold=transformer.sparse_threshold, transformer_weights=transformer.transformer_weights,
        verbose_feature_names_out=transformer.verbose_feature_names_out,
    )  # fmt: skip
    made.sparse_output_ = transformer.sparse_output_
    return made


def feature_names(path: Path, transformer: Any) -> tuple[str, ...]:  # noqa: ANN401
    """The names of its features. Raises `BadJob` where a step does not say, or says one name twice."""
    try:
        names = tuple(map(str, transformer.get_feature_names_out()))
    except (AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BadJob(f"{path}: expected steps that name their features (get_feature_names_out); {reason}") from error
    if repeated := [name for name in names if names.count(name) > 1]:
        raise BadJob(f"{path}: expected features of different names, got {repeated[0]} twice")
    return names


def original_rows(transformer: Any, names: Sequence[str], rows: pd.DataFrame) -> Any:  # noqa: ANN401
    """Rows as the transformer was fitted on them: with the columns that it drops, and an array if it was one."""
    whole = rows.reindex(columns=list(names))
    return whole if takes_frames(transformer) else whole.to_numpy()


def transformed(transformer: Any, rows: Any) -> Any:  # noqa: ANN401
    """What scikit-learn makes of rows: an array or a sparse matrix. Raises `ValueError` for rows that it refuses."""
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        return transformer.transform(rows)


def dense(made: Any) -> NDArray[np.float64]:  # noqa: ANN401
    """Raises `BadJob` for features that are no numbers."""
    try:
        return np.asarray(made.toarray() if hasattr(made, "toarray") else made, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise BadJob(f"expected a transformer that makes numbers of every column: {error}") from error
