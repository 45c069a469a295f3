"""Any stage behind HTTP. The ids are rules of the corpus (tests/corpus)."""

from __future__ import annotations

import gzip
import io
import json
import logging
import time
from collections.abc import Iterator
from contextvars import Context
from functools import partial

import pytest
from flask.testing import FlaskClient

from serving import logs, metrics
from serving.app import create_app
from serving.errors import (
    BadPayload,
    ContractMismatch,
    NotAcceptable,
    PayloadTooLarge,
    ServingError,
    UnsupportedMediaType,
)
from serving.payload import Payload, Stage, run_serially
from serving.settings import MIB, Settings

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
REFUSALS = {
    "400": BadPayload("expected a number, got 'abc'", code="not_a_number", row=3, column="length"),
    "406": NotAcceptable("expected Accept to allow text/csv, got image/png"),
    "409": ContractMismatch("expected features of training run a, got those of b"),
    "413": PayloadTooLarge("expected at most 5 MB"),
    "415": UnsupportedMediaType("expected Content-Type text/csv, got text/plain"),
    "long": BadPayload("x" * 64, row=10**9, column="ж" * 1_000_000),
}


def shout(payload: Payload) -> Payload:
    """A stage that answers in capitals, says what it was asked, and fails on demand."""
    text = payload.body.decode()
    if text in REFUSALS:
        raise REFUSALS[text]
    if text == "crash":
        raise RuntimeError("the secret of the inside")
    return Payload(text.upper().encode(), payload.content_type + "; asked=" + (payload.accept or "nothing"))


def client_of(stage: Stage = shout, ready: bool = True, **settings: int) -> FlaskClient:
    return create_app(stage, Settings(**settings), lambda: ready).test_client()  # type: ignore[arg-type]


@pytest.fixture
def client() -> FlaskClient:
    return client_of()


def test_the_stage_gets_the_request_and_its_payload_is_the_response(client: FlaskClient) -> None:
    response = client.post("/invocations?ignored=1", data=b"abc", headers={"Content-Type": "text/x", "Accept": "a/b"})

    assert response.status_code == 200
    assert response.data == b"ABC"
    assert response.headers["Content-Type"] == "text/x; asked=a/b"


def test_a_form_is_handed_on_unparsed(client: FlaskClient) -> None:
    response = client.post("/invocations", data=b"a=1&b=2", content_type="application/x-www-form-urlencoded")

    assert response.data == b"A=1&B=2"


def test_only_the_last_of_several_stages_sees_what_the_client_accepts() -> None:
    client = client_of(partial(run_serially, [shout, shout]))

    response = client.post("/invocations", data=b"abc", headers={"Content-Type": "t/x", "Accept": "a/b"})

    assert response.headers["Content-Type"] == "t/x; asked=nothing; asked=a/b"


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_is_short_json_with_its_status(client: FlaskClient, kind: str) -> None:
    error: ServingError = REFUSALS[kind]

    response = client.post("/invocations", data=kind)

    assert response.status_code == (400 if kind == "long" else int(kind))
    assert response.mimetype == "application/json"
    assert len(response.data) < 2048
    body = json.loads(response.data)
    assert {"code", "message", "request_id"} <= body.keys()
    assert (body["code"], body["message"], body.get("row")) == (error.code, error.message, error.row)
    assert body["request_id"] == response.headers["X-Request-Id"]


def test_our_own_fault_is_logged_once_and_tells_nothing(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response = client.post("/invocations", data="crash")

    assert response.status_code == 500
    assert response.json is not None
    assert response.json["code"] == "internal_error"
    assert b"secret" not in response.data
    assert b"RuntimeError" not in response.data
    assert [record.exc_text for record in caplog.records if "secret" in (record.exc_text or "")] != []
    assert len([record for record in caplog.records if record.exc_info]) == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        *(
            (method, "/invocations", 405, {"POST"}) for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS")
        ),  # H24, H25
        *((method, "/ping", 405, {"GET", "HEAD"}) for method in ("POST", "OPTIONS")),  # H26
        ("POST", "/execution-parameters", 405, {"GET", "HEAD"}),
        *(
            ("GET", path, 404, set()) for path in ("/", "/pingfoo", "/ping/", "/ping/../invocations", "/static/x")
        ),  # H28
        ("GET", "/../../etc/passwd", 404, set()),  # H30
        ("GET", "/invocations%00", 404, set()),
        ("CONNECT", "/ping", 405, {"GET", "POST"}),
    ],
)
def test_other_paths_and_methods_are_refused_as_json(
    client: FlaskClient, method: str, path: str, status: int, allow: set[str]
) -> None:
    response = client.open(path, method=method)

    assert response.status_code == status
    assert response.json is not None
    assert response.json["request_id"] == response.headers["X-Request-Id"]
    assert set(response.headers.get("Allow", "").replace(" ", "").split(",")) - {""} == allow
    assert json.loads(response.data).keys() == {"code", "message", "request_id"}
    assert len(response.data) < 2048


