"""`python -m serving`: its words, and `ping`, by which Docker knows a container's health."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from serving.__main__ import main
from tests.servers import ROOT, free_ports


@contextmanager
def answering(status: int) -> Iterator[int]:
    """The port of a server that answers GET /ping with a status, and everything else with 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/ping" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield server.server_port
        thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1), (204, 1)])
def test_ping_ends_with_0_when_the_server_answers_200(monkeypatch: pytest.MonkeyPatch, status: int, code: int) -> None:
    with answering(status) as port:
        monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", str(port))
        assert main(["ping"]) == code


def test_ping_names_a_port_that_nobody_listens_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", str(port))

    assert main(["ping"]) == 1
    assert capsys.readouterr().err.startswith(f"no answer from port {port}: ")


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({}, "STAGE: expected the name of the package to serve, got nothing"),
        ({"STAGE": "echo", "PORT": "abc"}, "PORT: expected a whole number from 1 to 65535, got 'abc'"),
        (
            {"STAGE": "echo", "MODEL_SERVER_NGINX": "off", "MODEL_SERVER_RUN_DIR": "/a b"},
            "MODEL_SERVER_RUN_DIR or TMPDIR: expected a path",
        ),
    ],
)
def test_a_server_that_cannot_start_says_why_in_one_line(env: dict[str, str], reason: str) -> None:
    command = [sys.executable, "-m", "serving", "serve"]

    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    (line,) = map(json.loads, done.stderr.splitlines())
    assert (done.returncode, line["level"]) == (1, "CRITICAL")
    assert line["message"].startswith(reason)


@pytest.mark.parametrize("arguments", [[], ["help"], ["serve", "now"], ["ping", "pong"], ["--help"]])
def test_other_words_are_answered_with_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage: python -m serving serve | train | ping\n")
