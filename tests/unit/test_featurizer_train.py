"""Fitting the featurizer."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler

from featurizer.compile import compile_transformer
from featurizer.records import Records
from featurizer.schema import BadDataset, Schema
from featurizer.train import fit
from featurizer.transform import Transform
from serving.contract import Column, ColumnType, Contract, Task

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


def test_an_infinite_value_that_a_later_step_would_cut_is_refused_as_scikit_learn_does() -> None:
    steps = make_pipeline(FunctionTransformer(np.log1p, feature_names_out="one-to-one"), MinMaxScaler(clip=True))
    transformer = ColumnTransformer([("cut", steps, ["a"])]).fit(pd.DataFrame({"a": [0.0, 1.0, 2.0]}))
    contract = Contract("t", Task.REGRESSION, (Column("a", ColumnType.NUMERIC),), ("cut__a",), {})
    compiled = Transform.from_json(compile_transformer(transformer, contract))

    def features(value: float) -> list[list[float]]:
        return compiled(Records(("a",), (), np.array([[value]]), ())).tolist()

    with np.errstate(divide="ignore"):
        assert (features(-0.9), features(3)) == ([[0]], [[1]])
        with pytest.raises(ValueError):  # noqa: PT011 - it says nothing
            features(-1)


def test_a_column_of_too_many_categories_is_refused_before_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurizer.train.usable_memory", lambda: 4 * 5 * 8 * 4)  # rows, features, bytes, copies
    columns = tuple(Column(name, kind) for name, kind in TYPES.items())
    rows = pd.DataFrame(ROWS)

    assert fit(Schema("plants", Task.REGRESSION, columns), rows, {}).contract.features[-1] == "soil_sand"
    with pytest.raises(BadDataset, match=r"4 rows of 6 features, 0 GiB .*; 5 of them are of column soil: leave"):
        fit(Schema("plants", Task.REGRESSION, columns), rows.assign(soil=list("abcd")), {})
