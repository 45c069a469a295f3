"""`package` of Pipelines that leave missing values to XGBoost, which is how most of them are."""

from __future__ import annotations

import io
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from featurizer.model import Featurizer
from pipeline.cli import main
from pipeline.model import Pipeline as Single
from serving.contract import Contract
from serving.errors import BadPayload
from serving.payload import CSV, NPY, Payload
from serving.settings import Settings

RANDOM = np.random.default_rng(3)
COUNT = 120
FRAME = pd.DataFrame(
    {
        "rain": RANDOM.normal(5, 2, COUNT).round(3),
        "soil": RANDOM.choice(["clay", "sand"], COUNT),
        "crop": RANDOM.choice(["oats", "rye"], COUNT),
    }
)
FRAME.loc[::7, "rain"] = np.nan
YIELD = FRAME["rain"].fillna(9) + (FRAME["soil"] == "clay") * 2
UNKNOWN = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)


def whole() -> object:
    parts = [("rain", StandardScaler(), ["rain"]), ("crop", UNKNOWN, ["crop"]),
             ("soil", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["soil"])]  # fmt: skip
    model = xgboost.XGBRegressor(n_estimators=20, max_depth=3, n_jobs=1)
    return make_pipeline(ColumnTransformer(parts, verbose_feature_names_out=False), model).fit(FRAME, YIELD)


@pytest.mark.parametrize("sample", [True, False])
def test_a_model_without_an_imputer_answers_its_own_training_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sample: bool
) -> None:
    original = whole()
    joblib.dump(original, tmp_path / "whole.joblib")
    odd = pd.DataFrame({"rain": [1.5, np.nan], "soil": ["loam", "clay"], "crop": ["maize", np.nan]})
    text = pd.concat([FRAME, odd]).to_csv(index=False)
    (tmp_path / "rows.csv").write_text(text)
    options = ["--sample", str(tmp_path / "rows.csv")] if sample else []

    code = main(["package", "--pipeline", str(tmp_path / "whole.joblib"), "--out", str(tmp_path / "out"), *options])
    said = capsys.readouterr()

    assert code == 0, said.err
    assert "a row without rain" in said.out
    assert "has missing features, which XGBoost takes" in said.out
    frame = pd.read_csv(io.StringIO(text))
    single = Single.load(Settings(model_dir=tmp_path / "out"))
    answer = np.load(io.BytesIO(single(Payload(text.encode(), CSV, NPY)).body))
    owed = original.predict(frame[list(FRAME)])  # type: ignore[attr-defined]
    assert answer.tobytes() == np.asarray(owed, dtype=np.float32).tobytes()


def test_a_featurizer_alone_refuses_what_its_features_would_lack(tmp_path: Path) -> None:
    joblib.dump(whole()[0], tmp_path / "columns.joblib")  # type: ignore[index]

    assert main(["package", "--featurizer", str(tmp_path / "columns.joblib"), "--out", str(tmp_path / "out")]) == 0

    featurizer = Featurizer.load(tmp_path / "out/featurizer/model")
    assert not Contract.load(tmp_path / "out/featurizer/model").missing_features
    for row, column in ((",oats,clay", "rain"), ("1,,clay", "crop")):
        ordered = dict(zip(("rain", "crop", "soil"), row.split(","), strict=True))
        body = ",".join(ordered[c.name] for c in featurizer.contract.inputs)
        with pytest.raises(BadPayload) as caught:
            featurizer(Payload(body.encode(), CSV, CSV))
        assert (caught.value.code, caught.value.column) == ("missing_value", column)
