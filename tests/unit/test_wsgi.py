"""From a stage's loader to an application, or to the end of the worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from serving.errors import BadArtifact
from serving.interface import Interface
from serving.payload import CSV, Payload
from serving.scoreboard import VARIABLE, Scoreboard
from serving.settings import Settings
from serving.wsgi import BOOT_ERROR, container_app
from tests.unit.abalone import CONTRACT


class Stage:
    interface = Interface(CONTRACT, CONTRACT.inputs, (CSV,), (CSV,))

    def __init__(self, fingerprint: str = "") -> None:
        self.fingerprint = fingerprint

    def __call__(self, payload: Payload) -> Payload:
        return payload


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    board = Scoreboard.create()
    yield board
    os.close(board.fd)


def test_an_application_without_a_supervisor_is_ready_and_tells_its_contract() -> None:
    client = container_app(lambda _settings: Stage("00" * 32), {}).test_client()

    assert client.get("/ping").status_code == 200
    assert client.get("/contract").json["contract"]["hash"] == CONTRACT.hash


def test_an_application_is_ready_when_all_workers_are(board: Scoreboard) -> None:
    client = container_app(
        lambda _settings: Stage(), {VARIABLE: str(board.fd), "MODEL_SERVER_WORKERS": "2"}
    ).test_client()

    statuses = [client.get("/ping").status_code]
    for slot in (1, 2):
        board.mark_ready(slot)
        statuses.append(client.get("/ping").status_code)

    assert statuses == [503, 503, 200]


@pytest.mark.parametrize("error", [BadArtifact("no manifest"), OSError("no disk"), ValueError("no output")])
def test_a_model_that_cannot_be_loaded_ends_the_worker_with_its_reason(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def load(_settings: Settings) -> Any:
        raise error

    with pytest.raises(SystemExit) as ended:
        container_app(load, {})

    assert ended.value.code == BOOT_ERROR
    assert [record.getMessage() for record in caplog.records] == [f"cannot load the model: {error}"]


def test_a_container_serves_the_model_that_its_first_worker_has_loaded(
    board: Scoreboard, caplog: pytest.LogCaptureFixture
) -> None:
    env = {VARIABLE: str(board.fd), "SM_MODEL_DIR": "/models/one"}
    for _ in range(2):
        container_app(lambda _settings: Stage("ab" * 32), env)

    with pytest.raises(SystemExit):
        container_app(lambda _settings: Stage("cd" * 32), env)

    assert "the model in /models/one is another one" in caplog.text
    assert f"expected the manifest with SHA-256 {'ab' * 32}, got {'cd' * 32}" in caplog.text
