"""Each data set through the real chain, as text and as JSON: the answers of scikit-learn and XGBoost, to the bit."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets import DATASETS, Golden, golden
from tests.servers import Answer, Server, free_ports, running

ROOT = Path(__file__).resolve().parents[2]
CSV, JSON = "text/csv", "application/json"
CLASSIFICATIONS = ("penguins", "penguins_sex")
Chain = tuple[Server, Server, Golden]


@pytest.fixture(scope="module")
def chain(request: pytest.FixtureRequest, trained: Any) -> Iterator[Chain]:
    """Both stages of a data set, the predictor of a classification set to name classes unless asked otherwise."""
    artifacts = trained(request.param)
    first, second = free_ports(2)
    env = {"SAGEMAKER_SAFE_PORT_RANGE": f"{first}-{second}", "MODEL_SERVER_WORKERS": "1", "MODEL_SERVER_NGINX": "off"}
    named = {"SAGEMAKER_INFERENCE_OUTPUT": "label"} if request.param in CLASSIFICATIONS else {}
    models = {stage: {"SM_MODEL_DIR": str(artifacts / stage / "model")} for stage in ("featurizer", "predictor")}
    with (
        running("featurizer", env | models["featurizer"], port=first) as featurizer,
        running("predictor", env | named | models["predictor"], port=second) as predictor,
    ):
        yield featurizer, predictor, golden(artifacts)


def ask(chain: Chain, body: str, media: str, accept: str) -> Answer:
    featurizer, predictor, _ = chain
    features = featurizer.invoke(body.encode(), media)
    assert features.status == 200, features.body
    answer = predictor.invoke(features.body, features.content_type, Accept=accept)
    assert answer.status == 200, answer.body
    return answer


def as_objects(known: Golden) -> str:
    """The rows as JSON, a missing cell as null."""
    numeric = {column.name for column in known.contract.columns if column.type == "numeric"}
    rows = known.rows.drop(columns=known.label).to_dict("records")
    return json.dumps(
        [{n: (float(cell) if n in numeric else cell) if cell else None for n, cell in row.items()} for row in rows]
    )


def bits(numbers: Any) -> list[int]:
    return np.asarray(numbers, dtype=np.float32).ravel().view(np.int32).tolist()


@pytest.mark.parametrize("chain", DATASETS, indirect=True)
def test_the_scores_of_the_chain_are_those_made_in_process(chain: Chain) -> None:
    known = chain[2]
    bodies = {
        "with header and label": (known.rows.to_csv(index=False), CSV),
        "without": (known.rows.drop(columns=known.label).to_csv(index=False, header=False), CSV),
        "objects": (as_objects(known), JSON),
    }

    for body, media in bodies.values():
        answer = ask(chain, body, media, f"{JSON}; output=score").json["result"]

        assert bits(answer) == bits(known.scores)


@pytest.mark.parametrize("chain", CLASSIFICATIONS, indirect=True)
def test_a_classification_answers_class_names_and_probabilities(chain: Chain) -> None:
    known = chain[2]
    body = known.rows.to_csv(index=False)

    by_setting = ask(chain, body, CSV, CSV)
    as_json = ask(chain, body, CSV, f"{JSON}; output=label")
    shares = ask(chain, body, CSV, f"{CSV}; output=probabilities")

    names = next(column.categories for column in known.contract.columns if column.type == "label")
    assert set(known.labels) == set(names)
    assert by_setting.body.decode().splitlines() == known.labels
    assert as_json.json["result"] == known.labels
    assert bits(list(csv.reader(shares.body.decode().splitlines()))) == bits(known.probabilities)
    assert len(known.probabilities[0]) == len(names)


def test_the_demo_shows_classes_beside_the_truth(trained: Any, tmp_path: Path) -> None:
    artifacts = trained("penguins_sex")
    router, featurizer, predictor = free_ports(3)
    ports = {"ROUTER_PORT": router, "FEATURIZER_PORT": featurizer, "PREDICTOR_PORT": predictor}
    known = golden(artifacts)
    demo = [sys.executable, "-m", "pipeline", "demo", "--artifacts", str(artifacts)]
    chain_run = ["-m", "local_test", "chain", "run", "--state", str(tmp_path), "--artifacts", str(artifacts), "--"]

    shown = subprocess.run(
        [sys.executable, *chain_run, *demo], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {name: str(port) for name, port in ports.items()}, check=False,
    )  # fmt: skip

    assert shown.returncode == 0, shown.stdout + shown.stderr
    right = sum(label == truth for label, truth in zip(known.labels, known.rows[known.label], strict=True))
    assert f"OK: all {len(known.rows)} predictions" in shown.stdout
    assert f"{right} of {len(known.rows)} are the true one" in shown.stdout
    first = f"{known.labels[0]} ({known.probabilities[0].max():.2f})"
    assert any(first in line and known.rows[known.label][0] in line for line in shown.stdout.splitlines())
