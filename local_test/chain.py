"""The chain as plain processes: featurizer, predictor and router, started, watched and stopped together."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from pathlib import Path

from local_test.plan import COMMAND, HOST, Planned, check_ports
from local_test.process import Process, stop, uninterrupted
from local_test.state import ChainError, State

HEALTHY_WITHIN = 60.0  # seconds
_SHOWN = 20  # lines of the log of a process that failed
_PINGED = '"path": "/ping"'  # in the lines of pings, ours for the most part, which would push the reason out


def up(state: State, endpoint: str, planned: Sequence[Planned], healthy_within: float = HEALTHY_WITHIN) -> bool:
    """Start the chain and return when it is healthy; False when it was running already.

    Whatever goes wrong, Ctrl-C included, what was started is stopped. Raises `ChainError`.
    """
    with state.locked():
        if is_healthy(state):
            _refuse_another(state, endpoint, planned)
            return False
        _stop_all(state)  # what an earlier chain left
        check_ports(list(planned))
        complete = False
        try:
            with state.claimed() as claim:
                _start(state, endpoint, planned, claim)
            _wait_until_healthy(state, healthy_within)
            complete = True
        finally:
            if not complete:
                _stop_all(state)
    return True


def _refuse_another(state: State, endpoint: str, planned: Sequence[Planned]) -> None:
    """A chain that runs is not the one that was asked for when it has another name or other ports."""
    running, processes = state.load()
    if running != endpoint or [one.port for one in processes] != [one.port for one in planned]:
        listed = ", ".join(f"{process.name} {process.port}" for process in processes)
        raise ChainError(
            f"another chain runs already: endpoint {running} ({listed}). `python -m local_test chain down` stops it; "
            "for a second one give --state another directory and set three other ports"
        )


def down(state: State) -> tuple[bool, list[str]]:
    """Stop the chain. Returns whether anything ran, and the names of the processes that had to be killed."""
    with state.locked():
        return _stop_all(state)


def is_healthy(state: State) -> bool:
    """Whether all processes of the chain run and the router's ping, which asks all containers, is 200."""
    _, processes = state.load()
    return bool(processes) and all(p.is_alive() for p in processes) and not ping(processes[-1].port)


def ping(port: int) -> str:
    """Why a server is not ready, in words; empty when it is."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/ping")
        response = connection.getresponse()
        body = response.read()
        return "" if response.status == 200 else _message(body) or f"/ping answered {response.status}"
    except (OSError, http.client.HTTPException) as error:
        return f"no answer on port {port} ({error})"
    finally:
        connection.close()


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _start(state: State, endpoint: str, planned: Sequence[Planned], claim: int) -> None:
    started: list[Process] = []
    for one in planned:
        with uninterrupted():
            started.append(Process.start(one.name, COMMAND, one.env, one.port, state.log(one.name), keep=[claim]))
            state.save(endpoint, started)


def _wait_until_healthy(state: State, seconds: float) -> None:
    _, processes = state.load()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for process in processes:
            if not process.is_alive():
                raise ChainError(f"{process.name} ended while starting. {_last_words(state, process.name)}")
        if not ping(processes[-1].port):
            return
        time.sleep(0.1)
    late = next((p for p in processes if ping(p.port)), processes[-1])
    reason = ping(late.port)
    raise ChainError(f"{late.name} was not healthy within {seconds:g} s: {reason}. {_last_words(state, late.name)}")


def _last_words(state: State, name: str) -> str:
    return f"The end of its log, {state.log(name)}:\n{state.tail(name, _SHOWN, without=_PINGED)}"


def _stop_all(state: State) -> tuple[bool, list[str]]:
    """Router first, so that no request meets a container that is gone; then in the order of the chain."""
    _, processes = state.load()
    ran = any(process.is_alive() for process in processes)
    with uninterrupted():
        stubborn = stop([*processes[-1:], *processes[:-1]])
        with state.claimed():
            state.clear()
    return ran, stubborn


def logs_of(state: State, names: Sequence[str]) -> list[Path]:
    """The log files that exist."""
    return [state.log(name) for name in names if state.log(name).exists()]
