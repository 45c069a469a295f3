"""Logs, ids, times and counts of running servers: right while workers die, and never a reason to wait."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lambda_api import EVENTS, function
from tests.observing import Samples, embedded, one, samples
from tests.servers import ECHO, ROOT, Server, free_ports, running, started, wait_until

ROW = b"M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15"
SECRET = "S3CRET"


def scrape(port: int) -> Samples:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return samples(response.read().decode())


def requests_of(lines: list[dict], request_id: str) -> list[dict]:
    return [line for line in lines if line["message"] == "request" and line.get("request_id") == request_id]


def test_counts_are_those_of_the_requests_sent_while_workers_are_killed():
    port, metrics_port = free_ports(2)
    env = {"MODEL_SERVER_METRICS_PORT": str(metrics_port), "MODEL_SERVER_METRICS": "emf", "ENDPOINT_NAME": "e1"}
    sent, seen = 0, []
    with running(ECHO, env, port=port) as server:
        for _ in range(4):
            for _ in range(25):
                assert server.invoke(b"hello").status == 200
            assert server.invoke(b"hello", Content_Encoding="gzip").status == 415
            sent += 26
            seen.append(scrape(metrics_port))
            os.kill(server.workers()[0], signal.SIGKILL)
            wait_until(lambda: one(scrape(metrics_port), "model_server_workers_ready") == 2, "another worker")
        assert server.request("GET", "/nowhere").status == 404
        wait_until(lambda: one(scrape(metrics_port), "model_server_nginx_refusals_total") == 1, "nginx's line")
        last = scrape(metrics_port)
        elsewhere = server.listening_ports()
        assert server.stop() == 0
        documents = [embedded(line) for line in server.output().splitlines() if "_aws" in line]

    assert one(last, "model_server_requests_total") == sent
    assert one(last, "model_server_requests_total", code="200") == 100
    assert one(last, "model_server_refusals_total", code="unsupported_encoding") == 4
    assert one(last, "model_server_request_duration_seconds_count") == sent
    assert one(last, "model_server_request_bytes_total") == sent * 5
    assert one(last, "model_server_worker_restarts_total") == 4
    assert one(last, "model_server_nginx_refusals_total", code="not_found") == 1
    for before, after in zip(seen, [*seen[1:], last], strict=True):
        gone_back = {key for key in before if key[0] != "model_server_workers_ready" and after[key] < before[key]}
        assert gone_back == set()
    assert elsewhere == {port, metrics_port}
    whole, refusal = documents
    assert (whole["Stage"], whole["Endpoint"]) == (ECHO, "e1")
    assert (whole["Requests"], whole["ClientErrors"], whole["NginxRefusals"]) == (sent, 4, 1)
    assert whole["Latency"]["Count"] == sent
    assert (refusal["Code"], refusal["Refusals"]) == ("unsupported_encoding", 4)


def test_the_port_of_metrics_is_the_loopbacks_and_answers_nothing_else():
    port, metrics_port = free_ports(2)
    env = {"MODEL_SERVER_METRICS_PORT": str(metrics_port), "MODEL_SERVER_HOST": "0.0.0.0", "MODEL_SERVER_WORKERS": "1"}
    with running(ECHO, env, port=port) as server:
        raw = Server(server.process, metrics_port, server.log)
        assert server.listening_ports() == {port, metrics_port}
        listening = Path("/proc/net/tcp").read_text()
        other = raw.request("GET", "/")
        posted = raw.request("POST", "/metrics", b"x")

    assert f" 0100007F:{metrics_port:04X} 00000000:0000 0A" in listening
    assert other.status == 404
    assert posted.status == 501
    assert "Python" not in other.headers["Server"]
    assert other.headers["Content-Type"] == posted.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_who_breaks_off_floods_or_comes_under_another_name_harms_neither_the_log_nor_the_service():
    port, metrics_port = free_ports(2)
    env = {"MODEL_SERVER_METRICS_PORT": str(metrics_port), "MODEL_SERVER_WORKERS": "1"}
    with running(ECHO, env, port=port) as server, contextlib.ExitStack() as held:
        raw = Server(server.process, metrics_port, server.log)
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", metrics_port)) as connection:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        garbage = [
            raw.send_raw(sent)
            for sent in (b"\x00\xff\r\n\r\n", b"<script> / HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n")
        ]
        rebound = raw.request("GET", "/metrics", headers={"Host": f"evil.example:{metrics_port}"})
        for _ in range(60):
            held.enter_context(socket.create_connection(("127.0.0.1", metrics_port), timeout=60))
        wait_until(lambda: threads(server) > 8, "the flood to be answered")
        crowded, status = threads(server), server.pings()
        held.close()
        wait_until(lambda: one(scrape(metrics_port), "model_server_workers_ready") == 1, "the counts")
        lines = server.lines()

    assert rebound.status == 403
    assert not any(b"<" in answer or b"Python" in answer for answer in garbage)
    assert (status, crowded < 30) == (200, True)
    assert [line for line in lines if line["level"] != "INFO"] == []


def threads(server: Server) -> int:
    return int(re.findall(r"Threads:\s+(\d+)", Path(f"/proc/{server.process.pid}/status").read_text())[0])


def test_what_no_worker_refuses_has_one_id_in_its_header_body_and_line():
    with running(ECHO, {"MODEL_SERVER_WORKERS": "1"}) as server:
        pinged = server.request("POST", "/ping", b"", headers={"X-Request-Id": "mine-8"})
        odd = server.request("DELETE", "/ping", headers={"X-Request-Id": 'a"\\ b'})
        answer = server.request("GET", "/nowhere", headers={"X-Request-Id": "mine-7"})
        wait_until(lambda: requests_of(server.lines(), "mine-7") != [], "nginx's line")
        (line,) = requests_of(server.lines(), "mine-7")

        (ping,) = requests_of(server.lines(), "mine-8")

    assert answer.headers["X-Request-Id"] == answer.json["request_id"] == line["nginx_request_id"]
    assert (pinged.headers["X-Request-Id"], pinged.json["request_id"]) == ("mine-8", "mine-8")
    assert (ping["path"], ping["status"], ping["code"]) == ("/ping", 405, "method_not_allowed")
    assert re.fullmatch("[0-9a-f]{32}", odd.json["request_id"])


def test_a_port_of_metrics_that_is_taken_ends_the_start():
    with running(ECHO, {"MODEL_SERVER_WORKERS": "1"}) as other:
        done = subprocess.run(
            [sys.executable, "-m", "serving", "serve"],
            cwd=ROOT,
            env=os.environ | {"STAGE": ECHO, "PORT": "0", "MODEL_SERVER_METRICS_PORT": str(other.port)}
            | {"SAGEMAKER_BIND_TO_PORT": str(free_ports(1)[0])},
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )  # fmt: skip

    assert done.returncode == 1
    assert json.loads(done.stderr.splitlines()[-1])["message"].startswith("MODEL_SERVER_METRICS_PORT: expected a free")


@pytest.fixture(scope="module")
def router(chain: tuple[Server, Server]) -> Iterator[Server]:
    named = ",".join(f"{name}=http://127.0.0.1:{c.port}" for name, c in zip(("one", "two"), chain, strict=True))
    with running("local_test", {"CONTAINERS": named, "MODEL_SERVER_WORKERS": "1"}) as server:
        yield server


def test_one_id_is_in_the_lines_of_the_router_and_of_both_containers(router, chain):
    answer = router.invoke(ROW, "text/csv", X_Amzn_SageMaker_Inference_Id="order-66")
    made = router.invoke(ROW, "text/csv").headers["X-Request-Id"]
    refused = router.invoke(b"M,1", "text/csv", X_Request_Id="wrong-7")

    assert answer.headers["X-Request-Id"] == "order-66"
    assert refused.headers["X-Request-Id"] == "wrong-7"
    assert json.loads(refused.json["OriginalMessage"])["request_id"] == "wrong-7"
    for server in (router, *chain):
        lines = server.lines()
        assert [line["status"] for line in requests_of(lines, "order-66")] == [200]
        assert [line["status"] for line in requests_of(lines, made)] == [200]
    assert [line["rows"] for server in chain for line in requests_of(server.lines(), "order-66")] == [1, 1]
    (line,) = requests_of(router.lines(), "order-66")
    assert line["containers"].keys() == {"one", "two"}
    assert [line["status"] for line in requests_of(router.lines(), "wrong-7")] == [424]
    assert [line["code"] for line in requests_of(chain[0].lines(), "wrong-7")] == ["column_count"]
    assert requests_of(chain[1].lines(), "wrong-7") == []


def test_the_answer_says_where_its_time_went(router, chain):
    through = router.invoke(ROW, "text/csv").headers["Server-Timing"]
    direct = chain[0].invoke(ROW, "text/csv").headers["Server-Timing"]

    times = {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)(?:, |$)", through)}
    assert list(times) == ["one", "two", "total"]
    assert 0 < times["one"] + times["two"] <= times["total"]
    assert re.fullmatch(r"total;dur=\d+\.\d{3}", direct)


def test_nothing_that_a_client_sends_forges_a_line_or_brings_its_payload_into_one(router, chain):
    """Each request has exactly one line; what is logged of it is its path, within a string."""
    forged = f'{SECRET}\n{{"level": "ERROR", "message": "forged"}}\r\n'.encode()
    ids = ['a"b', "a\\", "x" * 129, "{}", "\u00e9"]
    servers = (router, *chain)
    before = [len(server.lines()) for server in servers]
    for server in servers:
        for media in ("text/csv", "application/json", "application/jsonlines", "application/x-npy", "text/plain"):
            assert server.invoke(forged, media).status in (400, 415, 424)
        for given in ids:
            server.invoke(forged, "text/csv", X_Request_Id=given.encode().decode("latin-1"))
        for path in (b"/%0a%7B%22message%22:%22forged%22%7D", b'/"}\\"{', b"/\xff\xfe", b"/" + b"a" * 3000, b"//x"):
            server.send_raw(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nX-Request-Id: p\r\nConnection: close\r\n\r\n")
        server.send_raw(b"\x00\x01 {}\r\n\r\n")
        last = server.send_raw(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nS3CRET\r\n\r\n")
        told = json.loads(last.partition(b"\r\n\r\n")[2])["request_id"]
        wait_until(lambda server=server, told=told: requests_of(server.lines(), told), "nginx's last line")

    for server, skipped in zip(servers, before, strict=True):
        lines = server.lines()[skipped:]
        assert SECRET not in "".join(map(json.dumps, lines))
        assert not [line for line in lines if line["message"] == "forged"]
        assert len([line for line in lines if line.get("request_id") == "p"]) == 5
        assert all(len(json.dumps(line)) < 4096 for line in lines)
        assert all(line["request_id"] for line in lines if line["message"] == "request")


def test_a_body_that_gunicorn_alone_cannot_read_is_one_line_without_it():
    with running(ECHO, {"MODEL_SERVER_NGINX": "off", "MODEL_SERVER_WORKERS": "1"}) as server:
        answer = server.send_raw(f"{SECRET} {{}}\r\n\r\n".encode())
        wait_until(lambda: "request_id" in server.output(), "the line")
        lines = server.lines()

    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert [line["code"] for line in requests_of(lines, told["request_id"])] == ["bad_request"]
    assert SECRET not in json.dumps(lines)


@contextmanager
def piped(env: dict[str, str] | None = None, *, closed: bool = False) -> Iterator[tuple[Server, int]]:
    """A server whose standard output and error are a pipe that nobody reads, or closed; the pipe's reading end."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    port = free_ports(1)[0]
    ours = {"STAGE": ECHO, "SAGEMAKER_BIND_TO_PORT": str(port), "MODEL_SERVER_HOST": "127.0.0.1"}
    serve = f'exec "{sys.executable}" -m serving serve' + (" >&- 2>&- <&-" if closed else "")
    try:
        with started(
            ["sh", "-c", serve], env=os.environ | ours | {"MODEL_SERVER_WORKERS": "1"} | (env or {}),
            stdout=writer, stderr=writer, start_new_session=True,
        ) as process:  # fmt: skip
            os.close(writer)
            server = Server(process, port, Path(os.devnull))
            wait_until(lambda: process.poll() is not None or server.pings() == 200, "/ping to answer 200", 60)
            assert process.poll() is None
            try:
                yield server, reader
            finally:
                process.terminate()
                process.wait(60)
    finally:
        os.close(reader)


