"""When a container says that it is healthy."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tests.servers import BROKEN, ECHO, GATED, ROOT, Server, launched, running, wait_until, wait_until_taken

PLATFORM_LIMIT = 2.0  # seconds SageMaker waits for /ping


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


def test_ping_is_never_200_after_sigterm_while_a_request_is_finished(front):
    with running(ECHO, front) as server, ThreadPoolExecutor() as pool:
        pending = pool.submit(server.invoke, b"sleep 1.5")
        wait_until_taken(server, [pending])
        time.sleep(0.3)
        server.process.terminate()
        wait_until(lambda: server.pings(PLATFORM_LIMIT) != 200, "/ping to notice", PLATFORM_LIMIT)
        pings = set()
        while not pending.done():
            pings.add(server.pings(PLATFORM_LIMIT))
        code = server.process.wait(30)
        health = ask_health(server)

    assert pings <= {0, 503}
    assert pending.result().status == 200
    assert (code, health) == (0, 1)


def test_hundreds_of_pings_at_once_wait_for_their_answer():
    with running(ECHO) as server, ExitStack() as stack:
        server.process.send_signal(signal.SIGSTOP)
        try:
            address = ("127.0.0.1", server.port)
            asking = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(500)]
            for connection in asking:
                connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            time.sleep(0.5)  # in which nginx hands them on
        finally:
            server.process.send_signal(signal.SIGCONT)
        statuses = {connection.recv(12) for connection in asking}

    assert statuses == {b"HTTP/1.1 200"}


def test_ping_answers_in_time_while_every_worker_is_busy():
    with running(ECHO) as server, ThreadPoolExecutor(4) as pool:
        pending = [pool.submit(server.invoke, b"sleep 1.5") for _ in range(4)]
        wait_until_taken(server, pending)
        pings = [timed_ping(server) for _ in range(10)]
        busy = not all(request.done() for request in pending)

        assert busy
        assert [status for status, _ in pings] == [200] * 10
        assert max(seconds for _, seconds in pings) < PLATFORM_LIMIT
        assert [request.result().status for request in pending] == [200] * 4


def test_a_stage_that_fails_to_load_ends_the_container(front):
    with launched(BROKEN, front) as server:
        code = server.process.wait(30)
        lines = server.lines()

    assert code == 1
    assert any("this stage cannot load" in line.get("exception", "") + line["message"] for line in lines)


def timed_ping(server: Server) -> tuple[int, float]:
    begun = time.monotonic()
    return server.pings(), time.monotonic() - begun


def ask_health(server: Server) -> int:
    """The exit code of `python -m serving ping`, which images use as their health check."""
    env = os.environ | {"SAGEMAKER_BIND_TO_PORT": str(server.port)}
    command = [sys.executable, "-m", "serving", "ping"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=False, timeout=20).returncode
