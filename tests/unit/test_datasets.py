"""The data sets that come with a schema: where their rows come from, and how well they are predicted."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import urllib.error
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

from featurizer import train as featurizer
from featurizer.schema import labels, typed_frame
from pipeline.cli import main
from pipeline.data import known_datasets, load_rows, load_schema
from pipeline.evaluate import Reference, metrics
from pipeline.train import train
from predictor import search
from serving.contract import Contract, Task
from serving.training import BadJob
from tests.datasets import DATASETS, houses

ROOT = Path(__file__).resolve().parents[2]
# What `python -m pipeline train --dataset california_housing` chooses, by cross-validation on the training rows.
CHOSEN = {
    "max_depth": 9, "max_bin": 1024, "eta": 0.05, "min_child_weight": 5, "subsample": 0.85, "colsample_bytree": 0.7,
}  # fmt: skip
CHOSEN_ROUNDS = 366


def no_network(**_: object) -> Bunch:
    raise urllib.error.URLError("Name or service not known")


def test_every_data_set_is_known_under_its_name() -> None:
    assert known_datasets() == sorted(["abalone", *DATASETS])
    assert [load_schema(name).name for name in known_datasets()] == known_datasets()


@pytest.mark.parametrize(
    ("name", "rows", "missing"), [("penguins", 344, 19), ("penguins_sex", 333, 0), ("abalone", 4177, 0)]
)
def test_a_packaged_data_set_has_its_rows(name: str, rows: int, missing: int) -> None:
    schema = load_schema(name)

    frame = typed_frame(load_rows(schema), schema)

    assert len(frame) == rows
    assert int(frame.isna().sum().sum()) == missing


def test_the_houses_of_the_file_are_those_that_scikit_learn_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = load_schema("california_housing")
    file = load_rows(schema, houses())
    raw = typed_frame(file, schema).assign(median_house_value=labels(file, schema)[0])
    derived = {
        "MedInc": raw["median_income"],
        "HouseAge": raw["housing_median_age"],
        "AveRooms": raw["total_rooms"] / raw["households"],
        "AveBedrms": raw["total_bedrooms"] / raw["households"],
        "Population": raw["population"],
        "AveOccup": raw["population"] / raw["households"],
        "Latitude": raw["latitude"],
        "Longitude": raw["longitude"],
        "MedHouseVal": raw["median_house_value"] / 100_000,
    }
    fetched = Bunch(frame=pd.DataFrame(derived))
    monkeypatch.setattr(sklearn.datasets, "fetch_california_housing", lambda **_: fetched)

    rows = load_rows(schema)

    assert len(rows) == 20_640
    pd.testing.assert_frame_equal(rows[raw.columns], raw, check_exact=True)


def test_without_network_and_file_the_next_step_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sklearn.datasets, "fetch_california_housing", no_network)

    assert main(["train", "--dataset", "california_housing", "--out", str(tmp_path / "out")]) == 2

    error = capsys.readouterr().err
    assert "cannot be fetched here (<urlopen error Name or service not known>)" in error
    assert "--data FILE.csv (make and compose: DATA=FILE.csv)" in error
    assert "median_house_value,median_income,housing_median_age" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_houses_are_split_as_the_published_examples_split_them() -> None:
    schema = load_schema("california_housing")
    _, expected = train_test_split(pd.read_csv(houses()), test_size=0.2, random_state=35)

    _, held_out = train_test_split(load_rows(schema, houses()), test_size=schema.test_size, random_state=schema.seed)

    assert held_out.index.tolist() == expected.index.tolist()
    assert len(held_out) == 4128


def test_the_chosen_parameters_predict_the_houses_better_than_the_published_ones_did() -> None:
    schema = load_schema("california_housing")
    rows, test = train_test_split(load_rows(schema, houses()), test_size=schema.test_size, random_state=schema.seed)
    fitted = featurizer.fit(schema, rows, {"seed": schema.seed})
    features = np.asarray(fitted.transformer.transform(typed_frame(test, schema)), dtype=np.float32)

    def rmse(parameters: search.Parameters, rounds: int) -> float:
        booster = search.fit(fitted.features, fitted.target, fitted.contract, parameters, rounds, schema.seed)
        return metrics(schema.task, booster.inplace_predict(features), labels(test, schema)[0])["rmse"]

    published = [Reference.of(one) for one in schema.references]
    assert CHOSEN in search.Search.of(fitted.contract).candidates(schema.task, fitted.target)
    assert rmse(CHOSEN, CHOSEN_ROUNDS) <= 46_000  # 46,196 were published, of 1,864 rounds
    assert 46_196 < rmse(published[0].parameters, published[0].rounds) <= 49_610
    assert [one.rounds for one in published] == [100, 1864]


@pytest.mark.parametrize(("name", "least", "constant"), [("penguins", 0.97, 0.47), ("penguins_sex", 0.86, 0.47)])
def test_the_penguins_are_told_apart(trained, name, least, constant):
    metrics = Contract.load(trained(name) / "predictor/model").report["metrics"]

    assert list(metrics) == ["model", "constant"]
    assert metrics["constant"]["accuracy"] <= constant
    assert metrics["model"]["accuracy"] >= least


@pytest.mark.parametrize(
    ("name", "task", "classes"),
    [
        ("penguins", Task.MULTICLASS, ("Adelie", "Chinstrap", "Gentoo")),
        ("penguins_sex", Task.BINARY, ("female", "male")),
    ],
)
def test_the_contract_names_the_classes(trained, name, task, classes):
    contract = Contract.load(trained(name) / "featurizer/model")

    assert contract.task is task
    assert contract.label is not None
    assert contract.label.categories == classes


def test_the_report_shows_the_references_beside_this_run(trained):
    report = (trained("california_housing") / "report.txt").read_text()

    table = report.partition("\n\n")[2].partition("\n\n")[0].splitlines()
    assert [line[:34].strip() for line in table] == [
        "on the test rows", "this run", "published, 100 rounds", "the same answer for every row"
    ]  # fmt: skip
    assert all(re.fullmatch(r"(\s+-?\d+\.\d{4}){3}", line[34:]) for line in table[1:])
    assert "2-fold cross-validation on the training rows, folds drawn once" in report


def test_the_search_that_a_schema_asks_for_belongs_to_the_training_run(trained, artifacts):
    contract = Contract.load(trained("california_housing") / "featurizer/model")

    tried = contract.report["search"]["tried"]

    assert (contract.training["seed"], contract.training["test_size"]) == (35, 0.2)
    assert contract.training["search"]["rounds"] == 60
    assert [one["parameters"] for one in tried] == [{"max_depth": 6, "eta": 0.3}]
    assert "search" not in Contract.load(artifacts / "featurizer/model").training


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"depth": 3}, "expected folds, repeats, rounds, grid, got depth"),
        ({"folds": 1}, "folds: expected a whole number, at least 2, got 1"),
        ({"repeats": True}, "repeats: expected a whole number"),
        ({"rounds": 0.5}, "rounds: expected a whole number"),
        ({"grid": {"eta": 0.1}}, "expected a list of values for each parameter"),
        ({"grid": {"eta": []}}, "expected a list of values for each parameter"),
        ({"grid": {"max_depth": [-3]}, "rounds": 1}, "XGBoost refuses its search or references"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(tmp_path, given, reason):
    schema = replace(load_schema("penguins"), search=given)

    with pytest.raises(BadJob, match=reason):
        train(schema, load_rows(schema), tmp_path / "out", 42)

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--dataset", "penguins", "--data", "nowhere.csv"], "nowhere.csv: No such file"),
        (["--data", "rows.csv"], "expected --schema or --dataset with --data (make: SCHEMA="),
        (["--schema", "pipeline/datasets/penguins.toml"], "expected --data with --schema"),
    ],
)
def test_rows_of_a_file_need_the_columns_of_a_schema(arguments, reason, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)

    assert main(["train", *arguments]) == 2

    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "train"),
    [("train", ["train"]), ("up", ["train", "--keep"]), ("demo", ["train", "--out", ".local_test/demo"])],
)
@pytest.mark.parametrize(
    ("variables", "arguments"),
    [
        ([], []),
        (["DATASET=penguins"], ["--dataset", "penguins"]),
        (["DATASET=california_housing", "DATA=my houses.csv"],
         ["--dataset", "california_housing", "--data", "my houses.csv"]),
        (["SCHEMA=a.toml", "DATA=a.csv"], ["--schema", "a.toml", "--data", "a.csv"]),
    ],
)  # fmt: skip
def test_make_trains_the_data_set_that_it_is_given(target, train, variables, arguments):
    command = ["make", "--dry-run", "--no-print-directory", target, *variables]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert [".venv/bin/python", "-m", "pipeline", *train, *arguments] in [
        shlex.split(line) for line in shown.splitlines() if "pipeline train" in line
    ]


@pytest.mark.long
def test_a_demo_of_what_cannot_be_fetched_says_what_to_do(tmp_path):
    nowhere = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    env = os.environ | nowhere | {name.upper(): value for name, value in nowhere.items()}
    command = ["make", "--no-print-directory", "--old-file", ".venv/.installed", "demo", "DATASET=california_housing"]

    done = subprocess.run(
        [*command, f"DEMO={tmp_path / 'demo'}"], cwd=ROOT, env=env | {"SCIKIT_LEARN_DATA": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    told = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert (done.returncode, done.stdout, len(told)) == (2, "", 1), done.stderr
    assert "DATA=FILE.csv" in told[0]
    assert "median_house_value" in told[0]
    assert not (tmp_path / "demo").exists()
