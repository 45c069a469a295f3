"""`python -m serving`: its words, and `ping`, by which Docker knows a container's health."""

from __future__ import annotations

import http.server
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serving import serve
from serving.__main__ import main
from serving.privileges import Refused
from serving.scoreboard import Scoreboard
from serving.settings import Settings
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


def test_a_server_that_may_not_give_up_root_says_why_and_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(_settings: Settings) -> None:
        raise Refused("port 80: expected a port that user 10001 may listen on")

    monkeypatch.setattr(serve, "give_up", refuse)

    assert serve.serve({"STAGE": "echo"}) == 1
    assert json.loads(capfd.readouterr().err)["message"] == "port 80: expected a port that user 10001 may listen on"


def test_ping_waits_for_2_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Silent:
        def __init__(self, *address: Any, timeout: float) -> None:
            asked.append((*address, timeout))

        def request(self, *request: str) -> None:
            asked.append(request)
            raise TimeoutError("timed out")

        def close(self) -> None:
            asked.append("closed")

    monkeypatch.setattr("http.client.HTTPConnection", Silent)
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", "8123")

    assert main(["ping"]) == 1
    assert asked == [("127.0.0.1", 8123, 2), ("GET", "/ping"), "closed"]


class Family:
    """Children that end when they are told to, and what was done to them, at the second of a clock that stands."""

    def __init__(self, *events: tuple[list[int], list[str]]) -> None:
        self.events, self.waits, self.done = iter(events), [], []  # type: ignore[var-annotated]

    def wait_for_event(self, seconds: float | None) -> tuple[list[int], list[str]]:
        self.waits.append(seconds)
        return next(self.events)

    def signal(self, name: str, number: int) -> None:
        self.done.append((name, number))

    def wait_until_gone(self, name: str, deadline: float) -> None:
        self.done.append((name, deadline))


@pytest.mark.parametrize(
    ("ready", "event", "code", "nginx_until", "gunicorn_until"),
    [
        (True, ([signal.SIGTERM], []), 0, 125.0, 127.5),
        (True, ([signal.SIGINT], []), 0, 125.0, 127.5),
        (False, ([signal.SIGTERM], []), 0, 100.5, 103.0),
        (True, ([], ["gunicorn"]), 1, 105.0, 107.5),
        (True, ([signal.SIGTERM], ["nginx"]), 1, 105.0, 107.5),
        (False, ([], ["nginx"]), 1, 105.0, 107.5),
    ],
)
def test_a_server_that_stops_has_25_seconds_for_its_requests_and_2_and_a_half_for_its_workers(
    monkeypatch: pytest.MonkeyPatch,
    ready: bool,
    event: tuple[list[int], list[str]],
    code: int,
    nginx_until: float,
    gunicorn_until: float,
) -> None:
    monkeypatch.setattr(serve.time, "monotonic", lambda: 100.0)
    board = Scoreboard.create()
    if ready:
        board.mark_ready(1)
    family: Any = Family(([], []), event)

    ended = serve._watch(family, board, Settings(workers=1), started=99.0)

    assert ended == code
    assert family.done == [
        ("nginx", signal.SIGQUIT),
        ("nginx", nginx_until),
        ("gunicorn", signal.SIGTERM),
        ("gunicorn", gunicorn_until),
    ]
    assert family.waits == [0.05, None if ready else 0.05]
    assert board.draining
    os.close(board.fd)


def test_a_server_says_when_it_is_ready_what_it_lost_and_that_it_stops(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serve.time, "monotonic", lambda: 100.0)
    board = Scoreboard.create()
    board.mark_ready(1)
    with caplog.at_level(logging.INFO, logger="serving.serve"):
        for event in (([], ["gunicorn"]), ([signal.SIGINT], [])):
            board.cells[0] = 0
            stopping: Any = Family(([], []), ([], []), event)
            serve._watch(stopping, board, Settings(workers=1), started=98.75)
    os.close(board.fd)

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "every worker has loaded, 1.25 s after the start"),
        ("CRITICAL", "lost gunicorn: stopping, so that the platform starts a new container"),
        ("INFO", "every worker has loaded, 1.25 s after the start"),
        ("INFO", "stopping: accepted requests are answered first"),
    ]


def test_a_server_reloads_its_workers_and_stops_at_once_when_it_is_told_to() -> None:
    board = Scoreboard.create()
    family: Any = Family(([signal.SIGHUP], []), ([signal.SIGQUIT], []))

    assert serve._watch(family, board, Settings(workers=1), started=0.0) == 1
    assert family.done == [("gunicorn", signal.SIGHUP)]
    assert not board.draining
    os.close(board.fd)


def test_workers_behind_nginx_are_ended_when_it_has_answered_for_them(tmp_path: Path) -> None:
    settings = Settings(host="127.0.0.1", port=8081, timeout=30)
    start = [sys.executable, "-m", "gunicorn", "--config", "python:serving.gunicorn_conf", "--bind"]

    behind, alone = (serve._gunicorn_command(settings, tmp_path, behind_nginx=nginx) for nginx in (True, False))

    limits = ["--timeout", "28", "--limit-request-fields", "101"]
    assert behind == [*start, f"unix:{tmp_path}/gunicorn.sock", *limits]
    assert alone == [*start, "127.0.0.1:8081"]


def test_a_server_is_healthy_while_a_worker_is_busy_for_less_than_a_request_may_take() -> None:
    board = Scoreboard.create()
    healthy = [serve._healthy(board, Settings(workers=1, timeout=60))]
    board.mark_ready(1)
    for busy in (0.0, 57.0, 59.0):
        board.since[1] = serve.time.monotonic() - busy if busy else 0.0
        healthy.append(serve._healthy(board, Settings(workers=1, timeout=60)))
    os.close(board.fd)

    assert healthy == [False, True, True, False]
