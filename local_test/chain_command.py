"""`python -m local_test chain ...`: the command line of the chain without Docker."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from local_test import chain
from local_test.plan import HOST, STAGES, Planned, Ports, check_ports, plan
from local_test.process import CHECKOUT, run_command
from local_test.state import State
from serving.nginx import find_nginx

NAMES = (*STAGES, "router")
DESCRIPTION = """\
The chain as plain processes: a featurizer, a predictor and a router that speaks SageMaker's runtime API.
Ports on 127.0.0.1 come from ROUTER_PORT (8080), FEATURIZER_PORT (8081) and PREDICTOR_PORT (8082)."""
EXAMPLES = """\
examples:
  python -m local_test chain up
  python -m local_test predict local_test/payloads/rows.csv
  python -m local_test chain logs predictor
  python -m local_test chain down
  python -m local_test chain run -- aws sagemaker-runtime invoke-endpoint --endpoint-name abalone \\
      --content-type text/csv --body fileb://local_test/payloads/rows.csv answer.json"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "chain",
        help="start and stop both stages and the router without Docker",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(metavar="up | down | status | ports | logs | run", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--state", type=Path, default=CHECKOUT / ".local_test", help="where logs and process ids are kept (%(default)s)"
    )
    trained = argparse.ArgumentParser(add_help=False)
    trained.add_argument(
        "--artifacts", type=Path, default=Path("artifacts"), help="what `python -m pipeline train` wrote (%(default)s)"
    )
    start = verbs.add_parser("up", parents=[shared, trained], help="start, and return when the chain is healthy")
    start.set_defaults(run=_up)
    verbs.add_parser("down", parents=[shared], help="stop; safe to repeat").set_defaults(run=_down)
    verbs.add_parser("status", parents=[shared], help="what runs; exit 0 when all is healthy").set_defaults(run=_status)
    ports = verbs.add_parser("ports", parents=[shared], help="exit 0 when `up` can have its ports, or runs")
    ports.set_defaults(run=_ports)
    logs = verbs.add_parser("logs", parents=[shared], help="show the logs")
    logs.add_argument("names", nargs="*", metavar="NAME", help="featurizer, predictor or router (all)")
    logs.add_argument("--lines", type=int, default=50, help="of each log (%(default)s)")
    logs.add_argument("--follow", action="store_true", help="go on as lines come, until Ctrl-C")
    logs.set_defaults(run=_logs)
    run = verbs.add_parser(
        "run",
        parents=[shared, trained],
        help="start, run a command against the chain, stop; exits with the command's code",
        description="Start the chain, run COMMAND with AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME and ENDPOINT_NAME set, "
        "stop the chain and exit with COMMAND's code. Where no region or credentials are set, COMMAND gets us-east-1 "
        "and placeholders.",
    )
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what to run")
    run.set_defaults(run=_run)


def _up(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    state = State(arguments.state)
    endpoint, port = _announce(state, _start(state, arguments, env))
    sample = "local_test/payloads/rows.csv" if endpoint == "abalone" else "FILE.csv"
    print(f"Try:\n  curl http://{HOST}:{port}/endpoints/{endpoint}/invocations -H 'Content-Type: text/csv' \\")
    print(f"    --data-binary @{sample}")
    print(f"or open http://{HOST}:{port}/ in a browser.")
    return 0


def _start(state: State, arguments: argparse.Namespace, env: Mapping[str, str]) -> float | None:
    """Start the chain. Return the seconds that this took, or None when the chain runs already."""
    endpoint, planned = plan(arguments.artifacts, Ports.from_env(env), env, state.directory)
    if env.get("MODEL_SERVER_NGINX") != "off" and not find_nginx(env.get("PATH", os.defpath)):
        print("nginx is not on this machine: the stages are served by gunicorn alone", file=sys.stderr)
    begun = time.monotonic()
    return time.monotonic() - begun if chain.up(state, endpoint, planned) else None


def _announce(state: State, took: float | None) -> tuple[str, int]:
    """Say where the chain listens. Return the endpoint's name and the router's port."""
    endpoint, processes = state.load()
    port = processes[-1].port
    happened = "is already running" if took is None else f"is healthy after {took:.1f} s"
    listed = ", ".join(f"{process.name} {process.port}" for process in processes)
    print(f"The chain {happened}: endpoint {endpoint} on http://{HOST}:{port} ({listed}).", flush=True)
    return endpoint, port


def _down(arguments: argparse.Namespace, _env: Mapping[str, str]) -> int:
    ran, stubborn = chain.down(State(arguments.state))
    for name in stubborn:
        print(f"{name} did not stop in time and was killed", file=sys.stderr)
    print("The chain is stopped." if ran else "The chain was not running.")
    return 0


def _status(arguments: argparse.Namespace, _env: Mapping[str, str]) -> int:
    endpoint, processes = State(arguments.state).load()
    if not processes:
        print("The chain is not running. Start it with `python -m local_test chain up`.")
        return 1
    print(f"endpoint {endpoint}")
    healthy = True
    for process in processes:
        reason = chain.ping(process.port) if process.is_alive() else "ended"
        healthy = healthy and not reason
        print(f"{process.name:<12}{HOST}:{process.port:<7}pid {process.pid:<9}{reason or 'healthy'}")
    return 0 if healthy else 1


def _ports(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    """Before something long, such as a training, whose chain could then not start."""
    ports = Ports.from_env(env)
    if not State(arguments.state).load()[1]:
        check_ports([Planned(name, getattr(ports, name), {}) for name in NAMES])
    return 0


def _logs(arguments: argparse.Namespace, _env: Mapping[str, str]) -> int:
    names = arguments.names or NAMES
    if unknown := [name for name in names if name not in NAMES]:
        print(f"expected {', '.join(NAMES)}, got {unknown[0]}", file=sys.stderr)
        return 2
    if not (files := chain.logs_of(State(arguments.state), names)):
        print("There is no log yet. Start the chain with `python -m local_test chain up`.", file=sys.stderr)
        return 1
    follow = ["-F"] if arguments.follow else []
    return run_command(["tail", "-n", str(arguments.lines), *follow, *map(str, files)])


def _run(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        print("expected a command: python -m local_test chain run -- COMMAND", file=sys.stderr)
        return 2
    state = State(arguments.state)
    took = _start(state, arguments, env)
    try:
        code = run_command(command, command_env(env, *_announce(state, took)))
    except FileNotFoundError:
        print(f"there is no program {command[0]}", file=sys.stderr)
        return 127
    finally:
        if took is not None:
            chain.down(state)
    return code if code >= 0 else 128 - code


def command_env(env: Mapping[str, str], endpoint: str, port: int) -> dict[str, str]:
    """The environment in which AWS's clients find the chain. A user's own region and credentials stay."""
    own = {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": f"http://{HOST}:{port}", "ENDPOINT_NAME": endpoint}
    if not env.get("AWS_REGION"):
        own["AWS_DEFAULT_REGION"] = env.get("AWS_DEFAULT_REGION") or "us-east-1"
    if not env.get("AWS_ACCESS_KEY_ID") and not env.get("AWS_PROFILE"):
        own |= {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    return dict(env) | own
