"""What the tests share: artifacts trained once, through the command that users run."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that `python -m pipeline train` wrote for abalone; TRAINED names one of just now, to be copied."""
    out = tmp_path_factory.mktemp("artifacts")
    if trained := os.environ.get("TRAINED"):
        shutil.copytree(ROOT / trained, out, ignore=shutil.ignore_patterns("run"), dirs_exist_ok=True)
        return out
    subprocess.run([sys.executable, "-m", "pipeline", "train", "--out", out], cwd=ROOT, check=True)
    return out


@pytest.fixture(scope="session")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of another training run of abalone: a shorter search, and other rows left out."""
    from pipeline.data import load_rows, load_schema
    from pipeline.train import train

    schema = load_schema("abalone")
    quick = {"repeats": 1, "folds": 2, "rounds": 40, "grid": {"max_depth": [4], "eta": [0.1]}}
    out = tmp_path_factory.mktemp("retrained")
    train(replace(schema, search=quick, references=()), load_rows(schema, None), out, 7)
    return out


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The artifacts of a data set besides abalone, by its name; trained when a test first asks for them."""
    from tests.datasets import train_dataset

    @functools.cache
    def train(name: str) -> Path:
        return train_dataset(name, tmp_path_factory.mktemp(name))

    return train
