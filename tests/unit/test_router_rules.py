"""The router's rules between containers, over real sockets: what is handed on, refused, bounded and retried."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient

from local_test import container as container_module
from local_test import endpoint as endpoint_module
from local_test.connection import Answer, Connection
from local_test.container import Container, Unreachable
from local_test.endpoint import Endpoint, Limits
from local_test.router import create_app
from tests.scripted_container import Asked, ScriptedContainer, answer, raw

ROW = b"M,0.4\n"


@pytest.fixture
def featurizer() -> Iterator[ScriptedContainer]:
    with ScriptedContainer(answer(b"0.5,0.1\n", "text/csv; charset=utf-8")) as container:
        yield container


@pytest.fixture
def predictor() -> Iterator[ScriptedContainer]:
    with ScriptedContainer(answer(b'{"result":[9.5]}', "application/json")) as container:
        yield container


ClientOf = Callable[..., FlaskClient]


@pytest.fixture
def client_of() -> Iterator[ClientOf]:
    endpoints: list[Endpoint] = []

    def make(*containers: ScriptedContainer, limits: Limits | None = None) -> FlaskClient:
        names = ("featurizer", "predictor")
        row = tuple(Container(name, "127.0.0.1", c.port) for name, c in zip(names, containers, strict=True))
        endpoints.append(Endpoint("abalone", row, limits or Limits()))
        return create_app(endpoints[-1]).test_client()

    yield make
    for endpoint in endpoints:
        endpoint.close()


@pytest.fixture
def client(client_of: ClientOf, featurizer: ScriptedContainer, predictor: ScriptedContainer) -> FlaskClient:
    return client_of(featurizer, predictor)


def test_each_container_gets_what_the_one_before_it_answered(client, featurizer, predictor):
    response = client.post("/endpoints/abalone/invocations", data=ROW, content_type="text/csv; header=absent")

    assert (response.status_code, response.data) == (200, b'{"result":[9.5]}')
    assert response.headers["Content-Type"] == "application/json"
    assert (featurizer.asked[0].body, featurizer.asked[0].headers["content-type"]) == (ROW, "text/csv; header=absent")
    assert (predictor.asked[0].body, predictor.asked[0].headers["content-type"]) == (
        b"0.5,0.1\n",
        "text/csv; charset=utf-8",
    )
    assert {(asked.method, asked.path) for asked in featurizer.asked + predictor.asked} == {("POST", "/invocations")}


def test_batch_transform_is_told_what_the_first_container_says(client, featurizer, predictor):
    featurizer.reply = answer(b'{"MaxPayloadInMB":25}\n', "application/json")

    response = client.get("/execution-parameters")

    assert (response.status_code, response.data) == (200, b'{"MaxPayloadInMB":25}\n')
    assert response.headers["Content-Type"] == "application/json"
    assert [(asked.method, asked.path) for asked in featurizer.asked] == [("GET", "/execution-parameters")]
    assert predictor.asked == []


def test_a_first_container_without_execution_parameters_is_passed_on(client, featurizer):
    featurizer.reply = answer(b"no such path", "text/plain", 404)

    response = client.get("/execution-parameters")

    assert (response.status_code, response.data, response.mimetype) == (404, b"no such path", "text/plain")


def test_execution_parameters_of_a_container_that_is_gone_are_not_ready(client, featurizer):
    featurizer.reply = raw(b"")

    response = client.get("/execution-parameters")

    assert (response.status_code, response.json["code"]) == (503, "not_ready")
    assert response.mimetype == "application/json"
    assert "featurizer" in response.json["message"]
    assert client.post("/execution-parameters").status_code == 405


def test_only_the_last_container_sees_the_accept_of_the_client(client, featurizer, predictor):
    client.post("/invocations", data=ROW, headers={"Accept": "text/csv;q=0.5"})

    assert "accept" not in featurizer.asked[0].headers
    assert predictor.asked[0].headers["accept"] == "text/csv;q=0.5"


def test_no_header_but_those_of_the_platform_reaches_a_container(client, featurizer, predictor):
    client.post(
        "/invocations",
        data=ROW,
        headers={
            "Content-Type": "text/csv",
            "Authorization": "secret",
            "Cookie": "secret",
            "Accept-Encoding": "gzip",
            "X-Amzn-SageMaker-Custom-Attributes": "trace=7",
            "X-Amzn-SageMaker-Inference-Id": "id-7",
        },
    )

    first, second = featurizer.asked[0].headers, predictor.asked[0].headers
    assert first.keys() == {
        "host", "content-length", "content-type", "x-amzn-sagemaker-custom-attributes", "x-amzn-sagemaker-inference-id",
    }  # fmt: skip
    assert second.keys() == {"host", "content-length", "content-type", "x-amzn-sagemaker-inference-id"}
    assert first["x-amzn-sagemaker-inference-id"] == second["x-amzn-sagemaker-inference-id"] == "id-7"


def test_the_answer_names_the_variant_the_request_and_the_time_of_each_container(client):
    response = client.post("/invocations", data=ROW)

    assert response.headers["x-Amzn-Invoked-Production-Variant"] == "AllTraffic"
    assert response.headers["x-amzn-RequestId"] == response.headers["X-Request-Id"]
    assert [part.partition(";dur=")[0] for part in response.headers["Server-Timing"].split(", ")] == [
        "featurizer",
        "predictor",
        "total",
    ]


@pytest.mark.parametrize("attributes", ["", "from=predictor"])
def test_custom_attributes_of_the_answer_are_those_of_the_last_container(client, predictor, attributes):
    extra = {"X_Amzn_SageMaker_Custom_Attributes": attributes} if attributes else {}
    predictor.reply = answer(b"1", **extra)

    response = client.post("/invocations", data=ROW, headers={"X-Amzn-SageMaker-Custom-Attributes": "from=client"})

    assert response.headers.get("X-Amzn-SageMaker-Custom-Attributes", "") == attributes


@pytest.mark.parametrize(
    ("reply", "original", "code", "reason"),
    [
        (
            answer(b'{"code": "bad"}', status=400),
            400,
            "CLIENT",
            'client error (400) from featurizer with message "{"code',
        ),
        (
            answer(b"no", status=415),
            415,
            "CLIENT",
            'Received client error (415) from featurizer with message "no". See ',
        ),
        (answer(b"oops", status=500), 500, "SERVER", 'Received server error (500) from featurizer with message "oops"'),
        (answer(b"", status=503), 503, "SERVER", 'Received server error (503) from featurizer with message "". See '),
        (answer(b"x", status=302, Location="/other"), 302, "SERVER", "server error (302) from featurizer"),
        (answer(b""), 200, "SERVER", "empty body"),
        (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), 204, "SERVER", "empty body"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), 0, "SERVER", "not complete HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf"), 0, "SERVER", "not complete HTTP"),
        (raw(b""), 0, "SERVER", "connection was lost"),
        (raw(b"SSH-2.0-OpenSSH\r\n"), 0, "SERVER", "not complete HTTP"),
        *(
            (raw(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n1\n"), 0, "SERVER", said)
            for head, said in (
                (b"Content-Type: text/\0csv\r\n", "a control character in Content-Type"),
                (b"X-Amzn-SageMaker-Custom-Attributes: \x1b[2J\r\n", "a control character in X-Amzn-SageMaker-Custom-"),
                (b"X-Other: \x7f\r\n", "a control character in X-Other"),
                (b"Content-Length: -5\r\n", "Content-Length: -5"),
                (b"Content-Length: 1_0\r\n", "Content-Length: 1_0"),
                (b"Content-Length: 2\r\nContent-Length: 2\r\n", "Content-Length: 2, 2"),
                (b"Content-Length: 2\r\nContent-Length: 1\r\n", "Content-Length: 2, 1"),
                (b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "Content-Length and Transfer-Encoding"),
                (b"Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: gzip, chunked"),
                (b"Content-Type : text/csv\r\nContent-Length: 2\r\n", "a line that is no header"),
                (b"no header\r\nContent-Length: 2\r\n", "a line that is no header"),
            )
        ),
        *(
            (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks), 0, "SERVER", "not complete HTTP")
            for chunks in (
                b"-5\r\n1\n\r\n0\r\n\r\n",
                b"0x2\r\n1\n\r\n0\r\n\r\n",
                b" 2\r\n1\n\r\n0\r\n\r\n",
            )
        ),
    ],
)
def test_a_container_that_fails_is_a_model_error_that_names_it(
    client, featurizer, predictor, reply, original, code, reason
):
    featurizer.reply = reply

    response = client.post("/invocations", data=ROW)

    assert response.status_code == 424
    assert response.headers["x-amzn-ErrorType"] == "ModelError"
    assert response.json["ErrorCode"] == f"{code}_ERROR_FROM_MODEL"
    assert response.json["OriginalStatusCode"] == original
    assert reason in response.json["Message"]
    assert response.json["LogStreamArn"] == (
        "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/abalone:"
        "log-stream:AllTraffic/local/featurizer"
    )
    assert response.headers["x-amzn-RequestId"] == response.headers["X-Request-Id"]
    assert predictor.asked == []


@pytest.mark.parametrize(("letter", "lengths"), [("a", {2048}), ("ü", {2047, 2048})])
def test_a_model_error_repeats_at_most_2048_bytes(client, featurizer, letter, lengths):
    featurizer.reply = answer(letter.encode() * 70_000, status=400)

    error = client.post("/invocations", data=ROW).json

    assert len(error["Message"].encode()) in lengths
    assert error["Message"].endswith('...". See the log of container featurizer for more information.')
    assert len(error["OriginalMessage"].encode()) in lengths


@pytest.mark.parametrize("headers", ["Content-Length: {size}", "Transfer-Encoding: chunked"])
def test_more_than_5_mb_between_containers_is_refused_in_the_words_of_sagemaker(client, featurizer, predictor, headers):
    size = 5_000_001
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (size, b"x" * size)
    body = chunked if "chunked" in headers else b"x" * size
    featurizer.reply = raw(f"HTTP/1.1 200 OK\r\n{headers.format(size=size)}\r\n\r\n".encode() + body)

    response = client.post("/invocations", data=ROW)

    counted = "more than 5000000" if "chunked" in headers else "5000001"
    assert response.status_code == 424
    assert response.json["Message"] == (
        "Received response from featurizer with status code 200. However, the request payload from featurizer to "
        f"predictor is {counted} bytes, which has exceeded the maximum limit of 5 MB."
    )
    assert predictor.asked == []


def test_5_mb_between_containers_pass(client, featurizer, predictor):
    featurizer.reply = answer(b"x" * 5_000_000)

    assert client.post("/invocations", data=ROW).status_code == 200
    assert len(predictor.asked[0].body) == 5_000_000


def test_a_body_over_the_limit_is_refused_before_any_container(client, featurizer):
    response = client.post("/invocations", data=b"x" * 6_291_457)

    assert (response.status_code, response.headers["x-amzn-ErrorType"]) == (413, "ValidationError")
    assert response.json == {"Message": "expected a body of at most 6291456 bytes, got 6291457"}
    assert featurizer.asked == []
    assert client.post("/invocations", data=b"x" * 6_291_456).status_code == 200


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Put the clock forward by so many seconds."""
    clock, passed = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock() + sum(passed))
    return passed.append


