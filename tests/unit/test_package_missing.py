"""Categories that the model knows and serving takes as missing: refused, or counted in the rows of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from pipeline.adopt.missing import notes, refuse
from pipeline.adopt.raw import Transform, read_raw
from pipeline.adopt.request import Request
from serving.training import BadJob

LANDS = pd.DataFrame(
    {"land": pd.Series(["NA", "US", "None", "DE"] * 3, dtype=object), "kind": pd.Series(["a", "b"] * 6, dtype=object)}
)
FILLED = SimpleImputer(strategy="constant", fill_value="NA")
DROPPING = OneHotEncoder(drop=["NA"], handle_unknown="ignore", sparse_output=False)


def transform(*steps: Any) -> Transform:
    columns = ColumnTransformer([("land", make_pipeline(*steps), ["land"]), ("kind", OneHotEncoder(), ["kind"])])
    return read_raw(Request(featurizer=Path("model.joblib"), missing_categories=True), columns.fit(LANDS), None)


@pytest.mark.parametrize(
    ("steps", "lands", "told"),
    [
        ([OneHotEncoder(handle_unknown="ignore")], ["NA", "US", "None", "NA"], "3 rows of rows.csv have it, 3"),
        ([OneHotEncoder(handle_unknown="ignore")], ["US", "DE"], "0 rows of rows.csv have it, 0"),
        ([OneHotEncoder(handle_unknown="ignore")], ["", "null", "US"], "0 rows of rows.csv have it, 0"),
        # a missing land is refused, and of no account
        ([OneHotEncoder()], ["NA", "US"], "1 rows of rows.csv have it, 1"),
        # NA is encoded as no land is
        ([DROPPING], ["NA", "None", "NA", "US"], "3 rows of rows.csv have it, 1"),
        ([DROPPING], ["NA"], "1 rows of rows.csv have it, 0"),
        # a missing land is taken for NA, which is then no category of the model's own
        ([FILLED, OneHotEncoder()], ["NA", "None", "NA", "US"], "1 rows of rows.csv have it, 1"),
    ],
)
def test_rows_that_a_model_would_answer_otherwise_are_counted(
    tmp_path: Path, steps: list[Any], lands: list[str], told: str
) -> None:
    pd.DataFrame({"kind": ["a"] * len(lands), "land": lands}).to_csv(tmp_path / "rows.csv", index=False)

    (note,) = notes(transform(*steps), tmp_path / "rows.csv")

    taken = "'None'" if FILLED in steps else "'NA', 'None'"
    begins = f"note: column land: serving takes {taken} as a missing value: "
    assert note == f"{begins}{told} of them have other features in the model"


def test_without_rows_to_count_all_with_such_a_category_are_said_to_be_answered_otherwise() -> None:
    (note,) = notes(transform(OneHotEncoder()), None)

    begins = "note: column land: serving takes 'NA', 'None' as a missing value: "
    assert note == f"{begins}rows with it are answered otherwise than by the model"


def test_features_that_are_missing_in_both_are_no_difference(tmp_path: Path) -> None:
    rows = LANDS.assign(size=[np.nan, *range(11)])
    columns = ColumnTransformer([("land", DROPPING, ["land"]), ("size", "passthrough", ["size"])]).fit(rows)
    rows.head(3).to_csv(tmp_path / "rows.csv", index=False)  # NA without a size, US, None

    (note,) = notes(read_raw(Request(featurizer=Path("x")), columns, None), tmp_path / "rows.csv")

    assert "2 rows of rows.csv have it, 1 of them" in note


def test_the_first_such_column_is_refused() -> None:
    made = transform(OneHotEncoder())

    with pytest.raises(BadJob, match=r"column land: expected categories that are none of .* got 'NA', 'None': rows"):
        refuse(made.columns)
    refuse([one for one in made.columns if one.column.name == "kind"])
