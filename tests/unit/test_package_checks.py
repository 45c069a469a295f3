"""`package` refuses a model that serving answers otherwise than its libraries, be it in one bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from featurizer.model import Featurizer
from pipeline.adopt.check import check_featurizer, check_pipeline, check_predictor
from pipeline.cli import main
from predictor.model import Predictor
from serving.training import BadJob

FEW = 12
RANDOM = np.random.default_rng(3)
FRAME = pd.DataFrame(
    {
        "size": RANDOM.normal(5, 2, 80),
        "age": RANDOM.exponential(9, 80),
        "colour": pd.Series(RANDOM.choice(["red", "green"], 80), dtype=object),
    }
)
FRAME.loc[::8, "size"] = np.nan
PRICE = FRAME["age"].to_numpy() - np.nan_to_num(FRAME["size"].to_numpy())
KIND = np.digitize(PRICE, [2, 8])
SAMPLE = FRAME.head(FEW).assign(colour=["blue", *FRAME["colour"][1:FEW]])  # a category that was not learned


def next_bit(values: Any) -> Any:
    """The number after each, of the same type."""
    return np.nextafter(values, np.asarray(np.inf, values.dtype))


class Forgetful(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """A transformer that is another one after it has been pickled twice, as a file is and what is made of it.

    `altered`: the part of the rows that it then gives other features. `width`: how many it then makes.
    """

    def __init__(self, altered: str = "", width: int = 0) -> None:
        self.altered, self.width, self.copies_ = altered, width, 0

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "copies_": self.copies_ + 1}

    def fit(self, rows: Any, _target: Any = None) -> Forgetful:
        self.feature_names_in_ = np.asarray(rows.columns, dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)
        self.statistics_ = np.array([np.nan, np.nan, "red"], dtype=object)  # which tell that the last one is of text
        return self

    def transform(self, rows: Any) -> Any:
        features = np.column_stack([rows["size"].fillna(-1.0), rows["age"], rows["colour"] == "red"])
        if self.copies_ < 2 or not self.altered:
            return features if not self.width else features[:, : self.width]
        where = {
            "a row": np.arange(len(rows)) == 2,
            "missing values": rows["size"].isna(),
            "unseen categories": ~rows["colour"].isin(["red", "green"]),
        }[self.altered]
        features[where, 1] = next_bit(features[where, 1])
        return features


class OffForFew(xgboost.Booster):
    """A booster whose own answers to fewer rows than are made for it alone are off by a bit, in the third row."""

    most = 50

    def predict(self, data: Any, **options: Any) -> Any:
        answers = np.array(super().predict(data, **options))
        if data.num_row() <= self.most:
            answers[2] = next_bit(answers[2])
        return answers


class OffForAll(OffForFew):
    """A booster whose own answers are off by a bit in the third row."""

    most = 1000


class InThousands(xgboost.XGBRegressor):
    """A model that does something of its own to what its booster predicts."""

    def predict(self, rows: Any, **options: Any) -> Any:
        return super().predict(rows, **options) * np.float32(1000)


class Calibrated(xgboost.XGBClassifier):
    """A classifier that weighs the probabilities of its booster."""

    def predict_proba(self, rows: Any, **options: Any) -> Any:
        weighed = super().predict_proba(rows, **options) * np.float32([1, 1, 2])
        return weighed / weighed.sum(axis=1, keepdims=True)


def columns() -> ColumnTransformer:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer([("numbers", numbers, ["size", "age"]), ("texts", texts, ["colour"])])


def boosted(kind: type[xgboost.Booster] = xgboost.Booster) -> xgboost.Booster:
    features = columns().fit_transform(FRAME)
    trained = xgboost.train({"nthread": 1, "max_depth": 3}, xgboost.DMatrix(features, PRICE), 4)
    return kind(model_file=trained.save_raw("ubj"))


def whole(model: xgboost.XGBModel, target: Any) -> Any:
    return make_pipeline(columns(), model).fit(FRAME, target)


FILES: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "a booster": (lambda: {"predictor": boosted(OffForAll)}, "predictions, row 3: expected "),
    "a booster behind a transformer": (
        lambda: {"featurizer": columns().fit(FRAME), "predictor": boosted(OffForFew)},
        "predictions, row 3: expected ",
    ),
    "a regressor": (
        lambda: {"pipeline": whole(InThousands(n_estimators=3, n_jobs=1), PRICE)},
        "predictions, row 1: expected ",
    ),
    "a classifier": (
        lambda: {"pipeline": whole(Calibrated(n_estimators=3, n_jobs=1), KIND)},
        "predictions, row 1, class 0: expected ",
    ),
    "a transformer": (lambda: {"featurizer": Forgetful("a row").fit(FRAME)}, "features, row 3, column age: expected "),
    "missing values": (
        lambda: {"featurizer": Forgetful("missing values").fit(FRAME)},
        "features, row 1, column age: expected ",
    ),
    "unseen categories": (
        lambda: {"featurizer": Forgetful("unseen categories").fit(FRAME)},
        "features, row 1, column age: expected ",
    ),
    "fewer features": (
        lambda: {"featurizer": Forgetful(width=2).fit(FRAME)},
        "expected as many features as the transformer names, 3; it makes 2",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_model_that_is_served_otherwise_is_refused_and_nothing_written(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, reason = FILES[kind]
    SAMPLE.to_csv(tmp_path / "rows.csv", index=False)
    models = make()
    arguments = ["--out", str(tmp_path / "out")]
    if "predictor" not in models or "featurizer" in models:
        arguments += ["--sample", str(tmp_path / "rows.csv")]
    for option, model in models.items():
        joblib.dump(model, tmp_path / f"{option}.joblib")
        arguments += [f"--{option}", str(tmp_path / f"{option}.joblib")]

    code = main(["package", *arguments, *(["--allow-pickle"] if "predictor" in models else [])])

    error = capsys.readouterr().err
    assert code == 2, error
    assert reason in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@dataclass(frozen=True)
class Compared:
    """Both artifacts of a model, raw rows, and what the libraries make of them."""

    featurizer: Featurizer
    predictor: Predictor
    rows: pd.DataFrame
    features: Any
    predictions: Any

    def check(self, stage: str, change: Callable[[Any], Any] = lambda values: values) -> None:
        """Compare what one stage answers with what the libraries do, changed."""
        if stage == "featurizer":
            check_featurizer(self.featurizer, self.rows, change(self.features))
        elif stage == "predictor":
            check_predictor(self.predictor, self.features.astype(np.float32), change(self.predictions))
        else:
            check_pipeline(self.featurizer, self.predictor, self.rows, change(self.predictions))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    out = tmp_path_factory.mktemp("compared")
    model = whole(xgboost.XGBClassifier(n_estimators=3, n_jobs=1), KIND)
    joblib.dump(model, out / "model.joblib")
    assert main(["package", "--pipeline", str(out / "model.joblib"), "--out", str(out)]) == 0
    stages = Featurizer.load(out / "featurizer/model"), Predictor.load(out / "predictor/model")
    return Compared(*stages, SAMPLE, model[0].transform(SAMPLE), model.predict_proba(SAMPLE))


def with_value(place: tuple[int, int], change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def changed(values: Any) -> Any:
        values = values.copy()
        values[place] = change(values[place])
        return values

    return changed


def other_width(values: Any) -> Any:
    return values.astype(np.float32 if values.dtype == np.float64 else np.float64)


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a bit of the first number": (with_value((0, 0), next_bit), "row 1, FIRST: expected "),
    "a bit of the last number": (with_value((-1, -1), next_bit), f"row {FEW}, LAST: expected "),
    "not a number": (with_value((5, 1), lambda _: np.nan), r"row 6, \w+ \w+: expected nan, as that of .*; got -?\d"),
    "a row fewer": (lambda values: values[:-1], rf"of shape \({FEW - 1}, .* got \w+ of shape \({FEW}, "),
    "a row more": (lambda values: values[[*range(FEW), 0]], rf"of shape \({FEW + 1}, .* got \w+ of shape \({FEW}, "),
    "two rows in each other's place": (lambda values: values[[1, 0, *range(2, FEW)]], "row 1, "),
    "numbers of another width": (
        other_width,
        r"expected float(?:64|32) of shape (.*), as .*; got float(?:32|64) of shape \1",
    ),
}
NAMES = {
    "featurizer": ("column numbers__size", "column texts__colour_red"),
    "predictor": ("class 0", "class 2"),
    "pipeline": ("class 0", "class 2"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("stage", NAMES)
def test_the_first_difference_is_named(compared: Compared, stage: str, change: str) -> None:
    alter, reason = CHANGES[change]
    first, last = NAMES[stage]
    compared.check(stage)

    with pytest.raises(BadJob, match=reason.replace("FIRST", first).replace("LAST", last)):
        compared.check(stage, alter)


@pytest.mark.parametrize(
    ("stage", "change", "reason"),
    [
        ("featurizer", lambda values: np.where(values == 0, -0.0, values), "expected -0.0, as that of .*; got 0.0"),
        ("featurizer", lambda values: values[:, :-1], "as many features as the transformer names, 4; it makes 3"),
        ("predictor", lambda values: values[:, :-1], r"of shape \(12, 2\), .*; got float32 of shape \(12, 3\)"),
        ("predictor", lambda values: values[:, 0], r"of shape \(12,\), .*; got float32 of shape \(12, 3\)"),
        ("pipeline", lambda values: values[:, :-1], r"of shape \(12, 2\), .*; got float32 of shape \(12, 3\)"),
        ("pipeline", lambda values: values[:, 0], r"of shape \(12,\), .*; got float32 of shape \(36,\)"),
    ],
)
def test_zeros_of_another_sign_and_rows_of_another_width_are_differences(
    compared: Compared, stage: str, change: Callable[[Any], Any], reason: str
) -> None:
    with pytest.raises(BadJob, match=reason):
        compared.check(stage, change)


@dataclass(frozen=True)
class OffAlone:
    """A booster that is off by a bit where one row comes by itself."""

    booster: Any

    def predict(self, rows: Any) -> Any:
        answers = self.booster.predict(rows)
        return next_bit(answers) if len(rows) == 1 else answers


def test_rows_are_also_compared_one_by_one(compared: Compared) -> None:
    off = replace(compared, predictor=replace(compared.predictor, booster=OffAlone(compared.predictor.booster)))

    with pytest.raises(BadJob, match="predictions of single rows, row 1, class 0: expected"):
        off.check("predictor")


@dataclass(frozen=True)
class OffLater:
    """A booster that is off by a bit for one row by itself, but for the first ones that it is asked."""

    booster: Any
    right: int
    asked: list[int]

    def predict(self, rows: Any) -> Any:
        answers = self.booster.predict(rows)
        if len(rows) > 1:
            return answers
        self.asked.append(1)
        return next_bit(answers) if len(self.asked) > self.right else answers


def test_the_first_8_rows_are_asked_by_themselves(compared: Compared) -> None:
    def off_after(right: int) -> Compared:
        booster = OffLater(compared.predictor.booster, right, [])
        return replace(compared, predictor=replace(compared.predictor, booster=booster))

    off_after(8).check("predictor")
    with pytest.raises(BadJob, match="predictions of single rows, row 8, class 0: expected"):
        off_after(7).check("predictor")


def test_every_nan_is_the_same(compared: Compared) -> None:
    other = np.array([0x7FF0000000000001], dtype=np.uint64).view(np.float64)[0]
    nan, another = (with_value((2, 1), lambda _, value=value: value) for value in (np.nan, other))
    features = nan(compared.features)
    undefined = replace(compared, featurizer=replace(compared.featurizer, engine=lambda _records: features))

    assert another(compared.features).tobytes() != features.tobytes()
    undefined.check("featurizer", another)


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        ("featurizer", "serving refuses row 5, column age: expected a finite number"),
        ("pipeline", "serving refuses row 5 of the rows compared: expected a finite number"),
    ],
)
def test_a_row_that_serving_refuses_is_named(compared: Compared, stage: str, reason: str) -> None:
    rows = compared.rows.copy()
    rows.loc[4, "age"] = np.inf

    with pytest.raises(BadJob, match=reason):
        replace(compared, rows=rows).check(stage)


def test_both_stages_are_compared_on_rows_that_can_be_served_or_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = FunctionTransformer(np.log, feature_names_out="one-to-one")
    logged = ColumnTransformer([("log", log, ["size"]), ("as it is", "passthrough", ["age"])])
    model = make_pipeline(logged, xgboost.XGBRegressor(n_estimators=2, n_jobs=1)).fit(
        FRAME.assign(size=FRAME["size"].abs()), PRICE
    )
    joblib.dump(model, tmp_path / "model.joblib")
    arguments = ["package", "--pipeline", str(tmp_path / "model.joblib"), "--sample", str(tmp_path / "rows.csv")]
    codes = []
    for size in ([0] * FEW, [0, *range(1, FEW)]):
        SAMPLE.assign(size=size).to_csv(tmp_path / "rows.csv", index=False)
        codes.append(main([*arguments, "--out", str(tmp_path / "out")]))

    printed = capsys.readouterr()
    assert codes == [2, 0]
    assert "expected rows whose features are finite, got none: give some with --sample" in printed.err
    assert f"in the Pipeline to the bit in {FEW - 1} rows" in printed.out
