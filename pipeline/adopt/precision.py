"""Whether a transformer was fitted on 64 bits, in which serving computes; on 32 bits scikit-learn computes in 32."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.preprocessing import FunctionTransformer

from pipeline.adopt.columns import Sight
from serving.training import BadJob

# Fitted attributes of scikit-learn that have the type of what came in.
SHOWING = ("_fit_dtype", "_fit_X", "data_min_", "max_abs_", "center_", "lambdas_", "components_", "categories_")


def untold(file: Path, names: Iterable[str], steps: Iterable[tuple[int, Sight]]) -> tuple[str, ...]:
    """Of these numeric columns those with steps that do not show what they were fitted on.

    Raises `BadJob` for a column that was less than 64 bits wide.
    """
    sights = list(steps)
    return tuple(
        name
        for place, name in enumerate(names)
        if not _is_told(file, name, [sight for column, sight in sights if column == place])
    )


def _is_told(file: Path, name: str, sights: Iterable[Sight]) -> bool:
    silent = False
    for index, step in sights:
        if step is None or isinstance(step, str) or (isinstance(step, FunctionTransformer) and step.func is None):
            continue  # it does nothing
        if isinstance(step, FunctionTransformer):
            return False  # what comes after it may be of another type than the column
        types = list(_shown(step, index))
        if narrow := [one for one in types if one.kind == "f" and one.itemsize < 8]:
            raise BadJob(
                f"{file}: column {name}: expected a transformer that was fitted on float64, as serving computes in 64 "
                f"bits; got {type(step).__name__} of {narrow[0]}: fit on float64, with astype('float64') of the rows"
            )
        if types:
            return True
        silent = True
    return not silent


def _shown(step: Any, index: int) -> Iterator[np.dtype[Any]]:  # noqa: ANN401
    """The types that one step shows."""
    if not type(step).__module__.startswith("sklearn."):
        return
    inner = getattr(step, "initial_imputer_", step)  # of an IterativeImputer
    for attribute in SHOWING:
        value = getattr(inner, attribute, None)
        if isinstance(value, list):
            value = value[index]
        if value is not None:
            yield np.dtype(getattr(value, "dtype", value))