def drip(head: bytes, piece: bytes):
    """A reply that takes a minute."""

    def reply(_asked: Asked, connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(1200):
            connection.sendall(piece)
            time.sleep(0.05)

    return reply


@pytest.mark.parametrize(
    "reply",
    [
        drip(b"", b""),
        drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"x"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    ],
    ids=["silent", "header by header", "byte by byte", "chunk by chunk", "until it closes"],
)
def test_a_dripping_container_ends_with_the_time_of_the_whole_chain(client_of, featurizer, predictor, reply, later):
    client = client_of(featurizer, predictor, limits=Limits(seconds=60))
    whole = threading.Event()
    featurizer.reply = lambda *given: (later(58), answer(b"1")(*given))
    predictor.reply = lambda *given: (reply(*given), whole.set())
    begun = time.monotonic()

    response = client.post("/invocations", data=ROW)

    assert time.monotonic() - begun >= 60
    assert not whole.is_set()
    assert (response.status_code, response.json["OriginalStatusCode"]) == (424, 0)
    assert response.json["OriginalMessage"].startswith(
        "Your invocation timed out while waiting for a response from container predictor."
    )


def test_the_time_of_one_container_is_taken_from_the_next_one(client_of, featurizer, predictor, later):
    answered = threading.Event()

    def take_50_seconds(asked: Asked, connection: socket.socket) -> None:
        later(50)
        answer(b"1")(asked, connection)

    def take_30_seconds(_asked: Asked, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n")
        for _ in range(30):
            later(1)
            connection.sendall(b"1")
            time.sleep(0.01)
        answered.wait(60)
        connection.sendall(b"1")

    client = client_of(featurizer, predictor, limits=Limits(seconds=60))
    featurizer.reply, predictor.reply = take_50_seconds, take_30_seconds

    response = client.post("/invocations", data=ROW)
    answered.set()

    assert (response.status_code, "container predictor" in response.json["Message"]) == (424, True)


def test_connections_are_kept(client, featurizer, predictor):
    for _ in range(5):
        assert client.post("/invocations", data=ROW).status_code == 200

    assert (featurizer.connections, predictor.connections) == (1, 1)


def test_a_kept_connection_that_the_container_closed_is_replaced(client, featurizer):
    client.post("/invocations", data=ROW)
    featurizer.close_connections()

    assert client.post("/invocations", data=ROW).status_code == 200
    assert len(featurizer.asked) == 2


def test_a_request_lost_on_a_kept_connection_is_sent_once_more(client, featurizer):
    good = featurizer.reply
    client.post("/invocations", data=ROW)

    def close_the_kept_one(asked: Asked, connection: socket.socket) -> None:
        (good if asked.connection > 1 else raw(b""))(asked, connection)

    featurizer.reply = close_the_kept_one

    assert client.post("/invocations", data=ROW).status_code == 200
    assert [asked.connection for asked in featurizer.asked] == [1, 1, 2]


def test_a_request_lost_on_a_fresh_connection_is_not_sent_again(client, featurizer):
    featurizer.reply = raw(b"")

    assert client.post("/invocations", data=ROW).status_code == 424
    assert len(featurizer.asked) == 1


def test_a_refusing_container_is_a_503_and_the_next_request_after_its_return_is_answered(client, featurizer):
    featurizer.stop()

    response = client.post("/invocations", data=ROW)

    assert (response.status_code, response.json["OriginalStatusCode"]) == (424, 503)
    assert "connection refused (container featurizer" in response.json["Message"]
    with ScriptedContainer(answer(b"0.5"), port=featurizer.port):
        assert client.post("/invocations", data=ROW).status_code == 200


def test_ping_is_200_and_empty_when_every_container_answers_it(client):
    response = client.get("/ping")

    assert (response.status_code, response.data) == (200, b"")


@pytest.mark.parametrize("path", ["/invocations", "/ping", "/execution-parameters", "/endpoints/abalone/invocations"])
def test_options_is_no_method_of_the_router(client, path):
    assert client.options(path).status_code == 405


def test_ping_names_each_container_that_is_not_ready(client, featurizer, predictor):
    featurizer.ping = answer(b"{}", status=503)
    predictor.stop()

    response = client.get("/ping")

    assert response.status_code == 503
    assert "featurizer: answered 503; predictor: connection refused" in response.json["message"]


def test_a_path_with_a_slash_too_many_is_not_found(client):
    assert client.post("/endpoints/abalone//invocations", data=ROW).status_code == 404


@pytest.mark.parametrize(
    ("path", "headers", "reason"),
    [
        ("/endpoints/other/invocations", {}, "Endpoint other of account 123456789012 not found."),
        (f"/endpoints/{'a' * 63}/invocations", {}, f"Endpoint {'a' * 63} of account 123456789012 not found."),
        ("/endpoints/a_b/invocations", {}, "at 'endpointName' failed to satisfy constraint"),
        ("/endpoints/-a/invocations", {}, "at 'endpointName' failed to satisfy constraint"),
        (f"/endpoints/{'a' * 64}/invocations", {}, "at 'endpointName' failed to satisfy constraint"),
        ("/invocations", {"Content-Type": "x" * 1025}, "Content-Type failed to satisfy constraint"),
        ("/invocations", {"Accept": "x" * 1025}, "Accept failed to satisfy constraint"),
        ("/invocations", {"Accept": "text/csv\u00e9"}, "Accept failed to satisfy constraint"),
        ("/invocations", {"X-Amzn-SageMaker-Custom-Attributes": "x" * 1025}, "Custom-Attributes failed to satisfy"),
        ("/invocations", {"X-Amzn-SageMaker-Target-Container-Hostname": "predictor"}, "Direct mode"),
        ("/invocations", {"X-Amzn-SageMaker-Target-Model": "a.tar.gz"}, "multi-model"),
        ("/invocations", {"X-Amzn-SageMaker-Inference-Component": "a"}, "inference components; this one has none."),
        (
            "/invocations",
            {"X-Amzn-SageMaker-Target-Variant": "canary"},
            "Variant canary of endpoint abalone not found.",
        ),
    ],
)
def test_what_breaks_a_rule_of_invoke_endpoint_reaches_no_container(client, featurizer, path, headers, reason):
    response = client.post(path, data=ROW, headers=headers)

    assert (response.status_code, response.headers["x-amzn-ErrorType"]) == (400, "ValidationError")
    assert list(json.loads(response.data)) == ["Message"]
    assert reason in response.json["Message"]
    assert featurizer.asked == []


def test_the_first_container_gets_what_invoke_endpoint_passes_on(client, featurizer, predictor):
    given = {
        "X-Amzn-SageMaker-Custom-Attributes": "x" * 1024,
        "X-Amzn-SageMaker-Target-Variant": "AllTraffic",
        "X-Amzn-SageMaker-Session-Id": "s",
        "X-Amzn-SageMaker-Enable-Explanations": "`true`",
        "Accept": "a" * 1024,
    }

    response = client.post("/invocations", data=ROW, content_type="t" * 1024, headers=given)

    assert response.status_code == 200
    first, second = featurizer.asked[0].headers, predictor.asked[0].headers
    passed = {name.lower(): value for name, value in given.items() if name != "Accept"}
    assert passed.items() <= first.items()
    assert first["content-type"] == "t" * 1024
    assert not passed.keys() & second.keys()
    assert second["accept"] == "a" * 1024


def test_a_header_that_is_too_long_is_named_with_its_length_and_limit(client):
    response = client.post("/invocations", data=ROW, headers={"Accept": "x" * 1025})

    assert response.json["Message"].endswith("less than or equal to 1024 and be ASCII; got 1025 characters")


def test_an_answer_without_a_type_is_passed_on_without_one(client, featurizer, predictor):
    bare = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    featurizer.reply = predictor.reply = bare

    answered, parameters = client.post("/invocations", data=ROW), client.get("/execution-parameters")

    assert (answered.data, answered.headers.get("Content-Type")) == (b"{}", None)
    assert (parameters.data, parameters.headers["Content-Type"]) == (b"{}", "application/json")
    assert "content-type" not in predictor.asked[0].headers


def test_an_answer_over_the_limit_is_refused_with_both_sizes(client_of, featurizer, predictor):
    client = client_of(featurizer, predictor, limits=Limits(request=9))
    codes = []
    for size in (9, 10):
        predictor.reply = answer(b"x" * size)
        response = client.post("/invocations", data=ROW)
        codes.append(response.status_code)

    assert codes == [200, 424]
    assert response.json["Message"] == (
        "Received response from predictor with status code 200. However, the response is 10 bytes, which has exceeded "
        "the maximum limit of 9 bytes."
    )
    assert response.json["OriginalStatusCode"] == 200


def test_the_time_of_a_container_is_told_in_milliseconds(client, monkeypatch):
    clock = iter([1.0, 1.5, 2.0, 2.25])
    monkeypatch.setattr(endpoint_module, "time", SimpleNamespace(monotonic=time.monotonic, perf_counter=clock.__next__))

    response = client.post("/invocations", data=ROW)

    assert response.headers["Server-Timing"].startswith("featurizer;dur=500.0")
    assert ", predictor;dur=250.0" in response.headers["Server-Timing"]


def test_of_a_refusal_64_kib_are_read(featurizer):
    featurizer.reply = answer(b"x" * 70_000, status=500)
    container = Container("c", "127.0.0.1", featurizer.port)

    answered = container.post(b"", {}, time.monotonic() + 60, 9)

    assert (answered.status, len(answered.body)) == (500, 65_536)
    assert featurizer.asked[0].headers["content-length"] == "0"


def test_closing_an_endpoint_closes_the_connections_that_wait(featurizer):
    container = Container("c", "127.0.0.1", featurizer.port)
    container.post(b"1", {}, time.monotonic() + 5, 99)
    (waiting,) = container._idle

    Endpoint("e", (container,)).close()

    assert (waiting.sock, list(container._idle)) == (None, [])


def test_a_container_has_250_ms_to_take_a_connection(monkeypatch):
    given: list[float] = []

    def never(connection: Connection) -> None:
        given.append(connection.timeout)
        raise TimeoutError

    monkeypatch.setattr(Connection, "connect", never)

    with pytest.raises(Unreachable, match=r"^no connection within 250 ms$"):
        Container("c", "127.0.0.1", 9).ping(time.monotonic() + 60)

    assert given == [0.25]


def test_a_refused_connection_is_tried_once_more(monkeypatch):
    tried, slept = [], []

    def refuse(connection: Connection) -> None:
        tried.append(connection.port)
        raise ConnectionRefusedError

    monkeypatch.setattr(Connection, "connect", refuse)
    monkeypatch.setattr(container_module, "time", SimpleNamespace(monotonic=time.monotonic, sleep=slept.append))

    with pytest.raises(Unreachable, match=r"^connection refused$"):
        Container("c", "127.0.0.1", 9).ping(time.monotonic() + 60)

    assert (tried, slept) == ([9, 9], [0.05])


def test_a_container_has_2_seconds_for_a_ping_and_for_its_execution_parameters(monkeypatch):
    monkeypatch.setattr(endpoint_module, "time", SimpleNamespace(monotonic=lambda: 100.0))
    until: list[float] = []
    monkeypatch.setattr(Container, "get", lambda _self, _path, deadline: until.append(deadline) or Answer(200, {}, b""))
    endpoint = Endpoint("e", (Container("c", "127.0.0.1", 9),))

    assert endpoint.unhealthy() == {}
    assert endpoint.execution_parameters().status == 200
    assert until == [102.0, 102.0]


def test_only_a_container_among_several_has_its_name_in_its_log_stream():
    assert endpoint_module.stream_of("AllTraffic/local", "primary") == "AllTraffic/local"
    assert endpoint_module.stream_of("AllTraffic/local", "b") == "AllTraffic/local/b"
