"""Endpoints and jobs on their way, and the logs: what is shown of them, when a wait ends, and how."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, call

import pytest
from botocore.exceptions import ClientError

from pipeline.endpoint import session, transform, waiting
from pipeline.endpoint.errors import FAILED, TIMEOUT, PipelineError
from pipeline.endpoint.session import Clients
from tests.aws_api import ENDPOINT, NOTHING, RELEASE, SAGEMAKER, refused, turns

DEPLOY = "deploy --artifacts ARTIFACTS --role Given --tag abc"
BATCH = "batch ROWS --output OUT"
GONE = refused("ValidationException", 'Could not find endpoint "x"')


def of_status(status: str, **more: Any) -> dict[str, Any]:
    return {**ENDPOINT, "EndpointStatus": status, "EndpointConfigName": RELEASE, **more}


def job(status: str, **more: Any) -> dict[str, Any]:
    return {**SAGEMAKER["DescribeTransformJob"], "TransformJobStatus": status, **more}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of the waits: each look at it is ten seconds later (`step`), and pauses take no time."""
    clock = SimpleNamespace(now=0.0, step=10, paused=[])

    def look() -> float:
        clock.now += clock.step
        return clock.now

    monkeypatch.setattr("pipeline.endpoint.waiting.time", SimpleNamespace(monotonic=look))
    monkeypatch.setattr("pipeline.endpoint.transform.time", SimpleNamespace(monotonic=look))
    monkeypatch.setattr("pipeline.hosts.host.time", SimpleNamespace(monotonic=look))
    monkeypatch.setattr("pipeline.endpoint.session.time.sleep", clock.paused.append)
    return clock


@pytest.mark.parametrize(
    ("env", "pauses"), [({}, [5.0, 10.0]), ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, [0.2, 0.2])]
)
def test_aws_is_asked_every_few_seconds_and_its_stand_in_sooner(
    clock: SimpleNamespace, env: dict[str, str], pauses: list[float]
) -> None:
    Clients("us-east-1", env).pause()
    Clients("us-east-1", env).pause(10)

    assert clock.paused == pauses


