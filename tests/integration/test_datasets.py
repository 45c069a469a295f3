"""A data set besides abalone, as a user of the commands meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.datasets import golden
from tests.servers import free_ports

ROOT = Path(__file__).resolve().parents[2]


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
