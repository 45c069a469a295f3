"""Counts that workers share, the formats that they are told in, and log lines that nobody reads."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import re
from pathlib import Path

import pytest

from serving import nginx_log
from serving.emf import documents
from serving.logs import Handler, JsonFormatter, request_id
from serving.metrics import BOUNDS, BYTES_IN, BYTES_OUT, DROPPED, ENDS, ROWS, STARTS, UNSEEN, Page, Recorder, Totals
from serving.nginx import TEMPLATE
from serving.output import LONGEST, Output
from serving.prometheus import exposition
from serving.settings import BadSetting, Settings
from tests.observing import embedded, one, samples


@pytest.fixture
def page() -> Page:
    return Page.attach(Page.create().fd)


def start(page: Page, slot: int) -> Recorder:
    page.slot(slot).add(STARTS)
    return Recorder(page.slot(slot))


def test_the_counts_of_all_workers_are_summed(page: Page) -> None:
    first, second = start(page, 1), start(page, 2)

    first.record(0.0012, ("200",), {ROWS: 3})
    second.record(0.2, ("400", "not_a_number"), {UNSEEN: 2})
    second.record(0.3, ("200",), {ROWS: 4})

    totals = page.totals()
    assert totals.named == {"200": 2, "400": 1, "not_a_number": 1}
    assert (totals.scalars[ROWS], totals.scalars[UNSEEN]) == (7, 2)
    assert sum(totals.counts) == 3
    assert sum(totals.nanoseconds) == pytest.approx(501_200_000, abs=3)


def test_a_successor_goes_on_with_the_counts_of_the_worker_that_died(page: Page) -> None:
    start(page, 1).record(0.01, ("200",), {ROWS: 1})
    page.slot(1).add(ENDS)

    start(page, 1).record(0.01, ("503", "not_ready"), {ROWS: 1})

    totals = page.totals()
    assert totals.named == {"200": 1, "503": 1, "not_ready": 1}
    assert totals.scalars[ROWS] == 2
    assert totals.scalars[ENDS] == 1


def test_a_name_that_a_killed_worker_had_not_finished_is_no_name(page: Page) -> None:
    worker = start(page, 1)
    worker.record(0.01, ("200",), {})
    page.slot(1).names[48:51] = b"bad"  # and then it was killed

    start(page, 1).record(0.01, ("200", "payload_too_large"), {})

    assert page.totals().named == {"200": 2, "payload_too_large": 1}


@pytest.mark.parametrize("given", [47, 48])
def test_a_name_is_whole_up_to_47_characters(page: Page, given: int) -> None:
    start(page, 1).record(0.01, ("n" * (given - 1) + "e",), {})

    assert page.totals().named == {("n" * (given - 1) + "e")[:47]: 1}


def test_names_that_do_not_fit_are_counted_together(page: Page) -> None:
    worker = start(page, 1)

    for number in range(200):
        worker.record(0.01, (f"code_{number}",), {})

    named = page.totals().named
    assert len(named) == 128
    assert named["code_126"] == 1
    assert named["other"] == 73


@pytest.mark.parametrize("seconds", [0.0, *BOUNDS, 61.0])
def test_a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed(page: Page, seconds: float) -> None:
    start(page, 1).record(seconds, ("200",), {})

    found = samples(exposition("predictor", page.totals(), {}, 1))

    for bound in BOUNDS:
        assert one(found, "model_server_request_duration_seconds_bucket", le=str(bound)) == (seconds <= bound)


def test_the_exposition_is_strict_and_says_all_that_was_counted(page: Page) -> None:
    start(page, 1).record(0.0012, ("200",), {ROWS: 3, UNSEEN: 1})
    start(page, 2).record(0.0012, ("413", "payload_too_large"), {})

    found = samples(exposition("predictor", page.totals(), {"overloaded": 5}, 2))

    assert one(found, "model_server_requests_total", stage="predictor", code="200") == 1
    assert one(found, "model_server_requests_total") == 2
    assert one(found, "model_server_refusals_total", code="payload_too_large") == 1
    assert one(found, "model_server_nginx_refusals_total", code="overloaded") == 5
    assert one(found, "model_server_rows_total") == 3
    assert one(found, "model_server_unknown_categories_total") == 1
    assert one(found, "model_server_workers_ready") == 2
    assert one(found, "model_server_request_duration_seconds_sum") == pytest.approx(0.0024, abs=1e-6)


def test_an_interval_is_told_as_embedded_metrics(page: Page) -> None:
    worker = start(page, 1)
    worker.record(0.5, ("200",), {ROWS: 9})
    before = page.totals()
    worker.record(0.001, ("200",), {ROWS: 2})
    worker.record(0.0011, ("200",), {ROWS: 2})
    worker.record(0.0013, ("200",), {ROWS: 2})
    worker.record(0.4, ("415", "unsupported_media_type"), {})

    written = documents({"Stage": "predictor"}, page.totals().since(before), 1_800_000_000.5, {"WorkersReady": 2})

    whole, refusal = map(embedded, written)
    assert whole["_aws"]["Timestamp"] == 1_800_000_000_500
    assert (whole["Stage"], whole["Requests"], whole["Rows"], whole["WorkersReady"]) == ("predictor", 4, 6, 2)
    assert (whole["ClientErrors"], whole["ServerErrors"]) == (1, 0)
    assert whole["Latency"]["Values"] == [1.0, 1.2, 400.0]
    assert whole["Latency"]["Counts"] == [1, 2, 1]
    assert whole["Latency"]["Sum"] == 403.4
    assert (refusal["Code"], refusal["Refusals"]) == ("unsupported_media_type", 1)


def test_every_bucket_filled_is_still_a_document(page: Page) -> None:
    worker = start(page, 1)
    for bound in (*BOUNDS, 61.0):
        worker.record(bound, ("200",), {})

    (whole,) = map(embedded, documents({"Stage": "p"}, page.totals(), 1_800_000_000, {}))

    assert whole["Latency"]["Count"] == len(BOUNDS) + 1
    assert whole["Latency"]["Max"] == 61_000


def test_an_interval_without_requests_says_so_and_has_no_latency() -> None:
    (whole,) = map(embedded, documents({"Stage": "p"}, Totals(), 1_800_000_000, {}))

    assert whole["Requests"] == 0
    assert "Latency" not in whole


def test_nginxs_refusals_are_counted_by_the_codes_of_their_bodies() -> None:
    places = re.findall(r'location = /_(\w+) \{[^}]*?"code": "(\w+)"', TEMPLATE.read_text(), re.DOTALL)
    refused = {"request": "POST /x HTTP/1.1", "status": 400, "bytes": 1, "seconds": 0.1, "connection": 1}
    ids = {"nginx_id": "n", "inference_id": "", "client_id": ""}

    for place, code in [*places, ("no_answer_of_unix:/run/gunicorn.sock", "not_ready")]:
        before = nginx_log.refused.copy()
        nginx_log.relay(logging.getLogger("test"), json.dumps({"refused": f"/_{place}"} | refused | ids), tell=False)

        assert nginx_log.refused - before == {code: 1}
    assert len(places) >= 9


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"MODEL_SERVER_METRICS": "statsd"}, "expected one of off, emf"),
        ({"MODEL_SERVER_METRICS_PORT": "70000"}, "expected a whole number from 1 to 65535"),
        ({"MODEL_SERVER_METRICS_PORT": "9000", "SAGEMAKER_SAFE_PORT_RANGE": "8000-8999"}, "8000-8999, got 9000"),
        ({"ENDPOINT_NAME": 'a"\n'}, "expected at most 128 letters"),
    ],
)
def test_metrics_are_not_published_where_they_must_not(env: dict[str, str], reason: str) -> None:
    with pytest.raises(BadSetting, match=re.escape(reason)):
        Settings.from_env(env)


class Pipe:
    """A pipe of 8192 bytes."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 8192)

    def read(self) -> list[dict]:
        return [json.loads(line) for line in os.read(self.reader, 1 << 16).splitlines()]

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture(params=[True, False], ids=["blocking", "not blocking"])
def pipe(request: pytest.FixtureRequest):
    pipe = Pipe()
    os.set_blocking(pipe.writer, request.param)
    yield pipe
    pipe.close()


