"""`serve`, as SageMaker starts it: PID 1, which lives and dies with gunicorn and nginx."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from serving import handover, logs, metrics, output
from serving.children import Children
from serving.handover import start_sender
from serving.health import start_health_server
from serving.memory import usable_memory
from serving.nginx import find_nginx, nginx_memory, read_timeout, write_config
from serving.privileges import Refused, give_up
from serving.publish import published
from serving.run_dir import run_directory
from serving.scoreboard import VARIABLE, Scoreboard
from serving.settings import MOST_HEADERS, ONE_THREAD, BadSetting, Settings

log = logging.getLogger("serving.serve")

# The platform sends SIGKILL 30 seconds after SIGTERM.
DRAINED_WITHIN, STOPPED_WITHIN = 25.0, 27.5


def serve(env: Mapping[str, str]) -> int:
    """Serve until told to stop. Returns 0 after an orderly stop, 1 when a child was lost or a setting is wrong."""
    output.unblock()
    logs.configure(env.get("STAGE", ""), "INFO")
    try:
        settings = Settings.from_env(env)
        give_up(settings)
    except (BadSetting, Refused) as error:
        log.critical("%s", error)
        return 1
    if not settings.stage:
        log.critical("STAGE: expected the name of the package to serve, got nothing")
        return 1
    nginx = find_nginx(env.get("PATH", os.defpath)) if settings.nginx else None
    if settings.nginx and not nginx:
        log.warning("nginx is not on this machine: gunicorn alone answers, and slow clients can hold its workers")
    try:
        with run_directory(settings) as run_dir:
            return _supervise(replace(settings, run_dir=run_dir), dict(env), run_dir, nginx)
    except BadSetting as error:  # a port that is taken, a directory that cannot be used
        log.critical("%s", error)
        return 1


def _supervise(settings: Settings, env: dict[str, str], run_dir: Path, nginx: str | None) -> int:
    children = Children()
    board = Scoreboard.create()
    page = metrics.Page.create() if settings.metrics_port or settings.metrics != "off" else None
    env |= {VARIABLE: str(board.fd), "MODEL_SERVER_RUN_DIR": str(run_dir)}
    keep = [board.fd]
    if page:
        env[metrics.VARIABLE] = str(page.fd)
        keep.append(page.fd)
    if nginx and (channel := start_sender()):
        env[handover.VARIABLE] = str(channel.fileno())
        keep.append(channel.fileno())
    env = ONE_THREAD | env
    start_health_server(run_dir / "health.sock", lambda: _healthy(board, settings))
    started = time.monotonic()
    with published(settings, page, lambda: sum(1 for pid in board.cells[1:] if pid)):
        try:
            children.start("gunicorn", _gunicorn_command(settings, run_dir, behind_nginx=bool(nginx)), env, keep=keep)
            if nginx:
                memory = nginx_memory(usable_memory())
                config = write_config(settings, run_dir, memory)
                command = [nginx, "-p", str(run_dir), "-e", "stderr", "-c", str(config)]
                children.start("nginx", command, env, relay=True, memory=memory)
            log.info("serving %s on %s:%s, %s workers", settings.stage, settings.host, settings.port, settings.workers)
            return _watch(children, board, settings, started)
        finally:
            children.kill_all()


def _healthy(board: Scoreboard, settings: Settings) -> bool:
    return board.ready(settings.workers) and board.able(read_timeout(settings))


def _watch(children: Children, board: Scoreboard, settings: Settings, started: float) -> int:
    announced = False
    while True:
        signals, ended = children.wait_for_event(None if announced else 0.05)
        if not announced and board.ready(settings.workers):
            announced = True
            log.info("every worker has loaded, %.2f s after the start", time.monotonic() - started)
        if ended:
            log.critical("lost %s: stopping, so that the platform starts a new container", ended[0])
            _drain(children, board, patience=5.0)
            return 1
        if signal.SIGQUIT in signals:
            return 1
        if signal.SIGHUP in signals:
            children.signal("gunicorn", signal.SIGHUP)
        if signal.SIGTERM in signals or signal.SIGINT in signals:
            log.info("stopping: accepted requests are answered first")
            # Before /ping has answered 200 there is nothing to drain, and a worker that loads does not listen.
            _drain(children, board, patience=DRAINED_WITHIN if announced else 0.5)
            return 0


def _drain(children: Children, board: Scoreboard, patience: float) -> None:
    """First nginx finishes what it accepted, then gunicorn stops: together they would lose most of it."""
    board.drain()
    begun = time.monotonic()
    children.signal("nginx", signal.SIGQUIT)
    children.wait_until_gone("nginx", begun + patience)
    children.signal("gunicorn", signal.SIGTERM)
    children.wait_until_gone("gunicorn", begun + patience + STOPPED_WITHIN - DRAINED_WITHIN)


def _gunicorn_command(settings: Settings, run_dir: Path, *, behind_nginx: bool) -> list[str]:
    command = [sys.executable, "-m", "gunicorn", "--config", "python:serving.gunicorn_conf", "--bind"]
    if not behind_nginx:
        return [*command, f"{settings.host}:{settings.port}"]
    # A worker that hangs is ended when nginx has answered for it; then there is a new one when the platform gives up.
    # nginx adds a header of its own to the client's
    limits = ["--timeout", str(read_timeout(settings)), "--limit-request-fields", str(MOST_HEADERS + 1)]
    return [*command, f"unix:{run_dir}/gunicorn.sock", *limits]
