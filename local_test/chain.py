"""The chain without Docker: featurizer, predictor and router as processes of this machine."""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local_test.processes import Server
from serving.contract import Contract
from serving.errors import BadArtifact
from serving.nginx import find_nginx

ROOT = Path(__file__).resolve().parent.parent
HEALTHY_WITHIN = 60.0
HELP = "run the chain as processes, without Docker"
PORTS = {
    "router": ("ROUTER_PORT", 8080),
    "featurizer": ("FEATURIZER_PORT", 8081),
    "predictor": ("PREDICTOR_PORT", 8082),
}
STOP_ORDER = ("router", "featurizer", "predictor")


class ChainError(Exception):
    """The chain cannot run. The message says what to do."""


@dataclass(frozen=True)
class Chain:
    """The three servers: where their artifacts, ports and state are."""

    artifacts: Path
    state: Path
    ports: Mapping[str, int]
    env: Mapping[str, str]

    @classmethod
    def from_env(cls, artifacts: Path, state: Path, env: Mapping[str, str]) -> Chain:
        ports = {}
        for name, (variable, default) in PORTS.items():
            text = env.get(variable) or str(default)
            if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
                raise ChainError(f"{variable}: expected a port from 1 to 65535, got {text!r}")
            ports[name] = int(text)
        return cls(artifacts.resolve(), state.resolve(), ports, env)

    @property
    def servers(self) -> dict[str, Server]:
        return {name: Server(name, self.state) for name in PORTS}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['router']}"

    def endpoint_name(self) -> str:
        """The data set's name, by which clients call the endpoint."""
        try:
            return Contract.load(self.artifacts / "featurizer" / "model").dataset.replace("_", "-")
        except (OSError, BadArtifact) as error:
            message = f"expected artifacts in {self.artifacts}; make them with: python -m pipeline train"
            raise ChainError(message) from error

    def up(self) -> None:
        """Start all three and return when they are healthy. Raises `ChainError` with the log of the one that failed."""
        name = self.endpoint_name()
        if running := [server.name for server in self.servers.values() if server.pid()]:
            raise ChainError(f"already running: {', '.join(running)}; stop it with: python -m local_test chain down")
        self._check_ports()
        try:
            for stage in ("featurizer", "predictor"):
                self.servers[stage].start(self._stage_env(stage), ROOT)
            self.servers["router"].start(self._router_env(name), ROOT)
            self._wait_until_healthy()
        except BaseException:
            self.down()
            raise

    def down(self) -> list[str]:
        """Stop what runs, the router first. Returns the names of those that did."""
        return [name for name in STOP_ORDER if self.servers[name].stop()]

    def _check_ports(self) -> None:
        for name, port in self.ports.items():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    message = (
                        f"port {port} for the {name} is taken ({error.strerror}); choose another: {PORTS[name][0]}=..."
                    )
                    raise ChainError(message) from error

    def _stage_env(self, stage: str) -> dict[str, str]:
        first, last = sorted((self.ports["featurizer"], self.ports["predictor"]))
        accept = {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/x-npy"} if stage == "featurizer" else {}
        return self._server_env(stage, stage) | accept | {
            "SM_MODEL_DIR": str(self.artifacts / stage / "model"),
            "SAGEMAKER_SAFE_PORT_RANGE": f"{first}-{last}",
        }  # fmt: skip

    def _router_env(self, endpoint: str) -> dict[str, str]:
        at = {name: f"http://127.0.0.1:{self.ports[name]}" for name in ("featurizer", "predictor")}
        return self._server_env("router", "local_test") | {
            "ENDPOINT_NAME": endpoint,
            "CONTAINERS": ",".join(f"{name}={url}" for name, url in at.items()),
            "MODEL_SERVER_NGINX": "off",
            "MODEL_SERVER_WORKERS": "1",
            "MODEL_SERVER_WORKER_CLASS": "gthread",
        }

    def _server_env(self, name: str, stage: str) -> dict[str, str]:
        own = {"STAGE": stage, "SAGEMAKER_BIND_TO_PORT": str(self.ports[name]), "MODEL_SERVER_HOST": "127.0.0.1"}
        return {**self.env, **own}

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + HEALTHY_WITHIN
        while not _answers(f"{self.url}/ping"):
            for server in self.servers.values():
                if not server.pid():
                    raise ChainError(f"the {server.name} ended; its log:\n{server.log_tail()}")
            if time.monotonic() > deadline:
                tails = "\n".join(f"{server.name}:\n{server.log_tail(5)}" for server in self.servers.values())
                raise ChainError(f"the chain is not healthy after {HEALTHY_WITHIN:.0f} seconds; the logs end:\n{tails}")
            time.sleep(0.1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["up", "down", "status", "logs", "run"], help="run: up, COMMAND, down")
    parser.add_argument("--artifacts", type=Path, default=ROOT / "artifacts", help="what `pipeline train` wrote")
    parser.add_argument("--state", type=Path, default=ROOT / ".local_test", help="pid files and logs go here")
    parser.add_argument("command", nargs="*", metavar="-- COMMAND", help="for run")


def run(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    chain = Chain.from_env(arguments.artifacts, arguments.state, env)
    if arguments.action == "up":
        return _up(chain)
    if arguments.action == "down":
        stopped = chain.down()
        print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")
        return 0
    if arguments.action == "status":
        return _status(chain)
    if arguments.action == "logs":
        for server in chain.servers.values():
            print(f"== {server.log}\n{server.log_tail(40)}")
        return 0
    return _run(chain, arguments.command)


def _up(chain: Chain) -> int:
    begun = time.monotonic()
    print("starting featurizer, predictor and router ...", file=sys.stderr)
    if not find_nginx(chain.env.get("PATH", "")):
        print("nginx is not on this machine: gunicorn alone answers (apt-get install nginx-light)", file=sys.stderr)
    chain.up()
    name = chain.endpoint_name()
    print(f"endpoint {name} is healthy after {time.monotonic() - begun:.1f} s on {chain.url}")
    print(
        f"  featurizer http://127.0.0.1:{chain.ports['featurizer']}, predictor http://127.0.0.1:{chain.ports['predictor']}"
    )
    print(f"  logs in {chain.state}, stop with: python -m local_test chain down")
    payload = ROOT / "local_test" / "payloads" / f"{name}.csv"
    if payload.exists():
        sample = payload.relative_to(ROOT)
        print(f"  try: curl {chain.url}/invocations -H 'Content-Type: text/csv' --data-binary @{sample}")
    return 0


def _status(chain: Chain) -> int:
    running = {name: server.pid() for name, server in chain.servers.items()}
    for name, pid in running.items():
        print(f"{name:<11} {f'process {pid}, port {chain.ports[name]}' if pid else 'not running'}")
    healthy = _answers(f"{chain.url}/ping")
    print(f"{'endpoint':<11} {'healthy' if healthy else 'not healthy'}")
    return 0 if healthy else 1


def _run(chain: Chain, command: list[str]) -> int:
    """Start the chain, run the command against it, stop the chain; Ctrl-C and SIGTERM stop it too."""
    if not command:
        raise ChainError("expected a command after --, got none")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _up(chain)
        env = {**chain.env, "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": chain.url, "ENDPOINT_NAME": chain.endpoint_name()}
        return subprocess.run(command, env=env, check=False).returncode
    finally:
        stopped = chain.down()
        print(f"stopped {', '.join(stopped)}" if stopped else "nothing was left running", file=sys.stderr)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=3) as response:  # noqa: S310 - our own http:// address
            return bool(response.status == 200)
    except OSError:  # refused, timed out, or not 200
        return False
