"""What an event of Lambda asks for, and the envelope that it is answered with."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
from collections.abc import Iterator
from contextvars import Context
from typing import Any

import pytest

from serving import logs
from serving.app import create_app
from serving.errors import BadPayload
from serving.lambda_events import NoRequest, Request, answer, read_event
from serving.lambda_runtime import respond
from serving.payload import JSON, Payload
from serving.settings import LAMBDA_LIMIT, MIB, Settings
from tests.lambda_api import EVENTS

ROW = b"M,0.605,0.455,0.16,1.1035,0.421,0.3015,0.325"


def said(payload: Payload) -> Payload:
    """A stage that tells what it was sent; one row of bytes is answered as it is."""
    if payload.content_type == "image/png":
        return Payload(payload.body, "image/png")
    if payload.content_type == "text/grow":
        return Payload(b'"' * int(payload.body), "text/grow")
    told = {"body": payload.body.decode(), "type": payload.content_type, "accept": payload.accept}
    return Payload(json.dumps(told).encode(), JSON)


NESTED: Any = 1
for _ in range(300):
    NESTED = [NESTED]
APP = create_app(said, Settings(stage="echo"))


def asked(event: dict[str, Any]) -> dict[str, Any]:
    """The envelope of the response to an event."""
    envelope: dict[str, Any] = json.loads(respond(APP, json.dumps(event).encode(), "the-id"))
    assert envelope.keys() == {"statusCode", "headers", "body", "isBase64Encoded"}
    return envelope


def v2(path: str = "/invocations", method: str = "POST", **more: Any) -> dict[str, Any]:
    return {"rawPath": path, "requestContext": {"http": {"method": method, "path": path}}} | more


def v1(path: str = "/invocations", method: str = "POST", **more: Any) -> dict[str, Any]:
    return {"path": path, "httpMethod": method, "requestContext": {"stage": "prod"}} | more


@pytest.mark.parametrize(
    "name", ["direct_csv", "direct_base64", "url_csv", "url_npy", "http_csv", "rest_csv", "rest_base64", "rest_npy"]
)
def test_every_envelope_brings_the_same_row(name: str) -> None:
    request = read_event(EVENTS[name])

    assert (request.method, request.path, request.body) == ("POST", "/invocations", ROW)
    assert request.headers["content-type"].startswith("text/csv")


def test_every_recorded_event_is_read_and_answered() -> None:
    answers = {name: json.loads(respond(APP, event, "the-id")) for name, event in EVENTS.items()}

    assert len(answers) >= 25
    assert {name for name, found in answers.items() if found["statusCode"] >= 500} == set()


@pytest.mark.parametrize(
    "event", [b'[["M",-0,1e400]]', b'{"instances":[[1]]}', b"{}", b"null", b"", b"{no json", b'"x"']
)
def test_whatever_is_no_envelope_is_the_payload_itself_byte_for_byte(event: bytes) -> None:
    assert read_event(event) == Request(event, {"content-type": JSON}, "POST", "/invocations")


@pytest.mark.parametrize("row", [{"body": 1.5, "length": 2}, {"requestContext": "a", "length": 2}])
def test_a_row_with_a_column_of_an_envelopes_name_is_a_row(row: dict[str, Any]) -> None:
    assert read_event(json.dumps(row).encode()).body == json.dumps(row).encode()


@pytest.mark.parametrize("body", [None, ""])
def test_a_body_that_is_null_is_empty(body: str | None) -> None:
    assert read_event(json.dumps(v2(body=body)).encode()).body == b""
    assert read_event(json.dumps(v1()).encode()).body == b""


def test_a_body_that_is_no_text_is_written_as_json() -> None:
    assert json.loads(read_event(b'{"body":{"instances":[[1]]}}').body) == {"instances": [[1]]}


@pytest.mark.parametrize("event", [v2, v1])
@pytest.mark.parametrize("body", ["M,0.4", "TSww=LjQ", "é"])
def test_a_body_that_is_said_to_be_base64_and_is_not_is_refused(event: Any, body: str) -> None:
    with pytest.raises(BadPayload, match="base64"):
        read_event(json.dumps(event(body=body, isBase64Encoded=True)).encode())

    refused = asked(event(body=body, isBase64Encoded=True))
    assert refused["statusCode"] == 400
    assert json.loads(refused["body"])["request_id"] == "the-id"


@pytest.mark.parametrize(
    ("path", "within"),
    [("/ping", "/ping"), ("/prod/ping", "/ping"), ("/v1/abalone/ping", "/ping"), ("//ping", "/ping"), ("/prod/", "/")],
)
def test_what_stands_before_the_paths_last_segment_is_the_apis(path: str, within: str) -> None:
    assert read_event(json.dumps(v2(path)).encode()).path == within
    assert read_event(json.dumps(v1(path)).encode()).path == within


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (v2("/prod/ping", "GET"), 200),
        (v1("/ping", "GET"), 200),
        (v2("/prod/execution-parameters", "GET"), 200),
        (v2("/", "GET"), 404),
        (v1("/health", "GET"), 404),
        (v1("/invocations", "DELETE"), 405),
        (v2("/invocations", "post"), 405),
        (v1("/ping", "get"), 405),
        (v2("/invocations", headers={"content-encoding": "gzip"}, body="x"), 415),
    ],
)
def test_a_request_is_answered_as_a_container_answers_it(event: dict[str, Any], status: int) -> None:
    assert asked(event)["statusCode"] == status


@pytest.mark.parametrize(
    "event",
    [
        v2(headers={"content-type": "text/csv", "accept": "a/b"}, body="x"),
        v1(headers={"Content-Type": "text/csv", "Accept": "a/b"}, body="x"),
        v1(headers=None, multiValueHeaders={"Content-Type": ["text/csv"], "Accept": ["a/b"]}, body="x"),
        {"body": "x", "headers": {"CONTENT-TYPE": "text/csv", "Accept": "a/b"}},
    ],
)
def test_headers_are_found_whatever_their_case_and_place(event: dict[str, Any]) -> None:
    answered = asked(event)

    assert json.loads(answered["body"]) == {"body": "x", "type": "text/csv", "accept": "a/b"}
    assert answered["isBase64Encoded"] is False


def test_several_values_of_a_header_are_one_list() -> None:
    several = v1(headers={"Accept": "b/b"}, multiValueHeaders={"accept": ["a/a", "b/b"]}, body="x")

    assert json.loads(asked(several)["body"])["accept"] == "a/a, b/b"


def test_a_missing_content_type_is_json_for_who_invokes_directly_and_missing_otherwise() -> None:
    assert json.loads(asked({"body": "x"})["body"])["type"] == JSON
    assert json.loads(asked(v2(body="x"))["body"])["type"] == ""
    assert json.loads(asked(v1(body="x", headers=None))["body"])["type"] == ""


@pytest.mark.parametrize("name", ["transfer-encoding", "content-length", "expect", "connection", "x_under"])
def test_what_framed_the_request_on_its_way_does_not_count_here(name: str) -> None:
    found = asked(v2(headers={"content-type": "text/csv", name: "7"}, body="x"))

    assert json.loads(found["body"])["body"] == "x"


def test_an_answer_that_is_no_text_is_in_base64() -> None:
    png = b"\x89PNG\r\n"
    found = asked(v2(headers={"content-type": "image/png"}, body=base64.b64encode(png).decode(), isBase64Encoded=True))

    assert found["isBase64Encoded"] is True
    assert base64.b64decode(found["body"]) == png
    assert found["headers"]["Content-Type"] == "image/png"


@pytest.mark.parametrize("fails", [False, True])
def test_what_an_application_opened_for_an_answer_is_closed(fails: bool) -> None:
    closed: list[bool] = []

    class Chunks:
        def __iter__(self) -> Iterator[bytes]:
            yield b"1"
            if fails:
                raise OSError("the rest is gone")

        def close(self) -> None:
            closed.append(True)

    def app(_environ: object, start_response: Any) -> Chunks:
        start_response("200 OK", [])
        return Chunks()

    with pytest.raises(OSError, match="the rest is gone") if fails else contextlib.nullcontext():
        assert json.loads(answer(app, Request(b""), "id"))["body"] == "1"
    assert closed == [True]


def test_the_callers_request_id_goes_before_lambdas() -> None:
    assert asked(v2(body="x"))["headers"]["X-Request-Id"] == "the-id"
    assert asked(v2(headers={"x-request-id": "mine"}, body="x"))["headers"]["X-Request-Id"] == "mine"


@pytest.mark.parametrize(
    "event",
    [
        {"requestContext": {}},
        {"requestContext": {"http": 3}, "headers": [1], "body": 7, "rawPath": [1], "httpMethod": {}},
        {"requestContext": {}, "headers": {"a": None, "b": {"c": 1}, "é": "ß"}, "multiValueHeaders": {"a": "b"}},
        {"requestContext": {}, "isBase64Encoded": "yes", "body": []},
        {"body": {}, "headers": 4},
        v1("/invocations", "PO ST\r\n"),
        v2("/invocations\r\nX: y", headers={"content-type": "a/b\r\nx: y"}),
        v2("/\u20ac", "P\u20acST"),
        v2("/%ed%a0%80"),
        v2(
            headers={"content-type": "\u20ac", "accept": "\u20ac", "cookie": "\u20ac", "x-request-id": "\u20ac"},
            body="x",
        ),
        v2(body=NESTED),
        {"body": NESTED},
    ],
)
def test_an_event_of_an_odd_shape_is_refused_or_answered_and_never_a_fault(event: dict[str, Any]) -> None:
    assert asked(event)["statusCode"] < 500


def test_an_event_larger_than_lambda_takes_is_refused_with_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> tuple[Any, str]:
        return json.loads(respond(APP, b"x" * (LAMBDA_LIMIT + 1), "the-id")), logs.request_id.get()

    with caplog.at_level(logging.INFO, logger="serving.lambda"):
        found, left = Context().run(refuse)

    assert left == ""
    assert [record.fields for record in caplog.records] == [  # type: ignore[attr-defined]
        {"status": 413, "code": "payload_too_large", "bytes_in": LAMBDA_LIMIT + 1}
    ]
    assert found["headers"]["X-Request-Id"] == json.loads(found["body"])["request_id"] == "the-id"
    assert found["statusCode"] == 413
    assert json.loads(found["body"])["code"] == "payload_too_large"
    assert str(LAMBDA_LIMIT) in json.loads(found["body"])["message"]


def test_an_event_as_large_as_lambda_takes_is_taken() -> None:
    event = json.dumps(v2(headers={"content-type": "text/grow"}, body="1")).encode()

    found = json.loads(respond(APP, event.ljust(LAMBDA_LIMIT), "the-id"))

    assert (found["statusCode"], found["body"]) == (200, '"')


def test_an_answer_larger_than_lambda_passes_on_is_refused_with_the_limit() -> None:
    grown = [v2(headers={"content-type": "text/grow"}, body=str(size * MIB)) for size in (2, 4)]  # a quote is two bytes

    fits, refused = map(asked, grown)

    assert (fits["statusCode"], len(fits["body"])) == (200, 2 * MIB)
    assert refused["statusCode"] == 413
    assert json.loads(refused["body"])["code"] == "response_too_large"
    assert "send fewer rows" in json.loads(refused["body"])["message"]


def test_in_lambda_the_limits_are_lambdas() -> None:
    settings = Settings.from_env({"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"})

    assert (settings.max_body, settings.max_response) == (LAMBDA_LIMIT, LAMBDA_LIMIT)
    assert Settings.from_env({}).max_response == 0


def test_a_fault_of_the_stage_is_500_and_tells_nothing() -> None:
    def broken(_payload: Payload) -> Payload:
        raise RuntimeError("the secret of the inside")

    found = json.loads(answer(create_app(broken), Request(b"[]"), "the-id"))

    assert found["statusCode"] == 500
    assert "secret" not in found["body"]
    assert json.loads(found["body"])["request_id"] == "the-id"


def test_an_event_is_a_request_of_its_own_that_came_whole() -> None:
    framing = ("connection", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade", "content-length")
    headers = dict.fromkeys(framing, "theirs") | {"content-type": "text/csv", "accept": "a/b", "x_under": "no"}
    given: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        given.append(environ)
        start_response("204 No Content", [("Content-Length", "0"), ("X-A", "b")])
        return [b"one", b"two"]

    envelope = json.loads(answer(app, Request(b"abc", headers, "PUT", "/é"), "the-id"))

    (environ,) = given
    assert {name: value for name, value in environ.items() if name.startswith(("HTTP_", "CONTENT_"))} == {
        "HTTP_HOST": "localhost",
        "HTTP_ACCEPT": "a/b",
        "HTTP_X_REQUEST_ID": "the-id",
        "CONTENT_TYPE": "text/csv",
        "CONTENT_LENGTH": "3",
    }
    assert (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == ("PUT", "/é".encode().decode("latin-1"))
    assert (environ["SERVER_PROTOCOL"], environ["QUERY_STRING"], environ["SCRIPT_NAME"]) == ("HTTP/1.1", "", "")
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"], environ["wsgi.url_scheme"]) == ("localhost", "80", "http")
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.input_terminated"] is True
    assert [environ[f"wsgi.{name}"] for name in ("multithread", "multiprocess", "run_once")] == [False] * 3
    assert envelope == {"statusCode": 204, "headers": {"X-A": "b"}, "body": "onetwo", "isBase64Encoded": False}


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (v2(body="é", isBase64Encoded=True), "expected a body in base64, as isBase64Encoded says"),
        (v2(body=NESTED), "expected JSON of ordinary depth"),
    ],
)
def test_a_body_that_is_not_what_its_envelope_says_is_told_so(event: dict[str, Any], message: str) -> None:
    assert json.loads(asked(event)["body"])["message"] == message


@pytest.mark.parametrize(
    ("event", "source"),
    [
        ({"Records": [{"messageId": "1", "body": "1,2", "eventSource": "aws:sqs"}]}, "aws:sqs"),
        ({"Records": [{"kinesis": {"data": "MQ=="}, "eventSource": "aws:kinesis"}]}, "aws:kinesis"),
        ({"Records": [{"s3": {}, "eventSource": "aws:s3"}]}, "aws:s3"),
        ({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "1"}}]}, "aws:sns"),
        ({"eventSource": "aws:kafka", "records": {"a-0": [{"value": "MQ=="}]}}, "aws:kafka"),
        ({"deliveryStreamArn": "arn", "records": [{"recordId": "1", "data": "MQ=="}]}, "Data Firehose"),
        ({"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}, "EventBridge"),
    ],
)
def test_records_that_another_service_waits_for_are_no_request(event: dict[str, Any], source: str) -> None:
    with pytest.raises(NoRequest, match=f"expected a request or a payload, got an event of {source}: "):
        respond(APP, json.dumps(event).encode(), "the-id")


@pytest.mark.parametrize(
    "event", [{"Records": [[1]]}, {"Records": []}, {"records": [1]}, {"eventSource": "x"}, {"detail-type": "x"}]
)
def test_a_row_with_such_a_column_is_a_payload(event: dict[str, Any]) -> None:
    assert json.loads(asked(event)["body"])["body"] == json.dumps(event)