@pytest.fixture
def logger(pipe: Pipe):
    logger = logging.Logger("test")
    handler = Handler(pipe.writer)
    handler.setFormatter(JsonFormatter("stage"))
    logger.addHandler(handler)
    return logger


def test_lines_that_nobody_reads_are_dropped_counted_and_told_later(pipe: Pipe, logger: logging.Logger) -> None:
    for number in range(100):
        logger.info("%s", f"{number:03}" * 100)
    kept = pipe.read()

    logger.info("read again")
    told, last = pipe.read()
    logger.info("and again")

    assert [line["message"] for line in pipe.read()] == ["and again"]
    assert 0 < len(kept) < 100
    assert [line["message"][:3] for line in kept] == [f"{number:03}" for number in range(len(kept))]
    assert (told["level"], told["message"]) == ("WARNING", f"{100 - len(kept)} lines were dropped")
    assert last["message"] == "read again"
    assert logger.handlers[0].dropped == 100 - len(kept)


def test_a_log_whose_reader_is_gone_is_no_error(pipe: Pipe, logger: logging.Logger) -> None:
    os.close(pipe.reader)

    logger.info("unheard")

    assert logger.handlers[0].dropped == 1
    pipe.reader = os.open(os.devnull, os.O_RDONLY)


@pytest.mark.parametrize("text", ["x" * 100_000, "\n\x00\x7f" * 5000, "é\U0001f600" * 5000, '"\\' * 9000])
def test_a_line_is_never_longer_than_a_pipe_takes_whole(text: str) -> None:
    record = logging.LogRecord("test", logging.INFO, "", 0, "%s", (text,), None)
    record.fields = {"path": text, "status": 200}

    line = JsonFormatter("stage").format(record)

    assert len(line) < LONGEST
    assert json.loads(line)["status"] == 200
    assert line.isascii()
    assert "\n" not in line