def test_a_log_that_nobody_reads_holds_nothing_up_and_is_told_of_later():
    with piped() as (server, reader):
        for _ in range(100):
            assert server.invoke(b"hello", X_Request_Id="unread").status == 200
        assert server.request("GET", "/nowhere", timeout=60).status == 404
        first = os.read(reader, 1 << 16)
        server.invoke(b"hello", X_Request_Id="read")
        then = b""
        while b'"read"' not in then:
            then += os.read(reader, 1 << 16)

    # The pipe's last bytes may have held the word of a loss where they held no more requests.
    told = [json.loads(line) for line in (first + then).splitlines()]
    kept = requests_of(told, "unread")
    lost = [int(line["message"].split()[0]) for line in told if "were dropped" in line["message"]]
    assert len(kept) < 100
    assert sum(lost) >= 100 - len(kept)
    assert len(requests_of(told, "read")) == 1


def test_a_server_whose_standard_streams_are_closed_serves_and_stops_in_order():
    with piped(closed=True) as (server, _):
        statuses = {server.invoke(b"hello").status, server.invoke(b"fail").status}
        code = server.stop()

    assert statuses == {200, 500}
    assert code == 0


def test_a_pipe_whose_reader_is_gone_ends_nothing():
    with piped() as (server, reader):
        os.dup2(os.open(os.devnull, os.O_RDONLY), reader)
        statuses = {server.invoke(b"hello").status for _ in range(20)}
        code = server.stop()

    assert statuses == {200}
    assert code == 0


def test_lambda_tells_its_metrics_after_each_event(artifacts, tmp_path):
    env = {"SM_MODEL_DIR": str(artifacts), "MODEL_SERVER_METRICS": "emf", "AWS_LAMBDA_FUNCTION_NAME": "score"}
    with function(tmp_path / "log", "pipeline", env) as running_function:
        for name in ("direct_rows", "url_form"):
            running_function.invoke(EVENTS[name])
        documents = [embedded(line) for line in (tmp_path / "log").read_text().splitlines() if "_aws" in line]

    answered, refused, code = documents
    assert (answered["Stage"], answered["Endpoint"]) == ("pipeline", "score")
    assert (answered["Requests"], answered["Rows"], answered["Latency"]["Count"]) == (1, 1, 1)
    assert (refused["Requests"], refused["ClientErrors"]) == (1, 1)
    assert (code["Code"], code["Refusals"]) == ("unsupported_media_type", 1)
