"""What no stage sees: refusals by the server itself, large bodies, logs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.servers import ECHO, Answer, Server, running, wait_until

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    """A container behind nginx that takes bodies of a thousand bytes."""
    with running(ECHO, {"MAX_CONTENT_LENGTH": "1000"}) as server:
        yield server


def test_an_oversize_body_is_refused_with_its_limit(small):
    answer = small.invoke(b"x" * 1001)

    assert_refused(answer, 413, "payload_too_large")
    assert "1000" in answer.json["message"]
    assert small.invoke(b"x" * 1000).status == 200


def test_an_oversize_chunked_body_is_refused(small):
    chunk = b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"

    assert_refused(parse(small.send_raw(head + chunk)), 413, "payload_too_large")


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "bad_request"),
        (b"GET /ping HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, "bad_request"),
        (b"GET /ping HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 9000 + b"\r\n\r\n", 400, "bad_request"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"),
        (b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "not_implemented"),
    ],
    ids=["request line", "no host", "content length", "long header", "long target", "transfer coding"],
)
def test_what_is_not_http_is_refused_as_json(small, message, status, code):
    assert_refused(parse(small.send_raw(message)), status, code)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("POST", "/invocations/", 404, "not_found"),
        ("GET", "/models", 404, "not_found"),
        ("GET", "/invocations", 405, "method_not_allowed"),
        ("DELETE", "/invocations", 405, "method_not_allowed"),
        ("PUT", "/ping", 405, "method_not_allowed"),
        ("TRACE", "/ping", 405, "method_not_allowed"),
        ("TRACE", "/invocations", 405, "method_not_allowed"),
    ],
)
def test_unknown_paths_and_methods_are_refused(front, server_of, method, path, status, code):
    answer = server_of(front).request(method, path)

    assert_refused(answer, status, code)
    if status == 405:
        assert set(answer.headers["Allow"].split(", ")) <= {"GET", "HEAD", "POST"}


@pytest.mark.parametrize("path", ["/ping", "/execution-parameters", "/contract", "/openapi.json"])
def test_head_is_answered_as_get_without_the_body(front, server_of, path):
    server = server_of(front)

    head, get = server.request("HEAD", path), server.request("GET", path)

    assert (head.status, get.status, head.body) == (200, 200, b"")
    assert head.headers["Content-Length"] == str(len(get.body))
    assert head.content_type == get.content_type


def test_no_answer_tells_a_version(front, server_of):
    server = server_of(front)
    answers = [server.ping(), server.invoke(b"hello"), server.request("GET", "/nowhere")]

    assert not any(character.isdigit() for answer in answers for character in answer.headers.get("Server", ""))


def test_a_body_of_20_mb_passes(front, server_of):
    body = b"0.455,0.365,0.095,0.514\n" * (20_000_000 // 24)

    answer = server_of(front).invoke(body, "text/csv")

    assert answer.status == 200
    assert answer.body == body


def test_a_body_above_the_default_limit_is_refused(server_of):
    answer = server_of({"MODEL_SERVER_NGINX": "on"}).invoke(b"x" * (25 * MIB + 1))

    assert_refused(answer, 413, "payload_too_large")


def test_a_failing_stage_answers_500_without_its_inside(front, server_of):
    answer = server_of(front).invoke(b"fail")

    assert_refused(answer, 500, "internal_error")
    assert b"the stage failed" not in answer.body


def test_every_log_line_is_one_json_object_and_holds_no_payload(front):
    with running(ECHO, front) as server:
        asked = server.invoke(b"hello", X_Amzn_SageMaker_Inference_Id="order-66")
        server.invoke(b'fail secret\n{"message": "forged"}', X_Request_Id="failed-1")
        server.invoke(b"secret" * 1000)
        server.request("GET", "/x%0a%7B%22message%22:%22forged%22%7D", headers={"X-Request-Id": "path-1"})
        server.send_raw(
            b'GET /ping HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\r\n {"message": "forged"}\r\nConnection: close\r\n\r\n'
        )
        server.send_raw(b'GET /invocations HTTP/1.0\r\nX-Request-Id: a\n{"message": "forged"}\r\n\r\n')
        server.send_raw(b'{"message": "forged"}\r\n\r\n')
        for worker in server.workers():
            os.kill(worker, signal.SIGKILL)
        provoke_nginx(server)
        wait_until(lambda: server.pings() == 200, "/ping to answer 200")
        code = server.stop()
        lines, output = server.lines(), server.output()

    requests = [line for line in lines if line["message"] == "request"]
    assert code == 0
    assert {"time", "level", "stage", "logger", "message"} <= set.intersection(*map(set, lines))
    assert asked.headers["X-Request-Id"] == "order-66"
    assert [line["status"] for line in requests if line["request_id"] == "order-66"] == [200]
    assert [line["status"] for line in requests if line["request_id"] == "failed-1"] == [500]
    assert all(line["request_id"] for line in requests)
    assert not any(line["message"] == "forged" for line in lines)
    assert "secret" not in output
    assert ("nginx" in {line["logger"] for line in lines}) == (front["MODEL_SERVER_NGINX"] == "on")
    exits = [line for line in lines if line["message"].startswith("Worker exiting")]
    assert not any("request_id" in line for line in exits)


@pytest.fixture(scope="module")
def server_of() -> Iterator[object]:
    """A container with nginx and one without, each started once."""
    with running(ECHO) as behind_nginx, running(ECHO, {"MODEL_SERVER_NGINX": "off"}) as alone:
        yield lambda front: behind_nginx if front["MODEL_SERVER_NGINX"] == "on" else alone


def provoke_nginx(server: Server) -> None:
    """A request that kills its worker makes nginx log an error; without nginx the connection breaks."""
    try:
        server.invoke(b"die")
    except OSError:
        return


def parse(message: bytes) -> Answer:
    head, _, body = message.partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    return Answer(int(status_line.split()[1]), dict(line.split(": ", 1) for line in lines), body)


def assert_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.content_type) == (status, "application/json")
    assert answer.json["code"] == code
    assert answer.json["message"]
    assert answer.json.get("request_id") or answer.headers["Server"] == "nginx"
    assert len(json.dumps(answer.json)) < 2048
