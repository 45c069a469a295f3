"""What `package` prints and where it puts its files."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from pipeline.cli import main
from serving import artifact
from serving.contract import Contract

RANDOM = np.random.default_rng(8)
FRAME = pd.DataFrame(
    {
        "size": RANDOM.normal(size=60),
        "land": pd.Series(RANDOM.choice(["NA", "US", "DE"], 60), dtype=object),
        "age": RANDOM.normal(size=60),
        "unused": 1.0,
    }
)
TARGET = FRAME["size"].to_numpy() * 3


def shifted(values: Any) -> Any:
    return values + 1


def columns() -> ColumnTransformer:
    parts = [
        ("numbers", StandardScaler(), ["size"]),
        ("lands", OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["land"]),
        ("shift", FunctionTransformer(shifted, feature_names_out="one-to-one"), ["age"]),
    ]
    return ColumnTransformer(parts)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    joblib.dump(columns().fit(FRAME), directory / "columns.joblib")
    model = xgboost.XGBRegressor(n_estimators=40, early_stopping_rounds=3, n_jobs=1)
    transformer = columns().fit(FRAME)
    features = transformer.transform(FRAME)
    model.fit(features, TARGET, eval_set=[(features, TARGET + RANDOM.normal(size=60) * 2)], verbose=False)
    whole = make_pipeline(transformer, model)
    assert 1 < model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    joblib.dump(whole, directory / "pipeline.joblib")
    model.save_model(directory / "model.json")
    FRAME.head(10).to_csv(directory / "rows.csv", index=False)
    return directory


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    code = main(["package", *arguments])
    out = capsys.readouterr()
    assert code == 0, out.err
    return out.out.splitlines()


NOTES = [
    "note: a row without size or age is refused, the transformer having no value for a missing one",
    "note: serving computes in 64 bits, and may answer otherwise than a model fitted on float32 or int8, of which "
    "these show nothing: size, age",
    "note: the featurizer's image has no tests: add it to requirements/featurizer.txt",
    "note: columns that the transformer drops are no part of a row: unused",
]


def test_a_featurizer_is_told_of_in_full(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"

    options = ("--missing-categories", "--columns", "age=numeric", "--out", str(out))
    lines = printed(capsys, "--featurizer", f"{models}/columns.joblib", *options)

    contract = Contract.load(out / "featurizer" / "model")
    assert lines == [
        f"own-model: regression, contract {contract.hash[:12]}",
        "  size: numeric",
        "  land: categorical: DE, NA, US",
        "  age: numeric",
        "5 features: numbers__size, lands__land_DE, lands__land_NA, lands__land_US, shift__age",
        "transform: not compiled: FunctionTransformer of 'shifted'; scikit-learn serves it, and the "
        "artifact lets its pickle be read",
        "features: equal to scikit-learn's to the bit in 96 rows",
        *NOTES,
        "note: column land: serving takes 'NA' as a missing value: rows with it are answered otherwise than by the "
        "model",
        f"Wrote to {out}/: featurizer/model.tar.gz",
        f"Serve it: MODEL_SERVER_HOST=127.0.0.1 STAGE=featurizer "
        f"SM_MODEL_DIR={out}/featurizer/model python -m serving serve",
    ]


def test_a_pipeline_is_told_of_in_full(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    options = ("--missing-categories", "--sample", f"{models}/rows.csv", "--name", "lands", "--out", str(out))

    lines = printed(capsys, "--pipeline", f"{models}/pipeline.joblib", *options)

    rounds = xgboost.Booster(model_file=models / "model.json").num_boosted_rounds()
    best = xgboost.Booster(model_file=models / "model.json").best_iteration + 1
    nas = (FRAME["land"][:10] == "NA").sum()
    assert nas
    assert lines[0] == f"lands: regression, contract {Contract.load(out / 'predictor' / 'model').hash[:12]}"
    assert lines[6:] == [
        "features: equal to scikit-learn's to the bit in 10 rows",
        *[note for note in NOTES if "a row without" not in note],
        f"note: column land: serving takes 'NA' as a missing value: {nas} rows of rows.csv have it, {nas} of them have "
        "other features in the model",
        "predictions: equal to Booster.predict's to the bit in 96 rows",
        f"rounds: {best} of {rounds}, up to the best (--trees all for all)",
        "both: equal to XGBRegressor in the Pipeline to the bit in 10 rows",
        f"Wrote to {out}/: featurizer/model.tar.gz, predictor/model.tar.gz",
        f"Serve it: python -m local_test chain up --artifacts {out}",
    ]


def test_all_rounds_are_told_of_where_an_earlier_one_was_best(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(capsys, "--predictor", f"{models}/model.json", "--trees", "all", "--out", str(tmp_path))

    rounds = xgboost.Booster(model_file=models / "model.json").num_boosted_rounds()
    assert f"rounds: all {rounds}, as Booster.predict (--trees best to stop at the best)" in lines


@pytest.mark.parametrize(
    ("count", "shown"),
    [(12, f"12 features: {', '.join(f'f{n}' for n in range(12))}"),
     (13, f"13 features: {', '.join(f'f{n}' for n in range(12))}, ... (13 in all)")],
)  # fmt: skip
def test_many_features_are_counted(tmp_path: Path, count: int, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = xgboost.DMatrix(np.eye(count), np.arange(count))
    xgboost.train({"nthread": 1}, data, 1).save_model(tmp_path / "model.json")

    lines = printed(capsys, "--predictor", str(tmp_path / "model.json"), "--out", str(tmp_path / "out"))

    assert shown in lines
    assert not [line for line in lines if line.startswith("rounds")]


def test_files_are_put_in_place_beside_what_is_not_ours(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_dir, other = tmp_path / "predictor" / "model", tmp_path / "featurizer" / "model" / "kept.json"
    for file in (model_dir / "stale.json", model_dir / "more" / "kept.json", other):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    inode = model_dir.stat().st_ino

    printed(capsys, "--predictor", f"{models}/model.json", "--out", str(tmp_path))

    assert model_dir.stat().st_ino == inode
    assert sorted(path.name for path in model_dir.iterdir()) == [
        "contract.json", "manifest.json", "more", "xgboost-model.json",
    ]  # fmt: skip
    assert (model_dir / "more" / "kept.json").exists()
    assert other.exists()
    (model_dir / "more" / "kept.json").unlink()
    (model_dir / "more").rmdir()
    artifact.verify(model_dir)
    with tarfile.open(tmp_path / "predictor" / "model.tar.gz") as archive:
        assert archive.getnames() == ["contract.json", "manifest.json", "xgboost-model.json"]


@pytest.mark.parametrize("run", ["another", "the same", "nobody's"])
def test_the_report_of_another_training_run_is_removed(
    models: Path, tmp_path: Path, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--predictor", f"{models}/model.json", "--out", str(tmp_path)]
    printed(capsys, *arguments)
    hashed = {"another": "0123456789ab", "the same": Contract.load(tmp_path / "predictor/model").hash[:12]}
    (tmp_path / "report.txt").write_text(f"ours\n\nTraining run {hashed[run]}, rows 1\n" if run in hashed else "mine")
    others = ["test.csv", "predicted_vs_actual.png", "feature_importance.png", "notes.txt"]
    for name in others:
        shutil.copyfile(models / "rows.csv", tmp_path / name)

    lines = printed(capsys, *arguments)

    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    removed = f"removed, being of a training run: report.txt, {', '.join(others[:3])}"
    assert (removed in lines) == (run == "another")
    assert left == ({"notes.txt"} if run == "another" else {"report.txt", *others})


def test_rows_that_were_compared_are_not_removed(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.txt").write_text("Training run 0123456789ab")
    shutil.copyfile(models / "rows.csv", tmp_path / "test.csv")
    options = ("--missing-categories", "--sample", str(tmp_path / "test.csv"), "--out", str(tmp_path))

    lines = printed(capsys, "--featurizer", f"{models}/columns.joblib", *options)

    assert "removed, being of a training run: report.txt" in lines
    assert (tmp_path / "test.csv").exists()


def test_an_out_that_cannot_be_written_is_refused(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()

    assert main(["package", "--predictor", f"{models}/model.json", "--out", str(tmp_path / "file")]) == 2

    error = capsys.readouterr().err
    assert f"--out {tmp_path}/file: expected a directory that can be written" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "options", [{}, {"transformer_weights": {"numbers": 2.0}}, {"verbose_feature_names_out": False}]
)
@pytest.mark.parametrize("sparse", [False, True])
def test_what_a_first_step_does_besides_dropping_columns_is_kept(
    tmp_path: Path, options: dict[str, Any], sparse: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [("numbers", StandardScaler(), ["size"]), ("lands", OneHotEncoder(sparse_output=sparse), ["land"])]
    first = ColumnTransformer(parts, sparse_threshold=1.0 if sparse else 0, **options)
    whole = make_pipeline(first, StandardScaler(with_mean=False)).fit(FRAME.replace({"NA": "FR"}))
    joblib.dump(whole, tmp_path / "whole.joblib")

    lines = printed(capsys, "--featurizer", str(tmp_path / "whole.joblib"), "--out", str(tmp_path / "out"))

    names = ", ".join(whole.get_feature_names_out())
    assert f"4 features: {names}" in lines
    assert "note: columns that the transformer drops are no part of a row: age, unused" in lines
