"""gunicorn's configuration: what becomes of a worker's slot, and how gunicorn says no."""

from __future__ import annotations

import gc
import importlib.util
import json
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from gunicorn import util
from gunicorn.config import Config
from gunicorn.errors import HaltServer

from serving import metrics
from serving.scoreboard import VARIABLE, Scoreboard
from tests.servers import ROOT

Load = Callable[..., ModuleType]


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    board = Scoreboard.create()
    yield board
    os.close(board.fd)


@pytest.fixture
def page() -> Iterator[metrics.Page]:
    page = metrics.Page.create()
    yield page
    os.close(page.fd)


@pytest.fixture
def load(board: Scoreboard, page: metrics.Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Read the configuration as gunicorn does, with these variables besides the supervisor's."""
    monkeypatch.setattr(util, "write_error", util.write_error)

    def read(**env: str) -> ModuleType:
        ours = {VARIABLE: str(board.fd), metrics.VARIABLE: str(page.fd), "MODEL_SERVER_RUN_DIR": str(tmp_path)}
        for name, value in ({"STAGE": "echo", "MODEL_SERVER_WORKERS": "2"} | ours | env).items():
            monkeypatch.setenv(name, value)
        spec = importlib.util.spec_from_file_location("conf", ROOT / "serving" / "gunicorn_conf.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield read
    metrics.record_into(None)
    gc.unfreeze()


def worker(age: int) -> SimpleNamespace:
    return SimpleNamespace(age=age, pid=1000 + age)


def test_a_worker_has_a_slot_from_its_fork_to_its_end(load: Load, board: Scoreboard, page: metrics.Page) -> None:
    conf, first, second = load(), worker(1), worker(2)

    for one in (first, second):
        conf.pre_fork(None, one)
    conf.post_worker_init(second)

    assert list(board.cells[:4]) == [0, 0, os.getpid(), 0]
    assert (second.slot, second.since) == (2, board.since)
    metrics.recorder().record(0.1, ("200",), {})  # type: ignore[union-attr]
    assert page.slot(2).cells[metrics.STARTS] == page.totals().named["200"] == 1
    board.since[2] = 5.0

    conf.child_exit(None, second)
    third = worker(3)
    conf.pre_fork(None, third)
    conf.post_worker_init(third)

    assert third.slot == 2
    assert board.since[2] == 0.0
    assert page.totals().scalars[: metrics.ENDS + 1] == [3, 1]
    assert gc.get_freeze_count() > 0


def test_a_worker_that_ends_because_the_server_stops_is_no_restart(
    load: Load, board: Scoreboard, page: metrics.Page
) -> None:
    conf, one = load(), worker(1)
    conf.pre_fork(None, one)
    board.drain()

    conf.child_exit(None, one)

    assert page.totals().scalars[metrics.ENDS] == 0


def test_a_start_in_which_worker_after_worker_is_lost_comes_to_an_end(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    conf = load()
    for age in range(1, 7):
        conf.pre_fork(None, worker(age))
        conf.child_exit(None, worker(age))
    conf.pre_fork(None, worker(7))

    with pytest.raises(HaltServer):
        conf.child_exit(None, worker(7))

    assert "lost 7 workers before every one had loaded" in caplog.text


@pytest.mark.parametrize("started", [False, True])
def test_workers_that_end_once_they_have_loaded_do_not_end_the_server(
    load: Load, board: Scoreboard, started: bool
) -> None:
    conf = load()
    for age in range(1, 20):
        conf.pre_fork(None, worker(age))
        if started:
            board.mark_ready(1)
            board.mark_ready(2)
            board.ready(2)
            board.clear(1)
        else:
            conf.post_worker_init(worker(age))
        conf.child_exit(None, worker(age))

    assert conf.never_loaded == []


@pytest.mark.parametrize(
    ("env", "worker_class", "threads"),
    [
        ({}, "serving.worker.Worker", 1),
        ({"MODEL_SERVER_THREADS": "4"}, "serving.worker.Worker", 1),
        ({"MODEL_SERVER_WORKER_CLASS": "gthread", "MODEL_SERVER_THREADS": "4"}, "serving.threads.Worker", 4),
        ({"MODEL_SERVER_WORKER_CLASS": "gevent", "MODEL_SERVER_THREADS": "4"}, "gevent", 1),
    ],
)
def test_a_class_of_workers_is_that_of_the_settings(
    load: Load, env: dict[str, str], worker_class: str, threads: int
) -> None:
    conf = load(MODEL_SERVER_TIMEOUT="30", **env)

    assert (conf.worker_class, conf.threads, conf.workers, conf.timeout) == (worker_class, threads, 2, 30)
    assert (conf.wsgi_app, conf.preload_app) == ("echo.wsgi:app", False)


def test_requests_in_flight_have_25_of_the_30_seconds_from_sigterm_to_sigkill(load: Load) -> None:
    conf = load()

    assert conf.graceful_timeout == 25
    assert conf.keepalive == 65  # longer than the 60 seconds for which a load balancer keeps a connection


def test_nothing_is_counted_where_nobody_asks(load: Load, board: Scoreboard) -> None:
    conf = load()
    conf.page = None
    one = worker(1)

    conf.pre_fork(None, one)
    conf.post_worker_init(one)
    assert board.cells[1] == os.getpid()
    conf.child_exit(None, one)

    assert metrics.recorder() is None


@pytest.mark.parametrize(
    ("status", "message", "code", "told"),
    [
        (400, "Invalid HTTP Version", "bad_request", "Invalid HTTP Version"),
        (413, "", "payload_too_large", "Content Too Large|Request Entity Too Large"),
        (431, "x" * 300, "request_header_fields_too_large", "x{255}…"),
        (500, "Ünding", "internal_server_error", "Ünding"),
    ],
)
def test_what_gunicorn_refuses_is_json_and_a_line_of_the_log(
    load: Load, caplog: pytest.LogCaptureFixture, status: int, message: str, code: str, told: str
) -> None:
    load()
    ours, theirs = socket.socketpair()
    with ours, theirs, caplog.at_level(logging.INFO, logger="serving.app"):
        util.write_error(ours, status, "reason", message)
        ours.shutdown(socket.SHUT_WR)
        head, _, body = b"".join(iter(lambda: theirs.recv(4096), b"")).partition(b"\r\n\r\n")

    error = json.loads(body)
    first, *fields = head.decode().split("\r\n")
    assert first.startswith(f"HTTP/1.1 {status} ")
    assert set(fields) == {
        "Connection: close",
        "Content-Type: application/json",
        f"X-Request-Id: {error['request_id']}",
        f"Content-Length: {len(body)}",
    }
    assert error["code"] == code
    assert re.fullmatch(told, error["message"])
    assert [record.fields for record in caplog.records] == [  # type: ignore[attr-defined]
        {"request_id": error["request_id"], "status": status, "code": code}
    ]


def test_a_request_is_bounded_as_nginx_bounds_it(load: Load) -> None:
    conf = load()

    assert (conf.limit_request_line, conf.limit_request_field_size, conf.limit_request_fields) == (4094, 8190, 100)
    assert conf.forwarder_headers == ""  # no client says where the application stands


def test_what_the_server_leaves_on_a_disk_is_its_own(load: Load, tmp_path: Path) -> None:
    conf = load()

    assert conf.pidfile == str(tmp_path / "gunicorn.pid")
    assert conf.umask == 0o077
    assert conf.control_socket_disable is True
    assert conf.worker_tmp_dir in ("/dev/shm", None)  # noqa: S108 - a heartbeat touches no disk


def test_a_request_that_gunicorn_cannot_read_is_not_repeated_in_the_log(
    load: Load, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.logs.configure", lambda *_: None)
    monkeypatch.setattr("sys.stderr", None)
    monkeypatch.setattr("sys.__stderr__", None)
    logger = load(LOG_LEVEL="WARNING").Logger(Config())
    monkeypatch.undo()

    logger.warning("Invalid request from ip=%s: %s", "secret", "secret")
    logger.warning("worker %s was lost", 7)
    logger.info("nobody asked")

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("WARNING", "worker 7 was lost")]
    assert (logger.access_log.handlers, logger.access_log.propagate) == ([], False)
    assert (logger.error_log.handlers, logger.error_log.propagate) == ([], True)
