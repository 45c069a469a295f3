"""Processes that are killed, reloaded or recycled."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import statistics
import time
import urllib.request
from collections.abc import Sequence

from tests.servers import ECHO, free_ports
from tools.chaos import oracle
from tools.chaos.client import Load
from tools.chaos.container import Server, featurizer, running, wait_until
from tools.chaos.oracle import Question, echoes, unique_rows
from tools.chaos.report import Given, Outcome, scenario

EVERY = 0.3  # seconds
LONGEST = 600.0  # seconds to wait for all requests on a busy machine
LARGE, LARGEST = (800, 2950), 41_200  # rows, whose answers have so much


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@scenario("one of 4 workers is killed every 300 ms: no request is lost")
def worker_killed(given: Given) -> Outcome:
    questions = unique_rows(given.artifacts, given.times(20_000))
    return _killed_beside(given, questions, kills=given.times(1000), requests=given.times(100_000))


@scenario("the same beside answers of 120 KiB, 440 KiB and 6 MiB: none cut short; 503 where both workers were killed")
def worker_killed_beside_large_answers(given: Given) -> Outcome:
    stage, rows = oracle.featurizer(given.artifacts), list(oracle.raw_rows(LARGEST))
    small, large, largest = (oracle.ask(stage, b"".join(rows[:count])) for count in (*LARGE, LARGEST))
    questions = [small, *[large] * 20, largest]
    return _killed_beside(given, questions, ("not_ready",), kills=given.times(100), requests=given.times(3000))


def _killed_beside(
    given: Given, questions: Sequence[Question], allowed: Sequence[str] = (), *, kills: int, requests: int
) -> Outcome:
    outcome, killed, env = Outcome(), 0, {"MODEL_SERVER_WORKERS": "4"}
    with (
        featurizer(given.artifacts, env) as server,
        Load(server.port, questions, clients=4, allowed=allowed) as load,
    ):
        load.wait_for(20)
        latest = time.monotonic() + LONGEST
        while killed < kills or (load.tally.requests < requests and time.monotonic() < latest):
            if workers := server.workers():
                kill(random.choice(workers))  # noqa: S311
                killed += 1
            time.sleep(EVERY)
        load.wait_for(20)
    outcome.figures["kills"] = killed
    if allowed:
        outcome.figures["refused"] = load.tally.refused
    outcome.count(load.tally)
    return outcome


@scenario("one of 2 workers is killed beside 50 requests a second: nothing lost, and another is ready within 1 s")
def one_worker_killed(given: Given) -> Outcome:
    outcome, (port, counts) = Outcome(), free_ports(2)
    took: list[float] = []
    env, questions = {"MODEL_SERVER_METRICS_PORT": str(counts)}, unique_rows(given.artifacts, 2000)
    with featurizer(given.artifacts, env, port) as server, Load(server.port, questions, clients=2, rate=50) as load:
        for _ in range(given.times(20)):
            load.wait_for(20)
            old, begun = server.workers(), time.monotonic()
            kill(old[0])
            wait_until(lambda old=old: old[0] not in server.workers() and _ready(counts) == 2, "another worker")  # type: ignore[misc]
            took.append(time.monotonic() - begun)
    outcome.figures |= {"faults": len(took), "median_ms": round(statistics.median(took) * 1000)}
    outcome.count(load.tally)
    outcome.within("recovery", max(took), 1)
    return outcome


def _ready(port: int) -> int:
    """Workers that have loaded the model, as the container counts them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as told:
        found = re.search(rb"^model_server_workers_ready\{[^}]*\} (\d+)$", told.read(), re.MULTILINE)
    return int(found[1]) if found else 0


@scenario("all workers are killed at once: refused or answered, never wrong; ready again within 5 s")
def all_workers_killed(given: Given) -> Outcome:
    outcome, slowest = Outcome(), 0.0
    questions = unique_rows(given.artifacts, 2000)
    with featurizer(given.artifacts) as server, Load(server.port, questions, allowed=("not_ready",)) as load:
        for _ in range(given.times(20)):
            load.wait_for(50)
            workers, begun = server.workers(), time.monotonic()
            for worker in workers:
                kill(worker)
            wait_until(lambda old=workers: len(set(server.workers()) - set(old)) == len(old), "new workers")  # type: ignore[misc]
            wait_until(lambda: server.pings() == 200, "/ping to answer 200")
            slowest = max(slowest, time.monotonic() - begun)
    outcome.figures |= {"faults": given.times(20), "refused": load.tally.refused}
    outcome.count(load.tally)
    outcome.within("recovery", slowest, 5)
    return outcome


