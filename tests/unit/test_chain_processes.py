"""The chain's processes, started, watched and stopped together: small stand-ins for its servers."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from local_test import chain, chain_command
from local_test.__main__ import main
from local_test.plan import Planned
from local_test.ports import free_ports
from local_test.process import Process
from local_test.state import ChainError, State
from tests.scripted_container import ScriptedContainer, answer, raw
from tests.servers import wait_until

NAMES = ("featurizer", "predictor", "router")
STAND_IN = """
import http.server, os, signal, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ.get("BODY", "").encode()
        self.send_response(int(os.environ.get("PING", "200")))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

def stop(*_):
    with open(os.environ["ENDED"], "a") as ended:
        ended.write(os.environ["NAME"] + " ")
    sys.exit(0)

signal.signal(signal.SIGTERM, stop if "DEAF" not in os.environ else signal.SIG_IGN)
print("starting", os.environ["NAME"], flush=True)
for line in range(int(os.environ.get("LINES", "0"))):
    print(line, flush=True)
if "FAILS" in os.environ:
    sys.exit("no way to start")
http.server.HTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever(0.02)
"""

Plan = Callable[..., list[Planned]]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[State]:
    monkeypatch.setattr(chain, "COMMAND", (sys.executable, "-c", STAND_IN))
    state = State(tmp_path / "run")
    yield state
    _, processes = state.load()
    for process in processes:
        process.kill()


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Three servers on free ports; what is different of one is given by its name."""

    def planned(**changed: dict[str, str]) -> list[Planned]:
        base = {"PATH": os.environ["PATH"], "ENDED": str(tmp_path / "ended")}
        return [
            Planned(name, port, {**base, "NAME": name, "SAGEMAKER_BIND_TO_PORT": str(port), **changed.get(name, {})})
            for name, port in zip(NAMES, free_ports(3), strict=True)
        ]

    return planned


def test_a_chain_comes_up_in_its_order_and_goes_down_with_the_router_first(
    state: State, plan: Plan, tmp_path: Path
) -> None:
    planned = plan()

    fresh = [chain.up(state, "e", planned), chain.up(state, "e", planned)]
    endpoint, processes = state.load()
    healthy = chain.is_healthy(state)
    logs = [path.name for path in chain.logs_of(state, [*NAMES, "other"])]
    ended = [chain.down(state), chain.down(state)]

    assert fresh == [True, False]
    assert (endpoint, [(one.name, one.port) for one in processes]) == ("e", [(one.name, one.port) for one in planned])
    assert (healthy, chain.is_healthy(state)) == (True, False)
    assert logs == [f"{name}.log" for name in NAMES]
    assert ended == [(True, []), (False, [])]
    assert (tmp_path / "ended").read_text() == "router featurizer predictor "
    assert not any(process.is_alive() for process in processes)


def test_another_chain_is_not_taken_for_the_one_that_runs(state: State, plan: Plan) -> None:
    planned = plan()
    chain.up(state, "e", planned)
    listed = ", ".join(f"{one.name} {one.port}" for one in planned)

    for endpoint, other in (("other", planned), ("e", plan())):
        with pytest.raises(ChainError) as refused:
            chain.up(state, endpoint, other)
        assert str(refused.value).startswith(
            f"another chain runs already: endpoint e ({listed}). `python -m local_test"
        )


def test_its_own_ports_are_not_in_use_for_a_chain_that_runs(
    state: State, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan()
    for one in planned:
        monkeypatch.setenv(f"{one.name.upper()}_PORT", str(one.port))
    ports = ["chain", "ports", "--state", str(state.directory)]

    free = main(ports)
    chain.up(state, "e", planned)

    assert (free, main(ports)) == (0, 0)


def test_a_disk_that_is_full_leaves_no_server(
    state: State, plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chain_command, "plan", lambda *_: ("e", plan()))
    state.directory.mkdir()
    (state.directory / "chain.json.new").symlink_to("/dev/full")
    waiting = Process.start("a", ["sleep", "600"], os.environ, 1, state.log("a"))

    code = main(["chain", "up", "--state", str(state.directory)])
    with pytest.raises(OSError, match="No space left"):
        state.save("e", [waiting])

    assert (code, capsys.readouterr().err.partition(":")[0]) == (1, "no space is left on the disk")
    assert state.log("featurizer").exists()
    assert not waiting.is_alive()


def test_a_chain_that_is_not_seen_from_here_keeps_its_directory(state: State, plan: Plan) -> None:
    """As that of another container, whose process ids mean nothing here."""
    chain.up(state, "e", plan())
    _, running = state.load()
    state.clear()

    for change in (lambda: chain.up(state, "e", plan()), lambda: chain.down(state)):
        with pytest.raises(ChainError, match=r"servers that are not seen from here use .*: stop them there, or give"):
            change()
    seen = state.load()
    state.save("e", running)

    assert seen == ("", [])
    assert all(process.is_alive() for process in running)
    assert chain.down(state) == (True, [])


def test_a_server_that_ends_while_it_starts_is_shown_and_the_others_are_stopped(
    state: State, plan: Plan, tmp_path: Path
) -> None:
    with pytest.raises(ChainError) as failed:
        chain.up(state, "e", plan(predictor={"FAILS": "yes"}, router={"PING": "503"}))

    assert str(failed.value) == (
        f"predictor ended while starting. The end of its log, {tmp_path}/run/predictor.log:\n"
        "starting predictor\nno way to start"
    )
    assert state.load() == ("", [])


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 60):
        return True
    return False


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"PING": "503", "BODY": '{"message": "expected every worker"}'}, "expected every worker"),
        ({"PING": "503", "BODY": '{"code": "x"}'}, "/ping answered 503"),
        ({"PING": "500", "BODY": "[]"}, "/ping answered 500"),
    ],
)
def test_the_server_that_is_late_is_named_with_its_reason(
    state: State, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], reason: str
) -> None:
    planned, ping = plan(featurizer=changed, router={"PING": "503"}), chain.ping

    def ping_once_all_listen(port: int) -> str:
        for one in planned:
            wait_until(lambda one=one: listens(one.port), f"{one.name} to listen")
        return ping(port)

    monkeypatch.setattr(chain, "ping", ping_once_all_listen)
    with pytest.raises(ChainError) as late:
        chain.up(state, "e", planned, 1.5)

    first, _, words = str(late.value).partition("\n")
    assert first == (
        f"featurizer was not healthy within 1.5 s: {reason}. The end of its log, {tmp_path}/run/featurizer.log:"
    )
    assert words.startswith("starting featurizer")
    assert state.load() == ("", [])


