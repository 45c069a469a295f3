"""What is checked, started as the platform starts it: an image in Docker, or a `serve` command here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

LABEL = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"
SERVED = "/opt/ml/model"


class CannotStart(Exception):
    """It was not brought to run. The message says what Docker or the command said."""


class NotHere(Exception):
    """A rule that cannot be examined in this way of running. The message says why."""


@dataclass(frozen=True)
class Situation:
    """How a container is started. `port`: SAGEMAKER_BIND_TO_PORT; None leaves it out."""

    port: int | None
    env: Mapping[str, str] = field(default_factory=dict)
    model: bool = True  # else the model directory is empty
    writable_model: bool = False
    user: str = ""
    read_only: bool = False
    beside: Running | None = None  # share its network


class Running(Protocol):
    """Something that was started."""

    port: int  # on 127.0.0.1

    def exit_code(self) -> int | None:
        """None while it runs."""

    def terminate(self, seconds: float) -> int | None:
        """SIGTERM, and the exit code within so many seconds; None, and a SIGKILL, when it did not end."""

    def log(self) -> str: ...

    def listening(self) -> set[int]:
        """The TCP ports on which others can reach it. Raises `NotHere`."""


class Subject(Protocol):
    """What is checked."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def mounts(self) -> bool:
        """Whether the model directory is mounted, and so can be read-only."""

    def facts(self) -> Mapping[str, Any]:
        """What is known without a start: Architecture, Os, Config as `docker image inspect` has it; `NotHere` else."""

    def manifest(self) -> str:
        """The media type of the manifest in its registry. Raises `NotHere`."""

    def files_below(self, path: str) -> list[str]:
        """The files of the image below a directory. Raises `NotHere`."""

    def start(self, situation: Situation) -> AbstractContextManager[Running]:
        """Start it; stopped and removed at the end. Raises `CannotStart`, and `NotHere` for what cannot be had."""
