"""When a container says that it is healthy."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tests.servers import BROKEN, ECHO, GATED, ROOT, Gate, Server, launched, running, wait_until, wait_until_taken

PLATFORM_LIMIT = 2.0  # seconds SageMaker waits for /ping
PINGS = 500


def test_ping_is_503_until_every_worker_has_loaded_and_200_after(front, tmp_path):
    with launched(GATED, front | {"GATE": str(tmp_path)}) as server:
        wait_until(lambda: (tmp_path / "first").exists() and server.pings() != 0, "the first worker to load")

        early = server.ping()
        still = [server.pings() for _ in range(10)]
        before = ask_health(server)
        (tmp_path / "open").touch()
        wait_until(lambda: server.pings() == 200, "the other worker to load")
        late, head = server.ping(), server.request("HEAD", "/ping")
        after = ask_health(server)

    assert (early.status, early.content_type) == (503, "application/json")
    assert early.json["code"] == "not_ready"
    assert set(still) == {503}
    assert (late.status, late.body) == (200, b"")
    assert (head.status, head.body) == (200, b"")
    assert (before, after) == (1, 0)


def test_ping_is_never_200_after_sigterm_while_a_request_is_finished(front, tmp_path):
    gate = Gate(tmp_path)
    with running(ECHO, front) as server, ThreadPoolExecutor() as pool:
        pending = pool.submit(server.invoke, gate.body())
        gate.wait_until_held(1)
        server.process.terminate()
        wait_until(lambda: server.pings(PLATFORM_LIMIT) != 200, "/ping to notice")
        pings = {server.pings(PLATFORM_LIMIT) for _ in range(2)}
        gate.open()
        while not pending.done():
            pings.add(server.pings(PLATFORM_LIMIT))
        code = server.process.wait(60)
        health = ask_health(server)

    assert pings <= {0, 503}
    assert pending.result().status == 200
    assert (code, health) == (0, 1)


def test_hundreds_of_pings_at_once_wait_for_their_answer():
    with running(ECHO) as server, ExitStack() as stack:
        server.process.send_signal(signal.SIGSTOP)
        try:
            address = ("127.0.0.1", server.port)
            asking = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(PINGS)]
            for connection in asking:
                connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            wait_until(lambda: most_connections_to_a_health_socket() > PINGS, "nginx to hand them on")
        finally:
            server.process.send_signal(signal.SIGCONT)
        statuses = {connection.recv(12) for connection in asking}

    assert statuses == {b"HTTP/1.1 200"}


def most_connections_to_a_health_socket() -> int:
    """Sockets by the name of the health socket that has most of them: its own and one for each connection."""
    names = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if "health.sock" in line]
    return max(Counter(names).values())


def test_ping_does_not_wait_behind_requests(tmp_path):
    gate = Gate(tmp_path)
    with running(ECHO) as server, ThreadPoolExecutor(4) as pool:
        pending = [pool.submit(server.invoke, gate.body(number)) for number in range(4)]
        gate.wait_until_held(2)
        wait_until_taken(server, pending)
        pings = [server.pings() for _ in range(10)]
        busy = not any(request.done() for request in pending)
        gate.open()
        statuses = [request.result().status for request in pending]

    assert busy
    assert pings == [200] * 10
    assert statuses == [200] * 4


def test_a_stage_that_fails_to_load_ends_the_container(front):
    with launched(BROKEN, front) as server:
        code = server.process.wait(60)
        lines = server.lines()

    assert code == 1
    assert any("this stage cannot load" in line.get("exception", "") + line["message"] for line in lines)


def ask_health(server: Server) -> int:
    """The exit code of `python -m serving ping`, which images use as their health check."""
    env = os.environ | {"SAGEMAKER_BIND_TO_PORT": str(server.port)}
    command = [sys.executable, "-m", "serving", "ping"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=False, timeout=60).returncode