def test_up_starts_anew_what_lost_a_server(state: State, plan: Plan) -> None:
    planned = plan()
    chain.up(state, "e", planned)
    _, before = state.load()
    before[0].kill()

    healthy = chain.is_healthy(state)
    fresh = chain.up(state, "e", planned)
    _, after = state.load()

    assert (healthy, fresh, chain.is_healthy(state)) == (False, True, True)
    assert not {process.pid for process in before} & {process.pid for process in after}


def test_down_names_a_server_that_had_to_be_killed(
    state: State, plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.up(state, "e", plan(predictor={"DEAF": "yes"}))
    _, processes = state.load()
    stop = chain.stop
    monkeypatch.setattr(chain, "stop", lambda processes: stop(processes, 0.5))

    code = main(["chain", "down", "--state", str(state.directory)])

    printed = capsys.readouterr()
    assert (code, printed.out) == (0, "The chain is stopped.\n")
    assert printed.err == "predictor did not stop in time and was killed\n"
    assert not any(process.is_alive() for process in processes)


def test_status_lists_each_server_and_its_health(state: State, plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    planned = plan()
    arguments = ["chain", "status", "--state", str(state.directory)]
    codes = [main(arguments)]
    chain.up(state, "e", planned)
    wait_until(lambda: not any(chain.ping(one.port) for one in planned), "all of them")  # the stand-in asks nobody
    codes.append(main(arguments))
    _, processes = state.load()
    processes[1].kill()
    codes.append(main(arguments))

    said = capsys.readouterr().out.splitlines()
    row = lambda at, reason: f"{NAMES[at]:<12}127.0.0.1:{planned[at].port:<7}pid {processes[at].pid:<9}{reason}"  # noqa: E731
    assert codes == [1, 0, 1]
    assert said == [
        "The chain is not running. Start it with `python -m local_test chain up`.",
        "endpoint e",
        *(row(at, "healthy") for at in range(3)),
        "endpoint e",
        *(row(at, "ended" if at == 1 else "healthy") for at in range(3)),
    ]


def test_logs_are_refused_where_there_are_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["chain", "logs", "--state", str(tmp_path), "router"]
    codes = [main(arguments)]
    (tmp_path / "router.log").write_text("1\n2\n3\n")
    codes += [main([*arguments, "--lines", "2"]), main([*arguments[:-1], "router", "nobody", "else"])]

    printed = capfd.readouterr()
    assert codes == [1, 0, 2]
    assert printed.out == "2\n3\n"
    assert printed.err == (
        "There is no log yet. Start the chain with `python -m local_test chain up`.\n"
        "expected featurizer, predictor, router, got nobody\n"
    )


def test_run_without_a_command_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chain", "run", "--state", str(tmp_path), "--"]) == 2
    assert capsys.readouterr().err == "expected a command: python -m local_test chain run -- COMMAND\n"


@pytest.mark.parametrize(
    ("ping", "reason"),
    [
        (answer(b""), ""),
        (answer(b'{"message": "wait"}', status=503), "wait"),
        (answer(b"no JSON", status=500), "/ping answered 500"),
    ],
)
def test_a_ping_says_why_a_server_is_not_ready(ping: object, reason: str) -> None:
    with ScriptedContainer(ping=ping) as server:  # type: ignore[arg-type]
        assert chain.ping(server.port) == reason


def test_a_ping_that_is_not_answered_says_so() -> None:
    with ScriptedContainer(ping=raw(b"SSH\r\n")) as other:
        said = [chain.ping(other.port), chain.ping(9)]

    assert said[0].startswith(f"no answer on port {other.port} (")
    assert said[1].startswith("no answer on port 9 (")


def test_of_the_log_of_a_server_that_failed_the_last_20_lines_are_shown(state: State, plan: Plan) -> None:
    with pytest.raises(ChainError) as failed:
        chain.up(state, "e", plan(featurizer={"FAILS": "yes", "LINES": "30"}, router={"PING": "503"}))

    assert str(failed.value).splitlines()[1:] == [*map(str, range(11, 30)), "no way to start"]


def test_a_chain_has_60_seconds_to_become_healthy(state: State, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(chain, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(chain, "ping", lambda _port: "no")

    with pytest.raises(ChainError, match=r"^featurizer was not healthy within 60 s: no\. The end"):
        chain.up(state, "e", plan())

    assert 60 <= now[0] < 60.2