def test_what_an_exception_says_of_a_request_is_not_logged_unless_asked_for() -> None:
    token = request_id.set("the-id")
    formatter, root = JsonFormatter("stage"), logging.getLogger()
    level = root.level
    try:
        line = formatter.format(failed("secret"))
        root.setLevel(logging.DEBUG)
        debugged = formatter.format(failed("secret"))
    finally:
        root.setLevel(level)
        request_id.reset(token)

    assert "secret" not in line
    assert "test_metrics.py" in line
    assert "builtins.ValueError" in line
    assert "builtins.KeyError" in line
    assert "secret" in debugged


def failed(value: str) -> logging.LogRecord:
    """The record of an exception that repeats a value, and so does its cause."""
    try:
        try:
            {}[value]
        except KeyError as error:
            raise ValueError(f"no {value}") from error
    except ValueError as error:
        found = (type(error), error, error.__traceback__)
    return logging.LogRecord("test", logging.ERROR, "", 0, "failed", (), found)


def test_a_line_that_finds_another_unfinished_is_lost(tmp_path: Path, monkeypatch) -> None:
    taken = io.BytesIO()
    monkeypatch.setattr(os, "write", lambda _fd, data: taken.write(bytes(data[:4])))
    output = Output(os.open(tmp_path / "out", os.O_CREAT | os.O_WRONLY))

    written = [output.write(line) for line in (b"0123456789\n", b"lost\n", b"ab\n", b"cd\n")]

    monkeypatch.undo()
    os.close(output.descriptor)
    assert written == [True, False, True, True]
    assert taken.getvalue() == b"0123456789\nab\ncd\n"


