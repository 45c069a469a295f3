"""The platform's side of a function in AWS Lambda."""

from __future__ import annotations

import gc
import http.client
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving import lambda_runtime, metrics
from serving.lambda_runtime import RuntimeApi
from serving.settings import Settings
from tests.observing import embedded
from tools.bench import runtime_api as platform


@pytest.fixture(scope="module")
def api() -> Iterator[platform.RuntimeApi]:
    with platform.runtime_api() as api:
        yield api


@pytest.mark.parametrize("echoed", [{}, {"Lambda-Runtime-Invocation-Id": "inner"}])
def test_an_event_is_answered_under_its_id(api: platform.RuntimeApi, echoed: dict[str, str]) -> None:
    runtime = RuntimeApi(api.address)
    for name in ("one", "two"):
        api.events.put(({"Lambda-Runtime-Aws-Request-Id": name, **echoed}, b"[1]"))

        headers, event = runtime.next()
        runtime.respond(headers, b"{}")

        path, sent, body = api.answers.get(timeout=60)
        assert (event, path, body) == (b"[1]", f"/invocation/{name}/response", b"{}")
        assert sent["Content-Type"] == "application/json"
        assert {name: sent[name] for name in sent if name.lower().startswith("lambda")} == echoed
    runtime.connection.close()


def test_a_platform_without_an_event_is_an_error(api: platform.RuntimeApi) -> None:
    api.events.put(None)
    runtime = RuntimeApi(api.address)

    with pytest.raises(http.client.HTTPException, match="answered 500 instead of an event"):
        runtime.next()
    runtime.connection.close()


@pytest.mark.parametrize(("status", "logged"), [(202, []), (300, ["300"]), (413, ["413"])])
def test_an_answer_that_the_platform_does_not_take_is_logged(
    api: platform.RuntimeApi, caplog: pytest.LogCaptureFixture, status: int, logged: list[str]
) -> None:
    api.status = status
    runtime = RuntimeApi(api.address)

    runtime.refuse_to_start("no model")
    api.status = 202

    path, headers, body = api.answers.get(timeout=60)
    assert path == "/init/error"
    assert headers["Lambda-Runtime-Function-Error-Type"] == "Runtime.CannotLoad"
    assert json.loads(body) == {"errorType": "Runtime.CannotLoad", "errorMessage": "no model", "stackTrace": []}
    assert [record.getMessage() for record in caplog.records] == [
        f"the runtime API answered {status} to init/error" for status in logged
    ]
    runtime.connection.close()


@pytest.fixture
def kept() -> Iterator[None]:
    """What a function sets for its whole process is as it was."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, sys.excepthook, logging._srcfile, logging.logThreads)
    yield
    root.handlers[:], root.level, sys.excepthook, logging._srcfile, logging.logThreads = before  # type: ignore[assignment]
    logging.logProcesses = logging.logMultiprocessing = logging.logThreads
    logging.captureWarnings(False)
    metrics.record_into(None)
    gc.unfreeze()


class Told:
    """A platform that keeps why a function could not start."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def refuse_to_start(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("env", "code", "reason"),
    [
        ({"STAGE": "made_up", "PORT": "abc"}, "", "PORT: expected a whole number from 1 to 65535, got 'abc'"),
        ({"STAGE": "made_up"}, "raise SystemExit(3)", "the model cannot be loaded; the log names the reason"),
        ({"STAGE": "made_up"}, "app = 'the application'", ""),
    ],
)
def test_a_platform_is_told_why_a_function_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], code: str, reason: str
) -> None:
    (tmp_path / "made_up").mkdir()
    (tmp_path / "made_up" / "wsgi.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("made_up", "made_up.wsgi"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    platform: Any = Told()

    _, app = lambda_runtime._load(platform, env)

    assert platform.reasons == ([reason] if reason else [])
    assert app == (None if reason else "the application")
    assert (gc.get_freeze_count() > 0) is (not reason)


@pytest.mark.usefixtures("kept")
def test_a_function_counts_its_answers_where_metrics_are_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    assert lambda_runtime._metrics(Settings(metrics="off", metrics_port=9000)) is None
    assert metrics.recorder() is None

    cloudwatch = lambda_runtime._metrics(Settings(stage="echo", metrics="emf"))
    metrics.recorder().record(0.01, ("200",), {metrics.ROWS: 4})  # type: ignore[union-attr]
    cloudwatch.flush({})  # type: ignore[union-attr]

    told = embedded(capfd.readouterr().out)
    assert (told["Stage"], told["Requests"], told["Rows"]) == ("echo", 1, 4)
