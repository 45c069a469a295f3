"""Where the rows of a data set come from, and which artifacts are those of what was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

from featurizer.schema import BadDataset, Schema, labels, typed_frame
from featurizer.train import fingerprint
from pipeline import kept, loaders
from pipeline.data import load_rows, load_schema
from serving.contract import Column, ColumnType, Contract, Task

COLUMNS = (Column("size", ColumnType.NUMERIC), Column("age", ColumnType.LABEL))
SCHEMA = Schema("plants", Task.REGRESSION, COLUMNS, test_size=0.25)


def plants(**arguments: Any) -> pd.DataFrame:
    """A loader, as a schema names one."""
    if "missing" in arguments:
        raise ConnectionRefusedError("nobody listens")
    return pd.DataFrame({"size": [0.42100000000000004, 1.0 + len(arguments)], "age": [1, 2]})


def loaded(**source: Any) -> pd.DataFrame:
    return load_rows(replace(SCHEMA, source={"loader": "tests.unit.test_data:plants", **source}))


def test_rows_are_those_of_the_loader_with_its_arguments_and_as_many_decimals() -> None:
    assert loaded()["size"].tolist() == [0.42100000000000004, 1.0]
    assert loaded(decimals=3, arguments={"a": 1, "b": 2})["size"].tolist() == [0.421, 3.0]


@pytest.mark.parametrize(
    "loader", ["tests.unit.test_data:nobody", "tests.unit.no_such_module:plants", "tests.unit.test_data", ":plants", ""]
)
def test_a_loader_that_is_none_is_named(loader: str) -> None:
    with pytest.raises(BadDataset, match="schema plants: expected a loader module:function to import; "):
        loaded(loader=loader)


@pytest.mark.parametrize(
    ("source", "begins"),
    [
        ({}, "data set plants has no loader: "),
        (
            {"loader": "tests.unit.test_data:plants", "arguments": {"missing": 1}},
            r"data set plants cannot be .* listens\): ",
        ),
    ],
)
@pytest.mark.parametrize(("file", "origin"), [({}, "$"), ({"file": "the one at home"}, "; it is the one at home$")])
def test_rows_that_nobody_loads_are_to_be_given_as_a_file(
    source: dict[str, Any], begins: str, file: dict[str, str], origin: str
) -> None:
    next_step = (
        r"give its rows with --data FILE.csv \(make and compose: DATA=FILE.csv\), a file with the header size,age"
    )

    with pytest.raises(BadDataset, match=f"^{begins}{next_step}{origin}"):
        load_rows(replace(SCHEMA, source={**source, **file}))


def test_a_file_goes_before_the_loader(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("size,age\n7,8\n")

    assert load_rows(SCHEMA, tmp_path / "rows.csv").to_dict("list") == {"size": ["7"], "age": ["8"]}


def test_a_schema_that_is_wrong_is_named_by_its_file(tmp_path: Path) -> None:
    for content in (b"\xff", b"name = 5"):
        (tmp_path / "own.toml").write_bytes(content)

        with pytest.raises(BadDataset, match=f"^{tmp_path}/own.toml: "):
            load_schema("", tmp_path / "own.toml")
    with pytest.raises(BadDataset, match=r"expected a schema file or one of abalone, .*, got oysters"):
        load_schema("oysters")
    with pytest.raises(BadDataset, match=rf"expected a schema file or one of abalone, .*, got {tmp_path}/absent\.toml"):
        load_schema("abalone", tmp_path / "absent.toml")


def test_the_houses_counts_are_whole_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn has counts by household, and dollars by the hundred thousand."""
    counts = {"total_rooms": [880, 7], "total_bedrooms": [129, 3], "population": [322, 11], "households": [126, 3]}
    whole = pd.DataFrame(
        {
            "median_house_value": [452_600, 14_999], "median_income": [8.3252, 0.4999], "housing_median_age": [41, 1],
            **counts, "latitude": [37.88, 32.54], "longitude": [-122.23, -124.35],
        }, dtype=float,
    )  # fmt: skip
    households = whole["households"]
    derived = {
        "MedInc": whole["median_income"], "HouseAge": whole["housing_median_age"],
        "AveRooms": whole["total_rooms"] / households, "AveBedrms": whole["total_bedrooms"] / households,
        "Population": whole["population"], "AveOccup": whole["population"] / households,
        "Latitude": whole["latitude"], "Longitude": whole["longitude"],
        "MedHouseVal": whole["median_house_value"] / 100_000,
    }  # fmt: skip
    asked: list[dict[str, Any]] = []
    fetched = Bunch(frame=pd.DataFrame(derived))
    monkeypatch.setattr(sklearn.datasets, "fetch_california_housing", lambda **how: asked.append(how) or fetched)

    pd.testing.assert_frame_equal(loaders.california_housing(), whole, check_exact=True)
    assert asked == [{"as_frame": True, "n_retries": 1}]  # without a network it gives up soon


