"""docs/own_model.md: its models are made, packaged and served as it shows."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import package
from tests.servers import free_ports

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "own_model.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody has trained the document's models."""
    made = tmp_path_factory.mktemp("own")
    done = subprocess.run([sys.executable, "-c", "\n".join(blocks("python"))], cwd=made, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return made


@pytest.mark.parametrize("example", range(3))
def test_the_commands_print_what_the_document_shows(directory: Path, example: int) -> None:
    one, *chain = map(str, free_ports(4))
    lines = blocks("console")[example].replace(":8080", f":{one}").replace("=8080", f"={one}").splitlines()
    script = "\n".join(line[2:] for line in lines if line.startswith("$ "))
    ports = zip(("ROUTER_PORT", "FEATURIZER_PORT", "PREDICTOR_PORT"), chain, strict=True)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    done = subprocess.run(
        ["bash", "-c", script.replace("chain run", f"chain run --state {directory}/run")],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "MODEL_SERVER_WORKERS": "1", **dict(ports)},
        capture_output=True,
        text=True,
        check=False,
    )

    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    for line in lines:
        assert line.startswith("$ ") or line in printed, printed


def test_the_document_has_every_option_of_models_trained_elsewhere() -> None:
    parser = argparse.ArgumentParser()
    package.add_arguments(parser)

    options = set(re.findall(r"--[a-z-]+", parser.format_help())) - {"--help", "--artifacts"}

    assert options - set(re.findall(r"--[a-z-]+", TEXT)) == set()
