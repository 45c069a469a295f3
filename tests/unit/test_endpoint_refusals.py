"""What the verbs of an endpoint refuse before they ask AWS to do anything."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pipeline.endpoint import batch, batch_files, update
from pipeline.endpoint.errors import NOT_FOUND, WRONG, PipelineError
from pipeline.endpoint.transform import Job
from pipeline.hosts import on_ecs

PLACES = {"source": "s3://rows/in", "target": "s3://rows/out"}
JOB = Job(name="job", model="model", **PLACES, content_type="text/csv", accept="text/csv", tags={})


@pytest.mark.parametrize(
    ("place", "job"),
    [
        ({"input": "s3://rows/in"}, {}),
        ({"output": "s3://rows/out"}, {}),
        ({}, {"content_type": "application/json"}),
        ({}, {"accept": "application/x-npy"}),
        ({}, {"join": True}),
        ({}, {"input_filter": "$[1:]"}),
        ({}, {"output_filter": "$[0]"}),
    ],
)
def test_a_batch_is_compared_only_where_rows_and_answers_are_whole_and_here(
    place: dict[str, str], job: dict[str, Any]
) -> None:
    def check(compare: int, place: dict[str, str], job: dict[str, Any]) -> None:
        arguments = argparse.Namespace(**{"compare": compare, "input": "rows.csv", "output": "out", **place})
        batch._check_comparison(arguments, Job(**{**vars(JOB), **job}))

    check(5, {}, {"accept": "application/jsonlines; charset=utf-8"})
    check(0, place, job)
    with pytest.raises(PipelineError, match="--compare needs a local FILE and DIRECTORY") as refused:
        check(5, place, job)
    assert refused.value.code == WRONG


def test_a_directory_that_cannot_be_written_is_refused_before_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_files.check_writable(tmp_path / "new" / "directory")
    (tmp_path / "file").touch()
    with pytest.raises(PipelineError, match=r"--output .*/file: File exists") as file:
        batch_files.check_writable(tmp_path / "file")
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (tmp_path, os.W_OK))  # root may write anywhere
    with pytest.raises(PipelineError, match=r"--output .*: it cannot be written") as locked:
        batch_files.check_writable(tmp_path)

    assert (tmp_path / "new" / "directory").is_dir()
    assert (file.value.code, locked.value.code) == (WRONG, WRONG)


def clients(**named: Any) -> Any:
    return SimpleNamespace(client=named.__getitem__)


class CloudWatch:
    """Describes the alarms that it is asked for and has."""

    def describe_alarms(self, AlarmNames: Sequence[str], AlarmTypes: Sequence[str]) -> dict[str, Any]:
        alarms = {
            "MetricAlarms": {"quiet": "OK", "new": "INSUFFICIENT_DATA", "ringing": "ALARM"},
            "CompositeAlarms": {"both": "OK", "either": "ALARM"},
        }
        return {
            kind: [{"AlarmName": name, "StateValue": state} for name, state in those.items() if name in AlarmNames]
            for kind, those in alarms.items()
            if kind.removesuffix("s") in AlarmTypes
        }


@pytest.mark.parametrize(
    ("names", "reason", "code"),
    [
        (["quiet", "absent"], "there is no CloudWatch alarm absent", NOT_FOUND),
        (["quiet", "ringing"], "alarm ringing is in ALARM state already", None),
        (["both", "either"], "alarm either is in ALARM state already", None),
    ],
)
def test_an_alarm_that_is_absent_or_ringing_rolls_nothing_back(names: list[str], reason: str, code: int | None) -> None:
    update._check_alarms(clients(cloudwatch=CloudWatch()), ["quiet", "new", "both"])
    update._check_alarms(clients(), [])

    with pytest.raises(PipelineError, match=reason) as refused:
        update._check_alarms(clients(cloudwatch=CloudWatch()), names)

    assert code in (None, refused.value.code)


class Logs:
    def __init__(self, code: str = "") -> None:
        self.code, self.created = code, dict[str, Any]()

    def create_log_group(self, **fields: Any) -> None:
        if self.code:
            raise ClientError({"Error": {"Code": self.code, "Message": ""}}, "CreateLogGroup")
        self.created = fields


def test_a_log_group_is_there_or_made_with_the_releases_tags_or_the_reason_is_told() -> None:
    def ensure(logs: Logs) -> Logs:
        release = SimpleNamespace(tags={"a": "b"})
        on_ecs._ensure_log_group(SimpleNamespace(clients=clients(logs=logs), name="houses", release=release))
        return logs

    assert ensure(Logs()).created == {"logGroupName": on_ecs.log_group("houses"), "tags": {"a": "b"}}
    assert ensure(Logs("ResourceAlreadyExistsException")).created == {}
    with pytest.raises(ClientError, match="AccessDeniedException"):
        ensure(Logs("AccessDeniedException"))
