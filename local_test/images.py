"""One image by itself, with a directory tree like SageMaker's mounted at /opt/ml."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from local_test import chain, opt_ml
from local_test.process import CHECKOUT, run_command, uninterrupted
from local_test.state import ChainError

READY_WITHIN = 60.0  # seconds
TRAIN_EXAMPLE = """\
example:
  python -m local_test train_local featurizer --channel train=raw.csv --hyperparameter label=rings \\
      --hyperparameter task=regression --hyperparameter categorical=sex"""
SERVE_EXAMPLE = """\
example:
  python -m local_test serve_local predictor --model artifacts/predictor/model --port 8082
  python -m local_test predict local_test/payloads/features.npy --url http://127.0.0.1:8082"""


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("image", help="an image that this machine's docker knows")
    shared.add_argument("--tree", type=Path, help="what becomes /opt/ml (.local_test/opt_ml/IMAGE)")
    shared.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for the container")
    train = commands.add_parser(
        "train_local",
        parents=[shared],
        help="run an image's `train` as SageMaker does",
        epilog=TRAIN_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument("--channel", action="append", default=[], metavar="NAME=PATH", help="a file, or a directory")
    train.add_argument("--hyperparameter", action="append", default=[], metavar="NAME=VALUE")
    train.set_defaults(run=train_local)
    serve = commands.add_parser(
        "serve_local",
        parents=[shared],
        help="run an image's `serve` as SageMaker does, until Ctrl-C",
        epilog=SERVE_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("--model", type=Path, help="the model directory, mounted read-only (the tree's model)")
    serve.add_argument("--port", type=int, default=8080, help="on 127.0.0.1 (%(default)s)")
    serve.set_defaults(run=serve_local)


def train_local(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    docker, tree = _docker(env), _tree(arguments)
    opt_ml.prepare(tree, _pairs(arguments.channel), _pairs(arguments.hyperparameter))
    job = {
        "TRAINING_JOB_NAME": "local",
        "TRAINING_JOB_ARN": "arn:aws:sagemaker:us-east-1:123456789012:training-job/local",
    }
    code = _run(
        [
            *(docker, "run", "--rm", "--user", f"{os.getuid()}:{os.getgid()}", "-v", f"{tree}:/opt/ml"),
            *_env_options(job | _pairs(arguments.env)),
            *(arguments.image, "train"),
        ]
    )
    failure = tree / "output" / "failure"
    if code == 0:
        print(f"Completed: the model is in {tree / 'model'}")
    else:
        reason = (
            failure.read_text(encoding="utf-8", errors="replace")[:1024] if failure.is_file() else "no reason given"
        )
        print(f"Failed with exit code {code}: {reason}", file=sys.stderr)
    return code


def serve_local(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    docker = _docker(env)
    model = (arguments.model or _tree(arguments) / "model").resolve()
    if not model.is_dir():
        raise ChainError(f"there is no model directory {model}: name one with --model, or run train_local first")
    name = f"serve-local-{uuid.uuid4().hex[:8]}"
    command = [
        *(docker, "run", "--rm", "--name", name),
        *("-p", f"127.0.0.1:{arguments.port}:8080", "-v", f"{model}:/opt/ml/model:ro"),
        *_env_options(_pairs(arguments.env)),
        *(arguments.image, "serve"),
    ]
    # In a group of its own: Ctrl-C is for us, and the container is then stopped as SageMaker stops it.
    with contextlib.ExitStack() as stack:
        with uninterrupted():
            process = subprocess.Popen(command, process_group=0)
            stack.callback(_stop, docker, name, process)
        try:
            return _serve(process, arguments.image, arguments.port)
        except KeyboardInterrupt:
            return 0 if _stop(docker, name, process) == 0 else 1


def _serve(process: subprocess.Popen[bytes], image: str, port: int) -> int:
    if _wait_for_ping(process, port):
        print(f"{image} is ready. Try, and stop it with Ctrl-C:", file=sys.stderr)
        print(
            f"  curl http://127.0.0.1:{port}/invocations -H 'Content-Type: text/csv' --data-binary @FILE",
            file=sys.stderr,
        )
    return process.wait()


def _wait_for_ping(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + READY_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        if not chain.ping(port):
            return True
        time.sleep(0.2)
    if process.poll() is None:
        print(f"/ping is not 200 after {READY_WITHIN:.0f} s: {chain.ping(port)}", file=sys.stderr)
    return False


def _stop(docker: str, name: str, process: subprocess.Popen[bytes]) -> int:
    """SIGTERM, and SIGKILL after 30 seconds. Returns the container's exit code."""
    if process.poll() is None:
        subprocess.run([docker, "stop", "--time", "30", name], check=False, stdout=subprocess.DEVNULL)
    return process.wait()


def _run(command: list[str]) -> int:
    with contextlib.suppress(KeyboardInterrupt):  # docker passes it on to the container
        return run_command(command)
    return 130


def _env_options(values: Mapping[str, str]) -> list[str]:
    return [part for name, value in values.items() for part in ("--env", f"{name}={value}")]


def _pairs(given: list[str]) -> dict[str, str]:
    for pair in given:
        if "=" not in pair:
            raise ChainError(f"expected NAME=VALUE, got {pair}")
    return {name: value for name, _, value in (pair.partition("=") for pair in given)}


def _tree(arguments: argparse.Namespace) -> Path:
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", arguments.image)
    tree: Path = (arguments.tree or CHECKOUT / ".local_test" / "opt_ml" / name).resolve()
    return tree


def _docker(env: Mapping[str, str]) -> str:
    if not (docker := shutil.which("docker", path=env.get("PATH"))):
        raise ChainError("docker is not on PATH; the chain runs without it: python -m local_test chain up")
    return docker
