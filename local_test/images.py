"""One image by itself, with a directory tree like SageMaker's mounted at /opt/ml."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from local_test.chain import ROOT, ChainError

TRAIN_HELP = "run an image's `train` as SageMaker does"
SERVE_HELP = "run an image's `serve` as SageMaker does, until Ctrl-C"


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image")
    parser.add_argument(
        "--channel", action="append", default=[], metavar="NAME=PATH", help="a file or a directory of files"
    )
    parser.add_argument("--hyperparameter", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--tree", type=Path, help="the tree (default .local_test/opt_ml/IMAGE)")


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image")
    parser.add_argument("--model", type=Path, help="the model directory, mounted read-only (default: the tree's model)")
    parser.add_argument("--port", type=int, default=8080, help="on 127.0.0.1 (default 8080)")
    parser.add_argument("--tree", type=Path, help="the tree (default .local_test/opt_ml/IMAGE)")


def run_train(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    docker, tree = _docker(env), _tree(arguments)
    for name in ("input", "output", "model"):
        shutil.rmtree(tree / name, ignore_errors=True)
    for name in ("input/config", "input/data", "output", "model"):
        (tree / name).mkdir(parents=True)
    _write_config(tree / "input", _pairs(arguments.channel), _pairs(arguments.hyperparameter))
    user = f"{os.getuid()}:{os.getgid()}"
    command = [docker, "run", "--rm", "--user", user, "-v", f"{tree}:/opt/ml", arguments.image, "train"]
    code = subprocess.run(command, check=False).returncode
    failure = tree / "output" / "failure"
    print(
        f"exit {code}: {failure.read_text() if failure.exists() else f'the model is in {tree}/model'}", file=sys.stderr
    )
    return code


def run_serve(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    docker = _docker(env)
    model = (arguments.model or _tree(arguments) / "model").resolve()
    if not model.is_dir():
        raise ChainError(f"expected a model directory, got {model}; make one with: python -m local_test train_local")
    print(f"serving on http://127.0.0.1:{arguments.port}/invocations; Ctrl-C stops it", file=sys.stderr)
    command = [docker, "run", "--rm", "-p", f"127.0.0.1:{arguments.port}:8080", "-v", f"{model}:/opt/ml/model:ro"]
    process = subprocess.Popen([*command, arguments.image, "serve"])
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # docker passes the signal on; the container drains and ends
            continue


def _write_config(directory: Path, channels: Mapping[str, str], hyperparameters: Mapping[str, str]) -> None:
    for name, source in channels.items():
        path = Path(source)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        (directory / "data" / name).mkdir()
        for file in files:
            shutil.copy(file, directory / "data" / name)
    kind = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    config = {
        "hyperparameters": hyperparameters,
        "inputdataconfig": dict.fromkeys(channels, kind),
        "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"},
    }
    for name, value in config.items():
        (directory / "config" / f"{name}.json").write_text(json.dumps(value))


def _pairs(given: list[str]) -> dict[str, str]:
    for pair in given:
        if "=" not in pair:
            raise ChainError(f"expected NAME=VALUE, got {pair}")
    return {name: value for name, _, value in (pair.partition("=") for pair in given)}


def _tree(arguments: argparse.Namespace) -> Path:
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", arguments.image)
    tree: Path = (arguments.tree or ROOT / ".local_test" / "opt_ml" / name).resolve()
    return tree


def _docker(env: Mapping[str, str]) -> str:
    docker = shutil.which("docker", path=env.get("PATH"))
    if not docker:
        raise ChainError("expected docker on PATH, found none; `make up` runs the chain without it")
    return docker