@pytest.mark.parametrize(("method", "path"), [("GET", "//ping"), ("POST", "///invocations")])
def test_leading_slashes_are_one(client: FlaskClient, method: str, path: str) -> None:  # H29
    response = client.open("/", method=method, environ_overrides={"PATH_INFO": path})

    assert response.status_code == 200


def test_a_body_up_to_the_limit_passes_and_one_byte_more_does_not() -> None:  # H5, C64
    client = client_of(max_body=10)

    passed = client.post("/invocations", data=b"x" * 10)
    refused = client.post("/invocations", data=b"x" * 11)

    assert passed.status_code == 200
    assert refused.status_code == 413
    assert refused.json is not None
    assert refused.json["code"] == "payload_too_large"
    assert refused.json["message"] == "expected a body of at most 10 bytes, got 11"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip"])
def test_a_compressed_body_is_refused_with_what_is_accepted(client: FlaskClient, coding: str) -> None:  # M11
    response = client.post("/invocations", data=gzip.compress(b"abc"), headers={"Content-Encoding": coding})

    assert response.status_code == 415
    assert response.headers["Accept-Encoding"] == "identity"
    assert response.json is not None
    assert response.json["code"] == "unsupported_encoding"


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/invocations", {"Content-Encoding": "gzip"}),
        ("POST", "/invocations", {"Content-Length": "65537"}),
        ("POST", "/nowhere", {}),
        ("PUT", "/invocations", {}),
    ],
)
def test_what_a_refused_request_sends_is_read_so_that_its_client_sees_why(
    method: str, path: str, headers: dict[str, str]
) -> None:
    body = io.BytesIO(b"x" * 65_537)

    response = client_of(max_body=65_536).open(
        path, method=method, input_stream=body, headers={"Content-Length": "65537"} | headers
    )

    assert response.status_code >= 400
    assert body.tell() == 65_537


@pytest.mark.parametrize("coding", ["identity", "", "Identity"])
def test_a_body_that_is_said_to_be_plain_passes(client: FlaskClient, coding: str) -> None:  # M12
    assert client.post("/invocations", data=b"abc", headers={"Content-Encoding": coding}).data == b"ABC"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/invocations"), ("GET", "/ping"), ("GET", "/execution-parameters"), ("GET", "/nowhere")],
)
def test_every_request_is_framed_as_http_has_it(client: FlaskClient, method: str, path: str) -> None:
    response = client.open(path, method=method, headers={"Transfer-Encoding": "gzip"})

    assert (response.status_code, response.json["code"]) == (501, "not_implemented")  # type: ignore[index]


@pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("POST", "/invocations"), ("GET", "/ping")])
def test_the_id_of_a_request_is_in_no_line_behind_it(client: FlaskClient, method: str, path: str) -> None:
    def ask() -> str:
        client.open(path, method=method, headers={"X-Request-Id": "mine"})
        return logs.request_id.get()

    assert Context().run(ask) == ""


def test_an_answer_says_how_long_it_took(client: FlaskClient) -> None:
    begun = time.perf_counter()
    timing = client.post("/invocations", data=b"abc").headers["Server-Timing"]
    milliseconds = (time.perf_counter() - begun) * 1000

    name, _, duration = timing.partition(";dur=")
    assert name == "total"
    assert 0 < float(duration) <= milliseconds


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Amzn-SageMaker-Inference-Id": "one", "X-Request-Id": "two"}, "one"),
        ({"X-Request-Id": "two"}, "two"),
        ({"X-Amzn-SageMaker-Inference-Id": "with space", "X-Request-Id": "two"}, "two"),
        ({"X-Request-Id": "x" * 128}, "x" * 128),
    ],
)
def test_the_client_names_its_request(client: FlaskClient, headers: dict[str, str], expected: str) -> None:
    assert client.post("/invocations", data=b"abc", headers=headers).headers["X-Request-Id"] == expected


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "é"])
def test_a_request_without_a_usable_name_gets_one(client: FlaskClient, given: str) -> None:
    made = {
        client.post("/invocations", data=b"a", headers={"X-Request-Id": given}).headers["X-Request-Id"] for _ in "ab"
    }

    assert len(made) == 2
    assert all(len(name) == 32 and name.isalnum() for name in made)


