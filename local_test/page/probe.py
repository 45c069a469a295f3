"""What the containers say of themselves now: their health and their contract."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from local_test.connection import Oversize
from local_test.container import Container, NoAnswer, Unreachable
from local_test.endpoint import MIB, PING_WITHIN, Endpoint
from serving.contract import Contract
from serving.errors import BadArtifact

FRESH = 60.0  # seconds for which the contract of a container that stays healthy is not asked for again


class Health(StrEnum):
    HEALTHY = "healthy"
    STARTING = "not ready"
    FAILING = "failing"


@dataclass(frozen=True)
class Interface:
    """What `GET /contract` says. `problem`: why there is nothing to show."""

    contract: Contract | None = None
    reads: tuple[str, ...] = ()
    accepts: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    max_body: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Seen:
    """A container as it answers now. `reason`: why it is not healthy; `milliseconds`: of its ping."""

    name: str
    host: str
    port: int
    health: Health
    reason: str
    milliseconds: float
    interface: Interface


@dataclass
class Probe:
    """Asks all containers at once; their contracts not oftener than they change."""

    endpoint: Endpoint
    _known: dict[str, tuple[float, Interface]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> list[Seen]:
        with ThreadPoolExecutor(len(self.endpoint.containers)) as pool:
            return list(pool.map(self._see, self.endpoint.containers))

    def _see(self, container: Container) -> Seen:
        started = time.perf_counter()
        health, reason = _health(container)
        took = (time.perf_counter() - started) * 1000
        interface = self._interface(container, health)
        return Seen(container.name, container.host, container.port, health, reason, took, interface)

    def _interface(self, container: Container, health: Health) -> Interface:
        """What it said last, while that is fresh. Who comes back may be another: he is asked again."""
        now = time.monotonic()
        with self._lock:
            until, known = self._known.get(container.name, (0.0, Interface(problem="it was not healthy yet")))
        if health is Health.HEALTHY and now >= until:
            until, known = now + FRESH, _ask(container)
        elif health is not Health.HEALTHY:
            until = 0.0
        with self._lock:
            self._known[container.name] = (until, known)
        return known


def _health(container: Container) -> tuple[Health, str]:
    try:
        answer = container.get("/ping", time.monotonic() + PING_WITHIN)
    except Unreachable as error:
        return Health.FAILING, f"{error}: nothing listens on port {container.port}"
    except (NoAnswer, Oversize) as error:
        return Health.FAILING, str(error)
    if answer.status == 200:
        return Health.HEALTHY, ""
    reason = f"its ping answered {answer.status}: {_message(answer.body)}"
    return (Health.STARTING if answer.status == 503 else Health.FAILING), reason


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return body[:300].decode("utf-8", "replace") or "no reason"


def _ask(container: Container) -> Interface:
    try:
        answer = container.get("/contract", time.monotonic() + PING_WITHIN, 4 * MIB)
    except (NoAnswer, Oversize) as error:
        return Interface(problem=f"GET /contract: {error}")
    if answer.status != 200:
        return Interface(problem=f"GET /contract answered {answer.status}")
    try:
        return _read(json.loads(answer.body))
    except (BadArtifact, ArithmeticError, ValueError, KeyError, TypeError, RecursionError) as error:
        return Interface(problem=f"GET /contract answered something else than a contract ({type(error).__name__})")


def _read(said: dict[str, Any]) -> Interface:
    if not 0 <= (most := int(said["max_body_bytes"])) < 2**63:
        raise ValueError("no size")
    return Interface(
        Contract.from_json(json.dumps(said["contract"])),
        tuple(map(str, said["reads"])),
        _media(said["accepts"]),
        _media(said["answers"]),
        most,
    )


def _media(types: Iterable[object]) -> tuple[str, ...]:
    """Those that could be sent in a header; they stand in the form as they are."""
    return tuple(text for text in map(str, types) if text.isascii() and text.isprintable())
