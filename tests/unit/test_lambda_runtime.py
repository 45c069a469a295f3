"""The platform's side of a function in AWS Lambda."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import pytest

from serving.lambda_runtime import RuntimeApi
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
