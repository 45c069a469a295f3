"""The router's environment variables, read once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from local_test.container import Container
from local_test.endpoint import Endpoint, Limits
from serving.settings import BadSetting

CONTAINERS = "featurizer=http://127.0.0.1:8081,predictor=http://127.0.0.1:8082"
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_MOST = 15  # containers of a pipeline


@dataclass(frozen=True)
class RouterConfig:
    """Which endpoint the router is, and where its containers listen."""

    endpoint_name: str = "abalone"
    containers: tuple[tuple[str, str, int], ...] = ()  # name, host, port
    seconds: float = Limits.seconds
    kept_requests: int = 100  # on the endpoint's page; 0: there is none
    artifacts: Path | None = None
    logs: Path | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> RouterConfig:
        """Read the variables of the router and of its page. Raises `BadSetting` naming the variable."""
        name = env.get("ENDPOINT_NAME") or cls.endpoint_name
        if not _NAME.fullmatch(name):
            raise BadSetting(f"ENDPOINT_NAME: expected up to 63 letters, digits and inner hyphens, got {name!r}")
        return cls(
            name,
            _containers(env.get("CONTAINERS") or CONTAINERS),
            _seconds(env.get("INVOCATION_TIMEOUT", "")),
            _kept(env.get("PAGE_REQUESTS") or str(cls.kept_requests)),
            Path(env["PAGE_ARTIFACTS"]) if env.get("PAGE_ARTIFACTS") else None,
            Path(env["PAGE_LOGS"]) if env.get("PAGE_LOGS") else None,
        )

    def endpoint(self) -> Endpoint:
        containers = tuple(Container(name, host, port) for name, host, port in self.containers)
        return Endpoint(self.endpoint_name, containers, Limits(seconds=self.seconds))


def _containers(text: str) -> tuple[tuple[str, str, int], ...]:
    found = tuple(_container(part.strip()) for part in text.split(","))
    names = [name for name, _, _ in found]
    if len(set(names)) < len(names) or len(names) > _MOST:
        raise BadSetting(f"CONTAINERS: expected at most {_MOST} containers, each with a name of its own, got {text!r}")
    return found


def _container(text: str) -> tuple[str, str, int]:
    name, _, url = text.partition("=")
    problem = BadSetting(f"CONTAINERS: expected NAME=http://HOST:PORT separated by commas, got {text!r}")
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError as error:
        raise problem from error
    if not _NAME.fullmatch(name) or parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
        raise problem
    return name, parts.hostname, port


def _kept(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise BadSetting(f"PAGE_REQUESTS: expected a whole number from 0 to 9999, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    if not text:
        return Limits.seconds
    if not re.fullmatch(r"\d{1,4}(\.\d+)?", text) or not float(text):
        raise BadSetting(f"INVOCATION_TIMEOUT: expected seconds above 0, got {text!r}")
    return float(text)
