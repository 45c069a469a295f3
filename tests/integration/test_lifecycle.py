"""Stopping, and losing processes: what only real ones can answer."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException

import pytest

from serving.serve import DRAINED_WITHIN
from tests.servers import ECHO, GATED, Gate, Server, launched, running, wait_until, wait_until_taken


def test_no_request_in_flight_at_sigterm_is_lost(tmp_path):
    gate = Gate(tmp_path)
    with running(ECHO) as server, ThreadPoolExecutor(100) as pool:
        bodies = [gate.body(number) for number in range(100)]
        pending = [pool.submit(server.invoke, body) for body in bodies]
        wait_until_taken(server, pending)
        server.process.terminate()
        server.process.terminate()
        gate.open()
        answers = [request.result() for request in pending]
        code = server.process.wait(60)

    assert [(answer.status, answer.body) for answer in answers] == [(200, body) for body in bodies]
    assert code == 0


@pytest.mark.parametrize(
    ("worker_class", "at_once", "nginx"),
    [("sync", 2, "off"), ("gthread", 16, "off"), ("gthread", 16, "on"), ("gevent", 20, "off"), ("gevent", 20, "on")],
)
def test_every_worker_class_serves_and_drains(worker_class, at_once, nginx, tmp_path):
    gate = Gate(tmp_path)
    env = {"MODEL_SERVER_NGINX": nginx, "MODEL_SERVER_WORKER_CLASS": worker_class}
    with running(ECHO, env) as server, ThreadPoolExecutor(at_once) as pool:
        served = server.invoke(b"hello")
        bodies = [gate.body(number) for number in range(at_once)]
        pending = [pool.submit(server.invoke, body) for body in bodies]
        gate.wait_until_held(2)
        wait_until_taken(server, pending)
        server.process.terminate()
        wait_until(lambda: "stopping: accepted" in server.output(), "the server to begin to stop")
        gate.open()
        code = server.process.wait(60)
        answers = [request.result() for request in pending]

    assert (served.status, served.body) == (200, b"hello")
    assert [(answer.status, answer.body) for answer in answers] == [(200, body) for body in bodies]
    assert code == 0


@pytest.mark.parametrize(("number", "nginx"), [(signal.SIGTERM, "on"), (signal.SIGINT, "off")])
def test_a_signal_during_model_load_stops_the_container_soon(number, nginx, tmp_path):
    with launched(GATED, {"MODEL_SERVER_NGINX": nginx, "GATE": str(tmp_path)}) as server:
        wait_until((tmp_path / "first").exists, "the first worker to load")
        begun = time.monotonic()
        code = server.stop(number)
        seconds = time.monotonic() - begun
        left = server.processes()

    assert code == 0
    assert seconds < DRAINED_WITHIN  # nothing was accepted that it would wait for
    assert left == []


def test_a_second_signal_while_draining_is_harmless(front, tmp_path):
    gate = Gate(tmp_path)
    with running(ECHO, front) as server, ThreadPoolExecutor() as pool:
        pending = pool.submit(server.invoke, gate.body())
        gate.wait_until_held(1)
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: "stopping: accepted" in server.output(), "the server to begin to stop")
        server.process.send_signal(signal.SIGTERM)
        gate.open()
        code = server.process.wait(60)
        left = server.processes()

    assert pending.result().status == 200
    assert code == 0
    assert left == []


def test_no_request_is_lost_behind_nginx_when_workers_are_killed():
    with running(ECHO) as server:
        with Load(server) as load:
            for _ in range(3):
                kill_a_worker(server)
                load.wait_for_more(30)  # nginx tries a request twice: none may lose two workers

        assert load.wrong == []


def test_workers_killed_under_load_are_replaced(front):
    with running(ECHO, front) as server:
        with Load(server):
            kill_a_worker(server)
        for worker in (workers := server.workers()):
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: len(set(server.workers()) - set(workers)) == 2, "two new workers")
        wait_until(lambda: server.pings() == 200, "/ping to answer 200")

        with Load(server) as load:
            load.wait_for_more(20)

        assert load.wrong == []


def test_a_request_that_kills_its_worker_is_answered_with_json_and_harms_no_other():
    with running(ECHO) as server:
        with Load(server) as load:
            answers = [server.invoke(b"die") for _ in range(2)]
            load.wait_for_more(20)
        wait_until(lambda: server.pings() == 200, "/ping to answer 200")
        last = server.invoke(b"hello")

    assert [(answer.status, answer.content_type) for answer in answers] == [(503, "application/json")] * 2
    assert {answer.json["code"] for answer in answers} == {"not_ready"}
    assert load.wrong == []
    assert last.body == b"hello"


def test_a_worker_that_hangs_costs_its_caller_a_504_and_is_replaced():
    with running(ECHO, {"MODEL_SERVER_TIMEOUT": "6"}) as server:
        hung = server.workers()
        answer = server.invoke(b"sleep 30")
        wait_until(lambda: set(server.workers()) != set(hung) and len(server.workers()) == 2, "a new worker")
        after = [server.invoke(b"hello").body for _ in range(4)]

    assert (answer.status, answer.content_type) == (504, "application/json")
    assert answer.json["code"] == "timeout"
    assert after == [b"hello"] * 4


@pytest.mark.parametrize(
    ("master", "nginx"), [("gunicorn", "on"), ("gunicorn", "off"), ("nginx", "on")], ids=lambda value: value
)
def test_a_container_dies_with_its_child(master, nginx):
    with running(ECHO, {"MODEL_SERVER_NGINX": nginx}) as server:
        os.kill(server.master(master), signal.SIGKILL)
        code = server.process.wait(60)
        wait_until(lambda: server.processes() == [], "every process to end")
        status = server.pings()
        lines = server.lines()

    assert code not in (0, None)
    assert status == 0
    assert f"serving {ECHO} on 127.0.0.1:{server.port}, 2 workers" in [line["message"] for line in lines]
    assert any(line["level"] == "CRITICAL" and master in line["message"] for line in lines)


@pytest.mark.parametrize("nginx", ["on", "off"])
def test_nothing_goes_on_serving_when_the_supervisor_is_killed(nginx):
    with running(ECHO, {"MODEL_SERVER_NGINX": nginx}) as server:
        assert len(server.processes()) == (6 if nginx == "on" else 4)
        server.process.kill()
        server.process.wait(60)
        wait_until(lambda: server.processes() == [], "every process to end")

        assert server.pings() == 0


def test_workers_end_with_gunicorn_though_nobody_is_left_to_tell_them():
    with running(ECHO, {"MODEL_SERVER_NGINX": "off", "MODEL_SERVER_TIMEOUT": "600"}) as server:
        os.kill(server.process.pid, signal.SIGSTOP)
        os.kill(server.master("gunicorn"), signal.SIGKILL)
        wait_until(lambda: server.processes() == [server.process.pid], "the workers to end")
        os.kill(server.process.pid, signal.SIGCONT)


def test_a_supervisor_that_stands_still_does_not_hold_nginx_up():
    """Nobody reads then what nginx logs of each refusal."""
    with running(ECHO) as server:
        os.kill(server.process.pid, signal.SIGSTOP)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as client:
            for _ in range(3000):  # more than 1 MiB of lines
                client.request("GET", "/" + "a" * 400)
                refused = client.getresponse()
                refused.read()
                assert refused.status == 404
        served = server.invoke(b"hello")
        os.kill(server.process.pid, signal.SIGCONT)
        wait_until(lambda: server.pings() == 200, "/ping to answer 200")

    assert served.body == b"hello"


@dataclass
class Load:
    """Clients that send bodies of their own and compare the answers."""

    server: Server
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        self.threads = [threading.Thread(target=self._send, args=(name,)) for name in "abcd"]
        for thread in self.threads:
            thread.start()
        self.wait_for_more(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def wait_for_more(self, count: int) -> None:
        target = self.right + count
        wait_until(lambda: self.right >= target, f"{count} right answers")

    def _send(self, name: str) -> None:
        number = 0
        while not self.stopped.is_set():
            number += 1
            body = f"sleep 0.01 {name}{number}".encode()
            try:
                answer = self.server.invoke(body)
            except (OSError, HTTPException) as error:
                self.wrong.append(repr(error))
                continue
            if (answer.status, answer.body) == (200, body):
                self.right += 1
            else:
                self.wrong.append(f"{answer.status} {answer.body[:80]!r}")


def kill_a_worker(server: Server) -> None:
    workers = server.workers()
    os.kill(workers[0], signal.SIGKILL)
    wait_until(lambda: len(new := server.workers()) == 2 and workers[0] not in new, "a new worker")
    wait_until(lambda: server.pings() == 200, "/ping to answer 200")
