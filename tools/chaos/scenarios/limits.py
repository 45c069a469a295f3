"""What runs out, is closed or lies: descriptors, the log's reader, the clock."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tools.chaos.client import Load
from tools.chaos.container import featurizer, timed_ping, under, wait_until
from tools.chaos.oracle import unique_rows
from tools.chaos.report import Given, Outcome, Skipped, scenario

DAY = 86400  # seconds


def model(given: Given) -> dict[str, str]:
    return {"SM_MODEL_DIR": str(given.artifacts / "featurizer" / "model")}


@scenario("256 descriptors and 400 idle connections: answers again within 5 s of their end, no spinning")
def descriptors_exhausted(given: Given) -> Outcome:
    outcome = Outcome()
    questions = unique_rows(given.artifacts, 500)
    with under(["prlimit", "--nofile=256:256"], "featurizer", model(given)) as server:
        with contextlib.ExitStack() as held:
            for _ in range(400):
                connection = held.enter_context(socket.socket())
                connection.settimeout(0.2)
                with contextlib.suppress(OSError):
                    connection.connect(("127.0.0.1", server.port))
                    connection.sendall(b"POST /invocations HTTP/1.1\r\n")
            busy = sum(map(_cpu_seconds, server.processes()))
            time.sleep(3)
            used = (sum(map(_cpu_seconds, server.processes())) - busy) / 3
        begun = time.monotonic()
        wait_until(lambda: server.pings(2) == 200, "/ping to answer 200", 20)
        recovered = time.monotonic() - begun
        with Load(server.port, questions) as load:
            load.wait_for(500)
    outcome.figures["cpu_share"] = round(used, 3)
    outcome.count(load.tally)
    outcome.expect(used < 0.2, f"{used:.0%} of a CPU")
    outcome.within("recovery", recovered, 5)
    return outcome


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


@scenario("nobody reads the log: no request is lost, and the log says how many lines are")
def log_blocked(given: Given) -> Outcome:
    outcome = Outcome()
    reading, writing = os.pipe()
    try:
        with under([], "featurizer", model(given), writing) as server:
            with Load(server.port, unique_rows(given.artifacts, 2000)) as load:
                load.wait_for(given.times(10_000), 120)
            status, _ = timed_ping(server)
            os.set_blocking(reading, False)
            _read_all(reading)
            with Load(server.port, unique_rows(given.artifacts, 100)) as read:
                for _ in range(20):  # what is dropped is told with the next line
                    read.wait_for(20)
                    if b"dropped" in (told := _read_all(reading)):
                        break
    finally:
        os.close(reading)
        os.close(writing)
    outcome.count(load.tally)
    outcome.expect(status == 200, f"/ping {status}")
    outcome.expect(b"dropped" in told, "the log does not tell of lost lines")
    return outcome


def _read_all(descriptor: int) -> bytes:
    found = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(descriptor, 65536):
            found += piece
    return found


@scenario("standard output and error are closed: no request is lost")
def log_closed(given: Given) -> Outcome:
    outcome = Outcome()
    closing = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh"]
    questions = unique_rows(given.artifacts, 2000)
    with under(closing, "featurizer", model(given)) as server, Load(server.port, questions) as load:
        load.wait_for(given.times(5000), 120)
    outcome.count(load.tally)
    return outcome


@scenario("the clock jumps a day forth and back: no request is lost, no worker replaced")
def clock_jump(given: Given) -> Outcome:
    if not shutil.which("cc"):
        raise Skipped("there is no C compiler for the clock")
    outcome, clock, library = Outcome(), given.scratch / "clock", given.scratch / "clock.so"
    clock.write_text("0")
    source = Path(__file__).parents[1] / "clock.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    env = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(clock)}
    questions = unique_rows(given.artifacts, 2000)
    with featurizer(given.artifacts, env) as server, Load(server.port, questions, clients=4) as load:
        load.wait_for(100)
        workers = server.workers()
        for days in (1, -1, 0) * max(1, given.times(3) // 3):
            clock.write_text(str(days * DAY))
            load.wait_for(200)
            time.sleep(2)
        same, dates = server.workers() == workers, {line["time"][:10] for line in server.lines()}
    outcome.figures["days_in_the_log"] = len(dates)
    outcome.count(load.tally)
    outcome.expect(same, "workers were replaced")
    outcome.expect(len(dates) == 3, f"the clock did not jump: {dates}")
    return outcome
