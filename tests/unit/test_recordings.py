"""Recordings and endpoints of strangers: refused in words, and nothing of them steers a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from local_test.predict import explain
from local_test.recording.capture import read_capture
from local_test.recording.differences import Comparison, Difference
from local_test.recording.exchanges import Answered, Asked, BadRecording, Exchange, read
from local_test.recording.report import Replay, report
from local_test.recording.targets import Unanswered, Url
from tests.scripted_container import ScriptedContainer, answer

HEAD = '{"recording": 1, "of": "x"}'
ESCAPES = "\x1b]0;renamed\x07\x1b[2J\u202e"


def line(**changed: Any) -> str:
    request = {"content_type": "text/csv", "accept": "", "body": "1"}
    answered = {"status": 200, "content_type": "text/csv", "body": "1", "ms": 1}
    return json.dumps({"id": "1", "request": request, "answer": answered | changed})


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        f"{HEAD}\n" + "[" * 100_000,
        f"{HEAD}\n" + line(status=float("inf")),
        f"{HEAD}\n" + line(status=float("nan")),
        f"{HEAD}\n" + line(ms=10**400),
        *(f"{HEAD}\n" + line(ms=ms) for ms in (0, -5, float("nan"))),
        f"{HEAD}\n" + line().replace('"body": "1"', '"body": "\\ud800"'),
    ],
)
def test_a_recording_that_no_recorder_wrote_is_refused_in_words(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(f"{text}\n")

    with pytest.raises(BadRecording, match="line"):
        list(read(tmp_path / "r.jsonl"))


def test_a_captured_file_that_nobody_captured_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text("[" * 100_000)

    with pytest.raises(BadRecording, match="line 1"):
        list(read_capture(tmp_path / "c.jsonl"))


def test_what_an_endpoint_answered_cannot_steer_the_terminal() -> None:
    found = Replay(Path("r"), "here", Comparison(0.0))
    exchange = Exchange(ESCAPES, Asked("", "", b""), Answered(200, "", b""))
    found.differing.append((1, exchange, [Difference(0, ESCAPES, f"a\n{ESCAPES}")]))

    told = [
        *report(found, 0),
        explain(400, ESCAPES, ESCAPES.encode()),
        explain(400, ESCAPES, b'{"code": "\\u001b[2J"}'),
    ]

    assert all(text.isprintable() for one in told for text in one.split("\n"))
    assert "\\x1b[2J" in told[0]


@pytest.mark.parametrize("value", ["a/b\r\nX-Forged: 1", "\u20ac/\u20ac"])
def test_a_recorded_header_that_is_none_is_not_sent(value: str) -> None:
    with ScriptedContainer() as container:
        target = Url(f"http://127.0.0.1:{container.port}")

        with pytest.raises(Unanswered):
            target(Asked(value, "", b"1"))

    assert container.asked == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_payload_follows_no_redirect(status: int) -> None:
    with ScriptedContainer() as other, ScriptedContainer() as container:
        container.reply = answer(b"elsewhere", status=status, Location=f"http://127.0.0.1:{other.port}/invocations")

        answered = Url(f"http://127.0.0.1:{container.port}")(Asked("text/csv", "", b"secret"))

    assert answered.status == status
    assert other.asked == []
