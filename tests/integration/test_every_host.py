"""Every host as processes answers what scikit-learn and XGBoost alone answer, to the bit: README.md's table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from serving.payload import NPY
from tests import every_host
from tests.datasets import DATASETS, Golden, golden
from tests.every_host import BATCH, LAMBDA, LIBRARIES, PIPELINE, SINGLE, Answers, Post
from tests.lambda_api import Function, function
from tests.rehearsal import Owner, owner
from tests.servers import Server, free_ports, launched, wait_until

IMAGES = {stage: f"127.0.0.1:1/serial-inference/{stage}:any" for stage in every_host.STAGES}  # names only
ONE = {"MODEL_SERVER_WORKERS": "1"}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    with owner("processes", tmp_path_factory.mktemp("batch")) as who:
        yield who


def posting(server: Server) -> Post:
    def post(body: bytes, media: str, accept: str) -> tuple[bytes, str]:
        answer = server.invoke(body, media, Accept=accept)
        assert answer.status == 200, answer.body
        return answer.body, answer.content_type

    return post


def pipeline(stack: ExitStack, known: Golden, _directory: Path) -> Answers:
    """As `make up` starts them; the predictor answers what comes last of its outputs unless told otherwise."""
    first, second, last = free_ports(3)
    reach = {"SAGEMAKER_SAFE_PORT_RANGE": f"{first}-{second}"}
    own = {
        "featurizer": {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": NPY, "MODEL_SERVER_MAX_RESPONSE": "5000000"},
        "predictor": {"SAGEMAKER_INFERENCE_OUTPUT": known.outputs[-1]},
    }
    servers = [
        stack.enter_context(
            launched(
                stage, ONE | reach | own[stage] | {"SM_MODEL_DIR": str(known.artifacts / stage / "model")}, port=port
            )
        )
        for stage, port in zip(every_host.STAGES, (first, second), strict=True)
    ]
    threads = {"MODEL_SERVER_NGINX": "off", "MODEL_SERVER_WORKER_CLASS": "gthread"}
    behind = f"featurizer=http://127.0.0.1:{first},predictor=http://127.0.0.1:{second}"
    servers.append(stack.enter_context(launched("local_test", ONE | threads | {"CONTAINERS": behind}, port=last)))
    wait_until(lambda: all(server.pings() == 200 for server in servers), "the chain to answer", 60)
    return every_host.over_http(posting(servers[-1]), known, known.outputs[-1])


def single(stack: ExitStack, known: Golden, _directory: Path) -> Answers:
    env = {"SM_MODEL_DIR": str(known.artifacts), "SAGEMAKER_INFERENCE_OUTPUT": known.outputs[-1]}
    server = stack.enter_context(launched("pipeline", ONE | env))
    wait_until(lambda: server.pings() == 200, "the single container to answer", 60)
    asked = every_host.over_http(posting(server), known, known.outputs[-1])

    def answers(output: str) -> Iterator[tuple[str, every_host.Values]]:
        yield from asked(output)
        if output == known.outputs[-1]:
            yield every_host.older(posting(server), known)

    return answers


def in_lambda(stack: ExitStack, known: Golden, directory: Path) -> Answers:
    def start(output: str) -> Function:
        env = {"SM_MODEL_DIR": str(known.artifacts), "SAGEMAKER_INFERENCE_OUTPUT": output}
        return stack.enter_context(function(directory / f"log-{output}", "pipeline", env))

    return every_host.of_events(start, known)


@pytest.mark.parametrize(("host", "name"), every_host.cells())
def test_a_host_answers_what_the_libraries_alone_answer(
    host: str, name: str, artifacts: Path, trained: Callable[[str], Path], account: Owner, tmp_path: Path
) -> None:
    known = golden(artifacts if name == "abalone" else trained(name))
    hosts: dict[str, every_host.Host] = {
        PIPELINE: pipeline,
        BATCH: every_host.by_batch(account, IMAGES),
        SINGLE: single,
        LAMBDA: in_lambda,
        LIBRARIES: every_host.of_libraries,
    }

    every_host.check(hosts[host], name, known, tmp_path)


def test_the_readme_names_every_host_and_data_set_and_nothing_else() -> None:
    counted, compared, *hosts = every_host.table()

    assert tuple(hosts) == every_host.HOSTS
    assert all(tuple(row) == ("abalone", *DATASETS) for row in every_host.table().values())
    assert {cell for host in hosts for cell in every_host.table()[host].values()} == {every_host.EQUAL}
    assert every_host.cells() == [(host, name) for name in ("abalone", *DATASETS) for host in hosts]
    assert (counted, compared) == ("rows, all that training held out", "compared")
