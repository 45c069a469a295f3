"""`python -m local_test up | down | status`: the control plane in the background."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local_test.control_plane.docker_host import find_docker
from local_test.control_plane.leftovers import end_leftovers
from local_test.control_plane.plane import HOSTS, REGION, STATUS_PATH
from local_test.plan import HOST
from local_test.ports import free_ports
from local_test.process import CHECKOUT, Process, stop, uninterrupted
from local_test.state import ChainError, State

PORT = 4566
ANSWERS_WITHIN = 60.0  # seconds
STOPPED_WITHIN = 100.0  # seconds: requests in flight, and then containers, have their time to end
NAME = "control-plane"
_SHOWN = 20  # lines of the log of a server that did not start
EXAMPLES = """\
examples:
  python -m local_test up
  export AWS_ENDPOINT_URL=http://127.0.0.1:4566 AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local
  python -m pipeline deploy
  python -m local_test status
  python -m local_test down"""


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--state",
        type=Path,
        default=CHECKOUT / ".local_test" / "control",
        help="where its data and logs are kept (%(default)s)",
    )
    start = commands.add_parser(
        "up",
        parents=[shared],
        help="start an AWS on this machine that hosts SageMaker endpoints",
        description="Start a server on loopback that answers as S3, ECR, IAM, STS, CloudWatch, Application Auto "
        "Scaling and SageMaker, and really hosts what is created: in Docker, or as processes of this checkout.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    start.add_argument("--port", type=int, default=PORT, help="on 127.0.0.1; 0 takes a free one (%(default)s)")
    start.add_argument("--host", choices=HOSTS, default="auto", help="what runs containers (%(default)s)")
    start.set_defaults(run=up)
    commands.add_parser(
        "down", parents=[shared], help="stop the control plane and all that it started; safe to repeat"
    ).set_defaults(run=down)
    commands.add_parser(
        "status", parents=[shared], help="what the control plane hosts; exit 0 when it runs"
    ).set_defaults(run=status)


def up(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    state = State(arguments.state.resolve())
    with state.locked():
        if (running := _running(state)) and (found := _ask(running.port)):
            print(f"The control plane already runs on http://{HOST}:{running.port} ({found['host']}).")
            return 0
        _clear(state, env)  # what a killed one left
        port = _port(arguments.port)
        if arguments.host == "docker" and not find_docker(env):
            raise ChainError("Docker does not answer: start it, or use --host processes")
        try:
            _start(state, port, arguments.host, env)
            found = _wait(state, port)
        except BaseException:  # Ctrl-C included
            _clear(state, env)
            raise
    print(f"The control plane runs on http://{HOST}:{port} and hosts models in {_kind(found)}. To use it:")
    spared = {name: env[name] for name in ("NO_PROXY", "no_proxy") if name in env}
    for name, value in (exports(port) | spared).items():
        print(f"  export {name}={value}")
    if found["registry"]:
        print(f"Images are pushed to {found['registry']}.")
    return 0


def down(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    state = State(arguments.state.resolve())
    if not state.directory.is_dir():
        print("The control plane was not running.")
        return 0
    with state.locked():
        ran = _clear(state, env)
    print("The control plane is stopped." if ran else "The control plane was not running.")
    return 0


def status(arguments: argparse.Namespace, _env: Mapping[str, str]) -> int:
    running = _running(State(arguments.state.resolve()))
    found = _ask(running.port) if running else None
    if not (running and found):
        print("The control plane is not running. Start it with `python -m local_test up`.")
        return 1
    print(f"control plane on http://{HOST}:{running.port}, pid {running.pid}, hosts models in {_kind(found)}")
    for endpoint in found["endpoints"]:
        print(f"{endpoint['name']:<40}{endpoint['status']:<14}{endpoint['reason']}".rstrip())
    if not found["endpoints"]:
        print("no endpoints")
    return 0


def exports(port: int) -> dict[str, str]:
    """The environment in which AWS's clients use the control plane."""
    return {
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }


def _data(state: State) -> Path:
    """All that `down` removes."""
    return state.directory / "data"


def _kind(found: Mapping[str, Any]) -> str:
    return "Docker" if found["host"] == "docker" else "processes of this checkout"


def _start(state: State, port: int, host: str, env: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "local_test.control_plane", "--port", str(port), "--host", host]
    command += ["--directory", str(_data(state))]
    with uninterrupted(), state.claimed() as claim:
        process = Process.start(NAME, command, server_env(env), port, state.log("server"), keep=[claim])
        state.save(NAME, [process])


def server_env(env: Mapping[str, str]) -> dict[str, str]:
    """The server's own environment: its client must find itself, whatever the user's AWS configuration says."""
    kept = {name: value for name, value in env.items() if not name.startswith("AWS_")}
    return kept | {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "*",
        "no_proxy": "*",
        "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
        "MOTO_DISABLE_GLOBAL_CORS": "true",
    }


def _wait(state: State, port: int) -> dict[str, Any]:
    deadline = time.monotonic() + ANSWERS_WITHIN
    while time.monotonic() < deadline:
        if found := _ask(port):
            return found
        if not _running(state):
            break
        time.sleep(0.1)
    words = state.tail("server", _SHOWN)
    raise ChainError(f"the control plane did not start. The end of its log, {state.log('server')}:\n{words}")


def _clear(state: State, env: Mapping[str, str]) -> bool:
    """End the server, and whatever it or a killed one left. Returns whether anything ran."""
    _, processes = state.load()
    ran = any(process.is_alive() for process in processes)
    stop(processes, STOPPED_WITHIN)
    with state.claimed():
        ran = end_leftovers(_data(state), find_docker(env)) or ran
        shutil.rmtree(_data(state), ignore_errors=True)
        state.clear()
    return ran


def _running(state: State) -> Process | None:
    _, processes = state.load()
    return next((process for process in processes if process.is_alive()), None)


def _ask(port: int) -> dict[str, Any] | None:
    """What the server says of itself; None when it does not answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", STATUS_PATH)
        response = connection.getresponse()
        body = response.read()
        found: dict[str, Any] | None = json.loads(body) if response.status == 200 else None
        return found
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def _port(asked: int) -> int:
    """A port that can be listened on. Raises `ChainError`."""
    if not 0 <= asked <= 65535:
        raise ChainError(f"--port: expected a port from 0 to 65535, got {asked}")
    if asked == 0:
        return free_ports(1)[0]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, asked))
        except OSError as error:
            raise ChainError(
                f"port {asked} of {HOST} is in use ({error.strerror}): stop what listens there, or give --port another"
            ) from error
    return asked