@pytest.mark.parametrize("body", ["abc", "400", "crash"])
def test_custom_attributes_come_back(client: FlaskClient, body: str) -> None:  # H41
    response = client.post("/invocations", data=body, headers={ATTRIBUTES: 'trace=1; user="x y"'})

    assert response.headers[ATTRIBUTES] == 'trace=1; user="x y"'


@pytest.mark.parametrize("attributes", ["x" * 1025, "é", "a\tb", ""])
def test_attributes_that_sagemaker_would_not_send_are_dropped(client: FlaskClient, attributes: str) -> None:
    assert ATTRIBUTES not in client.post("/invocations", data=b"abc", headers={ATTRIBUTES: attributes}).headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1"},
        {"If-None-Match": "*"},
        {"Accept-Language": "xx"},
        {"Accept-Charset": "utf-16"},
        {"Upgrade": "h2c"},
        {f"X-Amzn-SageMaker-{name}": "x" * 1024 for name in ("Target-Model", "Target-Variant", "Session-Id")},
    ],
)
def test_headers_that_mean_nothing_here_change_nothing(
    client: FlaskClient, headers: dict[str, str]
) -> None:  # M22, H40
    response = client.post("/invocations", data=b"abc", headers=headers)

    assert (response.status_code, response.data) == (200, b"ABC")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_ready_server_answers_a_ping_with_nothing(client: FlaskClient, method: str) -> None:  # H26, H37
    response = client.open("/ping", method=method, data=b"ignored")

    assert (response.status_code, response.data) == (200, b"")


def test_a_server_that_is_not_ready_says_so() -> None:  # H42
    response = client_of(ready=False).get("/ping")

    assert response.status_code == 503
    assert response.json is not None
    assert response.json["code"] == "not_ready"


@pytest.mark.parametrize(("max_body", "megabytes"), [(6 * MIB, 6), (25 * MIB, 25), (500 * MIB, 100)])
def test_batch_transform_learns_what_the_container_takes(max_body: int, megabytes: int) -> None:
    response = client_of(max_body=max_body, workers=3).get("/execution-parameters")

    assert response.json == {
        "MaxConcurrentTransforms": 3,
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": megabytes,
    }


@pytest.mark.parametrize(
    ("body", "media", "answered"),
    [
        (b'{"RESULT":[1]}', "application/json", b'{"RESULT":[1]}\n'),
        (b"1\n2\n", "text/csv", b"1\n2\n"),
        (b"1\n", "application/jsonlines", b"1\n"),
        (b"\x93NUMPY", "application/x-npy", b"\x93NUMPY"),
    ],
)
def test_a_piece_of_a_batch_ends_with_one_newline(body: bytes, media: str, answered: bytes) -> None:  # P23
    piece = create_app(lambda _: Payload(body, media), Settings(batch=True)).test_client()
    whole = create_app(lambda _: Payload(body, media), Settings()).test_client()

    assert piece.post("/invocations", data=b"x").data == answered
    assert whole.post("/invocations", data=b"x").data == body


def test_a_fault_beside_the_stage_is_answered_as_the_stages_are(caplog: pytest.LogCaptureFixture) -> None:
    def ready() -> bool:
        raise RuntimeError("the secret of the inside")

    response = create_app(shout, Settings(), ready).test_client().get("/ping")

    assert (response.status_code, response.json["code"]) == (500, "internal_error")
    assert b"secret" not in response.data
    assert "secret" in caplog.text


@pytest.mark.parametrize(("given", "logged"), [(255, 255), (256, 256), (257, 256)])
def test_256_characters_of_a_path_are_logged(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, given: int, logged: int
) -> None:
    with caplog.at_level(logging.INFO, logger="serving.app"):
        client.get("/".ljust(given, "n"))

    (record,) = caplog.records
    assert len(record.fields["path"]) == logged  # type: ignore[attr-defined]


def test_one_line_is_logged_a_request_and_none_for_a_ping_that_passed(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="serving.app"):
        client.get("/ping")
        client.post("/invocations", data=b"abc")
        client.post("/invocations", data=b"400")

    fields = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
    assert [(line["path"], line["status"], line.get("code")) for line in fields] == [
        ("/invocations", 200, None),
        ("/invocations", 400, "not_a_number"),
    ]
    assert (fields[0]["bytes_in"], fields[0]["bytes_out"]) == (3, 3)
    assert not any("abc" in str(line) for line in fields)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", "", "404", "not_found"),
        ("DELETE", "/invocations", "", "405", "method_not_allowed"),
        ("CONNECT", "/ping", "", "405", "method_not_allowed"),
        ("GET", "/ping", "", "503", "not_ready"),
        ("POST", "/invocations", "400", "400", "not_a_number"),
        ("POST", "/invocations", "crash", "500", "internal_error"),
    ],
)
def test_a_refusal_is_logged_and_counted_by_the_code_in_its_body(
    caplog: pytest.LogCaptureFixture, counted: metrics.Page, method: str, path: str, body: str, status: str, code: str
) -> None:
    with caplog.at_level(logging.INFO, logger="serving.app"):
        response = client_of(ready=False).open(path, method=method, data=body)

    lines = [record.fields for record in caplog.records if record.message == "request"]  # type: ignore[attr-defined]
    assert (response.status[:3], json.loads(response.data)["code"]) == (status, code)
    assert [(line["status"], line["code"]) for line in lines] == [(int(status), code)]
    assert counted.totals().named == {status: 1, code: 1}


