"""Artifacts that earlier releases wrote: they are served with the same answers, to the bit."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from featurizer.model import Featurizer
from pipeline.model import Pipeline
from predictor.model import Predictor
from serving.payload import CSV, JSON, NPY, Payload
from serving.settings import Settings

RELEASES = sorted(path.parent for path in (Path(__file__).parents[1] / "releases").glob("*/*/rows.csv"))
each = pytest.mark.parametrize("release", RELEASES, ids=lambda path: f"{path.parent.name}-{path.name}")


@each
def test_a_release_is_served_with_the_answers_of_before(release: Path) -> None:
    rows = Payload((release / "rows.csv").read_bytes(), CSV, CSV)
    features, answers = (release / "features.csv").read_bytes(), (release / "answers.json").read_bytes()

    assert Featurizer.load(release / "featurizer/model")(rows).body == features
    assert Predictor.load(release / "predictor/model")(Payload(features, CSV, JSON)).body == answers
    assert Pipeline.load(Settings(model_dir=release))(Payload(rows.body, CSV, JSON)).body == answers


@each
def test_the_pickle_of_a_release_gives_the_same_features(release: Path) -> None:
    """Where scikit-learn is another, it is refused in words instead, which tests/unit/test_pickles.py holds."""
    rows = Payload((release / "rows.csv").read_bytes(), CSV, NPY)

    fitted = Featurizer.load(release / "featurizer/model", engine="sklearn")(rows).body

    assert fitted == Featurizer.load(release / "featurizer/model")(rows).body
    assert len(np.load(io.BytesIO(fitted))) == 7


def test_each_release_left_both_kinds() -> None:
    assert {path.name for path in RELEASES} == {"regression", "multiclass"}
    assert len(RELEASES) >= 4