@scenario("a request that kills its worker: 503 for its caller, nothing lost for others")
def query_of_death(given: Given) -> Outcome:
    outcome = Outcome()
    with running(ECHO) as server, Load(server.port, echoes("sleep 0.005", 2000), clients=8) as load:
        load.wait_for(20)
        answers = []
        for _ in range(given.times(30)):
            answers.append(server.invoke(b"die"))
            load.wait_for(20)
    outcome.figures["faults"] = len(answers)
    outcome.count(load.tally)
    outcome.expect(
        {(answer.status, answer.json["code"]) for answer in answers} == {(503, "not_ready")}, "another answer"
    )
    return outcome


@scenario("gunicorn's master is killed: the container exits non-zero, /ping never says 200 while it cannot answer")
def gunicorn_killed(given: Given) -> Outcome:
    return _master_killed(given, "gunicorn")


@scenario("nginx's master is killed: the container exits non-zero")
def nginx_killed(given: Given) -> Outcome:
    return _master_killed(given, "nginx")


def _master_killed(given: Given, name: str) -> Outcome:
    outcome, slowest, healthy, wrong = Outcome(), 0.0, 0.0, 0
    questions = unique_rows(given.artifacts, 1000)
    for _ in range(given.times(5)):
        with featurizer(given.artifacts) as server, Load(server.port, questions) as load:
            load.wait_for(50)
            begun = time.monotonic()
            kill(server.master(name))
            late = _healthy_for(server, begun)
            code = server.process.wait(20)
            slowest = max(slowest, time.monotonic() - begun)
        wrong += load.tally.wrong
        outcome.expect(code == 1, f"exit code {code}")
        healthy = max(healthy, late)
    outcome.figures |= {"faults": given.times(5), "wrong": wrong}
    outcome.expect(not wrong, f"{wrong} wrong")
    outcome.within("last_ping_200", healthy, 2)
    outcome.within("exit", slowest, 10)
    return outcome


def _healthy_for(server: Server, begun: float) -> float:
    """Seconds after `begun` at which /ping last said 200."""
    last = 0.0
    while server.process.poll() is None:
        if server.pings(2) == 200:
            last = time.monotonic() - begun
        time.sleep(0.02)
    return last


@scenario("nginx's worker is killed: only the requests it held are lost; a new one within 1 s")
def nginx_worker_killed(given: Given) -> Outcome:
    outcome, clients, slowest = Outcome(), 16, 0.0
    questions = unique_rows(given.artifacts, 2000)
    with featurizer(given.artifacts) as server, Load(server.port, questions, clients=clients) as load:
        for _ in range(given.times(20)):
            load.wait_for(100)
            begun = time.monotonic()
            kill(server.children(server.master("nginx"))[0])
            load.wait_for(100)
            slowest = max(slowest, load.tally.recovery(begun))
    faults, tally = given.times(20), load.tally
    outcome.figures |= {"faults": faults, "requests": tally.requests, "lost": tally.lost, "wrong": tally.wrong}
    outcome.expect(tally.lost <= clients * faults, f"{tally.lost} lost of {clients} clients x {faults} faults")
    outcome.expect(not tally.wrong, f"{tally.wrong} wrong")
    outcome.within("recovery", slowest, 1)
    return outcome


@scenario("50 reloads (SIGHUP) under load: no request is lost")
def reloaded(given: Given) -> Outcome:
    outcome = Outcome()
    with featurizer(given.artifacts) as server, Load(server.port, unique_rows(given.artifacts, 5000)) as load:
        load.wait_for(50)
        for _ in range(given.times(50)):
            old = set(server.workers())
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda old=old: len(new := set(server.workers())) == 2 and not new & old, "new workers")  # type: ignore[misc]
            wait_until(lambda: server.pings() == 200, "/ping to answer 200")
    outcome.figures["faults"] = given.times(50)
    outcome.count(load.tally)
    return outcome


@scenario("workers that end after 100 requests: no request is lost")
def recycled(given: Given) -> Outcome:
    outcome = Outcome()
    env = {"GUNICORN_CMD_ARGS": "--max-requests 100 --max-requests-jitter 20"}
    with featurizer(given.artifacts, env) as server, Load(server.port, unique_rows(given.artifacts, 5000)) as load:
        load.wait_for(given.times(10_000), 300)
        recycled = server.output().count("Autorestarting worker")
    outcome.figures["recycled"] = recycled
    outcome.count(load.tally)
    outcome.expect(recycled >= load.tally.requests / 150, f"only {recycled} recycled")
    return outcome