def test_penguins_of_unknown_sex_are_left_out() -> None:
    birds = loaders.penguins_of_known_sex()

    assert birds["sex"].notna().all()
    assert birds.index.tolist() == list(range(333))


ROWS = pd.DataFrame({"size": [str(number) for number in range(40)], "age": [str(number % 7) for number in range(40)]})


def trained_on(rows: pd.DataFrame, seed: int) -> Contract:
    learned, _ = train_test_split(rows, random_state=seed, test_size=0.25)
    digest = fingerprint(typed_frame(learned, SCHEMA), labels(learned, SCHEMA)[0])
    return Contract("plants", Task.REGRESSION, COLUMNS, ("size",), {"seed": seed, "data_sha256": digest})


@pytest.mark.parametrize(
    ("schema", "rows", "seed", "difference"),
    [
        (None, None, None, ""),
        (SCHEMA, None, None, ""),
        (SCHEMA, ROWS, None, ""),
        (SCHEMA, ROWS, 7, ""),
        (None, None, 7, ""),
        (None, None, 0, "with seed 0"),
        (SCHEMA, ROWS, 8, "with seed 8"),
        (replace(SCHEMA, name="trees"), ROWS, 7, "of trees"),
        (SCHEMA, ROWS[::-1], 7, "of the rows of --data"),
        (SCHEMA, ROWS.replace("39", "40"), 7, "of the rows of --data"),
        (replace(SCHEMA, test_size=0.5), ROWS, 7, "of the rows of --data"),
    ],
)
def test_artifacts_are_other_than_what_was_asked_for_by_name_seed_or_rows(
    schema: Schema | None, rows: pd.DataFrame | None, seed: int | None, difference: str
) -> None:
    assert kept.other(trained_on(ROWS, 7), schema, rows, seed) == difference


def test_rows_of_a_classification_are_compared_by_their_classes() -> None:
    schema = replace(SCHEMA, task=Task.BINARY)
    rows = ROWS.assign(age=["old" if int(age) > 3 else "young" for age in ROWS["age"]])
    learned, _ = train_test_split(rows, random_state=7, test_size=0.25)
    digest = fingerprint(typed_frame(learned, schema), labels(learned, schema)[0])
    columns = (COLUMNS[0], replace(COLUMNS[1], categories=("old", "young")))
    contract = Contract("plants", Task.BINARY, columns, ("size",), {"seed": 7, "data_sha256": digest})

    assert kept.other(contract, schema, rows, None) == ""
    for name in ("older", "zebra"):  # of which the first has the number that `old` had
        assert kept.other(contract, schema, rows.replace("old", name), None) == "of the rows of --data"


def test_artifacts_are_sound_when_all_of_both_is_there(artifacts: Path, tmp_path: Path) -> None:
    def copied(stage: str, name: str) -> None:
        (tmp_path / stage / "model").mkdir(parents=True, exist_ok=True)
        (tmp_path / stage / name).write_bytes((artifacts / stage / name).read_bytes())

    sound = []
    for stage in ("featurizer", "predictor"):
        for name in [*(f"model/{path.name}" for path in (artifacts / stage / "model").iterdir()), "model.tar.gz"]:
            sound.append(kept.sound(tmp_path))
            copied(stage, name)

    assert not any(sound)
    assert len(sound) == 9
    assert kept.sound(tmp_path)
    (tmp_path / "predictor" / "model" / "contract.json").write_text("{}")
    assert not kept.sound(tmp_path)


def test_a_label_that_is_no_number_is_refused_before_rows_are_compared() -> None:
    with pytest.raises(BadDataset, match="column age: expected a number"):
        kept.other(trained_on(ROWS, 7), SCHEMA, ROWS.assign(age=np.where(ROWS["age"] == "3", "x", ROWS["age"])), 7)
