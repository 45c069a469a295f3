"""Lines of the log: what stands in them, and what becomes of what others print."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from contextvars import Context
from typing import Any

import pytest

from serving import logs
from serving.logs import JsonFormatter, Printed, note, notes
from tests.servers import ROOT

CONFIGURED = """
import logging, sys, warnings
from serving import logs
logs.configure("stage", "INFO")
logging.getLogger("one").debug("unheard")
logging.getLogger("one").info("heard %s", 1)
warnings.warn("odd")
sys.stderr = logs.Printed()
print("printed", file=sys.stderr)
print("", file=sys.stderr)
sys.stderr = sys.__stderr__
logging.getLogger("one").info("lost: %s", logs.dropped())
raise RuntimeError("the end")
"""


def test_everything_that_a_process_says_is_a_line_of_json() -> None:
    done = subprocess.run([sys.executable, "-c", CONFIGURED], cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stderr.splitlines()]

    assert [(line["level"], line["logger"], line["message"]) for line in lines if line["logger"] != "py.warnings"] == [
        ("INFO", "one", "heard 1"),
        ("ERROR", "printed", "printed"),
        ("INFO", "one", "lost: 0"),
        ("CRITICAL", "serving", "stopped by an error"),
    ]
    assert ["UserWarning: odd" in line["message"] for line in lines if line["logger"] == "py.warnings"] == [True]
    assert {line["stage"] for line in lines} == {"stage"}
    assert lines[-1]["exception"].endswith("RuntimeError: the end")


def test_what_is_printed_is_logged_without_its_newlines(caplog: pytest.LogCaptureFixture) -> None:
    printed = Printed()

    lengths = [printed.write(text) for text in ("  two words\n", "\n", "")]

    assert lengths == [12, 1, 0]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("ERROR", "two words")]


def test_a_note_joins_those_of_the_same_request() -> None:
    def noted() -> dict[str, Any]:
        notes.set({})
        note(rows=2)
        note(unseen={"a": 1}, rows=3)
        return notes.get()

    assert Context().run(noted) == {"rows": 3, "unseen": {"a": 1}}


def test_a_note_outside_of_a_request_is_nothing() -> None:
    assert Context().run(lambda: note(rows=1) or notes.get(None)) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0, "1970-01-01T00:00:00.000Z"), (1_800_000_000.9996, "2027-01-15T08:00:00.999Z")],
)
def test_a_line_has_the_time_to_the_millisecond(seconds: float, expected: str) -> None:
    record: Any = logging.LogRecord("test", logging.INFO, "", 0, "x", (), None)
    record.created = seconds

    assert json.loads(Context().run(JsonFormatter("stage").format, record)) == {
        "time": expected, "level": "INFO", "stage": "stage", "logger": "test", "message": "x",
    }  # fmt: skip


def test_an_exception_outside_of_a_request_is_told_in_full() -> None:
    try:
        raise ValueError("at the start")
    except ValueError:
        record = logging.LogRecord("test", logging.ERROR, "", 0, "x", (), sys.exc_info())

    line = Context().run(JsonFormatter("stage").format, record)
    assert json.loads(line)["exception"].endswith("ValueError: at the start")


SECRET = "".join(["sec", "ret"])  # which no line of this file has, as a line of the code is told


def raised(number: int) -> BaseException:
    """An exception with another before it: its cause, what was handled meanwhile, or that kept quiet about."""
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            if number == 0:
                raise ValueError(SECRET) from error
            if number == 1:
                raise ValueError(SECRET)  # noqa: B904 - the context is what is tested
            raise ValueError(SECRET) from None
    except ValueError as error:
        return error


def within_a_request(error: BaseException) -> dict[str, Any]:
    def line() -> dict[str, Any]:
        logs.request_id.set("the-id")
        record = logging.LogRecord("test", logging.ERROR, "", 0, "x", (), (type(error), error, error.__traceback__))
        told: dict[str, Any] = json.loads(JsonFormatter("stage").format(record))
        return told

    return Context().run(line)


@pytest.mark.parametrize(
    ("number", "kinds"),
    [
        (0, ["builtins.KeyError", "builtins.ValueError"]),
        (1, ["builtins.KeyError", "builtins.ValueError"]),
        (2, ["builtins.ValueError"]),
    ],
)
def test_an_exception_of_a_request_is_told_by_its_kind_behind_those_before_it(number: int, kinds: list[str]) -> None:
    line = within_a_request(raised(number))

    assert line["request_id"] == "the-id"
    assert [part.splitlines()[-1] for part in line["exception"].split("\n\n")] == kinds
    assert SECRET not in line["exception"]


def test_exceptions_that_are_each_others_cause_are_told_once() -> None:
    one, two = raised(2), raised(2)
    one.__cause__, two.__cause__ = two, one

    assert within_a_request(one)["exception"].count("builtins.ValueError") == 2
