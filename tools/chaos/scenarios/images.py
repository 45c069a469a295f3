"""Limits that only a container has. Each needs a Docker engine and the featurizer's image."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from tests.servers import ROOT
from tools.chaos.client import Load
from tools.chaos.docker import container, docker
from tools.chaos.oracle import ask, echoes, featurizer, raw_rows, unique_rows
from tools.chaos.report import Given, Outcome, scenario
from tools.chaos.scenarios.crowds import crowd

ECHO = ("--volume", f"{ROOT / 'tests'}:/opt/program/tests:ro", "--env", "STAGE=tests.stages.echo")


def _answers(given: Given, options: Sequence[str], count: int = 2000) -> Outcome:
    """A container with these options answers everything rightly, a large body too, and stops with exit code 0."""
    outcome = Outcome()
    large = ask(featurizer(given.artifacts), b"".join(raw_rows(100_000)))
    with container(given, *options) as tried:
        with Load(tried.port, [large, *unique_rows(given.artifacts, 2000)], clients=8) as load:
            load.wait_for(given.times(count), 120)
        docker("stop", "--time", "30", tried.name)
        _, code = tried.state()
    outcome.count(load.tally)
    outcome.figures |= {"largest_body": len(large.body), "exit_code": code}
    outcome.expect(code == 0, f"exit code {code}")
    return outcome


@scenario("the kernel kills a worker that takes too much memory: 503 for its caller, nothing lost for others")
def out_of_memory(given: Given) -> Outcome:
    outcome = Outcome()
    limits = ("--memory", "400m", "--memory-swap", "400m", "--env", "MODEL_SERVER_WORKERS=3")
    with container(given, *ECHO, *limits) as tried, Load(tried.port, echoes("sleep 0.005", 2000), clients=4) as load:
        load.wait_for(50)
        statuses = []
        for _ in range(given.times(5)):
            statuses.append(tried.post(b"grow 2000"))
            load.wait_for(100)
        alive = tried.state()[0] and tried.ping() == 200
    outcome.figures["faults"] = len(statuses)
    outcome.count(load.tally)
    outcome.expect(alive and set(statuses) == {503}, f"alive: {alive}, statuses {statuses}")
    return outcome


UNFINISHED, ANNOUNCED = 40, 24_000_000  # bodies, and the bytes of each: in all twice the memory


@scenario("bodies of twice the memory that do not end: /ping and requests unmoved, nothing is killed")
def unfinished_bodies(given: Given) -> Outcome:
    outcome = Outcome()
    questions = unique_rows(given.artifacts, 2000)
    with container(given, "--memory", "512m", "--memory-swap", "512m") as tried:
        with crowd(tried.port, UNFINISHED, _unfinished), Load(tried.port, questions, clients=2) as load:
            pings = [tried.ping() for _ in range(given.times(200)) if not time.sleep(0.05)]  # type: ignore[func-returns-value]
            load.wait_for(given.times(500))
        killed = "killed" in tried.logs() or "exited on signal" in tried.logs()
    outcome.figures |= {"bodies": UNFINISHED, "bytes_of_each": ANNOUNCED, "pings": len(pings)}
    outcome.count(load.tally)
    outcome.expect(set(pings) == {200}, f"/ping said {set(pings)}")
    outcome.expect(not killed, "a process was killed")
    return outcome


async def _unfinished(port: int, number: int) -> None:
    """All of a body but its end, at once; then silence, until the server has enough of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = (
            f"POST /invocations HTTP/1.1\r\nHost: {number}\r\nContent-Type: text/csv\r\nContent-Length: {ANNOUNCED}\r\n"
        )
        writer.write(head.encode() + b"\r\n")
        for _ in range(ANNOUNCED // 100_000 - 1):
            writer.write(b"x" * 100_000)
            await writer.drain()
        await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.transport.abort()  # what is not sent yet is never to be


def _ends(given: Given, options: Sequence[str], within: float, words: str) -> Outcome:
    """A container with these options does not start: it exits 1 and says why, and /ping never says 200."""
    outcome, pings, begun = Outcome(), set(), time.monotonic()
    with container(given, *options, ready=False) as tried:
        while tried.state()[0] and time.monotonic() < begun + within:
            pings.add(tried.ping(1))
            time.sleep(0.1)
        running, code = tried.state()
        said = tried.logs()
    took = time.monotonic() - begun
    outcome.figures["exit_code"] = code
    outcome.within("exit", took, within)
    outcome.expect(not running and code not in (0, 137), f"runs: {running}, exit code {code}: {said[-600:]}")
    outcome.expect(200 not in pings and words in said, f"/ping said {pings}; log: {said[-600:]}")
    return outcome


@scenario("a memory limit far too small: exits non-zero and says so, /ping never 200")
def memory_far_too_small(given: Given) -> Outcome:
    return _ends(given, ("--memory", "40m", "--memory-swap", "40m"), 60, "memory")


@scenario("a limit of processes that is too small: exits non-zero and says so, /ping never 200")
def too_few_processes(given: Given) -> Outcome:
    return _ends(given, ("--pids-limit", "4"), 30, "CRITICAL")


@scenario("a /tmp of 64 KiB: requests are answered, bodies never touch it")
def tiny_tmp(given: Given) -> Outcome:
    return _answers(given, ("--read-only", "--tmpfs", "/tmp:size=64k"))  # noqa: S108


@scenario("a read-only root without any /tmp: starts and answers")
def read_only(given: Given) -> Outcome:
    return _answers(given, ("--read-only",))


@scenario("the container is paused for 10 s: nothing lost")
def paused(given: Given) -> Outcome:
    outcome = Outcome()
    with container(given) as tried, Load(tried.port, unique_rows(given.artifacts, 2000), clients=8) as load:
        load.wait_for(100)
        docker("pause", tried.name)
        time.sleep(10)
        docker("unpause", tried.name)
        begun = time.monotonic()
        load.wait_for(100)
        recovered = time.monotonic() - begun
        status = tried.ping()
    outcome.within("recovery", recovered, 10)
    outcome.count(load.tally)
    outcome.expect(status == 200, f"/ping {status}")
    return outcome


@scenario("a tenth of a CPU and one client: /ping in less than 2 s")
def starved(given: Given) -> Outcome:
    outcome, pings = Outcome(), []
    questions, limits = unique_rows(given.artifacts, 500), ("--cpus", "0.1", "--env", "MODEL_SERVER_WORKERS=1")
    with container(given, *limits) as tried, Load(tried.port, questions, clients=1) as load:
        for _ in range(given.times(100)):
            begun = time.monotonic()
            status = tried.ping()
            pings.append(time.monotonic() - begun if status == 200 else 99.0)
            time.sleep(0.05)
    outcome.count(load.tally)
    outcome.within("worst_ping", max(pings), 2)
    return outcome


ORPHANS = """
import os, time
for _ in range({count}):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.01)
        os._exit(0)
    os.wait()
"""
ZOMBIES = """
import pathlib, time
time.sleep(1)
states = [p.read_text().rpartition(')')[2].split()[0] for p in pathlib.Path('/proc').glob('[0-9]*/stat')]
print(states.count('Z'))
"""


@scenario("1,000 orphans under PID 1: no zombie is left")
def zombies(given: Given) -> Outcome:
    outcome, count = Outcome(), given.times(1000)
    with container(given) as tried:
        tried.python(ORPHANS.format(count=count))
        left = int(tried.python(ZOMBIES))
    outcome.figures |= {"orphans": count, "zombies": left}
    outcome.expect(left == 0, f"{left} zombies")
    return outcome
