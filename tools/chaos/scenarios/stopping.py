"""Signals to PID 1: what was accepted is answered."""

from __future__ import annotations

import contextlib
import http.client
import select
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from tests.servers import ECHO
from tools.chaos.client import Load, request_bytes
from tools.chaos.container import featurizer, running
from tools.chaos.oracle import Question, unique_rows
from tools.chaos.report import Given, Outcome, scenario

BUDGET = 28.0  # seconds; the platform kills at 30
HELD = 245  # requests: 256 may wait
ACCEPTED = 200  # of them must be open when the signal comes


@scenario("SIGTERM with 200 accepted requests: all answered, exit code 0 within 28 s")
def sigterm_with_200_accepted(given: Given) -> Outcome:
    outcome, each = Outcome(), 0.05 * min(1.0, given.scale)
    # The first two keep both workers busy while the others are sent.
    words = [f"sleep {3 if number < 2 else each:.3f} {number}".encode() for number in range(HELD)]
    questions = [Question(word, "text/plain", "*/*", 200, word) for word in words]
    with running(ECHO) as server, contextlib.ExitStack() as stack:
        callers = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 70)) for _ in questions]
        for caller, question in zip(callers, questions, strict=True):
            caller.sendall(request_bytes(question, "held"))
        server.ping()  # nginx takes connections in their order: by now it has taken them all
        open_then = HELD - len(select.select(callers, [], [], 0)[0])
        begun = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGINT)  # a second signal changes nothing
        right = sum(_is_answered(*pair) for pair in zip(callers, questions, strict=True))
        code = server.process.wait(35)
        took = time.monotonic() - begun
    outcome.figures |= {"requests": HELD, "open_at_sigterm": open_then, "lost": HELD - right, "exit_code": code}
    outcome.expect(open_then >= ACCEPTED, f"only {open_then} open at the signal")
    outcome.expect(right == HELD and code == 0, f"{right} right, exit code {code}")
    outcome.within("exit", took, BUDGET)
    return outcome


def _is_answered(caller: socket.socket, question: Question) -> bool:
    try:
        with contextlib.closing(http.client.HTTPResponse(caller)) as response:
            response.begin()
            return question.is_right(response.status, response.read(), "held")
    except (OSError, http.client.HTTPException):
        return False


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
