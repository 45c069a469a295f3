"""Damaged artifacts: refused by their digest; where the manifest is forged too, refused in words or served soundly."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from predictor.model import MODEL
from serving import artifact
from serving.contract import FILE, Column, ColumnType, Contract, Task
from tests.conftest import ROOT
from tests.fuzz.conftest import Budget

NAMES = tuple("abcdefghij")
MODELS: dict[str, tuple[Task, dict[str, Any]]] = {
    "regression": (Task.REGRESSION, {"objective": "reg:squarederror"}),
    "gamma": (Task.REGRESSION, {"objective": "reg:gamma", "num_parallel_tree": 2}),
    "binary-dart": (Task.BINARY, {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.3}),
    "linear": (Task.REGRESSION, {"objective": "reg:squarederror", "booster": "gblinear"}),
    "multiclass": (Task.MULTICLASS, {"objective": "multi:softprob", "num_class": 3}),
}
STEPS = [
    {"do": "refuse", "missing": False},
    {"do": "impute", "values": [0.5, 1], "indicate": [1]},
    {"do": "subtract", "values": [0.25, 0.5, "inf"]},
    {"do": "multiply", "values": [2.0]},
    {"do": "clip", "low": -3.0, "high": 3.0},
    {"do": "function", "name": "tanh"},
    {"do": "bins", "edges": [[-1.0, 0.0, 1.0], [0.0], []]},
    {
        "do": "encode",
        "columns": [
            {"values": [0.0, 1.0], "codes": [0, 1], "unknown": 2, "missing": None, "width": 2},
            {"values": [0.0, 1.0], "codes": [0, 1], "unknown": 1, "missing": 1, "outputs": [0.5, 2.0]},
            {"values": [0.0], "codes": [0], "unknown": 1, "missing": 1, "width": 1},
        ],
    },
]
TEXTS = [
    {"values": ["M", "F"], "codes": [1, 0], "unknown": 2, "missing": 2, "width": 2},
    {"values": ["M"], "codes": [0], "unknown": 1, "missing": 1, "outputs": [1.5, -1.0]},
]


@pytest.fixture(scope="module")
def bases(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of each kind of booster, and two of featurizers."""
    made = tmp_path_factory.mktemp("bases")
    shutil.copytree(artifacts / "featurizer" / "model", made / "featurizer-trained")
    write_bases(made)
    return made


def write_bases(directory: Path, rounds: int = 4) -> None:
    """Write an artifact of each kind of booster, and one of a featurizer with a step of each kind."""
    _write_featurizer(directory / "featurizer-of-every-step")
    random = np.random.default_rng(7)
    rows = random.normal(size=(200, len(NAMES))).astype(np.float32)
    for name, (task, parameters) in MODELS.items():
        target = np.exp(rows[:, 0]) if task is Task.REGRESSION else np.arange(200) % parameters.get("num_class", 2)
        data = xgboost.DMatrix(rows, target, feature_names=list(NAMES))
        booster = xgboost.train({"max_depth": 3, "nthread": 1, "seed": 1, "verbosity": 0, **parameters}, data, rounds)
        _write_predictor(directory / f"predictor-{name}", booster, task)


def _write_predictor(directory: Path, booster: xgboost.Booster, task: Task) -> None:
    directory.mkdir()
    classes = {Task.REGRESSION: (), Task.BINARY: ("no", "yes"), Task.MULTICLASS: ("x", "y", "z")}[task]
    columns = (*(Column(name, ColumnType.NUMERIC) for name in NAMES), Column("label", ColumnType.LABEL, classes))
    contract = Contract("made", task, columns, NAMES, {"seed": 1}, {"xgboost": xgboost.__version__})
    booster.save_model(directory / MODEL)
    (directory / FILE).write_text(contract.to_json(), encoding="utf-8")
    artifact.write_manifest(directory)


def _write_featurizer(directory: Path) -> None:
    directory.mkdir()
    columns = [Column(name, ColumnType.NUMERIC) for name in "pq"] + [
        Column(n, ColumnType.CATEGORICAL, ("M",)) for n in "rs"
    ]
    features = tuple(f"f{number}" for number in range(7))
    parts = [
        {"columns": ["q", "p"], "kind": "numeric", "steps": STEPS},
        {"columns": ["s", "r"], "kind": "text", "encode": TEXTS, "steps": [{"do": "add", "values": [0.0]}]},
    ]
    program = {"format": 1, "numeric": ["p", "q"], "categorical": ["r", "s"], "features": features, "parts": parts}
    contract = Contract("made", Task.REGRESSION, tuple(columns), features, {"seed": 1})
    (directory / "transform.json").write_text(json.dumps(program), encoding="utf-8")
    (directory / FILE).write_text(contract.to_json(), encoding="utf-8")
    artifact.write_manifest(directory)


def verdicts(bases: Path, scratch: Path, how: str, seed: str, first: int, count: int) -> Iterator[tuple[int, str]]:
    """What became of each damaged artifact. A process that dies is followed by one that begins behind it."""
    last = first + count
    while first < last:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        command = [sys.executable, "-m", "tests.fuzz.loading", bases, scratch, how, seed, str(first), str(last - first)]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        lines = [line.partition(" ")[::2] for line in re.findall(r"^\d+.*$", ran.stdout, re.MULTILINE)]
        assert lines, ran.stderr[-2000:]
        for number, verdict in lines:
            yield int(number), verdict or f"finding: the process ended with {ran.returncode} {ran.stderr[-300:]}"
        first = int(lines[-1][0]) + 1


def test_a_damaged_artifact_is_refused_or_served_soundly(bases: Path, budget: Budget, tmp_path: Path) -> None:
    seed = str(budget.random.random())
    counts: Counter[str] = Counter()
    findings: list[str] = []
    tried, size = 0, 250
    while len(findings) < 5 and budget.lasts():
        for number, verdict in verdicts(bases, tmp_path / "scratch", "checked", seed, tried, size):
            counts[verdict.partition(":")[0]] += 1
            if verdict.startswith("finding"):
                findings.append(f"mutant {number} of seed {seed}: {verdict}")
        tried, size = tried + size, 500
    budget.say(f"{tried} damaged artifacts: {', '.join(f'{n} {v}' for v, n in counts.most_common())}")

    assert findings == []
    assert counts["structure"] > 0
