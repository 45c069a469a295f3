"""Faults under load: a short run of what `make chaos` tries in full. Only what a busy machine cannot change is held."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.worker import LONG
from tests.servers import ECHO, GATED, Gate, Server, launched, running, wait_until, wait_until_taken
from tools.chaos.client import Load
from tools.chaos.oracle import Question, echoes
from tools.chaos.report import SCENARIOS, Given
from tools.chaos.scenarios import crowds, hanging, limits, processes, routing, stopping

TRIED = {
    "worker-killed": 0.01,
    "worker-killed-beside-large-answers": 0.03,
    "one-worker-killed": 0.1,
    "container-restarted": 0.1,
    "sigterm-with-200-accepted": 0.1,
    "reloaded": 0.04,
    "recycled": 0.05,
    "sigquit": 0.1,
    "all-workers-stopped": 0.1,
    "slow-readers": 0.1,
    "descriptors-exhausted": 0.1,
}


@pytest.mark.parametrize("name", TRIED)
def test_the_promise_of_a_fault_holds(name: str, artifacts: Path, tmp_path: Path) -> None:
    (scenario,) = [scenario for scenario in SCENARIOS if scenario.name == name]

    outcome = scenario.run(Given(artifacts, tmp_path, TRIED[name]))

    assert outcome.broken == [], outcome.figures


def test_no_process_maps_a_file_of_the_run_directory(tmp_path: Path) -> None:
    """A full disk ends whoever writes to such a page, and one that stands still stops all answers."""
    with running(ECHO, {"MODEL_SERVER_RUN_DIR": str(tmp_path / "run"), "MODEL_SERVER_WORKERS": "1"}) as server:
        mapped = [Path(f"/proc/{pid}/maps").read_text() for pid in server.processes()]

    assert len(mapped) >= 3
    assert not [line for text in mapped for line in text.splitlines() if str(tmp_path) in line]


@pytest.mark.long  # they keep all cores busy; tests/integration/test_lifecycle.py has one that hangs
def test_workers_that_hang_are_replaced_and_ping_says_so_when_all_do(artifacts: Path, tmp_path: Path) -> None:
    given = Given(artifacts, tmp_path, 0.1)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda run: run(given), (hanging.hung_workers, hanging.all_workers_hang)))

    assert [outcome.broken for outcome in outcomes] == [[], []]


def test_every_module_of_scenarios_is_entered() -> None:
    modules = {scenario.run.__module__ for scenario in SCENARIOS}

    assert modules >= {module.__name__ for module in (crowds, hanging, limits, processes, routing, stopping)}
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS) >= 30


@pytest.fixture(scope="module")
def narrow() -> Iterator[Server]:
    """One worker, and room for four requests."""
    with running(ECHO, {"MODEL_SERVER_WORKERS": "1", "MODEL_SERVER_QUEUE": "4"}) as server:
        yield server


def test_a_request_too_many_is_refused_at_once_and_told_when_to_come_back(narrow: Server, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        pending = [pool.submit(narrow.invoke, gate.body(number)) for number in range(4)]
        gate.wait_until_held(1)
        wait_until_taken(narrow, pending)
        refused = [narrow.invoke(b"hello") for _ in range(8)]
        gate.open()
        statuses = [request.result().status for request in pending]

    assert statuses == [200] * 4
    assert {(answer.status, answer.json["code"], answer.json["retry_after"]) for answer in refused} == {
        (503, "overloaded", 1)
    }
    assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
    assert narrow.invoke(b"hello").body == b"hello"


def test_nothing_is_computed_for_a_caller_who_has_gone(narrow: Server, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(narrow.invoke, gate.body())
        gate.wait_until_held(1)
        alone = nginx_descriptors(narrow)
        for _ in range(2):
            leave(narrow, b"has gone")
        wait_until(lambda: nginx_descriptors(narrow) == alone, "nginx to notice that they left")
        time.sleep(LONG)  # after that long a worker looks whether a caller has gone
        gate.open()
        stayed = first.result().status
    last = narrow.invoke(b"hello").status
    computed = [line["bytes_in"] for line in narrow.lines() if line["message"] == "request" and "bytes_in" in line]

    assert (stayed, last) == (200, 200)
    assert len(b"has gone") not in computed


def leave(server: Server, body: bytes) -> None:
    """Send a request, and hang up when nginx has handed it on to the worker."""
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    before = nginx_descriptors(server)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head + body)
        wait_until(lambda: nginx_descriptors(server) >= before + 2, "nginx to hand the request on")


def nginx_descriptors(server: Server) -> int:
    """Files and sockets that nginx's worker has open; a request takes two, to its client and to gunicorn."""
    (worker,) = server.children(server.master("nginx"))
    return len(list(Path(f"/proc/{worker}/fd").iterdir()))


def test_a_start_in_which_every_worker_is_killed_comes_to_an_end(tmp_path: Path) -> None:
    (tmp_path / "first").touch()  # so that every worker waits at the gate
    with launched(GATED, {"GATE": str(tmp_path), "MODEL_SERVER_WORKERS": "1"}) as server:
        wait_until(lambda: len(server.children(server.process.pid)) == 2, "both masters")
        gunicorn = server.master("gunicorn")
        while server.process.poll() is None:
            for worker in server.children(gunicorn):
                kill(worker)
        lines = server.lines()

    assert server.process.returncode == 1
    assert any("before every one had loaded" in line["message"] for line in lines)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_the_client_tells_a_lost_answer_a_wrong_one_and_a_refusal_apart() -> None:
    dies = Question(b"die", "text/plain", "*/*", 200, b"die")
    other = Question(b"hello", "text/plain", "*/*", 200, b"goodbye")
    with running(ECHO) as server:
        tallies = []
        for questions, allowed in (([dies], ()), ([dies], ("not_ready",)), ([other], ()), (echoes("", 10), ())):
            with Load(server.port, questions, clients=1, allowed=allowed) as load:
                wait_until(lambda load=load: load.tally.requests > 0, "an answer")
            tallies.append(load.tally)

    lost, refused, wrong, right = tallies
    assert (lost.lost, refused.refused, wrong.wrong, right.right) == tuple(tally.requests for tally in tallies)
