"""`python -m local_test up | down | status` without a server: what is left is ended, and what is wrong is said."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from local_test.control_plane import command
from local_test.ports import free_ports
from local_test.process import Process
from local_test.state import ChainError, State
from tests.conftest import ROOT


@pytest.fixture
def sleeping(tmp_path: Path) -> Iterator[Process]:
    """A process that a control plane started, and its server, which was killed."""
    killed, left = (
        Process.start(name, ("sleep", "600"), os.environ, 0, tmp_path / "log") for name in (command.NAME, "featurizer")
    )
    State(tmp_path).save(command.NAME, [killed])
    (tmp_path / "data/endpoints/e/i").mkdir(parents=True)
    State(tmp_path / "data/endpoints/e/i").save("e", [left])
    killed.kill()
    yield left
    left.kill()


def down(directory: Path) -> int:
    return command.down(argparse.Namespace(state=directory), {"PATH": ""})


def test_down_ends_what_a_killed_server_left(
    sleeping: Process, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = [down(tmp_path), down(tmp_path)]

    assert codes == [0, 0]
    assert capsys.readouterr().out == "The control plane is stopped.\nThe control plane was not running.\n"
    assert not sleeping.is_alive()
    assert not (tmp_path / "data").exists()


def test_a_server_that_is_not_seen_from_here_keeps_its_directory(tmp_path: Path) -> None:
    """As that of another container, whose process ids mean nothing here."""
    state = State(tmp_path)
    (tmp_path / "data").mkdir()
    with state.claimed() as claim:
        server = Process.start(command.NAME, ("sleep", "600"), os.environ, 0, tmp_path / "log", keep=[claim])
    try:
        for verb in (down, lambda directory: command.up(argparse.Namespace(state=directory, port=0), {"PATH": ""})):
            with pytest.raises(ChainError, match="servers that are not seen from here use"):
                verb(tmp_path)
        assert (tmp_path / "data").exists()
    finally:
        server.kill()

    assert down(tmp_path) == 0
    assert not (tmp_path / "data").exists()


def test_a_server_that_is_started_keeps_the_directory_to_itself(tmp_path: Path) -> None:
    state = State(tmp_path)
    command._start(state, 0, "processes", {"PATH": os.environ["PATH"]})
    _, (server,) = state.load()
    try:
        with pytest.raises(ChainError, match="servers that are not seen from here use"), state.claimed():
            pass
    finally:
        server.kill()


def test_down_of_a_directory_that_is_not_there_makes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert down(tmp_path / "nothing") == 0
    assert capsys.readouterr().out == "The control plane was not running.\n"
    assert not (tmp_path / "nothing").exists()


def test_status_of_a_server_that_does_not_run_exits_with_1(
    sleeping: Process, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.status(argparse.Namespace(state=tmp_path), {}) == 1
    assert "is not running. Start it with `python -m local_test up`" in capsys.readouterr().out
    assert sleeping.is_alive()


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_refused_after_what_was_left_is_ended(
    port: int, sleeping: Process, tmp_path: Path
) -> None:
    arguments = argparse.Namespace(state=tmp_path, port=port, host="processes")

    with pytest.raises(ChainError, match=f"--port: expected a port from 0 to 65535, got {port}"):
        command.up(arguments, {"PATH": ""})
    assert not sleeping.is_alive()


def test_docker_that_does_not_answer_is_refused(tmp_path: Path) -> None:
    arguments = argparse.Namespace(state=tmp_path, port=0, host="docker")

    with pytest.raises(ChainError, match="Docker does not answer: start it, or use --host processes"):
        command.up(arguments, {"PATH": ""})


def test_a_server_that_does_not_start_shows_the_last_20_lines_of_its_log(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.log("server").write_text("".join(f"line {number}\n" for number in range(30)))

    with pytest.raises(ChainError, match="the control plane did not start") as refused:
        command._wait(state, free_ports(1)[0])

    said = str(refused.value).splitlines()
    assert said[0].endswith(f"The end of its log, {state.log('server')}:")
    assert said[1:] == [f"line {number}" for number in range(10, 30)]


def test_the_server_sees_no_aws_configuration_of_the_users() -> None:
    env = command.server_env({"AWS_PROFILE": "mine", "PATH": "/bin", "NO_PROXY": "a"})

    assert env["PATH"] == "/bin"
    assert "AWS_PROFILE" not in env
    assert env["AWS_CONFIG_FILE"] == env["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
    assert env["NO_PROXY"] == env["no_proxy"] == "*"
    names = ("AWS_EC2_METADATA_DISABLED", "MOTO_IAM_LOAD_MANAGED_POLICIES", "MOTO_DISABLE_GLOBAL_CORS")
    assert [env[name] for name in names] == ["true"] * 3


def test_clients_are_told_where_the_control_plane_is() -> None:
    assert command.exports(4566) == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser()
    command.add_parsers(whole.add_subparsers(required=True))
    return whole


def test_up_listens_on_port_4566_and_finds_out_what_hosts(parser: argparse.ArgumentParser) -> None:
    state = ROOT / ".local_test" / "control"

    assert vars(parser.parse_args(["up"])) == {"state": state, "port": 4566, "host": "auto", "run": command.up}
    assert vars(parser.parse_args(["down"])) == {"state": state, "run": command.down}
    assert vars(parser.parse_args(["status", "--state", "s"])) == {"state": Path("s"), "run": command.status}


@pytest.mark.parametrize("arguments", [["--host", "podman"], ["--port", "many"]])
def test_an_option_that_up_does_not_have_is_refused(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["up", *arguments])

    assert ended.value.code == 2


def test_help_shows_the_examples_as_they_are_written(
    parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(["up", "--help"])

    said = capsys.readouterr().out
    assert command.EXAMPLES in said
    assert "on 127.0.0.1; 0 takes a free one (4566)" in said
    assert "what runs containers (auto)" in said


def test_the_last_port_of_all_may_be_asked_for() -> None:
    assert command._port(65535) == 65535


def test_a_server_has_a_minute_to_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeping: Process) -> None:
    clock, state = [0.0], State(tmp_path / "state")
    state.directory.mkdir()
    state.log("server").touch()
    state.save(command.NAME, [sleeping])

    def sleep(seconds: float) -> None:
        clock[0] += seconds * 50

    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    monkeypatch.setattr(command, "_ask", lambda _port: None)

    with pytest.raises(ChainError, match="the control plane did not start"):
        command._wait(state, 1)

    assert clock == [60.0]


def test_down_gives_the_server_100_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(command, "stop", lambda _processes, seconds: waited.append(seconds))

    down(tmp_path)

    assert waited == [100.0]


def test_a_signal_that_comes_while_an_events_lock_is_held_is_no_deadlock(tmp_path: Path) -> None:
    """As `Event.wait` holds it for a moment, and whoever starts a thread."""
    script = """
import os, signal, sys
from pathlib import Path
from local_test.control_plane import service
plane = service.make_plane(0, "processes", Path(sys.argv[1]), os.environ)
def serve(plane, *_):
    for number in (signal.SIGTERM, signal.SIGINT):
        with plane.closing._cond:
            signal.raise_signal(number)
service._serve = serve
service.run(plane)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=True, timeout=60)


def test_a_signal_that_another_thread_gets_ends_a_control_plane_that_waits(tmp_path: Path) -> None:
    script = """
import os, signal, socket, sys, threading, time
from local_test.control_plane import service
def send():
    while socket.socket().connect_ex(("127.0.0.1", int(sys.argv[4]))):
        time.sleep(0.03)
    time.sleep(1)  # the main thread waits by then; if it does not yet, the signal is not lost either
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
threading.Thread(target=send, daemon=True).start()
service.main(sys.argv[1:], os.environ)
"""
    given = ["--host", "processes", "--port", str(free_ports(1)[0]), "--directory", str(tmp_path)]
    subprocess.run([sys.executable, "-c", script, *given], cwd=ROOT, check=True, timeout=60)
