"""What a container loads to serve: no pickle, and none of the libraries that trained."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SERVE = """
import json, sys
from pathlib import Path

opened = []
sys.addaudithook(lambda event, _arguments: opened.append(event) if event.startswith("pickle.") else None)

from {stage}.model import {name}
from serving.payload import Payload

answer = {name}.load(Path(sys.argv[1]))(Payload(sys.argv[2].encode(), "text/csv"))
heavy = {{"sklearn", "pandas", "joblib", "scipy", "xgboost"}} & set(sys.modules)
print(json.dumps([answer.body.decode(), sorted(heavy), opened]))
"""


@pytest.mark.parametrize(
    ("stage", "name", "row"),
    [
        ("featurizer", "Featurizer", "M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15"),
        ("predictor", "Predictor", "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0,1,0"),
    ],
)
def test_a_prediction_needs_no_pickle_and_no_library_of_training(
    artifacts: Path, stage: str, name: str, row: str
) -> None:
    program = SERVE.format(stage=stage, name=name)

    ran = subprocess.run(
        [sys.executable, "-c", program, artifacts / stage / "model", row], capture_output=True, text=True, check=True
    )

    answer, heavy, opened = json.loads(ran.stdout)
    assert answer
    assert heavy == []
    assert opened == []


LOOK = """
import sys
from pipeline.cli import parser

parser(sys.argv[1])
print(*sorted({"sklearn", "pandas", "joblib", "scipy", "xgboost", "boto3", "sagemaker"} & set(sys.modules)))
"""


@pytest.mark.parametrize("verb", ["deploy", "invoke", "delete"])
def test_a_verb_that_talks_to_aws_waits_for_no_library_of_training(verb: str) -> None:
    ran = subprocess.run([sys.executable, "-c", LOOK, verb], capture_output=True, text=True, check=True)

    assert ran.stdout.split() == []


def test_a_command_of_the_local_endpoint_waits_for_no_large_library() -> None:
    look = "import sys; from local_test.__main__ import parser; parser(); "
    look += "print(*{'numpy', 'boto3', 'flask', 'moto'} & set(sys.modules))"

    ran = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)

    assert ran.stdout.split() == []
