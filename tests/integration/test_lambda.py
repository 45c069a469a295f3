"""`serve` under Lambda's runtime API, as a process: real events in, envelopes out, nothing listening."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.settings import LAMBDA_LIMIT
from tests.lambda_api import EVENTS, Function, function, predictions
from tests.servers import ECHO, wait_until


@pytest.fixture(scope="module")
def pipeline(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    log = tmp_path_factory.mktemp("lambda") / "log"
    with function(log, "pipeline", {"SM_MODEL_DIR": str(artifacts)}) as running:
        yield running


REFUSED = {
    "direct_null_body": (400, "empty_body"),
    "rest_null_body": (400, "empty_body"),
    "url_no_body": (400, "empty_body"),
    "url_form": (415, "unsupported_media_type"),
    "url_no_content_type": (415, "unsupported_media_type"),
    "http_unknown_path": (404, "not_found"),
    "rest_wrong_method": (405, "method_not_allowed"),
}
TOLD = {"url_ping", "rest_ping", "http_contract"}


@pytest.mark.parametrize("name", EVENTS)
def test_a_recorded_event_is_answered_as_it_is_owed(pipeline: Function, name: str) -> None:
    status, code = REFUSED.get(name, (200, None))

    envelope = pipeline.invoke(EVENTS[name])

    assert envelope["statusCode"] == status
    if code:
        assert json.loads(envelope["body"])["code"] == code
        assert json.loads(envelope["body"])["request_id"] == envelope["headers"]["X-Request-Id"]
    elif name not in TOLD:
        assert predictions(envelope).tobytes() == np.float32(11.9538765).tobytes()


def test_the_contract_tells_the_raw_columns_and_lambdas_limit(pipeline: Function) -> None:
    told = json.loads(pipeline.invoke(EVENTS["http_contract"])["body"])

    assert told["reads"][0] == "sex"
    assert told["max_body_bytes"] == LAMBDA_LIMIT


def test_an_id_that_newer_runtimes_send_comes_back(pipeline: Function) -> None:
    pipeline.api.events.put(
        ({"Lambda-Runtime-Aws-Request-Id": "one", "Lambda-Runtime-Invocation-Id": "inner"}, EVENTS["direct_rows"])
    )

    path, headers, _ = pipeline.api.answers.get(timeout=60)

    assert (path, headers["Lambda-Runtime-Invocation-Id"]) == ("/invocation/one/response", "inner")


def test_a_response_that_the_platform_refuses_is_logged_and_the_next_event_answered(pipeline: Function) -> None:
    pipeline.api.status = 413
    pipeline.invoke(EVENTS["direct_rows"])
    pipeline.api.status = 202

    assert pipeline.invoke(EVENTS["direct_rows"])["statusCode"] == 200
    assert any("answered 413" in line["message"] for line in pipeline.lines())


def test_every_request_has_a_line_in_the_log_with_lambdas_id(pipeline: Function) -> None:
    request_id = pipeline.invoke(EVENTS["direct_rows"])["headers"]["X-Request-Id"]

    lines = [line for line in pipeline.lines() if line.get("request_id") == request_id]
    assert [(line["message"], line["status"], line["stage"]) for line in lines] == [("request", 200, "pipeline")]


def test_a_fault_of_the_stage_is_answered_and_the_function_lives(tmp_path: Path) -> None:
    failing = json.dumps({"body": "fail", "headers": {"content-type": "text/csv"}}).encode()

    with function(tmp_path / "log", ECHO, {}) as echo:
        failed, fine = echo.invoke(failing), echo.invoke(b"[1]")

    assert (failed["statusCode"], json.loads(failed["body"])["code"]) == (500, "internal_error")
    assert (fine["statusCode"], fine["body"]) == (200, "[1]")


def test_sigterm_ends_the_function_at_once(tmp_path: Path) -> None:
    with function(tmp_path / "log", ECHO, {}) as echo:
        echo.invoke(b"[1]")
        echo.process.send_signal(signal.SIGTERM)

        assert echo.process.wait(60) == 0


def test_a_platform_that_has_no_more_events_ends_the_function(tmp_path: Path) -> None:
    with function(tmp_path / "log", ECHO, {}) as echo:
        echo.invoke(b"[1]")
        echo.api.events.put(None)

        assert echo.process.wait(60) == 1
        assert "500 instead of an event" in echo.lines()[-1]["exception"]


@pytest.mark.parametrize(
    ("env", "reason"),
    [({"SM_MODEL_DIR": "/nonexistent"}, "the log names the reason"), ({"PORT": "abc"}, "PORT: expected")],
)
def test_what_cannot_start_says_so_to_the_platform(tmp_path: Path, env: dict[str, str], reason: str) -> None:
    with function(tmp_path / "log", "pipeline", env) as broken:
        path, headers, body = broken.api.answers.get(timeout=60)

        assert broken.process.wait(60) == 1
    assert path == "/init/error"
    assert headers["Lambda-Runtime-Function-Error-Type"] == json.loads(body)["errorType"] == "Runtime.CannotLoad"
    assert reason in json.loads(body)["errorMessage"]
    assert broken.lines()[-1]["level"] == "CRITICAL"
    assert "exception" not in broken.lines()[-1]


def test_it_needs_no_other_process_and_listens_nowhere(pipeline: Function) -> None:
    pipeline.invoke(EVENTS["direct_rows"])
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {fields[9] for fields in listening if fields[3] == "0A"}

    def held() -> set[str]:
        links = (str(path.readlink()) for path in Path(f"/proc/{pipeline.process.pid}/fd").iterdir())
        return {link[8:-1] for link in links if link.startswith("socket:[")}

    children = Path(f"/proc/{pipeline.process.pid}/task/{pipeline.process.pid}/children").read_text()

    assert children == ""
    wait_until(lambda: not held() & inodes, "no listening socket")


def test_an_event_of_a_queue_is_an_error_of_the_function_so_that_its_records_are_not_lost(pipeline: Function) -> None:
    event = json.dumps({"Records": [{"messageId": "1", "body": "M,0.4", "eventSource": "aws:sqs"}]}).encode()
    pipeline.api.events.put(({"Lambda-Runtime-Aws-Request-Id": "q"}, event))

    path, headers, body = pipeline.api.answers.get(timeout=60)

    assert path == "/invocation/q/error"
    assert headers["Lambda-Runtime-Function-Error-Type"] == "Function.NoRequest"
    assert json.loads(body)["errorType"] == "Function.NoRequest"
    assert "got an event of aws:sqs" in json.loads(body)["errorMessage"]
    assert pipeline.invoke(EVENTS["direct_rows"])["statusCode"] == 200
