"""gunicorn's configuration: an entry point, read by gunicorn's master and inherited by its workers."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import socket
import sys
import uuid
from http import HTTPStatus
from pathlib import Path
from typing import Any

from gunicorn import glogging, util
from gunicorn.errors import HaltServer

from serving import garbage, handover, logs, metrics
from serving.errors import code_of, cut
from serving.scoreboard import VARIABLE, Scoreboard
from serving.settings import MOST_HEADERS, Settings
from serving.tied import tie

settings = Settings.from_env(os.environ)
board = Scoreboard.attach(int(os.environ[VARIABLE]))
page = metrics.Page.attach(int(os.environ[metrics.VARIABLE])) if metrics.VARIABLE in os.environ else None
channel = socket.socket(fileno=int(os.environ[handover.VARIABLE])) if handover.VARIABLE in os.environ else None
slots: dict[int, int] = {}  # worker's age, its name in gunicorn -> its slot
never_loaded: list[int] = []  # process ids
GIVE_UP_AFTER = 3 + 2 * settings.workers  # lost before the first start is through; a reload costs all of them once


class Logger(glogging.Logger):  # type: ignore[misc] # gunicorn is untyped
    """gunicorn's messages as our JSON lines."""

    def setup(self, cfg: Any) -> None:  # noqa: ANN401
        sys.stderr = sys.__stderr__  # a reload comes here again
        logs.configure(settings.stage, settings.log_level)
        sys.stderr = logs.Printed()  # gunicorn prints why it cannot load an application
        self.error_log.handlers, self.error_log.propagate = [], True
        self.access_log.handlers, self.access_log.propagate = [], False
        self.error_log.setLevel(settings.log_level)
        self.cfg = cfg

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """gunicorn repeats here what it could not read of a request; `write_error` logs the request without that."""
        if not msg.startswith("Invalid request from "):
            super().warning(msg, *args, **kwargs)


def write_error(sock: socket.socket, status: int, _reason: str, message: str) -> None:
    """gunicorn's own refusals as our JSON; it has no setting for that."""
    phrase = HTTPStatus(status).phrase
    error = {"code": code_of(status), "message": cut(message, 256) or phrase, "request_id": uuid.uuid4().hex}
    told = {"request_id": error["request_id"], "status": status, "code": error["code"]}
    logging.getLogger("serving.app").info("request", extra={"fields": told})
    body = json.dumps(error)
    head = f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    head += f"X-Request-Id: {error['request_id']}\r\n"
    util.write_nonblock(sock, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode("latin-1"))


util.write_error = write_error
logger_class = Logger
wsgi_app = f"{settings.stage}.wsgi:app"
workers = settings.workers
_OURS = {"sync": "serving.worker.Worker", "gthread": "serving.threads.Worker"}
worker_class = _OURS.get(settings.worker_class, settings.worker_class)
threads = settings.threads if settings.worker_class == "gthread" else 1
timeout = settings.timeout
graceful_timeout = 25
keepalive = 65  # seconds; of gthread and gevent workers
# Each worker reads the model after the fork, because OpenMP does not survive one.
preload_app = False
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - heartbeats must not touch a disk
umask = 0o077
# Or SCRIPT_NAME, sent by whoever comes from this machine, would change the path that is asked for.
forwarder_headers = ""
limit_request_line, limit_request_fields, limit_request_field_size = 4094, MOST_HEADERS, 8190
pidfile = str(Path(os.environ["MODEL_SERVER_RUN_DIR"]) / "gunicorn.pid")


def on_starting(_server: object) -> None:
    """Import the stage's libraries once and share their memory; the model itself is read after the fork."""
    if importlib.util.find_spec(f"{settings.stage}.model"):
        importlib.import_module(f"{settings.stage}.model")


def pre_fork(_server: object, worker: Any) -> None:  # noqa: ANN401
    slots[worker.age] = board.assign(set(slots.values()))
    if page:
        page.slot(slots[worker.age]).add(metrics.STARTS)


def post_fork(_server: object, worker: Any) -> None:  # noqa: ANN401
    """A worker ends with its master: by itself it would notice after half of its timeout."""
    tie(worker.ppid)


def post_worker_init(worker: Any) -> None:  # noqa: ANN401
    """The model is loaded: only now does this worker count."""
    garbage.keep_what_is_loaded()
    worker.since, worker.slot, worker.channel = board.since, slots[worker.age], channel
    board.mark_ready(slots[worker.age])
    if page:
        metrics.record_into(page.slot(slots[worker.age]))


def child_exit(_server: object, worker: Any) -> None:  # noqa: ANN401
    """Give a worker's slot back. A start in which worker after worker is killed comes to an end."""
    slot = slots.pop(worker.age)
    if page and not board.draining:
        page.slot(slot).add(metrics.ENDS)
    if board.starting and not board.cells[slot]:
        never_loaded.append(worker.pid)
    board.clear(slot)
    if len(never_loaded) >= GIVE_UP_AFTER and board.starting:
        logging.getLogger("serving").critical(
            "lost %s workers before every one had loaded: stopping; is the memory limit too small?", len(never_loaded)
        )
        raise HaltServer("Workers are lost while they load.")
