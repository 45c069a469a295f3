"""Processes that outlive the command that started them, their state, and the ports that they get."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from local_test import process as processes
from local_test.ports import free_ports, is_free
from local_test.process import CHECKOUT, Process, run_command, stop, uninterrupted
from local_test.state import ChainError, State
from tests.servers import started, wait_until

SHELL = ("sh", "-c")
# A process of the session whose command line is one of ours, and one whose is not.
FAMILY = "sh -c 'sleep 600; : serving' & sh -c 'sleep 600; : nothing' & echo $$; wait"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a process, which is killed at the end of the test."""
    with contextlib.ExitStack() as stack:

        def begin(*command: str, name: str = "p", **env: str) -> Process:
            log = tmp_path / f"{name}.log"
            process = Process.start(name, command, {"PATH": os.environ["PATH"], **env}, 1, log)
            stack.callback(end, process)
            return process

        yield begin


def end(process: Process) -> None:
    for pid, _ in processes._session(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def family(process: Process) -> list[str]:
    """The command lines of the living members of a session."""
    members = processes._session(process.pid)
    return sorted(command.strip() for pid, command in members if processes._start_time(pid))


def test_a_process_runs_in_the_checkout_with_its_own_environment_session_and_log(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    script = "import json, os, sys; "
    script += "print(json.dumps([dict(os.environ), os.getcwd(), os.getsid(0), sys.stdin.read()]), flush=True)"
    process = start(sys.executable, "-c", f"{script}; print('wrong', file=sys.stderr)", MINE="1")

    ended = process.wait(time.monotonic() + 60)

    told, wrong = (tmp_path / "p.log").read_text(encoding="utf-8").splitlines()
    env, directory, session, stdin = json.loads(told)
    assert (ended, wrong) == (True, "wrong")
    assert (env["MINE"], "HOME" in env) == ("1", False)
    assert (directory, session, stdin) == (str(CHECKOUT), process.pid, "")
    assert not process.is_alive()


def test_a_process_that_took_the_id_of_another_is_left_alone(start: Callable[..., Process]) -> None:
    living = start("sleep", "600")
    earlier = Process("p", living.pid, "1", 1)
    unknown = Process("p", living.pid, "", 1)

    for other in (earlier, unknown):
        other.terminate()
        other.kill()

    assert (living.is_alive(), earlier.is_alive(), unknown.is_alive()) == (True, False, False)
    assert not living.wait(time.monotonic())


def test_stop_asks_first_kills_then_and_names_those_it_killed(start: Callable[..., Process], tmp_path: Path) -> None:
    polite = start(*SHELL, "trap 'echo bye; exit 0' TERM; echo begun; while :; do sleep 0.02; done", name="polite")
    stubborn = start(*SHELL, "trap '' TERM; echo begun; while :; do sleep 0.02; done", name="stubborn")
    for name in ("polite", "stubborn"):
        wait_until(lambda name=name: (tmp_path / f"{name}.log").read_bytes(), "its first line")

    named = stop([stubborn], 0.1) + stop([polite])

    assert named == ["stubborn"]
    assert (tmp_path / "polite.log").read_text(encoding="utf-8") == "begun\nbye\n"
    assert (polite.is_alive(), stubborn.is_alive()) == (False, False)
    assert stop([polite, stubborn]) == []


def test_a_killed_process_takes_its_whole_session_with_it(start: Callable[..., Process], tmp_path: Path) -> None:
    process = start(*SHELL, FAMILY)
    wait_until(lambda: (tmp_path / "p.log").read_bytes() and family(process).count("sleep 600") == 2, "the family")

    process.kill()

    assert family(process) == []


def test_of_a_session_without_its_leader_only_our_own_programs_are_killed(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    process = start(*SHELL, FAMILY)
    wait_until(lambda: (tmp_path / "p.log").read_bytes() and family(process).count("sleep 600") == 2, "the family")
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(time.monotonic() + 60)

    process.kill()

    assert family(process) == ["sh -c sleep 600; : nothing", "sleep 600", "sleep 600"]


def test_without_proc_processes_are_found_by_ps(
    start: Callable[..., Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    process = start("sleep", "600")

    assert process.is_alive()
    assert list(processes._session(process.pid)) == [(process.pid, "sleep 600")]
    assert stop([process]) == []
    assert not process.is_alive()
    assert processes._start_time(process.pid) == ""


def test_an_interrupt_waits_until_nobody_can_lose_what_is_started() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: came.append(number))
    try:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            during = list(came)
        after = list(came)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert (during, after, came) == ([], [signal.SIGTERM], [signal.SIGTERM] * 2)


def test_ctrl_c_waits_too_and_is_raised_then() -> None:
    steps = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    try:
        with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012 - it is raised at the end
            signal.raise_signal(signal.SIGINT)
            steps.append("went on")
    finally:
        signal.signal(signal.SIGINT, before)

    assert steps == ["went on"]


def test_a_command_gives_its_exit_code() -> None:
    assert run_command([sys.executable, "-c", "exit(7)"]) == 7
    assert run_command([sys.executable, "-c", "import os; exit(os.environ['A'] != 'b')"], {"A": "b"}) == 0


def test_free_ports_are_different_and_nobody_listens_on_them() -> None:
    ports = free_ports(20)

    assert len(set(ports)) == 20
    assert ports == sorted(ports)
    assert 10_000 <= ports[0] <= ports[-1] <= 32_000
    with socket.create_server(("127.0.0.1", ports[0])):
        assert not is_free(ports[0])
    assert is_free(ports[0])


def test_a_port_that_was_just_left_is_free() -> None:
    """Connections that are over hold it for a minute."""
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(("127.0.0.1", port)) as client:
        connection, _ = server.accept()
        connection.close()
        client.recv(1)

    assert is_free(port)


def test_a_state_is_read_as_it_was_saved_and_cleared(tmp_path: Path) -> None:
    state = State(tmp_path)
    saved = [Process("a", 1, "2", 3), Process("b", 4, "5", 6)]

    empty = state.load()
    state.save("e", saved)
    loaded = state.load()
    state.clear()
    state.clear()

    assert (empty, loaded, state.load()) == (("", []), ("e", saved), ("", []))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"endpoint": "e", "processes": [{}]}', '{"processes": []}', "5"])
def test_a_damaged_state_is_refused_with_the_next_step(tmp_path: Path, text: str) -> None:
    (tmp_path / "chain.json").write_text(text, encoding="utf-8")

    with pytest.raises(ChainError, match=r"is damaged .*: stop the processes, remove it"):
        State(tmp_path).load()


def test_the_tail_of_a_log_has_so_many_lines(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"1\n2\n\xff\n")

    assert State(tmp_path).tail("a", 2) == "2\n\ufffd"
    assert State(tmp_path).tail("none", 2) == ""


def test_a_lock_is_held_by_one_command_at_a_time(tmp_path: Path) -> None:
    state = State(tmp_path / "new")
    hold = "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); print(); input()"
    with state.locked():
        pass

    with started([sys.executable, "-u", "-c", hold, state.directory / "lock"], stdin=-1, stdout=-1) as other:
        other.stdout.readline()
        with pytest.raises(ChainError, match=f"is starting or stopping the chain of {state.directory}"), state.locked():
            pass
    with state.locked():
        pass


def test_a_process_has_30_seconds_to_end_after_it_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    until: list[float] = []
    monkeypatch.setattr(Process, "wait", lambda _self, deadline: not until.append(deadline))
    monkeypatch.setattr(processes, "_start_time", lambda _pid: "")
    monkeypatch.setattr(processes, "_session", lambda _pid: [])
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: 100.0))

    assert stop([Process("p", 2**22 + 1, "1", 1)]) == []
    assert until == [130.0]
