"""The single container answers what the featurizer is asked: as many rows, or the very same refusal."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from pipeline.model import Pipeline
from serving.app import create_app
from serving.payload import CSV
from serving.settings import Settings
from tests.corpus_cases import Case, Expected, check, in_process
from tests.corpus_format import load_corpus

CONTRACT = "abalone"
LONGEST = 1 << 16  # bytes of a body; longer ones cost the same as in the featurizer
# sound as float64 features, and not as the float32 that a booster works in
BEYOND_FLOAT32 = {"J9-300-digits", "J9-40-digits", "J9-by-name", "J9-minus-40-digits", "X221-huge-and-small-integers"}
CASES = [
    case
    for case in load_corpus()
    if "featurizer" in case.stages and "application" in case.levels and not case.env
    if case.contract == CONTRACT and case.request.size <= LONGEST
]


@pytest.fixture(scope="module")
def client(artifacts: Path) -> FlaskClient:
    """It answers CSV unless asked otherwise, as a featurizer does."""
    pipeline = Pipeline.load(Settings(model_dir=artifacts, default_accept=CSV))
    return create_app(pipeline, interface=pipeline.interface).test_client()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_refuses_what_the_featurizer_refuses_and_answers_as_many_rows(client: FlaskClient, case: Case) -> None:
    owed = case.expected("application")
    if case.name in BEYOND_FLOAT32:
        owed = Expected(400, code="non_finite_after_transform")
    # the answers' own bytes are features there and predictions here
    expected = owed if owed.status >= 400 else Expected(owed.status, content_type=owed.content_type, rows=owed.rows)

    reply = in_process(client)(case.request, 1)

    check(reply, expected, head=case.request.method == "HEAD")
