"""`logs`: which lines of CloudWatch are shown, in which order, and each once."""

from __future__ import annotations

import argparse
import json
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.endpoint import logs
from pipeline.endpoint.errors import NOT_FOUND, WRONG
from tests.aws_api import SAGEMAKER, refused

GROUP, JOBS = "/aws/sagemaker/Endpoints/houses", "/aws/sagemaker/TransformJobs"


def event(at: int, stream: str = "AllTraffic/i-1/featurizer", name: str = "") -> dict[str, Any]:
    return {"eventId": name or str(at), "timestamp": at, "logStreamName": stream, "message": f"at {at}\n"}


@pytest.mark.parametrize(
    ("options", "request_params"),
    [
        ("", {"logGroupName": GROUP, "startTime": 400_000}),
        ("--since 30s", {"logGroupName": GROUP, "startTime": 970_000}),
        ("--since 2m", {"logGroupName": GROUP, "startTime": 880_000}),
        ("--filter x", {"logGroupName": GROUP, "startTime": 400_000, "filterPattern": "x"}),
        ("--request-id a-b", {"logGroupName": GROUP, "startTime": 400_000, "filterPattern": '"a-b"'}),
        ("--container predictor", {"logGroupName": GROUP, "startTime": 400_000}),
        ("--job j-1", {"logGroupName": JOBS, "startTime": 400_000, "logStreamNamePrefix": "j-1/"}),
    ],
)
def test_the_options_choose_what_cloudwatch_is_asked_for(
    run: Any, monkeypatch: pytest.MonkeyPatch, options: str, request_params: dict[str, Any]
) -> None:
    monkeypatch.setattr(logs, "time", SimpleNamespace(time=lambda: 1000.4999))

    code, aws = run(f"logs {options}", {"FilterLogEvents": {"events": [event(1)]}})

    assert code == 0
    assert [one["params"] for one in aws.requests] == [
        {**request_params, "startTime": request_params["startTime"] + 499}
    ]


@pytest.mark.parametrize(
    ("container", "shown"),
    [("", [1, 2, 3, 4]), ("featurizer", [2]), ("predictor", [3]), ("primary", [1])],
)
def test_lines_come_in_the_order_of_their_times_of_the_container_that_is_asked_for(
    run: Any, capsys: pytest.CaptureFixture[str], container: str, shown: list[int]
) -> None:
    events = [
        event(3, "AllTraffic/i-1/predictor"), event(1, "AllTraffic/i-1"), event(4, "AllTraffic/i-1/data-log"),
        event(2, "AllTraffic/i-2/featurizer"),
    ]  # fmt: skip

    run(f"logs --container {container}" if container else "logs", {"FilterLogEvents": {"events": events}})

    assert capsys.readouterr().out == "".join(f"at {at}\n" for at in shown)


def test_a_log_without_lines_is_said_with_how_to_look_further_back(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, silent in (("", True), ("--container predictor", True), ("--container featurizer", False)):
        events = [event(1)] if options else []

        assert run(f"logs {options} --since 1h", {"FilterLogEvents": {"events": events}})[0] == 0

        text = f"no lines in {GROUP} in the last 3600 s; --since looks further back\n"
        assert capsys.readouterr().err == (text if silent else "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", f"there is no log {GROUP}: no container of the endpoint has written"),
        ("--job j", f"there is no log {JOBS}: no container of the job j has written"),
    ],
)
def test_a_log_that_is_not_there_is_not_found(
    run: Any, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    code, _ = run(f"logs {options}", {"FilterLogEvents": refused("ResourceNotFoundException")})

    assert code == NOT_FOUND
    assert message in capsys.readouterr().err


def test_two_patterns_are_wrong_arguments(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, aws = run("logs --filter a --request-id b", SAGEMAKER)

    assert (code, aws.operations) == (WRONG, [])
    assert "--filter and --request-id are both patterns" in capsys.readouterr().err


class Events:
    """CloudWatch whose answers a test gives, one for each time that it is asked. `starts`: from when on."""

    def __init__(self, *pages: list[dict[str, Any]]) -> None:
        self.pages, self.starts = list(pages), []

    def get_paginator(self, _operation: str) -> Events:
        return self

    def paginate(self, **request: Any) -> list[dict[str, Any]]:
        self.starts.append(request["startTime"])
        return [{"events": self.pages.pop(0)}, {"events": []}]


class Enough(Exception):
    pass


def test_following_shows_each_line_once_though_some_come_late(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise Enough

    monkeypatch.setattr(logs, "time", SimpleNamespace(sleep=pause))
    events = Events(
        [], [event(100_000), event(90_000)], [event(50_000), event(90_000), event(100_000), event(200_000)],
        [event(200_000), event(150_000)],
    )  # fmt: skip
    reader, shown = logs.Reader(events, logs.Asked("g")), []

    def follow() -> None:
        for one in reader.follow(1000, 2.0):
            shown.append(one["timestamp"])

    with pytest.raises(Enough):
        follow()

    assert shown == [90_000, 100_000, 50_000, 200_000, 150_000]
    assert events.starts == [1000, 1000, 40_000, 140_000]  # the last minute is read again
    assert pauses == [2.0] * 4
    assert reader.seen == {"200000": 200_000, "150000": 150_000}


def test_following_goes_on_until_nobody_reads(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **options: Any) -> None:
        assert options["flush"] is True
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", closed)

    assert run("logs --follow", {"FilterLogEvents": {"events": [event(1)]}})[0] == 0


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("10m", 600), ("2h", 7200), ("1d", 86400)])
def test_a_time_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert logs.seconds(text) == seconds


@pytest.mark.parametrize("text", ["10", "m", "1.5h", "-1h", "1w", "1234567s", "", "1h\n"])
def test_other_times_are_wrong_arguments(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        logs.seconds(text)


def test_machines_get_each_line_with_its_time_and_stream(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run("logs --json", {"FilterLogEvents": {"events": [event(1), event(2)]}})

    stream = {"stream": "AllTraffic/i-1/featurizer"}
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"time": 1, **stream, "message": "at 1"}, {"time": 2, **stream, "message": "at 2"},
    ]  # fmt: skip


def test_following_asks_again_after_two_seconds(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        raise Enough

    monkeypatch.setattr(logs, "time", SimpleNamespace(time=lambda: 1000.0, sleep=pause))

    with pytest.raises(Enough):
        run("logs --follow", {"FilterLogEvents": {"events": []}})

    assert pauses == [2.0]
