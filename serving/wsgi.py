"""From a stage's loader to the WSGI application of its container."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping

from flask import Flask

from serving.app import create_app
from serving.errors import BadArtifact
from serving.interface import Interface
from serving.payload import Stage
from serving.scoreboard import VARIABLE, Scoreboard
from serving.settings import Settings

BOOT_ERROR = 3  # gunicorn takes this exit code as: every worker would fail alike, stop


def container_app(load: Callable[[Settings], Stage], env: Mapping[str, str]) -> Flask:
    """Load the stage and put it on HTTP. A model that must not be served ends the worker, and with it the container."""
    settings = Settings.from_env(env)
    try:
        stage = load(settings)
        _check_model(getattr(stage, "fingerprint", ""), settings, env)
    except (BadArtifact, OSError, ValueError) as error:
        logging.getLogger("serving").critical("cannot load the model: %s", error)
        sys.exit(BOOT_ERROR)
    interface: Interface | None = getattr(stage, "interface", None)
    return create_app(stage, settings, readiness(settings, env), interface)


def _check_model(fingerprint: str, settings: Settings, env: Mapping[str, str]) -> None:
    """Raise `BadArtifact` for another model than the one that this container's first worker has loaded.

    gunicorn replaces a worker that dies, and all of them at SIGHUP: if the files were replaced meanwhile, the same
    request would be answered from two models.
    """
    if VARIABLE not in env or not fingerprint:
        return
    served = Scoreboard.attach(int(env[VARIABLE])).agree(bytes.fromhex(fingerprint)).hex()
    if served != fingerprint:
        raise BadArtifact(
            f"the model in {settings.model_dir} is another one than this container has served, and a container serves "
            f"one: expected the manifest with SHA-256 {served}, got {fingerprint}; start a new container"
        )


def readiness(settings: Settings, env: Mapping[str, str]) -> Callable[[], bool]:
    """Whether every worker has loaded; without our supervisor, that this one has."""
    if VARIABLE not in env:
        return lambda: True
    board = Scoreboard.attach(int(env[VARIABLE]))
    return lambda: board.ready(settings.workers)
