"""What a classification answers: the booster's scores, labels, probabilities, as XGBoost's own classifier has them."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from contextvars import Context
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from featurizer.model import write_features
from predictor.booster import Booster
from predictor.model import Predictor
from predictor.outputs import Output, choose, select, write
from predictor.train import write as write_artifact
from serving import logs
from serving.artifact import write_manifest
from serving.contract import Column, ColumnType, Contract, Task
from serving.errors import BadArtifact, NotAcceptable, PayloadTooLarge
from serving.payload import CSV, JSON, JSONLINES, NPY, Payload
from serving.sizes import SHORTEST_NUMBER
from tests.unit.abalone import CONTRACT

NAMES = ("a", "b")
SPECIES = ("Adélie", 'Chin"strap, the', "Gentoo")
FEATURES = np.random.default_rng(1).standard_normal((60, 2)).astype(np.float32)


def classifier(classes: tuple[str, ...]) -> tuple[Predictor, Any]:
    """A predictor of as many classes, and XGBoost's classifier around the same booster."""
    target = np.arange(len(FEATURES)) % len(classes)
    model = xgboost.XGBClassifier(n_estimators=3, max_depth=2, n_jobs=1).fit(FEATURES, target)
    task = Task.BINARY if len(classes) == 2 else Task.MULTICLASS
    columns = (*(Column(name, ColumnType.NUMERIC) for name in NAMES), Column("species", ColumnType.LABEL, classes))
    contract = Contract("birds", task, columns, NAMES, {"seed": 1})
    with tempfile.TemporaryDirectory() as scratch:
        model.save_model(Path(scratch) / "model.json")
        return Predictor(Booster((Path(scratch) / "model.json").read_bytes()), contract), model


def ask(predictor: Predictor, accept: str) -> bytes:
    body = "\n".join(",".join(map(repr, map(float, row))) for row in FEATURES).encode()
    return predictor(Payload(body, CSV, accept)).body


@pytest.mark.parametrize("classes", [SPECIES[:2], SPECIES], ids=["binary", "multiclass"])
def test_labels_and_probabilities_are_those_of_xgboosts_classifier(classes: tuple[str, ...]) -> None:
    predictor, model = classifier(classes)
    labels = [classes[index] for index in model.predict(FEATURES)]

    probabilities = np.load(io.BytesIO(ask(predictor, "application/x-npy; output=probabilities")))

    assert len(set(labels)) == len(classes)
    assert json.loads(ask(predictor, "application/json; output=label"))["result"] == labels
    assert probabilities.tobytes() == model.predict_proba(FEATURES).astype(np.float32).tobytes()


@pytest.mark.parametrize(
    ("classes", "output", "numbers"),
    [(SPECIES[:2], "score", 1), (SPECIES[:2], "probabilities", 2), (SPECIES, "score", 3), (SPECIES, "label", 0)],
)
def test_an_answer_that_must_be_too_large_is_refused_before_it_is_computed(
    classes: tuple[str, ...], output: str, numbers: int
) -> None:
    predictor, _ = classifier(classes)
    least = len(FEATURES) * numbers * 4

    assert ask(replace(predictor, max_response=max(least, 1)), f"text/csv; output={output}")
    if least:
        with pytest.raises(PayloadTooLarge, match=f"at most {least - 1} bytes, got at least {least}:"):
            ask(replace(predictor, max_response=least - 1), f"text/csv; output={output}")


@pytest.mark.parametrize("media", [CSV, JSON, JSONLINES, NPY])
@pytest.mark.parametrize("value", [0.0, 5.0, 1e16, 1e-7, np.nan])
def test_no_format_has_a_shorter_number_than_is_counted_with(media: str, value: float) -> None:
    predictions, features = np.full(50, value, np.float32), np.full((5, 10), value, np.float32)

    assert min(len(write(predictions, media)), len(write_features(features, media))) >= 50 * SHORTEST_NUMBER


def test_a_label_is_written_in_every_text_format() -> None:
    labels = list(SPECIES)

    assert write(labels, CSV).decode() == 'Adélie\n"Chin""strap, the"\nGentoo\n'
    assert [json.loads(line)["result"] for line in write(labels, JSONLINES).splitlines()] == labels
    assert json.loads(write(labels, JSON)) == {"result": labels}