@pytest.mark.usefixtures("clock")
def test_a_status_is_shown_once_and_again_after_half_a_minute(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    states = turns(GONE, *[of_status("Creating")] * 5, of_status("InService"))

    code, _ = run(f"create-endpoint --release {RELEASE}", {**SAGEMAKER, "DescribeEndpoint": states}, RELEASE)

    assert code == 0
    shown = ["houses: Creating (10 s)", "houses: Creating (50 s)", "houses: InService (60 s)"]
    assert capsys.readouterr().err.splitlines() == shown


@pytest.mark.usefixtures("clock")
def test_on_a_terminal_one_line_goes_with_the_time(
    run: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    states = {"DescribeTransformJob": turns(job("InProgress"), job("Completed"))}

    run(BATCH, {**SAGEMAKER, **states}, RELEASE)

    assert re.search(r"\n\r(houses-\S+): InProgress \(10 s\) \r\1: Completed \(20 s\) \n\Z", capsys.readouterr().err)
    run(DEPLOY, {**NOTHING, "DescribeEndpoint": turns(GONE, of_status("Creating"), of_status("InService"))}, RELEASE)
    assert "\rhouses: Creating (10 s) \rhouses: InService (20 s) \n" in capsys.readouterr().err


def test_a_job_is_watched_with_pauses_until_it_ends(run: Any, clock: SimpleNamespace) -> None:
    code, aws = run(
        BATCH, {**SAGEMAKER, "DescribeTransformJob": turns(*[job("InProgress")] * 3, job("Completed"))}, RELEASE
    )

    assert (code, aws.operations.count("DescribeTransformJob")) == (0, 4)
    assert clock.paused == [session.POLL_LOCAL] * 3


@pytest.mark.parametrize("verb", ["batch", "deploy", "update"])
def test_what_takes_longer_than_timeout_ends_with_4(run: Any, clock: SimpleNamespace, verb: str, capsys: Any) -> None:
    commands = {"batch": BATCH, "deploy": DEPLOY, "update": "deploy --artifacts ARTIFACTS --update --tag abc"}
    states = turns(of_status("InService"), of_status("Updating")) if verb == "update" else of_status("InService")
    new = {"DescribeEndpoint": turns(GONE, of_status("Creating"))} if verb == "deploy" else {"DescribeEndpoint": states}
    answers = {**SAGEMAKER, **new, "DescribeTransformJob": job("InProgress")}

    code, aws = run(f"{commands[verb]} --timeout 35", answers, RELEASE)

    output = capsys.readouterr().err
    assert code == TIMEOUT
    assert (
        f"is still {'InProgress' if verb == 'batch' else 'Creating' if verb == 'deploy' else 'Updating'} after 35 s"
        in output
    )
    assert len(clock.paused) >= 3
    assert ("StopTransformJob" in aws.operations) == (verb == "batch")
    assert ("DeleteModel" in aws.operations) == (verb == "deploy")
    assert ("the update of houses goes on" in output) == (verb == "update")


@pytest.mark.parametrize("status", ["Failed", "Stopped"])
def test_a_job_that_fails_shows_the_end_of_its_log_with_the_reason_last(
    run: Any, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    lines = [("data-log", "too large"), *(("featurizer", f"line {number}") for number in range(30))]
    events = [
        {"eventId": str(at), "timestamp": at, "logStreamName": f"{RELEASE}/i-1/{stream}", "message": f"{text}\n"}
        for at, (stream, text) in enumerate([*lines[1:], lines[0]])
    ]
    answers = {"DescribeTransformJob": job(status, FailureReason="because"), "FilterLogEvents": {"events": events}}

    code, aws = run(BATCH, {**SAGEMAKER, **answers}, RELEASE)

    output = capsys.readouterr().err
    assert code == FAILED
    assert [line for line in output.splitlines() if line.startswith("  ") and "next" not in line] == [
        *(f"  featurizer: line {number}" for number in range(11, 30)), "  data-log: too large",
    ]  # fmt: skip
    assert f"is {status}: because\n" in output
    assert "StopTransformJob" not in aws.operations


@pytest.mark.parametrize("refusal", [refused("ResourceNotFoundException"), {"events": []}])
def test_a_job_that_fails_without_a_log_says_at_least_why(
    run: Any, capsys: pytest.CaptureFixture[str], refusal: Any
) -> None:
    answers = {"DescribeTransformJob": job("Failed"), "FilterLogEvents": refusal}

    assert run(BATCH, {**SAGEMAKER, **answers}, RELEASE)[0] == FAILED

    assert "is Failed: no reason given\n" in capsys.readouterr().err


def test_a_job_whose_log_cannot_be_read_says_why_not(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answers = {"DescribeTransformJob": job("Failed"), "FilterLogEvents": refused("AccessDeniedException")}

    assert run(BATCH, {**SAGEMAKER, **answers}, RELEASE)[0] == FAILED

    assert "AWS refused FilterLogEvents: no (AccessDeniedException)" in capsys.readouterr().err


def test_a_job_that_cannot_be_stopped_is_said_beside_the_first_error(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {
        "DescribeTransformJob": turns(refused("ThrottlingException"), job("InProgress")),
        "StopTransformJob": refused("AccessDeniedException", "not yours"),
    }

    assert run(BATCH, {**SAGEMAKER, **answers}, RELEASE)[0] == FAILED

    output = capsys.readouterr().err
    assert "could not stop houses-" in output
    assert (
        "AWS refused StopTransformJob: not yours (AccessDeniedException); see aws sagemaker stop-transform-job"
        in output
    )
    assert output.splitlines()[-2].startswith("pipeline: AWS refused DescribeTransformJob")


@pytest.mark.parametrize(
    ("streams", "events", "words"),
    [
        ({"logStreams": [{"logStreamName": "AllTraffic/i-1/predictor"}]},
         {"events": [{"message": "a\n"}, {"message": "b"}]}, "last words in AllTraffic/i-1/predictor:\n  a\n  b\n"),
        ({"logStreams": []}, {}, "no log in /aws/sagemaker/Endpoints/houses: the containers did not start\n"),
        (refused("ResourceNotFoundException", "no group"), {},
         "no log in /aws/sagemaker/Endpoints/houses: no group (ResourceNotFoundException)\n"),
    ],
)  # fmt: skip
def test_an_endpoint_that_fails_shows_its_last_words_or_why_there_are_none(
    run: Any, capsys: pytest.CaptureFixture[str], streams: Any, events: Any, words: str
) -> None:
    answers = {
        "DescribeEndpoint": turns(GONE, of_status("Failed")), "DescribeLogStreams": streams, "GetLogEvents": events,
    }  # fmt: skip

    code, aws = run(DEPLOY, {**SAGEMAKER, **answers}, RELEASE)

    output = capsys.readouterr().err
    assert code == FAILED
    assert words in output
    assert "endpoint houses is Failed: no reason given\n" in output
    sent = [one["params"] for one in aws.requests if one["operation"] in ("DescribeLogStreams", "GetLogEvents")]
    assert sent[0] == {
        "logGroupName": "/aws/sagemaker/Endpoints/houses", "orderBy": "LastEventTime", "descending": True, "limit": 4,
    }  # fmt: skip
    read = [(one["startFromHead"], one["limit"]) for one in sent[1:]]
    assert read == [(False, 20)] * ("last words" in words)


def test_an_endpoint_on_its_way_is_deleted_once_it_may_be(run: Any, clock: SimpleNamespace) -> None:
    answers = {
        "DescribeEndpoint": turns(*[of_status("Creating")] * 3, of_status("InService")),
        "DeleteEndpoint": turns(refused("ValidationException", "Cannot update in-progress endpoint"), {}),
    }

    code, aws = run("delete --yes", {**SAGEMAKER, **answers}, RELEASE)

    assert code == 0
    assert aws.operations.count("DeleteEndpoint") == 2
    assert clock.paused


@pytest.mark.parametrize(("missing", "pauses"), [(0, 0), (5, 5)])
def test_what_was_just_made_is_asked_for_until_it_is_seen(missing: int, pauses: int) -> None:
    absent = ClientError({"Error": {"Code": "ValidationException", "Message": "Could not find model"}}, "CreateIt")
    answers: list[Any] = [absent] * missing + [{}]
    create = Mock(side_effect=answers)
    clients = Mock(**{"client.return_value.create_it": create})

    waiting.once_seen(clients, "create_it", {"Name": "m"})

    assert create.call_args_list == [call(Name="m")] * (missing + 1)
    assert clients.pause.call_count == pauses


def test_what_is_not_seen_in_six_tries_is_an_error() -> None:
    absent = ClientError({"Error": {"Code": "ValidationException", "Message": "Could not find model"}}, "CreateIt")
    create = Mock(side_effect=absent)

    with pytest.raises(ClientError, match="Could not find model"):
        waiting.once_seen(Mock(**{"client.return_value.create_it": create}), "create_it", {})

    assert create.call_count == 6


def test_an_endpoint_that_does_not_change_is_shown_again_after_more_than_30_seconds(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    clock.step = 1
    states = [*[of_status("Creating")] * 32, of_status("InService")]

    waiting.wait_until_settled(Mock(**{"client.return_value.describe_endpoint.side_effect": states}), "houses", 99)

    shown = ["houses: Creating (1 s)", "houses: Creating (32 s)", "houses: InService (33 s)"]
    assert capsys.readouterr().err.splitlines() == shown


def test_a_job_that_does_not_change_is_shown_again_after_more_than_a_minute(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    clock.step = 1
    states = [*[job("InProgress")] * 62, job("Completed")]
    clients = Mock(**{"client.return_value.describe_transform_job.side_effect": states})

    transform.run(clients, {"TransformJobName": "j"}, 99)

    assert capsys.readouterr().err.splitlines() == [
        "j: InProgress (1 s)",
        "j: InProgress (62 s)",
        "j: Completed (63 s)",
    ]
    assert clients.pause.call_args_list == [call(10.0)] * 62


@pytest.mark.usefixtures("clock")
def test_a_wait_ends_at_the_first_look_after_its_timeout() -> None:
    answers = {"describe_endpoint": of_status("Creating"), "describe_transform_job": job("InProgress")}
    clients = Mock(**{f"client.return_value.{name}.return_value": answer for name, answer in answers.items()})

    with pytest.raises(PipelineError, match="endpoint houses is still Creating after 40 s"):
        waiting.wait_until_settled(clients, "houses", 40)
    assert clients.client.return_value.describe_endpoint.call_count == 5
    with pytest.raises(PipelineError, match="transform job j is still InProgress after 40 s"):
        transform.run(clients, {"TransformJobName": "j"}, 40)
    assert clients.client.return_value.describe_transform_job.call_count == 5


@pytest.mark.usefixtures("clock")
def test_an_endpoint_that_fails_to_go_is_an_error() -> None:
    states = [of_status("InService"), of_status("Deleting"), of_status("Failed", FailureReason="held")]
    clients = Mock(**{"client.return_value.describe_endpoint.side_effect": states})

    with pytest.raises(PipelineError, match="endpoint houses was not deleted: held"):
        waiting.remove_endpoint(clients, "houses", 99)
