"""Shared by the unit tests of what talks to AWS: artifacts without training, and AWS's libraries without the work that
they repeat for each of their sessions.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from botocore.client import BaseClient

from pipeline.artifacts import STAGES
from pipeline.cli import main
from serving import artifact
from tests.aws_api import NOTHING, Answers, Aws
from tests.registry_api import memory_registry
from tests.unit.abalone import CONTRACT

ENV = {
    "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local",
}  # fmt: skip


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound artifacts that have a contract and no model: AWS does not look into them, and they pack at once."""
    directory = tmp_path_factory.mktemp("untrained")
    for stage in STAGES:
        model = directory / stage / "model"
        model.mkdir(parents=True)
        (model / "contract.json").write_text(CONTRACT.to_json(), encoding="utf-8")
        artifact.write_manifest(model)
    return directory


@pytest.fixture(scope="session")
def descriptions_read_once() -> Iterator[None]:
    """Every session of botocore takes the descriptions of services from one loader, which reads each once."""
    from botocore.loaders import create_loader

    loader = create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", lambda *_: loader)
        yield


@pytest.fixture(scope="session")
def settings_checked_once(descriptions_read_once: None) -> Iterator[None]:  # noqa: ARG001
    """The SageMaker SDK checks equal settings, and its own schema of settings, once and not thrice in each session."""
    import sagemaker.pipeline

    check = sagemaker.config.config.validate_sagemaker_config
    once = functools.cache(lambda text: check(json.loads(text)))
    with pytest.MonkeyPatch.context() as patch:
        for module in (sagemaker.session, sagemaker.utils):
            patch.setattr(module, check.__name__, lambda settings: once(json.dumps(settings)))
        yield


@pytest.fixture(scope="session")
def clients_made_once(descriptions_read_once: None) -> Iterator[None]:  # noqa: ARG001
    """Runs of the command line that would make equal clients share one, which knows nothing of earlier requests."""
    from pipeline.endpoint.session import Clients

    make = Clients._new_client
    clients: dict[tuple[object, ...], Any] = {}

    def once(self: Clients, service: str) -> Any:
        if self.prepare:
            return make(self, service)
        key = (service, self.region, self.endpoint_url(service), self.profile, self.env.get("AWS_ACCESS_KEY_ID"))
        if key not in clients:
            clients[key] = make(self, service)
        return clients[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Clients, "_new_client", once)
        yield


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever polls the stand-in for AWS polls again at once: the stand-in counts the polls, not the time."""
    monkeypatch.setattr("pipeline.endpoint.session.POLL_LOCAL", 0)


@pytest.fixture(scope="session")
def pipeline_image() -> Iterator[str]:
    with memory_registry() as registry:
        registry.add_image("abc")
        yield f"{registry.host}/serial-inference/pipeline:abc"


Run = Callable[..., tuple[int, Aws]]


@pytest.fixture
def run(
    settings_checked_once: None, clients_made_once: None, no_pauses: None,  # noqa: ARG001
    pipeline_image: str, untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> Run:  # fmt: skip
    """Run a command about the endpoint houses; its exit code, and AWS with the requests that it got.

    ROWS, OUT, IMAGE and ARTIFACTS are places of the test.
    """
    (tmp_path / "rows.csv").write_text("1,2\n3,4\n")
    places = {
        "ROWS": f"{tmp_path}/rows.csv", "OUT": f"{tmp_path}/out", "IMAGE": pipeline_image,
        "ARTIFACTS": str(untrained),
    }  # fmt: skip

    def run_command(
        command: str,
        answers: Answers = NOTHING,
        config: str | None = None,
        env: Mapping[str, str] = MappingProxyType({}),
        **refusal: Any,
    ) -> tuple[int, Aws]:
        aws = Aws("us-east-1", config=config, role="Given", answers=answers, **refusal)
        monkeypatch.setattr(BaseClient, "_make_api_call", lambda client, *request: aws.call(client, *request))
        words = [places.get(word, word) for word in command.split()]
        return main([*words, "--endpoint", "houses"], {**ENV, **env}), aws

    return run_command