def test_the_score_is_the_default_and_a_setting_changes_it() -> None:
    predictor, model = classifier(SPECIES[:2])

    scores = model.predict_proba(FEATURES)[:, 1].tolist()
    assert np.float32(json.loads(ask(predictor, ""))["result"]).tolist() == scores
    assert ask(replace(predictor, output=Output.LABEL), "text/csv") == ask(predictor, "text/csv; output=label")
    assert ask(predictor, "text/*;output=label;q=0.5") == ask(predictor, "text/csv; output=label")


def test_even_odds_fall_to_the_first_class_as_xgboost_has_it() -> None:
    contract = classifier(SPECIES[:2])[0].contract

    assert select(np.float32([0.5, 0.50000006]), Output.LABEL, contract) == list(SPECIES[:2])


@pytest.mark.parametrize(
    ("name", "media", "says"),
    [
        ("label", JSON, "expected output=score of a regression model, got output=label"),
        ("probabilities", CSV, "got output=probabilities"),
        ("shap", JSON, "got output=shap"),
    ],
)
def test_an_output_that_a_regression_has_not_is_not_acceptable(name: str, media: str, says: str) -> None:
    with pytest.raises(NotAcceptable, match=says):
        choose(name, media, CONTRACT)


@pytest.fixture(scope="module")
def species(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's artifact."""
    directory = tmp_path_factory.mktemp("species")
    predictor, model = classifier(SPECIES)
    model.get_booster().feature_names = list(NAMES)
    write_artifact(model.get_booster(), predictor.contract, directory)
    return directory


@pytest.mark.parametrize(
    ("accept", "output", "media", "answers"),
    [
        ("", "score", JSON, b'{"result":[['),
        ("", "label", JSON, b'{"result":["'),
        ("text/csv", "label", CSV, b'"Chin""strap, the"\n'),
        ("application/x-npy", "probabilities", NPY, b"\x93NUMPY"),
    ],
)
def test_a_request_that_asks_for_nothing_gets_what_the_settings_say(
    species: Path, accept: str, output: str, media: str, answers: bytes
) -> None:
    answer = Predictor.load(species, accept, output)(Payload(b"0.1,0.2\n", CSV))

    assert answer.content_type.partition(";")[0] == media
    assert answer.body.startswith(answers)


@pytest.mark.parametrize(
    ("accept", "output", "reason"),
    [
        ("application/x-npy", "label", "SAGEMAKER_INFERENCE_OUTPUT: expected a text format for output=label"),
        ("", "shap", "SAGEMAKER_INFERENCE_OUTPUT: expected output=score or .* got output=shap"),
        ("image/png", "score", "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT: expected one of application/json, "),
    ],
)
def test_settings_that_the_model_cannot_answer_by_are_refused_at_the_start(
    species: Path, accept: str, output: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        Predictor.load(species, accept, output)


def test_the_rows_of_a_request_are_noted(species: Path) -> None:
    predictor = Predictor.load(species)

    def noted() -> dict[str, Any]:
        logs.notes.set({})
        predictor(Payload(b"0.1,0.2\n0.3,0.4\n", CSV))
        return logs.notes.get()

    assert Context().run(noted) == {"rows": 2}


@pytest.mark.parametrize("other", ["xgboost-model.ubj", "xgboost-model"])
def test_an_artifact_of_two_models_is_refused(species: Path, tmp_path: Path, other: str) -> None:
    directory = shutil.copytree(species, tmp_path / "model")
    (directory / other).touch()
    write_manifest(directory)

    with pytest.raises(BadArtifact, match=f"expected one model, xgboost-model.json; {other} is in "):
        Predictor.load(directory)


def test_labels_are_no_npy_and_need_names() -> None:
    contract = classifier(SPECIES)[0].contract
    nameless = replace(contract, columns=contract.columns[:-1])

    with pytest.raises(NotAcceptable, match="expected a text format"):
        choose("label", NPY, contract)
    with pytest.raises(NotAcceptable, match="expected output=score or output=probabilities of a multiclass model"):
        choose("label", JSON, nameless)
