"""Every block of docs/payloads.md prints what it shows, asked of the chain that `make up` starts."""

from __future__ import annotations

import contextlib
import doctest
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from serving.artifact import write_manifest
from serving.contract import FILE, Contract
from tests.servers import free_ports, running

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "payloads.md").read_text(encoding="utf-8")
PORTS = {"ROUTER_PORT": "8080", "FEATURIZER_PORT": "8081", "PREDICTOR_PORT": "8082"}
ROUTER = {"MODEL_SERVER_NGINX": "off", "MODEL_SERVER_WORKERS": "1", "MODEL_SERVER_WORKER_CLASS": "gthread"}
OTHER_RUN = "Features of another training run"


@dataclass(frozen=True)
class Block:
    """A block, the heading above it, and its first line, counted from 0."""

    heading: str
    line: int
    text: str


def blocks() -> Iterator[Block]:
    heading = ""
    for found in re.finditer(r"^#+ ([^\n]+)$|^```pycon\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE):
        heading = found[1] or heading
        if found[2]:
            yield Block(heading, TEXT.count("\n", 0, found.start(2)), found[2])


FIRST, *OTHERS = blocks()


class Masked(doctest.OutputChecker):
    """The document has a name for each training run instead of its hash."""

    def __init__(self, runs: dict[str, str]) -> None:
        self.runs = runs

    def check_output(self, want: str, got: str, optionflags: int) -> bool:  # noqa: ARG002 - doctest's signature
        for run, name in self.runs.items():
            got = got.replace(run, name)
        return got == want


@pytest.fixture(scope="module")
def ports(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where the chain listens, by the ports that the document has."""
    own = dict(zip(PORTS, map(str, free_ports(3)), strict=True))
    chain = [sys.executable, "-m", "local_test", "chain"]
    state = ["--state", str(tmp_path_factory.mktemp("payloads"))]
    env = os.environ | own | {"MODEL_SERVER_WORKERS": "1"}
    up = subprocess.run(
        [*chain, "up", *state, "--artifacts", artifacts], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert up.returncode == 0, up.stdout + up.stderr
    yield {port: own[name] for name, port in PORTS.items()}
    subprocess.run([*chain, "down", *state], cwd=ROOT, check=True, capture_output=True)


@pytest.fixture(scope="module")
def other_run(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The predictor's model as of another training run."""
    model = tmp_path_factory.mktemp("other") / "model"
    shutil.copytree(artifacts / "predictor" / "model", model)
    contract = Contract.load(model)
    other = replace(contract, training={**contract.training, "seed": -1})
    (model / FILE).write_text(other.to_json(), encoding="utf-8")
    write_manifest(model)
    return model


@pytest.fixture(scope="module")
def mixed(ports: dict[str, str], other_run: Path) -> Iterator[str]:
    """The same featurizer, behind a router that goes on to a predictor of another run."""
    with running("predictor", {"SM_MODEL_DIR": str(other_run), "MODEL_SERVER_WORKERS": "1"}) as predictor:
        containers = f"featurizer=http://127.0.0.1:{ports['8081']},predictor=http://127.0.0.1:{predictor.port}"
        with running("local_test", ROUTER | {"CONTAINERS": containers}) as router:
            yield f"http://127.0.0.1:{router.port}"


@pytest.fixture(scope="module")
def checker(artifacts: Path, other_run: Path) -> Masked:
    """What is different in every run, by the names that the document has for it."""
    models = {"RUN-A": artifacts / "featurizer" / "model", "RUN-B": other_run}
    return Masked({Contract.load(model).hash[:12]: name for name, model in models.items()})


def test_every_block_prints_what_it_shows(ports, mixed, checker, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    session: dict[str, Any] = {}
    run(FIRST, session, ports, checker)
    whole = session["runtime"]

    with (
        contextlib.closing(whole),
        contextlib.closing(
            boto3.client("sagemaker-runtime", endpoint_url=mixed, region_name="us-east-1")
        ) as of_two_runs,
    ):
        for block in OTHERS:
            session["runtime"] = of_two_runs if block.heading == OTHER_RUN else whole
            run(block, session, ports, checker)

    assert OTHER_RUN in [block.heading for block in OTHERS]


def test_nothing_is_shown_that_is_not_run():
    fences = re.findall(r"^```(\w*)$", TEXT, re.MULTILINE)

    assert len(OTHERS) > 10
    assert fences == ["pycon", ""] * (1 + len(OTHERS))


def run(block: Block, session: dict[str, Any], ports: dict[str, str], checker: Masked) -> None:
    """Run a block in the session that the blocks before it have made."""
    moved = re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{ports[found[1]]}", block.text)
    examples = doctest.DocTestParser().get_examples(moved)
    test = doctest.DocTest(examples, {}, block.heading, "docs/payloads.md", block.line, moved)
    test.globs = session  # itself, which the constructor would copy
    said: list[str] = []
    doctest.DocTestRunner(checker).run(test, out=said.append, clear_globs=False)
    assert not said, "".join(said)
