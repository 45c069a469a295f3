"""Signals to PID 1: what was accepted is answered."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

from tests.servers import ECHO
from tools.chaos.client import Load
from tools.chaos.container import featurizer, running
from tools.chaos.oracle import unique_rows
from tools.chaos.report import Given, Outcome, scenario

BUDGET = 28.0  # seconds; the platform kills at 30
HELD = 245  # requests: some are answered before the signal, and 256 may wait


@scenario("SIGTERM with 200 accepted requests: all answered, exit code 0 within 28 s")
def sigterm_with_200_accepted(given: Given) -> Outcome:
    outcome = Outcome()
    bodies = [f"sleep 0.1 {number}".encode() for number in range(HELD)]
    with running(ECHO) as server, ThreadPoolExecutor(HELD) as pool:
        pending = [pool.submit(server.invoke, body) for body in bodies]
        time.sleep(1.5)  # nginx takes connections in their order: by now it has taken them all
        server.ping()
        open_then = sum(not request.done() for request in pending)
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGINT)  # a second signal changes nothing
        answers = [request.result() for request in pending]
        code = server.process.wait(35)
        took = time.monotonic() - begun
    right = sum((answer.status, answer.body) == (200, body) for answer, body in zip(answers, bodies, strict=True))
    outcome.figures |= {"requests": HELD, "open_at_sigterm": open_then, "lost": HELD - right, "exit_code": code}
    outcome.expect(right == HELD and code == 0, f"{right} right, exit code {code}")
    outcome.within("exit", took, BUDGET)
    del given
    return outcome


@scenario("SIGTERM during load: every request sent before it is answered, exit code 0")
def sigterm_during_load(given: Given) -> Outcome:
    outcome, slowest, lost, requests = Outcome(), 0.0, 0, 0
    questions = unique_rows(given.artifacts, 2000)
    for number in (signal.SIGTERM, signal.SIGINT) * max(1, given.times(10) // 2):
        with featurizer(given.artifacts) as server, Load(server.port, questions) as load:
            load.wait_for(200)
            begun = time.monotonic()
            code = server.stop(number)
            slowest = max(slowest, time.monotonic() - begun)
        lost += sum(sent < begun for sent in load.tally.lost_sent)
        requests += sum(at < begun + slowest for at in load.tally.ended)
        outcome.expect(code == 0, f"exit code {code}")
        outcome.expect(not load.tally.wrong, f"wrong: {load.tally.examples[:3]}")
    outcome.figures |= {"requests": requests, "lost": lost}
    outcome.expect(not lost, f"{lost} lost")
    outcome.within("exit", slowest, BUDGET)
    return outcome


@scenario("SIGQUIT: ends at once, with exit code 1")
def sigquit(given: Given) -> Outcome:
    outcome = Outcome()
    with featurizer(given.artifacts) as server:
        begun = time.monotonic()
        code = server.stop(signal.SIGQUIT)
        took = time.monotonic() - begun
        left = server.processes()
    outcome.figures["exit_code"] = code
    outcome.expect(code == 1 and not left, f"exit code {code}, left {left}")
    outcome.within("exit", took, 5)
    return outcome


@scenario("SIGTERM with one request longer than the budget: the others are answered, exit code 0 before 28 s")
def request_longer_than_the_budget(given: Given) -> Outcome:
    outcome = Outcome()
    with running(ECHO) as server, ThreadPoolExecutor(9) as pool:
        long = pool.submit(server.invoke, b"sleep 50")
        time.sleep(0.3)
        others = [pool.submit(server.invoke, f"sleep 0.2 {number}".encode()) for number in range(8)]
        time.sleep(0.3)
        begun = time.monotonic()
        code = server.stop()
        took = time.monotonic() - begun
        right = sum(request.result().status == 200 for request in others)
        fate = str(long.exception() or long.result().status)
    outcome.figures |= {"others_answered": right, "exit_code": code, "long_one": fate}
    outcome.expect(right == len(others) and code == 0, f"{right} answered, exit code {code}")
    outcome.within("exit", took, BUDGET)
    del given
    return outcome
