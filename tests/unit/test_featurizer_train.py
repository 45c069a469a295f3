"""Fitting the featurizer."""

from __future__ import annotations

import sys

import pandas as pd

from featurizer.schema import Schema
from featurizer.train import fit
from serving.contract import Column, ColumnType, Task

ROWS = {"drop": ["1", "2", "", "4"], "soil": ["clay", "sand", "", "clay"], "age": ["1", "2", "3", "4"]}
TYPES = {"drop": ColumnType.NUMERIC, "soil": ColumnType.CATEGORICAL, "age": ColumnType.LABEL}


def fitted(drop: str) -> tuple[bytes, str]:
    """`drop`: a column's name, and a word that scikit-learn's objects hold too."""
    columns = tuple(Column(drop if name == "drop" else name, kind) for name, kind in TYPES.items())
    made = fit(Schema("plants", Task.REGRESSION, columns), pd.DataFrame(ROWS), {"seed": 1})
    return made.preprocess, made.contract.hash


def test_which_equal_strings_are_one_object_leaves_the_artifact_alone() -> None:
    shared, separate = sys.intern("drop"), "".join(["dr", "op"])
    assert shared is not separate

    assert fitted(shared) == fitted(separate)
