"""Workers that are busy, hang or are stopped, and what /ping says of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from tests.servers import ECHO, Answer
from tools.chaos.client import Load
from tools.chaos.container import Server, featurizer, running, state, timed_ping, wait_until
from tools.chaos.oracle import unique_rows
from tools.chaos.report import Given, Outcome, scenario

SHORT = 12  # what a shorter run gives one: a busy machine needs some of them for what is no fault


def send(server: Server, number: int) -> None:
    for pid in server.processes() if number == signal.SIGCONT else reversed(server.processes()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@scenario("workers hang in Python, in C, and stopped: 504 and new workers within 60 s, /ping 200 while one is left")
def hung_workers(given: Given) -> Outcome:
    outcome, timeout = Outcome(), 60 if given.scale >= 1 else SHORT
    env = {"MODEL_SERVER_WORKERS": "4", "MODEL_SERVER_TIMEOUT": str(timeout)}
    with running(ECHO, env) as server, ThreadPoolExecutor(5) as pool:
        begun = time.monotonic()
        hung: list[Future[Answer]] = [pool.submit(server.invoke, body) for body in (b"spin 300", b"grind")]
        wait_until(lambda: sum(state(pid) == "R" for pid in server.workers()) >= 2, "two busy workers")
        slept = [pool.submit(server.invoke, f"sleep 2 {number}".encode()) for number in range(2)]
        time.sleep(0.3)
        old = server.workers()
        stopped = next(pid for pid in old if state(pid) == "S")
        os.kill(stopped, signal.SIGSTOP)
        pings = list(_pings_until(server, lambda: len(set(server.workers()) - set(old)) >= 3, begun + timeout + 10))
        replaced = time.monotonic() - begun
        answers = [request.result() for request in (*hung, *slept)]
        after = server.invoke(b"hello").body
    statuses = sorted(answer.status for answer in answers)
    outcome.figures |= {"timeout_s": timeout, "pings": len(pings)}
    outcome.expect(statuses == [200, 504, 504, 504], f"statuses {statuses}")
    outcome.within("replaced", replaced, timeout + 2)
    outcome.within("worst_ping", max(seconds for _, seconds in pings), 0.5)
    outcome.expect({status for status, _ in pings} == {200}, "/ping was not always 200")
    outcome.expect(after == b"hello", f"afterwards {after!r}")
    return outcome


def _pings_until(server: Server, done: object, deadline: float) -> Iterator[tuple[int, float]]:
    while not done() and time.monotonic() < deadline:  # type: ignore[operator]
        yield timed_ping(server)
        time.sleep(0.1)


@scenario("all workers are stopped: /ping is not 200 within 5 s, and 200 again once they go on")
def all_workers_stopped(given: Given) -> Outcome:
    outcome = Outcome()
    with featurizer(given.artifacts) as server:
        workers, begun = server.workers(), time.monotonic()
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: server.pings() != 200, "/ping to notice", 10)
        noticed = time.monotonic() - begun
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
        wait_until(lambda: server.pings() == 200, "/ping to answer 200", 5)
    outcome.within("noticed", noticed, 5)
    return outcome


@scenario("all workers hang: /ping is not 200 within 5 s of the time they had, and 200 with new workers")
def all_workers_hang(given: Given) -> Outcome:
    outcome, timeout = Outcome(), 60 if given.scale >= 1 else SHORT
    with running(ECHO, {"MODEL_SERVER_TIMEOUT": str(timeout)}) as server, ThreadPoolExecutor(2) as pool:
        old, begun = server.workers(), time.monotonic()
        hung = [pool.submit(server.invoke, b"grind") for _ in range(2)]
        time.sleep(timeout * 2 / 3)
        busy = server.pings()
        wait_until(lambda: server.pings() != 200, "/ping to notice", 10)
        noticed = time.monotonic() - begun - (timeout - 2)
        wait_until(lambda: not set(server.workers()) & set(old) and server.pings() == 200, "new workers", 20)
        recovered = time.monotonic() - begun
        statuses = {request.result().status for request in hung}
    outcome.expect(busy == 200, "/ping was not 200 while they had time")
    outcome.expect(statuses == {504}, f"statuses {statuses}")
    outcome.within("noticed", noticed, 5)
    outcome.within("recovery", recovered, timeout + 5)
    return outcome


@scenario("all workers busy for 5 s, more waiting: /ping 200 in less than 500 ms, every time")
def ping_while_busy(given: Given) -> Outcome:
    outcome = Outcome()
    with running(ECHO) as server, ThreadPoolExecutor(6) as pool:
        pending = [pool.submit(server.invoke, b"spin 2.5") for _ in range(6)]
        time.sleep(0.2)
        pings = []
        while not all(request.done() for request in pending[:4]):
            pings.append(timed_ping(server))
            time.sleep(0.02)
        answered = {request.result().status for request in pending}
    outcome.figures["pings"] = len(pings)
    outcome.expect({status for status, _ in pings} == {200}, "/ping was not always 200")
    outcome.within("worst", max(seconds for _, seconds in pings), 0.5)
    outcome.expect(answered == {200}, f"statuses {answered}")
    del given
    return outcome


@scenario("the whole container stands still for 10 s: nothing lost, no worker replaced")
def container_stopped(given: Given) -> Outcome:
    outcome = Outcome()
    with featurizer(given.artifacts) as server, Load(server.port, unique_rows(given.artifacts, 2000)) as load:
        load.wait_for(200)
        workers = server.workers()
        send(server, signal.SIGSTOP)
        time.sleep(10)
        send(server, signal.SIGCONT)
        begun = time.monotonic()
        load.wait_for(200)
        recovered = time.monotonic() - begun
        status, same = server.pings(), server.workers() == workers
    outcome.within("recovery", recovered, 10)
    outcome.count(load.tally)
    outcome.expect(status == 200 and same, f"/ping {status}, the same workers: {same}")
    return outcome
