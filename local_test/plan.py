"""Which processes make the chain, on which ports, with what environment."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local_test.state import ChainError
from serving.contract import FILE as CONTRACT
from serving.contract import Contract
from serving.errors import BadArtifact

HOST = "127.0.0.1"
PORTS = {"ROUTER_PORT": 8080, "FEATURIZER_PORT": 8081, "PREDICTOR_PORT": 8082}
STAGES = ("featurizer", "predictor")
COMMAND = (sys.executable, "-m", "serving", "serve")
# Of our own shell, and not meant for three servers at once.
_NOT_INHERITED = ("MODEL_SERVER_RUN_DIR", "PORT", "STAGE")


@dataclass(frozen=True)
class Planned:
    """A process to be started."""

    name: str
    port: int
    env: Mapping[str, str]


@dataclass(frozen=True)
class Ports:
    """Where the three processes listen, on loopback."""

    router: int = PORTS["ROUTER_PORT"]
    featurizer: int = PORTS["FEATURIZER_PORT"]
    predictor: int = PORTS["PREDICTOR_PORT"]

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Ports:
        """Read ROUTER_PORT, FEATURIZER_PORT and PREDICTOR_PORT. Raises `ChainError` naming the variable."""
        found = {variable: _port(env, variable) for variable in PORTS}
        if len(set(found.values())) < len(found):
            listed = ", ".join(f"{variable}={port}" for variable, port in found.items())
            raise ChainError(f"expected three different ports, got {listed}")
        return cls(*found.values())


def plan(artifacts: Path, ports: Ports, env: Mapping[str, str], logs: Path | None = None) -> tuple[str, list[Planned]]:
    """The endpoint's name, and its processes in the order to start them. Raises `ChainError`.

    `logs`: the directory that their logs will be in.
    """
    endpoint = endpoint_name(artifacts)
    base = {name: value for name, value in env.items() if name not in _NOT_INHERITED} | {"MODEL_SERVER_HOST": HOST}
    port_of = {"featurizer": ports.featurizer, "predictor": ports.predictor}
    reach = f"{min(port_of.values())}-{max(port_of.values())}"
    stages = []
    for name, port in port_of.items():
        own = {
            "STAGE": name,
            "SM_MODEL_DIR": str(artifacts.resolve() / name / "model"),
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "SAGEMAKER_SAFE_PORT_RANGE": reach,
        }
        if name == "featurizer":  # between the containers features travel as float32
            own["SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"] = "application/x-npy"
            own["MODEL_SERVER_MAX_RESPONSE"] = "5000000"  # what the platform passes on
        stages.append(Planned(name, port, base | own))
    shown = {"PAGE_ARTIFACTS": str(artifacts.resolve())} | ({"PAGE_LOGS": str(logs.resolve())} if logs else {})
    return endpoint, [*stages, Planned("router", ports.router, base | shown | _router(endpoint, ports))]


def _router(endpoint: str, ports: Ports) -> dict[str, str]:
    return {
        "STAGE": "local_test",
        "ENDPOINT_NAME": endpoint,
        "CONTAINERS": f"featurizer=http://{HOST}:{ports.featurizer},predictor=http://{HOST}:{ports.predictor}",
        "SAGEMAKER_BIND_TO_PORT": str(ports.router),
        "MODEL_SERVER_NGINX": "off",
        # It waits for the containers most of the time: threads do, and a second process would only take their CPU.
        "MODEL_SERVER_WORKERS": "1",
        "MODEL_SERVER_WORKER_CLASS": "gthread",
        "MODEL_SERVER_THREADS": "64",
    }


def endpoint_name(artifacts: Path) -> str:
    """The data set's name, as far as an endpoint may have it. Raises `ChainError` for models that make no chain."""
    for stage in STAGES:
        if not (artifacts / stage / "model" / CONTRACT).is_file():
            raise ChainError(f"there is no model in {artifacts / stage / 'model'}: run `python -m pipeline train`")
    try:
        first, second = (Contract.load(artifacts / stage / "model") for stage in STAGES)
    except BadArtifact as error:
        raise ChainError(f"{error}: run `python -m pipeline train`") from error
    if first.hash != second.hash:
        raise ChainError(f"the two models in {artifacts} are of two training runs: run `python -m pipeline train`")
    return re.sub(r"[^a-zA-Z0-9]+", "-", first.dataset).strip("-")[:63].rstrip("-") or "endpoint"


def check_ports(planned: list[Planned]) -> None:
    """Raise `ChainError` for a port that somebody else listens on."""
    for process in planned:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, process.port))
            except OSError as error:
                variable = f"{process.name.upper()}_PORT"
                raise ChainError(
                    f"port {process.port} of {HOST} is in use ({error.strerror}): stop what listens there, or set "
                    f"{variable} to another port"
                ) from error


def _port(env: Mapping[str, str], variable: str) -> int:
    text = env.get(variable) or str(PORTS[variable])
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise ChainError(f"{variable}: expected a port from 1 to 65535, got {text!r}")
    return int(text)
