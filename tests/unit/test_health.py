"""The thread that answers /ping behind nginx."""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from serving.health import start_health_server


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened until the end of the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    held: list[int] = []
    try:
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def ask(client: socket.socket, path: Path) -> None:
    client.connect(str(path))
    client.sendall(b"GET /ping HTTP/1.0\r\n\r\n")


def test_a_time_without_descriptors_does_not_end_the_answers(tmp_path: Path) -> None:
    start_health_server(tmp_path / "health.sock", lambda: True)
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)]
        with no_descriptors():
            for client in clients:
                ask(client, tmp_path / "health.sock")
            select.select(clients[1:], [], [], 0.5)  # one may have got a descriptor that was taken before
        for client in clients:
            client.settimeout(20)
        answers = [client.recv(100) for client in clients]

    assert [answer[:13] for answer in answers] == [b"HTTP/1.0 200 "] * 3


def test_who_connects_and_says_nothing_does_not_keep_others_waiting(tmp_path: Path) -> None:
    start_health_server(tmp_path / "health.sock", lambda: True)
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as client:
        silent.connect(str(tmp_path / "health.sock"))
        ask(client, tmp_path / "health.sock")
        client.settimeout(60)

        assert client.recv(100)[:13] == b"HTTP/1.0 200 "


@contextmanager
def health(path: Path, *, ready: bool) -> Iterator[Callable[[bytes], tuple[bytes, bytes]]]:
    """Send a request. Returns the head and the body of the response."""
    start_health_server(path / "health.sock", lambda: ready)

    def send(request: bytes) -> tuple[bytes, bytes]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(path / "health.sock"))
            client.sendall(request[:7])
            client.sendall(request[7:])
            head, _, body = b"".join(iter(lambda: client.recv(1000), b"")).partition(b"\r\n\r\n")
            return head, body

    yield send


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_server_that_is_ready_answers_with_nothing(tmp_path: Path, method: bytes) -> None:
    (tmp_path / "health.sock").touch()  # a server that was killed leaves one

    with health(tmp_path, ready=True) as send:
        head, body = send(method + b" /ping HTTP/1.0\r\n\r\n")

    assert head.splitlines() == [b"HTTP/1.0 200 OK", b"Content-Length: 0"]
    assert body == b""
    assert (tmp_path / "health.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("method", "ready", "status", "code", "allow"),
    [
        ("GET", False, "503 Service Unavailable", "not_ready", []),
        ("POST", True, "405 Method Not Allowed", "method_not_allowed", [b"Allow: GET, HEAD"]),
        ("GETTY", True, "405 Method Not Allowed", "method_not_allowed", [b"Allow: GET, HEAD"]),
    ],
)
def test_a_refusal_has_its_code_in_the_body_and_in_the_log(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    method: str,
    ready: bool,
    status: str,
    code: str,
    allow: list[bytes],
) -> None:
    with health(tmp_path, ready=ready) as send, caplog.at_level(logging.INFO, logger="serving.app"):
        head, body = send(f"{method} /ping HTTP/1.0\r\nX-Request-Id: mine\r\n\r\n".encode())

    lines = head.splitlines()
    told = json.loads(body)
    assert lines[0] == f"HTTP/1.0 {status}".encode()
    assert [line for line in lines if line.startswith(b"Allow")] == allow
    assert {b"Content-Type: application/json", b"X-Request-Id: mine", b"Content-Length: %d" % len(body)} <= set(lines)
    assert (told["code"], told["request_id"]) == (code, "mine")
    assert (
        [record.fields for record in caplog.records]
        == [  # type: ignore[attr-defined]
            {"request_id": "mine", "method": method, "path": "/ping", "status": int(status[:3]), "code": code}
        ]
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("X-Amzn-SageMaker-Inference-Id: one\r\nX-Request-Id: two", "one"),
        ("x-request-id:   two  ", "two"),
        ("X-Request-Id: a b\r\nX-Request-Id: two", "two"),
        ("X-Request-Id: ", "[0-9a-f]{32}"),
        ("Other: X-Request-Id: no", "[0-9a-f]{32}"),
    ],
)
def test_a_refusal_has_the_id_that_its_client_gave_or_one_of_its_own(
    tmp_path: Path, fields: str, expected: str
) -> None:
    with health(tmp_path, ready=False) as send:
        _, body = send(f"GET /ping HTTP/1.0\r\n{fields}\r\n\r\n".encode())

    assert re.fullmatch(expected, json.loads(body)["request_id"])


def test_a_client_that_goes_away_does_not_end_the_answers(tmp_path: Path) -> None:
    with health(tmp_path, ready=True) as send:
        for sent in (b"", b"GET /pi"):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / "health.sock"))
                client.sendall(sent)
        head, _ = send(b"GET /ping HTTP/1.0\r\n\r\n")

    assert head.startswith(b"HTTP/1.0 200")


def test_a_refusal_says_what_was_expected_and_logs_16_characters_of_a_method(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with health(tmp_path, ready=False) as send, caplog.at_level(logging.INFO, logger="serving.app"):
        _, stopping = send(b"GET /ping HTTP/1.0\r\n\r\n")
        _, refused = send(b"ABCDEFGHIJKLMNOPQ /ping HTTP/1.0\r\n\r\n")

    said = "the model server is starting or stopping, or no worker can answer"
    assert [json.loads(body)["message"] for body in (stopping, refused)] == [said, "expected GET or HEAD"]
    assert [record.fields["method"] for record in caplog.records] == ["GET", "ABCDEFGHIJKLMNOP"]  # type: ignore[attr-defined]
