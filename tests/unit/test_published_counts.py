"""Where counts go: documents on standard output, and a port of the loopback."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from serving import logs, nginx_log
from serving.metrics import DROPPED, ROWS, STARTS, Page, Recorder
from serving.output import Output
from serving.publish import CloudWatch, _repeat, published, total
from serving.scrapes import _Handler, listen
from serving.settings import BadSetting, Settings
from tests.observing import embedded, one, samples
from tests.servers import free_ports

SETTINGS = Settings(stage="predictor", endpoint="e1", metrics="emf")


@pytest.fixture
def page() -> Page:
    page = Page.private()
    page.slot(1).add(STARTS)
    return page


@pytest.fixture(autouse=True)
def no_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx_log, "refused", type(nginx_log.refused)())


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_a_document_has_what_was_counted_since_the_last_one(page: Page, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    recorder, cloudwatch = Recorder(page.slot(1)), CloudWatch(SETTINGS, page, Output(writer))

    told = []
    for rows, refused, ready in ((3, 1, 2), (4, 4, None), (0, 4, 2)):
        recorder.record(0.01, ("200",), {ROWS: rows})
        nginx_log.refused["overloaded"] = refused
        cloudwatch.flush_server(ready)
        told += [embedded(line) for line in os.read(reader, 1 << 16).decode().splitlines()]

    assert [(one["Requests"], one["Rows"], one["NginxRefusals"]) for one in told] == [(1, 3, 1), (1, 4, 3), (1, 0, 0)]
    assert [one.get("WorkersReady") for one in told] == [2, None, 2]
    assert {(one["Stage"], one["Endpoint"]) for one in told} == {("predictor", "e1")}
    assert {tuple(map(tuple, one["_aws"]["CloudWatchMetrics"][0]["Dimensions"])) for one in told} == {
        (("Stage", "Endpoint"),)
    }


def test_an_endpoint_that_has_no_name_is_no_dimension(page: Page, pipe: tuple[int, int]) -> None:
    reader, writer = pipe

    CloudWatch(Settings(stage="predictor"), page, Output(writer)).flush({})

    assert "Endpoint" not in embedded(os.read(reader, 1 << 16).decode())


def test_lines_that_the_supervisor_dropped_count_too(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    page.slot(1).add(DROPPED, 2)
    monkeypatch.setattr(logs, "dropped", lambda: 3)

    assert total(page).scalars[DROPPED] == 5


def test_what_is_left_at_the_end_is_told(page: Page, capfd: pytest.CaptureFixture[str]) -> None:
    with published(SETTINGS, page, lambda: 1):
        Recorder(page.slot(1)).record(0.01, ("200",), {ROWS: 5})

    (told,) = map(embedded, capfd.readouterr().out.splitlines())
    assert (told["Rows"], "WorkersReady" in told) == (5, False)


@pytest.mark.parametrize("settings", [Settings(), Settings(metrics="off")])
def test_nothing_is_told_unless_it_is_asked_for(
    page: Page, settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    with published(settings, page, lambda: 1):
        pass

    assert capfd.readouterr().out == ""


def test_counts_are_told_again_and_again(
    page: Page, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.publish.INTERVAL", 0.001)
    asked = threading.Semaphore(0)

    def ready() -> int:
        asked.release()
        return 7

    with published(SETTINGS, page, ready):
        assert all(asked.acquire(timeout=60) for _ in range(3))

    told = [embedded(line)["WorkersReady"] for line in capfd.readouterr().out.splitlines()[:2]]
    assert told == [7, 7]


@pytest.fixture
def port(page: Page) -> Iterator[int]:
    Recorder(page.slot(1)).record(0.01, ("200",), {ROWS: 5})
    nginx_log.refused["overloaded"] = 6
    (port,) = free_ports(1)
    with published(Settings(stage="predictor", metrics_port=port), page, lambda: 2):
        yield port


def ask(port: int, method: str = "GET", path: str = "/metrics", **headers: str) -> tuple[int, str, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read().decode()


def test_prometheus_is_told_the_counts(port: int) -> None:
    status, media, text = ask(port)

    found = samples(text)
    assert (status, media) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert one(found, "model_server_rows_total", stage="predictor") == 5
    assert one(found, "model_server_workers_ready") == 2
    assert one(found, "model_server_nginx_refusals_total", code="overloaded") == 6


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:9090", 200),
        ("127.0.0.1:9090", 200),
        ("127.1.2.3", 200),
        ("[::1]:9090", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ],
)
def test_a_page_of_another_host_is_told_nothing(port: int, host: str, status: int) -> None:
    told = ask(port, Host=host)

    assert told[0] == status
    assert status == 200 or told[1:] == (
        "text/plain; charset=utf-8",
        "403 expected GET /metrics, and a Host of this machine\n",
    )


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("GET", "/metrics/", 404), ("POST", "/metrics", 501)]
)
def test_the_port_has_nothing_else(port: int, method: str, path: str, status: int) -> None:
    assert ask(port, method, path)[::2] == (
        status,
        f"{status} expected GET /metrics, and a Host of this machine\n",
    )


def test_a_port_that_is_taken_is_named(page: Page) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(BadSetting, match="MODEL_SERVER_METRICS_PORT: expected a free port"),
        published(Settings(metrics_port=other.getsockname()[1]), page, lambda: 2),
    ):
        pass


def test_the_port_is_free_again_at_the_end(page: Page) -> None:
    (port,) = free_ports(1)
    for _ in range(2):
        with published(Settings(metrics_port=port), page, lambda: 2):
            assert ask(port)[0] == 200


def test_a_document_is_told_every_60_seconds(page: Page, pipe: tuple[int, int]) -> None:
    waits: list[float] = []

    class Stopped(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            return len(waits) == 3

    _repeat(CloudWatch(SETTINGS, page, Output(pipe[1])), lambda: 1, Stopped())

    assert waits == [60, 60, 60]
    assert len(os.read(pipe[0], 1 << 16).splitlines()) == 2


def test_who_asks_for_the_counts_is_told_by_metrics_and_has_5_seconds_to_ask(port: int) -> None:
    waits: list[float | None] = []

    class Asked(_Handler):
        def do_GET(self) -> None:
            waits.append(self.connection.gettimeout())

    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        Asked(ours, ("127.0.0.1", 1), None)  # type: ignore[arg-type]

    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        body = response.read()

    assert waits == [5]
    assert response.headers["Server"] == "metrics"
    assert response.headers["Content-Length"] == str(len(body))


def test_8_may_ask_for_the_counts_at_once(port: int) -> None:
    with ExitStack() as stack:
        asking = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 60)) for _ in range(9)]
        for client in asking[:8]:
            client.sendall(b"GET /metrics HTTP/1.0\r\n")

        assert asking[8].recv(1) == b""
        for client in asking[:8]:
            client.sendall(b"\r\n")
        assert [client.recv(12) for client in asking[:8]] == [b"HTTP/1.0 200"] * 8


def test_counts_that_cannot_be_told_are_a_line_of_the_log_and_not_the_end(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    (port,) = free_ports(1)
    told = iter([ValueError("broken"), OSError("gone"), "fine\n"])

    def tell() -> str:
        if isinstance(found := next(told), Exception):
            raise found
        return found

    with listen(port, tell):
        for _ in range(2):
            with pytest.raises(ConnectionError):
                ask(port)
        assert ask(port)[2] == "fine\n"

    assert [record.getMessage() for record in caplog.records] == ["the counts could not be told"]
    assert capfd.readouterr().err == ""
