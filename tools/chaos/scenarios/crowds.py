"""Too many requests, slow clients, and many requests on one connection."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

from tests.servers import ECHO, ROOT
from tools.chaos.client import Connection, Load, numbered, request_bytes
from tools.chaos.container import Server, featurizer, running, timed_ping
from tools.chaos.oracle import Question, ask, echoes, raw_rows, unique_rows
from tools.chaos.oracle import featurizer as stage_of
from tools.chaos.report import Given, Outcome, scenario
from tools.chaos.tally import Tally

SLOW = 6000  # connections
TIMES = 10  # of the capacity
QUEUE = 256  # the default of MODEL_SERVER_QUEUE


@scenario("ten times the load that it can take: goodput 90 % of the peak, the rest 503 `overloaded` at once")
def overload(given: Given) -> Outcome:
    outcome, seconds = Outcome(), given.times(20)
    with running(ECHO, {"LOG_LEVEL": "INFO"}) as server:
        with Load(server.port, echoes("sleep 0.02", 20_000), clients=8) as fits:
            peak = _rate(fits.tally, seconds / 2)
        with Load(server.port, echoes("sleep 0.02", 20_000), clients=1500, rate=TIMES * 1.5 * peak,
                  allowed=("overloaded",)) as load:  # fmt: skip
            time.sleep(3)
            requests = load.tally.requests
            with _onlookers(server, seconds) as seen:
                goodput = _rate(load.tally, seconds)
            offered = (load.tally.requests - requests) / seconds
            pings = [timed_ping(server) for _ in range(20)]
        refusals = sorted(line["ms"] for line in server.lines() if line.get("code") == "overloaded")
    tally = load.tally
    # By nginx's clock too, from the lines that its log has of them: so many clients wait for each other.
    outcome.figures |= {
        "peak_per_s": round(peak, 1), "offered_per_s": round(offered, 1), "goodput_per_s": round(goodput, 1),
        "refused": tally.refused, "seen_by_all_p50_ms": round(tally.percentile(0.5, tally.refusals) * 1000, 1),
        "seen_by_few": len(seen), "seen_by_few_p50_ms": round(_percentile(seen, 0.5) * 1000, 1),
    }  # fmt: skip
    outcome.count(tally)
    outcome.expect(tally.refused > 0 and bool(refusals), "nothing was refused")
    outcome.within("refused_p99", refusals[int(len(refusals) * 0.99)] / 1000 if refusals else 0.0, 0.05)
    outcome.within("seen_by_few_p99", _percentile(seen, 0.99), 0.05)
    outcome.within("accepted_p99", tally.percentile(0.99), 2 * QUEUE / peak)
    outcome.within("worst_ping", max(seconds for _, seconds in pings), 0.5)
    if goodput < 0.9 * peak:
        outcome.late.append(f"goodput {goodput:.1f} of {peak:.1f} per second")
    return outcome


@contextlib.contextmanager
def _onlookers(server: Server, seconds: float) -> Iterator[list[float]]:
    """Seconds that each refusal took as callers in a process of their own saw it; known after the block."""
    command = [sys.executable, "-m", "tools.chaos.onlooker", str(server.port), str(seconds)]
    seen: list[float] = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        yield seen
        seen += json.loads(process.communicate()[0])


def _percentile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))] if times else 0.0


def _rate(tally: Tally, seconds: float) -> float:
    before, begun = tally.right, time.monotonic()
    time.sleep(seconds)
    return (tally.right - before) / (time.monotonic() - begun)


@scenario("thousands of slow and silent clients: /ping and requests unmoved")
def slow_clients(given: Given) -> Outcome:
    outcome, count = Outcome(), given.times(SLOW)
    with featurizer(given.artifacts) as server:
        questions = unique_rows(given.artifacts, 5000)
        with Load(server.port, questions, clients=4) as load, crowd(server.port, count, _drip) as opened:
            load.wait_for(100)
            pings = [timed_ping(server) for _ in range(200) if not time.sleep(0.05)]  # type: ignore[func-returns-value]
            load.wait_for(100)
        outcome.figures["slow_clients"] = opened[0]
    outcome.count(load.tally)
    outcome.expect(opened[0] >= count * 0.9, f"only {opened[0]} connections were opened")
    outcome.expect({status for status, _ in pings} == {200}, "/ping was not always 200")
    outcome.within("worst_ping", max(seconds for _, seconds in pings), 0.5)
    return outcome


@scenario("clients that read large answers slowly hold no worker")
def slow_readers(given: Given) -> Outcome:
    outcome = Outcome()
    large = ask(stage_of(given.artifacts), b"".join(raw_rows(40_000)))
    with featurizer(given.artifacts) as server, contextlib.ExitStack() as stack:
        for _ in range(8):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", server.port))
            reader.sendall(request_bytes(large, "slow"))
        time.sleep(1)
        with Load(server.port, unique_rows(given.artifacts, 2000), clients=4) as load:
            load.wait_for(2000)
        status = server.pings()
    outcome.figures |= {"slow_readers": 8, "answer_bytes": len(large.answer)}
    outcome.count(load.tally)
    outcome.expect(status == 200, f"/ping {status}")
    return outcome


@contextlib.contextmanager
def crowd(port: int, count: int, behave: Callable[[int, int], Awaitable[None]]) -> Iterator[list[int]]:
    """So many clients, until the end of the block. Yields a list of one number: how many got a connection."""
    opened, loop = [0], asyncio.new_event_loop()

    async def one(number: int) -> None:
        while True:
            with contextlib.suppress(OSError):
                opened[0] = max(opened[0], number + 1)
                await behave(port, number)
            await asyncio.sleep(0.5)

    async def everybody() -> None:
        await asyncio.gather(*(one(number) for number in range(count)))

    task = loop.create_task(everybody())

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.run_until_complete(asyncio.sleep(0))  # the connections are closed in the loop's next turn
        loop.close()

    thread = threading.Thread(target=run, name="crowd")
    thread.start()
    time.sleep(3)
    try:
        yield opened
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


async def _drip(port: int, number: int) -> None:
    """A third is silent, a third drips a head, a third drips a body."""
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 1000\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write((b"", head[:20], head)[number % 3])
        for _ in range(20):
            await asyncio.sleep(2)
            if reader.at_eof():
                return
            if number % 3:
                writer.write(b"x")
    finally:
        writer.close()


@scenario("100,000 pipelined requests with rows of their own: every answer is that of its request")
def pipelined(given: Given) -> Outcome:
    outcome, tally = Outcome(), Tally()
    questions, count = unique_rows(given.artifacts, given.times(20_000)), given.times(100_000)
    with featurizer(given.artifacts) as server:
        begun = time.monotonic()
        asyncio.run(_pipeline(server.port, questions, count, tally))
        seconds = time.monotonic() - begun
    outcome.figures["per_s"] = round(count / seconds)
    outcome.count(tally)
    return outcome


async def _pipeline(port: int, questions: list[Question], count: int, tally: Tally, connections: int = 8) -> None:
    todo = numbered(questions, count)

    async def one() -> None:
        connection = await Connection.open(port)
        while batch := list(itertools.islice(todo, 50)):
            connection.writer.write(b"".join(request_bytes(question, f"p-{number}") for number, question in batch))
            for number, question in batch:
                begun = time.monotonic()
                status, body, named = await connection.read()
                right = named == f"p-{number}" and question.is_right(status, body, named)
                example = "" if right else f"{number}: {status} {named} {body[:80]!r}"
                tally.add("right" if right else "wrong", time.monotonic() - begun, example)
        connection.close()

    await asyncio.gather(*(one() for _ in range(connections)))
