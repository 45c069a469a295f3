"""Every host in containers answers what scikit-learn and XGBoost alone answer, to the bit: README.md's table."""

from __future__ import annotations

import http.client
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from serving.payload import NPY
from tests import every_host
from tests.datasets import Golden, golden
from tests.docker.conftest import Run, ask, docker, model_mount
from tests.docker.test_single_container import LAMBDA as AS_LAMBDA
from tests.every_host import BATCH, LAMBDA, LIBRARIES, PIPELINE, SINGLE, Answers, Host, Post
from tests.lambda_api import Function, function
from tests.rehearsal import Owner, owner
from tests.servers import wait_until

pytestmark = pytest.mark.docker

ONE = ["--env", "MODEL_SERVER_WORKERS=1"]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    with owner("docker", tmp_path_factory.mktemp("batch")) as who:
        yield who


def posting(port: int) -> Post:
    def post(body: bytes, media: str, accept: str) -> tuple[bytes, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("POST", "/invocations", body, {"Content-Type": media, "Accept": accept})
            response = connection.getresponse()
            content = response.read()
        assert response.status == 200, content
        return content, response.headers["Content-Type"]

    return post


def of_images(images: dict[str, str], run: Run, account: Owner) -> dict[str, Host]:
    """The hosts by their names; `run` removes the containers."""

    def pipeline(_stack: ExitStack, known: Golden, _directory: Path) -> Answers:
        first = run(
            images["featurizer"],
            "serve",
            options=[*_stage(known, "featurizer"), "--env", f"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT={NPY}"],
            wait=False,
        )
        beside = ["--network", f"container:{first.name}"]
        output = ["--env", f"SAGEMAKER_INFERENCE_OUTPUT={known.outputs[-1]}"]
        run(images["predictor"], "serve", options=[*_stage(known, "predictor"), *output, *beside], port=0, wait=False)
        behind = "featurizer=http://127.0.0.1:8081,predictor=http://127.0.0.1:8082"
        run(images["local_test"], "serve", options=[*beside, "--env", f"CONTAINERS={behind}"], port=0, wait=False)
        return every_host.over_http(posting(_answering(first.name)), known, known.outputs[-1])

    def single(_stack: ExitStack, known: Golden, _directory: Path) -> Answers:
        output = ["--env", f"SAGEMAKER_INFERENCE_OUTPUT={known.outputs[-1]}"]
        container = run(images["pipeline"], options=[*ONE, *output, *_both(known)])
        return every_host.over_http(posting(container.port), known, known.outputs[-1])

    def in_lambda(stack: ExitStack, known: Golden, directory: Path) -> Answers:
        def start(output: str) -> Function:
            name = f"serial-inference-test-{uuid.uuid4().hex[:8]}"
            stack.callback(docker, "rm", "--force", "--volumes", name, check=False)
            given = ["--env", "AWS_LAMBDA_RUNTIME_API={api}", "--env", f"SAGEMAKER_INFERENCE_OUTPUT={output}"]
            options = ["--rm", "--name", name, "--network", "host", *given, *_both(known), *AS_LAMBDA]
            command = ["docker", "run", *options, images["pipeline"]]
            return stack.enter_context(function(directory / f"log-{output}", "", {}, command))

        return every_host.of_events(start, known)

    return {
        PIPELINE: pipeline,
        BATCH: every_host.by_batch(account, images),
        SINGLE: single,
        LAMBDA: in_lambda,
        LIBRARIES: every_host.of_libraries,
    }


def _stage(known: Golden, stage: str) -> list[str]:
    """What SageMaker gives one of two containers, each on a port of their network namespace."""
    port = {"featurizer": 8081, "predictor": 8082}[stage]
    told = ["--env", f"SAGEMAKER_BIND_TO_PORT={port}", "--env", "SAGEMAKER_SAFE_PORT_RANGE=8081-8082"]
    return [*ONE, *told, *model_mount(known.artifacts, stage)]


def _both(known: Golden) -> list[str]:
    """Both artifacts, each by itself: what is around them is for its owner only, who is not the function's user."""
    inside = "/opt/ml/model"
    models = {stage: known.artifacts / stage / "model" for stage in every_host.STAGES}
    return [word for stage, model in models.items() for word in ("--volume", f"{model}:{inside}/{stage}:ro")]


def _answering(name: str) -> int:
    """The port of this machine where the router answers, once all behind it do."""
    port = int(docker("port", name, "8080").splitlines()[0].rpartition(":")[2])
    wait_until(lambda: ask(port, "GET", "/ping")[0] == 200, "the chain to answer", 60)
    return port


@pytest.mark.parametrize(("host", "name"), every_host.cells())
def test_a_host_answers_what_the_libraries_alone_answer(
    host: str,
    name: str,
    images: dict[str, str],
    run: Run,
    artifacts: Path,
    trained: Callable[[str], Path],
    account: Owner,
    tmp_path: Path,
) -> None:
    known = golden(artifacts if name == "abalone" else trained(name))

    every_host.check(of_images(images, run, account)[host], name, known, tmp_path)
