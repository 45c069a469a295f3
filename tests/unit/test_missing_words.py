"""Which cells of a category are missing ones: what pandas takes for missing, or the words that a schema names."""

from __future__ import annotations

import io
import json
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder

from featurizer.model import Featurizer
from featurizer.schema import BadDataset, read_schema
from pipeline.cli import main
from serving.contract import Column, ColumnType, Contract, Task
from serving.errors import BadArtifact, BadPayload
from serving.payload import CSV, JSON, NPY, Payload

SCHEMA = """
name = "guests"
task = "regression"
[search]
repeats = 1
folds = 2
rounds = 5
grid = {{ max_depth = [2], eta = [0.3] }}
[[columns]]
name = "age"
type = "numeric"
[[columns]]
name = "country"
type = "categorical"
{missing}
[[columns]]
name = "nights"
type = "label"
"""
COUNTRIES = ("NA", "ZA", "?", "", "NA", "DE")  # Namibia, South Africa, Germany
ROWS = "age,country,nights\n" + "".join(f"{20 + i},{COUNTRIES[i % 6]},{i % 5}\n" for i in range(60))
OWN = 'missing = ["?"]'


def train(directory: Path, missing: str) -> Path:
    (directory / "guests.csv").write_text(ROWS)
    (directory / "guests.toml").write_text(SCHEMA.format(missing=missing))
    command = f"train --data {directory}/guests.csv --schema {directory}/guests.toml --out {directory}/out"
    assert main(command.split()) == 0
    return directory / "out/featurizer/model"


def features(model: Path, body: str, media: str, engine: str = "auto") -> list[dict[str, float]]:
    """The features of the column `country`, of each row."""
    featurizer = Featurizer.load(model, engine=engine)
    made = np.load(io.BytesIO(featurizer(Payload(body.encode(), media, NPY)).body))
    rows = pd.DataFrame(made, columns=featurizer.contract.features).filter(like="country").astype(float)
    return [{str(name): value for name, value in row.items() if value} for row in rows.to_dict("records")]


@pytest.mark.parametrize(
    ("missing", "told", "categories"),
    [
        ("", "country: 30 cells are read as missing (NA 20, empty 10)\n", ("?", "DE", "ZA")),
        (OWN, "country: 20 cells are read as missing (? 10, empty 10)\n", ("DE", "NA", "ZA")),
        ("missing = []", "country: 10 cells are read as missing (empty 10)\n", ("?", "DE", "NA", "ZA")),
    ],
)
def test_training_says_how_many_cells_it_reads_as_missing_and_what_they_were(
    missing: str, told: str, categories: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = train(tmp_path, missing)

    assert told in capsys.readouterr().out
    assert Contract.load(model).columns[1].categories == categories


@pytest.mark.parametrize("engine", ["compiled", "sklearn"])
@pytest.mark.parametrize(
    ("missing", "of_na", "of_question"),
    [("", "missing", "?"), (OWN, "NA", "missing"), ("missing = []", "NA", "?")],
)
def test_serving_reads_the_words_of_a_column_as_training_did(
    missing: str, of_na: str, of_question: str, engine: str, tmp_path: Path
) -> None:
    model = train(tmp_path, missing)
    cells = ["NA", "?", "", "ZA"]
    owed = [{f"country_{category}": 1.0} for category in (of_na, of_question, "missing", "ZA")]

    in_text = features(model, "".join(f"30,{cell}\n" for cell in cells), CSV, engine)
    in_json = features(model, json.dumps([[30, cell] for cell in cells]), JSON, engine)

    assert in_text == in_json == owed
    assert features(model, '{"age": 30, "country": null}', JSON, engine) == [{"country_missing": 1.0}]


def test_a_model_that_knows_na_as_a_category_is_packaged_once_its_column_has_its_own_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame({"country": ["NA", "ZA", "DE"]})
    encoder = OneHotEncoder(handle_unknown="error", sparse_output=False)
    original = ColumnTransformer([("country", encoder, ["country"])], verbose_feature_names_out=False).fit(frame)
    joblib.dump(original, tmp_path / "columns.joblib")
    (tmp_path / "rows.csv").write_text("country\nNA\nZA\n")
    (tmp_path / "guests.toml").write_text(
        'name = "guests"\ntask = "regression"\n[[columns]]\nname = "country"\ntype = "categorical"\nmissing = []\n'
        '[[columns]]\nname = "nights"\ntype = "label"\n'
    )
    command = f"package --featurizer {tmp_path}/columns.joblib --sample {tmp_path}/rows.csv --out {tmp_path}/out"

    assert main(command.split()) == 2
    assert "missing = []" in capsys.readouterr().err
    assert main([*command.split(), "--contract", f"{tmp_path}/guests.toml"]) == 0

    model = tmp_path / "out/featurizer/model"
    assert features(model, "NA\nDE\n", CSV) == [{"country_NA": 1.0}, {"country_DE": 1.0}]
    with pytest.raises(BadPayload) as caught:
        features(model, '""\n', CSV)
    assert caught.value.code == "missing_value"


@pytest.mark.parametrize(
    ("kind", "words"),
    [("numeric", '["?"]'), ("label", '["?"]'), ("categorical", '"?"'), ("categorical", "[1]")],
)
def test_words_for_a_missing_cell_are_texts_of_a_categorical_column(kind: str, words: str) -> None:
    text = SCHEMA.format(missing="") + f'[[columns]]\nname = "room"\ntype = "{kind}"\nmissing = {words}\n'

    with pytest.raises(BadDataset, match="expected"):
        read_schema(text)


def test_the_words_of_a_column_are_part_of_the_contract() -> None:
    columns = (Column("country", ColumnType.CATEGORICAL, missing=("?",)), Column("nights", ColumnType.LABEL))
    contract = Contract("guests", Task.REGRESSION, columns, ("country",), {})

    assert Contract.from_json(contract.to_json()) == contract
    for wrong in ('["?"]', "[7]", '"?"'):
        kind = "numeric" if wrong == '["?"]' else "categorical"
        text = contract.to_json().replace('"categorical"', f'"{kind}"').replace('[\n        "?"\n      ]', wrong)
        with pytest.raises(BadArtifact, match="is not a contract"):
            Contract.from_json(text)