def test_a_line_that_a_terminal_took_half_of_is_finished_before_the_next(tmp_path: Path, monkeypatch) -> None:
    taken = io.BytesIO()
    monkeypatch.setattr(os, "write", lambda _fd, data: taken.write(bytes(data[:7])))
    output = Output(os.open(tmp_path / "out", os.O_CREAT | os.O_WRONLY))

    written = [output.write(b"0123456789\n"), output.write(b"ab\n"), output.write(b"cd\n")]

    monkeypatch.undo()
    os.close(output.descriptor)
    assert written == [True, True, True]
    assert taken.getvalue() == b"0123456789\nab\ncd\n"


AMOUNTS = {BYTES_IN: 11, BYTES_OUT: 12, ROWS: 13, UNSEEN: 14, DROPPED: 15, ENDS: 16}


def test_every_count_is_told_under_its_own_name(page: Page) -> None:
    start(page, 1).record(0.0012, ("200",), AMOUNTS)

    found = samples(exposition("predictor", page.totals(), {}, 1))
    (document,) = map(embedded, documents({"Stage": "p"}, page.totals(), 1_800_000_000, {}))

    prometheus = ("request_bytes", "response_bytes", "rows", "unknown_categories", "log_lines_dropped")
    assert [one(found, f"model_server_{name}_total") for name in prometheus] == [11, 12, 13, 14, 15]
    assert one(found, "model_server_worker_restarts_total") == 16
    units = {metric["Name"]: metric["Unit"] for metric in document["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert {name: (document[name], units[name]) for name in units if name != "Latency"} == {
        "Requests": (1, "Count"),
        "ClientErrors": (0, "Count"),
        "ServerErrors": (0, "Count"),
        "Rows": (13, "Count"),
        "BytesIn": (11, "Bytes"),
        "BytesOut": (12, "Bytes"),
        "UnknownCategories": (14, "Count"),
        "WorkerRestarts": (16, "Count"),
        "DroppedLogLines": (15, "Count"),
    }
    assert units["Latency"] == "Milliseconds"
    assert document["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "ModelServer"


def test_a_latency_has_its_least_and_its_most_to_a_tenth_of_a_microsecond(page: Page) -> None:
    worker = start(page, 1)
    for seconds in (0.00123456, 0.4, 0.02):
        worker.record(seconds, ("500", "internal_error"), {})

    whole, _ = map(embedded, documents({"Stage": "p"}, page.totals(), 1_800_000_000, {}))

    assert whole["Latency"]["Min"] == 1.2346
    assert (whole["Latency"]["Max"], whole["Latency"]["Count"], whole["Latency"]["Sum"]) == (400.0, 3, 421.235)
    assert (whole["Requests"], whole["ClientErrors"], whole["ServerErrors"]) == (3, 0, 3)


@pytest.mark.parametrize(("length", "whole"), [(LONGEST - 1, True), (LONGEST, False)])
def test_a_line_and_its_newline_have_4096_bytes_at_most(length: int, whole: bool) -> None:
    record = logging.LogRecord("test", logging.INFO, "", 0, "%s", ("",), None)
    empty = len(JsonFormatter("stage").format(record))
    text = "a" * 2000 + "z" * (length - empty - 2000)
    record.args = (text,)

    line = JsonFormatter("stage").format(record)

    assert LONGEST - 20 < len(line) + 1 <= 4096
    message = json.loads(line)["message"]
    assert (message == text) is whole
    assert message.startswith("a" * 1900)
    assert message.endswith("z" * (len(text) - 2100))
    assert ("…" in message) is not whole


def test_lines_that_are_lost_are_never_counted_twice_or_back(page: Page) -> None:
    worker = start(page, 1)

    assert [worker.more_dropped(now) for now in (3, 3, 5, 0, 2)] == [3, 0, 2, 0, 2]
