"""nginx's lines in the log of the container."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from serving import nginx_log

ERROR = "2026/01/02 03:04:05 [{level}] 12#13: *{connection} upstream prematurely closed connection"
REFUSAL = {
    "refused": "/_too_large", "status": 413, "request": "POST /invocations HTTP/1.1", "bytes": 7, "seconds": 0.0125,
    "connection": 3, "nginx_id": "n" * 32, "inference_id": "", "client_id": "",
}  # fmt: skip


@pytest.fixture
def relayed(caplog: pytest.LogCaptureFixture) -> Any:
    """What is logged for a line of nginx."""

    def relay(line: str, *, tell: bool = True) -> list[logging.LogRecord]:
        caplog.clear()
        with caplog.at_level(logging.DEBUG):
            nginx_log.relay(logging.getLogger("nginx"), line, tell=tell)
        return list(caplog.records)

    return relay


@pytest.mark.parametrize(
    ("level", "expected"),
    [("warn", "WARNING"), ("error", "ERROR"), ("crit", "CRITICAL"), ("emerg", "CRITICAL"), ("notice", "INFO")],
)
def test_an_error_of_nginx_is_logged_at_its_level_with_its_connection(relayed: Any, level: str, expected: str) -> None:
    (record,) = relayed(ERROR.format(level=level, connection=42) + "\n")

    assert record.levelname == expected
    assert record.getMessage() == ERROR.format(level=level, connection=42)
    assert record.fields == {"connection": 42}


def test_a_line_without_a_level_or_a_connection_is_logged_cut(relayed: Any) -> None:
    (record,) = relayed("x" * 5000)

    assert (record.levelname, record.fields) == ("INFO", {})
    assert record.getMessage() == "x" * 1023 + "…"


def test_a_refusal_is_a_request_in_the_log(relayed: Any) -> None:
    (record,) = relayed(json.dumps(REFUSAL))

    assert (record.levelname, record.getMessage()) == ("INFO", "request")
    assert record.fields == {
        "request_id": "n" * 32, "nginx_request_id": "n" * 32, "connection": 3, "method": "POST",
        "path": "/invocations", "status": 413, "code": "payload_too_large", "bytes_in": 7, "ms": 12.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"inference_id": "one", "client_id": "two"}, "request_id", "one"),
        ({"inference_id": "a b", "client_id": "two"}, "request_id", "two"),
        ({"client_id": "a b"}, "request_id", "n" * 32),
        ({"request": "GET /a b HTTP/1.1"}, "path", "/a b"),
        ({"request": f"{'M' * 20} / HTTP/1.1"}, "method", "M" * 15 + "…"),
        ({"request": f"GET /{'p' * 300} HTTP/1.1"}, "path", "/" + "p" * 254 + "…"),
        ({"request": "nonsense"}, "path", ""),
    ],
)
def test_what_a_client_sent_is_told_in_bounds(relayed: Any, change: dict[str, str], field: str, value: str) -> None:
    (record,) = relayed(json.dumps(REFUSAL | change))

    assert record.fields[field] == value


def test_a_byte_that_is_no_text_is_told_as_the_character_of_its_number(relayed: Any) -> None:
    (record,) = relayed(json.dumps(REFUSAL | {"request": "GET /?? HTTP/1.1"}).replace("??", "\\xff\\x0a"))

    assert record.fields["path"] == "/\xff\n"


def test_a_refusal_that_is_cut_off_is_counted_and_told_of(relayed: Any) -> None:
    before = nginx_log.refused["payload_too_large"]

    (record,) = relayed(json.dumps(REFUSAL)[:100])

    assert (record.levelname, record.getMessage()) == ("WARNING", "a refusal that cannot be read")
    assert nginx_log.refused["payload_too_large"] == before + 1


@pytest.mark.parametrize("line", [json.dumps(REFUSAL), ERROR.format(level="crit", connection=1)])
def test_a_line_of_a_flood_is_not_told(relayed: Any, line: str) -> None:
    assert relayed(line, tell=False) == []
