"""What the tests share: artifacts trained once, through the command that users run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that `python -m pipeline train` wrote for abalone."""
    out = tmp_path_factory.mktemp("artifacts")
    subprocess.run([sys.executable, "-m", "pipeline", "train", "--out", out], cwd=ROOT, check=True)
    return out