def test_what_was_answered_is_counted(counted: metrics.Page) -> None:
    def noting(payload: Payload) -> Payload:
        logs.note(rows=3, unseen={"a": 1, "b": 4})
        return shout(payload)

    client = client_of(noting)
    client.post("/invocations", data=b"abcde")
    client.post("/invocations", data=b"400")
    client.get("/execution-parameters")
    client.get("/ping")

    totals = counted.totals()
    refusal, parameters = client.post("/invocations", data=b"400").data, client.get("/execution-parameters").data
    assert totals.named == {"200": 2, "400": 1, "not_a_number": 1}
    assert sum(totals.counts) == 3
    assert totals.scalars[metrics.BYTES_IN] == len("abcde400")
    assert totals.scalars[metrics.BYTES_OUT] == len("ABCDE") + len(refusal) + len(parameters)
    assert (totals.scalars[metrics.ROWS], totals.scalars[metrics.UNSEEN]) == (3, 10)


@pytest.fixture
def counted() -> Iterator[metrics.Page]:
    """The counts of the requests to this process."""
    page = metrics.Page.private()
    page.slot(1).add(metrics.STARTS)
    metrics.record_into(page.slot(1))
    yield page
    metrics.record_into(None)


def test_an_answer_over_the_limit_is_refused_with_advice() -> None:  # C65
    client = client_of(max_response=10)

    refused = client.post("/invocations", data=b"x" * 11)

    assert client.post("/invocations", data=b"x" * 10).status_code == 200
    assert (refused.status_code, refused.json["code"]) == (413, "response_too_large")
    assert refused.json["message"] == "expected an answer of at most 10 bytes, got 11: send fewer rows in a request"


@pytest.mark.parametrize(("given", "shown"), [(64, 64), (65, 64)])
def test_a_refusal_repeats_64_characters_of_a_path(client: FlaskClient, given: int, shown: int) -> None:
    path = "/".ljust(given, "n")

    told = client.get(path).json

    assert told is not None
    assert (told["code"], told["message"]) == ("not_found", f"GET {path[:shown]}: Not Found")


def test_attributes_are_taken_up_to_the_1024_characters_that_sagemaker_takes(client: FlaskClient) -> None:
    response = client.post("/invocations", data=b"abc", headers={ATTRIBUTES: "x" * 1024})

    assert response.headers[ATTRIBUTES] == "x" * 1024


def test_times_are_told_in_milliseconds_to_the_microsecond(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([1.0, 1.01234567])
    monkeypatch.setattr("serving.exchange.time.perf_counter", lambda: next(clock))
    with caplog.at_level(logging.INFO, logger="serving.app"):
        response = client.post("/invocations", data=b"abc")

    assert response.headers["Server-Timing"] == "total;dur=12.346"
    assert [record.fields["ms"] for record in caplog.records] == [12.346]  # type: ignore[attr-defined]


def test_what_a_container_says_of_itself_ends_with_a_newline(client: FlaskClient) -> None:
    response = client.get("/execution-parameters")

    assert response.mimetype == "application/json"
    assert response.data.endswith(b"}\n")


@pytest.mark.parametrize(
    ("path", "method", "message"),
    [
        ("/ping", "GET", "expected every worker to have loaded its model, not all have"),
        ("/ping", "CONNECT", "expected no CONNECT: this is no proxy"),
        ("/ping", "POST", "POST /ping: Method Not Allowed"),
    ],
)
def test_a_refusal_beside_the_stage_says_why(path: str, method: str, message: str) -> None:
    assert json.loads(client_of(ready=False).open(path, method=method).data)["message"] == message


@pytest.mark.parametrize(("given", "shown"), [(64, "n" * 64), (65, "n" * 63 + "…")])
def test_a_refusal_repeats_64_characters_of_a_columns_name(given: int, shown: str) -> None:
    assert BadPayload("no", row=0, column="n" * given).as_dict() == {
        "code": "bad_payload", "message": "no", "row": 0, "column": shown,
    }  # fmt: skip
