"""Transform and training jobs of the control plane, with scripted containers and the S3 of moto."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import re
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_test.control_plane import artifacts, batch, jobs, models, objects, training, transform
from local_test.control_plane.batch import MOST_AT_ONCE, make_plan
from local_test.control_plane.errors import ApiError
from local_test.control_plane.hosting import HostingError
from local_test.control_plane.plane import Job, Plane
from local_test.control_plane.store import TRAINING_JOB, TRANSFORM_JOB
from local_test.endpoint import Endpoint, Limits
from local_test.errors import ModelError
from tests.scripted_container import Asked, Reply, ScriptedContainer, answer, raw
from tests.scripted_host import ScriptedHost, scripted_plane
from tests.servers import wait_until

ROLE = "arn:aws:iam::123456789012:role/any"
BUCKET = "work"
NUMBERS = itertools.count(1)  # of jobs
SPLIT = {"ContentType": "text/csv", "SplitType": "Line"}


@dataclass(frozen=True)
class Account:
    plane: Plane
    host: ScriptedHost
    s3: Any

    def put(self, key: str, content: bytes) -> str:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def get(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def keys(self, prefix: str) -> list[str]:
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [one["Key"] for one in found.get("Contents", ())]

    def transform(self, name: str, source: str, **changed: Any) -> dict[str, Any]:
        transform.create_transform_job(self.plane, transform_request(name, source, **changed))
        return self.ended(transform.describe_transform_job, "TransformJob", name)

    def train(self, name: str, **changed: Any) -> dict[str, Any]:
        training.create_training_job(self.plane, training_request(name, **changed))
        return self.ended(training.describe_training_job, "TrainingJob", name)

    def ended(self, describe: Callable[..., Any], kind: str, name: str) -> dict[str, Any]:
        look = lambda: describe(self.plane, {f"{kind}Name": name})  # noqa: E731
        wait_until(lambda: look()[f"{kind}Status"] not in jobs.UNDER_WAY and not self.plane.jobs, "the job to end")
        return look()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with scripted_plane(tmp_path_factory.mktemp("plane")) as (plane, host):
        s3 = plane.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        containers = [{"Image": "i", "Environment": {"A": "model", "B": "model"}}, {"Image": "j"}]
        models.create_model(plane, {"ModelName": "m", "ExecutionRoleArn": ROLE, "PrimaryContainer": containers[0]})
        models.create_model(plane, {"ModelName": "two", "ExecutionRoleArn": ROLE, "Containers": containers})
        yield Account(plane, host, s3)


@pytest.fixture
def account(shared: Account) -> Account:
    """A control plane whose host starts containers that answer each line with its length."""
    shared.host.failure, shared.host.prepare = None, measuring
    shared.host.trainer = lambda _tree, _environment, _log, _stop: 0
    for listed in (shared.host.specs, shared.host.asked, shared.host.started):
        listed.clear()
    return shared


def measuring(container: ScriptedContainer) -> None:
    def reply(asked: Asked, connection: Any) -> None:
        if asked.path == "/execution-parameters":
            answer(b"none", status=404)(asked, connection)
        else:
            lengths = b"".join(b"%d\n" % len(line) for line in asked.body.splitlines())
            answer(lengths, "text/csv")(asked, connection)

    container.reply = reply


def replying(reply: Reply, parameters: bytes = b"") -> Callable[[ScriptedContainer], None]:
    """A container that answers invocations so, and says this of itself."""

    def prepare(container: ScriptedContainer) -> None:
        offered = answer(parameters, "application/json") if parameters else answer(b"", status=404)
        container.reply = lambda asked, connection: (offered if asked.path == "/execution-parameters" else reply)(
            asked, connection
        )

    return prepare


def transform_request(name: str, source: str, **changed: Any) -> dict[str, Any]:
    """A transform job; `Input` and `Output` add to its own."""
    data = {"S3DataSource": {"S3DataType": changed.pop("Type", "S3Prefix"), "S3Uri": source}}
    output = {"S3OutputPath": f"s3://{BUCKET}/out/{name}/", "Accept": "text/csv"}
    return {
        "TransformJobName": name,
        "ModelName": "m",
        "TransformInput": {"DataSource": data, **SPLIT, **changed.pop("Input", {})},
        "TransformOutput": output | changed.pop("Output", {}),
        "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
        **changed,
    }


def sizes(account: Account) -> list[list[int]]:
    """The bytes of each payload that each container got, in order."""
    posts = [[one for one in c.asked if one.method == "POST"] for c in account.host.started[-1].containers]
    return [[len(one.body) for one in container] for container in posts]


def test_every_object_below_a_prefix_is_transformed_to_its_name(account: Account) -> None:
    account.put("in/a", b"1\n")
    account.put("in/deep/b", b"22\n333\n")
    account.put("in/folder/", b"")
    account.put("inner", b"4444\n")

    job = account.transform("all", f"s3://{BUCKET}/in/")
    part = account.transform("part", f"s3://{BUCKET}/in")

    assert (job["TransformJobStatus"], part["TransformJobStatus"]) == ("Completed", "Completed")
    assert account.keys("out/all/") == ["out/all/a.out", "out/all/deep/b.out"]
    assert account.keys("out/part/") == ["out/part/a.out", "out/part/deep/b.out", "out/part/inner.out"]
    assert account.get("out/all/deep/b.out") == b"2\n3\n"
    assert job["CreationTime"] <= job["TransformStartTime"] <= job["TransformEndTime"] <= time.time()
    assert "FailureReason" not in job


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, {}),
        ({"MaxPayloadInMB": 3}, {"SAGEMAKER_MAX_PAYLOAD_IN_MB": "3"}),
        ({"BatchStrategy": "SingleRecord"}, {"SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD"}),
        ({"BatchStrategy": "MultiRecord"}, {"SAGEMAKER_BATCH_STRATEGY": "MULTI_RECORD"}),
        ({"MaxConcurrentTransforms": 2}, {"SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "2"}),
        ({"Environment": {"B": "job", "C": "job"}}, {"B": "job", "C": "job"}),
    ],
)
def test_containers_are_told_what_the_request_says(
    account: Account, changed: Mapping[str, Any], told: Mapping[str, str]
) -> None:
    account.put("told/a", b"1\n")

    name = f"told-{next(NUMBERS)}"
    account.transform(name, f"s3://{BUCKET}/told/", **changed)

    (spec,) = account.host.specs[0]
    assert (spec.hostname, spec.image, spec.model_dir) == ("primary", "i", None)
    assert spec.environment == {"A": "model", "B": "model", "SAGEMAKER_BATCH": "true", **told}
    assert account.host.asked == [(f"transform-{name}", 600.0, "ml.m5.xlarge")]


def test_a_job_ends_with_its_containers_and_files(account: Account) -> None:
    account.put("tidy/a", b"1\n")

    account.transform("tidy", f"s3://{BUCKET}/tidy/")

    assert [hosted.stopped for hosted in account.host.started] == [1]
    assert list((account.plane.directory / "transform-jobs").iterdir()) == []


@pytest.mark.parametrize(
    ("offered", "changed", "payloads"),
    [
        (b"", {}, [9]),
        (b"", {"BatchStrategy": "SingleRecord"}, [2, 3, 4]),
        (b'{"BatchStrategy": "SINGLE_RECORD"}', {}, [2, 3, 4]),
        (b'{"BatchStrategy": "SINGLE_RECORD"}', {"BatchStrategy": "MultiRecord"}, [9]),
        (b"[]", {}, [9]),
        (b"no JSON", {}, [9]),
    ],
)
def test_records_are_packed_as_the_request_or_the_model_says(
    account: Account, offered: bytes, changed: Mapping[str, Any], payloads: list[int]
) -> None:
    account.put("packed/a", b"1\n22\n333\n")
    account.host.prepare = replying(answer(b"1\n"), offered)

    account.transform(f"packed-{next(NUMBERS)}", f"s3://{BUCKET}/packed/", **changed)

    assert sizes(account) == [payloads]


def test_the_rows_go_through_every_container_in_order(account: Account) -> None:
    account.put("chain/a", b"1\n22\n")

    account.transform("chain", f"s3://{BUCKET}/chain/a", ModelName="two")

    assert [spec.hostname for spec in account.host.specs[0]] == ["container-1", "container-2"]
    assert sizes(account) == [[5], [4]]
    assert account.get("out/chain/a.out") == b"1\n1\n"


def test_a_gzipped_object_is_unpacked_and_one_that_is_none_is_refused(account: Account) -> None:
    account.put("zipped/a", gzip.compress(b"1\n"))
    account.put("plain/a", b"1\n")
    compressed = {"Input": {"CompressionType": "Gzip"}}

    sound = account.transform("zipped", f"s3://{BUCKET}/zipped/", **compressed)
    wrong = account.transform("plain", f"s3://{BUCKET}/plain/", **compressed)

    assert (sound["TransformJobStatus"], account.get("out/zipped/a.out")) == ("Completed", b"1\n")
    assert (wrong["TransformJobStatus"], wrong["FailureReason"]) == (
        "Failed",
        "ClientError: See job logs for more information",
    )


@pytest.mark.parametrize(
    ("reply", "retries", "posts", "side"),
    [
        (answer(b"bad row", status=400), {}, 1, "ClientError"),
        (answer(b"busy", status=503), {}, 4, "AlgorithmError"),
        (answer(b"busy", status=503), {"InvocationsMaxRetries": 0}, 1, "AlgorithmError"),
        (answer(b"busy", status=503), {"InvocationsMaxRetries": 1}, 2, "AlgorithmError"),
        (answer(b""), {"InvocationsMaxRetries": 1}, 2, "AlgorithmError"),
        (raw(b""), {"InvocationsMaxRetries": 1}, 3, "AlgorithmError"),  # the router itself replaces a kept connection
    ],
)
def test_only_a_model_that_fails_is_asked_again(
    account: Account,
    reply: Reply,
    retries: Mapping[str, Any],
    posts: int,
    side: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "AGAIN_AFTER", 0.001)
    account.put("again/a", b"1\n")
    account.host.prepare = replying(reply)

    job = account.transform(f"again-{next(NUMBERS)}", f"s3://{BUCKET}/again/", ModelClientConfig=retries)

    assert (job["TransformJobStatus"], job["FailureReason"]) == (
        "Failed",
        f"{side}: See job logs for more information",
    )
    assert len(sizes(account)[0]) == posts


def test_a_model_that_fails_is_asked_again_after_a_fifth_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(batch, "time", SimpleNamespace(sleep=slept.append))
    plan = make_plan(transform_request("p", SOURCE, ModelClientConfig={"InvocationsTimeoutInSeconds": 7}), {}, print)
    asked: list[Any] = []

    class Silent:
        def __init__(self, endpoint: Any, request_id: str, _headers: Any) -> None:
            asked.append((request_id, endpoint.limits))

        def run(self, _payload: Any) -> None:
            raise ModelError("", original_status=0, original="", log_stream="")

    monkeypatch.setattr(batch, "Invocation", Silent)

    with ThreadPoolExecutor(1) as workers, pytest.raises(batch.Failed) as failed:
        batch.Sender(Endpoint("e", ()), plan, workers, threading.Event()).transform("n", b"1\n", lambda _line: None)

    most = 100 << 20
    assert slept == [0.2] * 3
    assert asked == [("n-0", Limits(request=most, between=most, seconds=7.0))] * 4
    assert failed.value.why[0] == "AlgorithmError"


def test_a_model_that_answers_the_second_time_is_heard(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "AGAIN_AFTER", 0.001)
    account.put("second/a", b"1\n")
    replies = iter([answer(b"busy", status=503), answer(b"9\n")])
    account.host.prepare = replying(lambda *given: next(replies)(*given))

    job = account.transform("second", f"s3://{BUCKET}/second/")

    assert (job["TransformJobStatus"], account.get("out/second/a.out")) == ("Completed", b"9\n")


def test_the_data_log_says_of_each_object_that_failed_why_and_the_others_are_kept(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(transform, "_say", lambda _file, line: said.append(line))
    account.put("some/a", b"1\n")
    account.put("some/b", b"bad\n")
    account.put("some/c", b"22\n")

    def reply(asked: Asked, connection: Any) -> None:
        sound = answer(b"9\n") if asked.body != b"bad\n" else answer(b"one\ntwo", status=400)
        sound(asked, connection)

    account.host.prepare = replying(reply)

    job = account.transform("some", f"s3://{BUCKET}/some/")

    assert job["TransformJobStatus"] == "Failed"
    assert account.keys("out/some/") == ["out/some/a.out", "out/some/c.out"]
    assert said[0] == "MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD"
    begin = f"{BUCKET}/some/b: "
    assert said[1:7] == [begin + line for line in ("ClientError: 400", "", "Message:", "one", "two", "")]
    assert said[7].startswith(begin + "Received client error (400) from primary with message")


def test_the_data_log_has_times(tmp_path: Path) -> None:
    transform._say(tmp_path / "log", "one")
    transform._say(tmp_path / "log", "two")

    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.partition(":[sagemaker logs]: ")[2] for line in lines] == ["one", "two"]
    assert all(time.strptime(line[:19], "%Y-%m-%dT%H:%M:%S") for line in lines)
    assert all(re.fullmatch(r"\.\d{3}:\[sagemaker logs\]: \w+", line[19:]) for line in lines)


def test_the_data_log_has_milliseconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Then(datetime):
        @classmethod
        def now(cls, _zone: Any = None) -> Then:
            return cls(2026, 1, 2, 3, 4, 5, 67_999)

    monkeypatch.setattr(transform, "datetime", Then)

    transform._say(tmp_path / "log", "é")

    assert (tmp_path / "log").read_text(encoding="utf-8") == "2026-01-02T03:04:05.067:[sagemaker logs]: é\n"


def test_answers_are_joined_to_records_and_other_counts_are_refused(account: Account) -> None:
    account.put("joined/a", b"a,1\nb,2\n")
    joined = {"Output": {"AssembleWith": "Line"}, "DataProcessing": {"JoinSource": "Input"}}
    sound = account.transform("joined", f"s3://{BUCKET}/joined/", **joined)
    account.host.prepare = replying(answer(b"9\n"))

    short = account.transform("short", f"s3://{BUCKET}/joined/", **joined)

    assert (sound["TransformJobStatus"], account.get("out/joined/a.out")) == ("Completed", b"a,1,3\nb,2,3\n")
    assert (short["TransformJobStatus"], account.keys("out/short/")) == ("Failed", [])


def test_a_key_encrypts_what_is_written(account: Account) -> None:
    account.put("key/a", b"1\n")

    account.transform("key", f"s3://{BUCKET}/key/", Output={"KmsKeyId": "alias/mine"})

    head = account.s3.head_object(Bucket=BUCKET, Key="out/key/a.out")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/mine")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"source": f"s3://{BUCKET}/nothing/"}, f'No S3 objects found under S3 URL "s3://{BUCKET}/nothing/"'),
        ({"source": "s3://nobodys/in/"}, "ClientError: Data download failed:s3://nobodys/in/: "),
        ({"source": "http://host/in"}, "expected a URL like s3://bucket/prefix, got http://host/in"),
        ({"Output": {"S3OutputPath": "s3://nobodys/out"}}, "ClientError: Failed to write s3://nobodys/out/a.out: "),
        ({"Type": "ManifestFile"}, "is no manifest: expected a prefix and a list of names in JSON"),
    ],
)
def test_a_job_whose_objects_cannot_be_reached_says_so(account: Account, changed: dict[str, Any], reason: str) -> None:
    account.put("reach/a", b"1\n")
    source = changed.pop("source", f"s3://{BUCKET}/reach/a")

    job = account.transform(f"reach-{next(NUMBERS)}", source, **changed)

    assert job["TransformJobStatus"] == "Failed"
    assert reason in job["FailureReason"]
    assert account.host.started[-1].stopped == 1


def test_a_job_whose_containers_do_not_start_gives_their_reason(account: Account) -> None:
    account.put("ill/a", b"1\n")
    account.host.failure = HostingError("x" * 2000)

    job = account.transform("ill", f"s3://{BUCKET}/ill/")

    assert (job["TransformJobStatus"], job["FailureReason"]) == ("Failed", "x" * 1024)


def test_a_job_that_fails_in_an_unknown_way_is_over_too(
    account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda given: raised.append(given.exc_type))
    account.put("odd/a", b"1\n")
    account.host.failure = ZeroDivisionError()  # type: ignore[assignment]

    with caplog.at_level("INFO", logger=jobs.__name__):
        job = account.transform("odd", f"s3://{BUCKET}/odd/")
        wait_until(lambda: f"odd ended: Failed {job['FailureReason']}" in caplog.text, "the line")

    assert job["FailureReason"] == "InternalServerError: We encountered an internal error. Please try again."
    wait_until(lambda: raised, "the thread to end")
    assert raised == [ZeroDivisionError]


def test_a_stopped_job_sends_nothing_more(account: Account) -> None:
    account.put("stopped/a", b"1\n22\n333\n")
    asked, go_on = threading.Event(), threading.Event()
    account.host.prepare = replying(lambda *given: (asked.set(), go_on.wait(60), answer(b"1\n")(*given)))
    request = transform_request("stopped", f"s3://{BUCKET}/stopped/", BatchStrategy="SingleRecord")
    transform.create_transform_job(account.plane, request)
    assert asked.wait(60)

    transform.stop_transform_job(account.plane, {"TransformJobName": "stopped"})
    during = transform.describe_transform_job(account.plane, {"TransformJobName": "stopped"})
    go_on.set()
    job = account.ended(transform.describe_transform_job, "TransformJob", "stopped")

    assert (during["TransformJobStatus"], job["TransformJobStatus"]) == ("Stopping", "Stopped")
    assert "FailureReason" not in job
    assert sizes(account) == [[2]]
    assert account.keys("out/stopped/") == []
    with pytest.raises(ApiError, match="because the transform job is in status Stopped"):
        transform.stop_transform_job(account.plane, {"TransformJobName": "stopped"})


def test_a_job_that_ends_by_itself_after_a_stop_is_stopped(account: Account) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(_plane: Plane, _resource: Any, _stop: threading.Event) -> None:
        begun.set()
        go_on.wait(60)

    given = {"TransformJobName": "late"}
    jobs.start(account.plane, TRANSFORM_JOB, given, work, "TransformStartTime", "TransformEndTime")
    assert begun.wait(60)
    jobs.stop(account.plane, TRANSFORM_JOB, "late")
    jobs.end_all(account.plane, within=0)
    assert account.plane.jobs
    go_on.set()
    jobs.end_all(account.plane)

    assert account.plane.jobs == {}
    assert transform.describe_transform_job(account.plane, given)["TransformJobStatus"] == "Stopped"


def test_the_end_of_the_control_plane_stops_all_jobs(account: Account) -> None:
    stopped: list[bool] = []
    given = {"TrainingJobName": "ends"}
    work = lambda _plane, _resource, stop: stopped.append(stop.wait(60))  # noqa: E731
    jobs.start(account.plane, TRAINING_JOB, given, work, "TrainingStartTime", "TrainingEndTime")

    jobs.end_all(account.plane)

    assert stopped == [True]
    assert account.plane.jobs == {}


def test_a_job_name_is_used_once(account: Account) -> None:
    account.put("once/a", b"1\n")
    account.transform("once", f"s3://{BUCKET}/once/")

    with pytest.raises(ApiError, match=r"Job name must be unique.*transform-job/once") as refused:
        account.transform("once", f"s3://{BUCKET}/once/")

    assert refused.value.code == "ResourceInUse"


SOURCE = f"s3://{BUCKET}/any"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"Input": {"SplitType": "TFRecord"}}, "SplitType TFRecord is not supported.*expected None or Line"),
        ({"Input": {"SplitType": "None"}, "BatchStrategy": "SingleRecord"}, "requires SplitType to be set"),
        ({"MaxPayloadInMB": 101}, "MaxPayloadInMB cannot be greater than 100, got 101"),
        ({"MaxPayloadInMB": 51, "MaxConcurrentTransforms": 2}, r"cannot exceed 100 MB, got 2 \* 51"),
        ({"DataProcessing": {"InputFilter": "x"}}, "begins with"),
        ({"DataProcessing": {"JoinSource": "Input"}}, "SplitType and AssembleWith to be the same, got Line and None"),
        ({"ModelName": "missing"}, "Could not find model"),
    ],
)
def test_a_transform_job_that_cannot_run_is_refused(account: Account, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError, match=said):
        transform.create_transform_job(account.plane, transform_request("refused", SOURCE, **changed))

    assert account.plane.store.get(TRANSFORM_JOB, "refused") is None


@pytest.mark.parametrize(
    "changed", [{"MaxPayloadInMB": 100}, {"MaxPayloadInMB": 50, "MaxConcurrentTransforms": 2}, {"MaxPayloadInMB": 0}]
)
def test_limits_of_a_transform_job_may_be_reached(changed: dict[str, Any]) -> None:
    transform._check(transform_request("sound", SOURCE, **changed))


DEFAULT = {"split_type": "Line", "compression": "None", "assemble_with": "None", "strategy": "MultiRecord",
           "max_payload": 6 << 20, "concurrent": 1, "seconds": 600.0, "retries": 3}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "offered", "expected"),
    [
        ({}, {}, {}),
        ({}, {"MaxConcurrentTransforms": 8}, {"concurrent": 8}),
        ({}, {"MaxConcurrentTransforms": 40}, {"concurrent": MOST_AT_ONCE // 6}),
        ({}, {"MaxConcurrentTransforms": 4, "MaxPayloadInMB": 0}, {"concurrent": 4, "max_payload": 0}),
        ({"MaxConcurrentTransforms": 40}, {"MaxConcurrentTransforms": 2}, {"concurrent": 40}),
        ({"MaxConcurrentTransforms": 0}, {"MaxConcurrentTransforms": 2}, {"concurrent": 2}),
        ({"MaxPayloadInMB": 0}, {"MaxPayloadInMB": 25}, {"max_payload": 0}),
        ({}, {"MaxPayloadInMB": 25}, {"max_payload": 25 << 20}),
        ({"MaxPayloadInMB": 100}, {"MaxConcurrentTransforms": 5}, {"max_payload": 100 << 20, "concurrent": 1}),
        ({}, {"BatchStrategy": "SINGLE_RECORD"}, {"strategy": "SingleRecord"}),
        ({}, {"BatchStrategy": "ODD"}, {}),
        ({"BatchStrategy": "MultiRecord"}, {"BatchStrategy": "SINGLE_RECORD"}, {}),
        ({"Output": {"AssembleWith": "Line"}}, {}, {"assemble_with": "Line"}),
        ({"Input": {"CompressionType": "Gzip"}}, {}, {"compression": "Gzip"}),
        (
            {"ModelClientConfig": {"InvocationsTimeoutInSeconds": 9, "InvocationsMaxRetries": 0}},
            {},
            {"seconds": 9.0, "retries": 0},
        ),
    ],
)
def test_a_plan_is_the_request_completed_by_the_model_and_the_defaults(
    changed: dict[str, Any], offered: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
    plan = make_plan(transform_request("p", SOURCE, **changed), offered, lambda _line: None)

    assert {name: getattr(plan, name) for name in DEFAULT} == {**DEFAULT, **expected}


def training_request(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "InputDataConfig": [channel("train")],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/trained/"},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 5},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        **changed,
    }


def channel(name: str, **changed: Any) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/channels/{name}/"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **changed}


def members(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {one.name: archive.extractfile(one) for one in archive if one.isfile()}
        return {name: file.read() for name, file in files.items() if file}


def test_a_training_gets_its_channels_and_its_artifacts_are_kept(account: Account) -> None:
    account.put("channels/train/a.csv", b"1\n")
    account.put("channels/train/deep/b.csv", b"2\n")
    account.put("channels/schema/s.toml", b"x = 1")
    seen: dict[str, Any] = {}

    def trainer(tree: Path, environment: Mapping[str, str], log: Path, _stop: threading.Event) -> int:
        found = [path for path in (tree / "input").rglob("*") if path.is_file()]
        seen.update({str(path.relative_to(tree / "input")): path.read_bytes() for path in found})
        seen["environment"] = environment
        seen["status"] = training.describe_training_job(account.plane, {"TrainingJobName": "fit"})["SecondaryStatus"]
        log.write_text("learned\n")
        (tree / "model" / "code").mkdir()
        (tree / "model" / "code" / "m").write_bytes(b"model")
        (tree / "output" / "data" / "o").write_bytes(b"output")
        return 0

    account.host.trainer = trainer
    channels = [channel("train", ContentType="text/csv"), channel("schema")]
    job = account.train("fit", InputDataConfig=channels, HyperParameters={"n": "5"}, Environment={"A": "b"})

    described = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    config = {name: json.loads(seen.pop(f"config/{name}.json")) for name in ("hyperparameters", "inputdataconfig")}
    assert seen.pop("environment") == {"IMAGE": "image", "A": "b", "TRAINING_JOB_NAME": "fit",
                                       "TRAINING_JOB_ARN": job["TrainingJobArn"]}  # fmt: skip
    assert seen.pop("status") == "Training"
    assert seen.pop("config/resourceconfig.json")
    assert seen == {"data/train/a.csv": b"1\n", "data/train/deep/b.csv": b"2\n", "data/schema/s.toml": b"x = 1"}
    assert config["hyperparameters"] == {"n": "5"}
    assert config["inputdataconfig"] == {"train": {**described, "ContentType": "text/csv"}, "schema": described}
    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Completed"
    assert job["TrainingTimeInSeconds"] == job["BillableTimeInSeconds"] == 1
    assert job["ModelArtifacts"] == {"S3ModelArtifacts": f"s3://{BUCKET}/trained/fit/output/model.tar.gz"}
    assert members(account.get("trained/fit/output/model.tar.gz")) == {"code/m": b"model"}
    assert members(account.get("trained/fit/output/output.tar.gz")) == {"o": b"output"}
    assert list((account.plane.directory / "training-jobs").iterdir()) == []


@pytest.mark.parametrize(
    ("keys", "lies", "reason"),
    [
        (["/OUT"], "data/train/OUT", ""),
        (["//OUT"], "data/train/OUT", ""),
        (["../OUT"], "", "Data download failed:expected a name of a file below train, got '../OUT'"),
        (["a/../../../OUT"], "", "Data download failed:expected a name of a file"),
        (["a", "a/b"], "", "Data download failed:s3://"),
        (["n" * 256], "", "Data download failed:expected a name of a file"),
    ],
)
@pytest.mark.parametrize("listed", ["S3Prefix", "ManifestFile"])
def test_no_key_or_manifest_leads_a_training_out_of_its_channel(
    account: Account, tmp_path: Path, listed: str, keys: list[str], lies: str, reason: str
) -> None:
    out = tmp_path.relative_to("/")
    name = f"keys-{next(NUMBERS)}"
    placed = [key.replace("OUT", f"{out}/stolen") for key in keys]
    for key in placed:
        account.put(f"{name}/{key}", b"1\n")
    source = f"s3://{BUCKET}/{name}/"
    if listed == "ManifestFile":
        source = account.put(f"{name}.json", json.dumps([{"prefix": source}, *placed]).encode())
    seen: list[str] = []

    def trainer(tree: Path, *_: object) -> int:
        seen.extend(str(path.relative_to(tree / "input")) for path in (tree / "input" / "data").rglob("*"))
        return 0

    account.host.trainer = trainer
    data = {"S3DataSource": {"S3DataType": listed, "S3Uri": source}}
    job = account.train(name, InputDataConfig=[{"ChannelName": "train", "DataSource": data}])

    assert list(tmp_path.iterdir()) == []
    if reason:
        assert job["TrainingJobStatus"] == "Failed"
        assert reason.split(",")[0] in job["FailureReason"] or "is no manifest" in job["FailureReason"]
    else:
        assert (job["TrainingJobStatus"], lies.replace("OUT", f"{out}/stolen") in seen) == ("Completed", True)


@pytest.mark.parametrize("name", [".", ".."])
def test_a_channel_is_a_directory_of_its_own(account: Account, name: str) -> None:
    account.put("channels/train/a.csv", b"1\n")
    data = channel("train")["DataSource"]

    job = account.train(f"channel-{next(NUMBERS)}", InputDataConfig=[{"ChannelName": name, "DataSource": data}])

    assert f"expected a name of a file below channels, got '{name}'" in job["FailureReason"]


@pytest.mark.parametrize("name", ["model", "output/data", "output/failure"])
def test_a_link_that_an_image_left_is_not_followed(account: Account, tmp_path: Path, name: str) -> None:
    account.put("channels/train/a.csv", b"1\n")
    (tmp_path / "secret").write_text("secret")

    def trainer(tree: Path, *_: object) -> int:
        if (tree / name).is_dir():
            (tree / name).rmdir()
        (tree / name).symlink_to(tmp_path / "secret" if name == "output/failure" else tmp_path)
        return int(name == "output/failure")

    account.host.trainer = trainer
    job = account.train(f"linked-{next(NUMBERS)}")

    assert job["TrainingJobStatus"] == "Failed"
    assert "secret" not in job["FailureReason"]
    assert not [key for key in account.keys("trained/linked-") if b"secret" in account.get(key)]


def test_a_training_job_is_described_as_the_sdk_reads_it(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    import sagemaker
    from sagemaker.estimator import Estimator

    account.put("channels/train/a.csv", b"1\n")
    account.train("attached")
    monkeypatch.setenv("AWS_ENDPOINT_URL", account.plane.url)
    boto = boto3.Session("local", "local", region_name="us-east-1")
    session = sagemaker.Session(boto, default_bucket=BUCKET)

    estimator = Estimator.attach("attached", sagemaker_session=session)

    described = boto.client("sagemaker").describe_training_job(TrainingJobName="attached")
    assert estimator.model_data == f"s3://{BUCKET}/trained/attached/output/model.tar.gz"
    assert described["OutputDataConfig"]["KmsKeyId"] == ""
    assert described["EnableNetworkIsolation"] is False


def test_a_training_that_takes_too_long_is_stopped(account: Account) -> None:
    account.put("channels/train/a.csv", b"1\n")

    def trainer(tree: Path, _environment: object, _log: object, stop: threading.Event) -> int:
        (tree / "model" / "half").write_bytes(b"half")
        assert stop.wait(60)
        return 143

    account.host.trainer = trainer
    job = account.train("late", StoppingCondition={"MaxRuntimeInSeconds": 1})

    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert members(account.get("trained/late/output/model.tar.gz")) == {"half": b"half"}


def test_the_last_value_of_each_metric_is_described(account: Account) -> None:
    account.put("channels/train/a.csv", b"1\n")
    account.host.trainer = lambda _tree, _environment, log, _stop: log.write_text("loss=2.5\nloss=1e-1\nacc: x\n") and 0
    metrics = [
        {"Name": "loss", "Regex": "loss=([0-9.e-]+)"},
        {"Name": "acc", "Regex": "acc: (.)"},
        {"Name": "none", "Regex": "none"},
    ]
    algorithm = {"TrainingImage": "image", "TrainingInputMode": "File", "MetricDefinitions": metrics}

    job = account.train("measured", AlgorithmSpecification=algorithm)
    plain = account.train("not-measured")

    assert [(one["MetricName"], one["Value"]) for one in job["FinalMetricDataList"]] == [("loss", 0.1)]
    assert "FinalMetricDataList" not in plain


def test_the_lines_of_a_training_reach_its_log_stream(account: Account) -> None:
    account.put("channels/train/a.csv", b"1\n")
    account.host.trainer = lambda _tree, _environment, log, _stop: log.write_text("one\n\ntwo") and 0

    account.train("logged")

    client = account.plane.client("logs")
    group = "/aws/sagemaker/TrainingJobs"
    streams = client.describe_log_streams(logGroupName=group, logStreamNamePrefix="logged/algo-1-")["logStreams"]
    events = client.get_log_events(logGroupName=group, logStreamName=streams[0]["logStreamName"])["events"]
    assert [event["message"] for event in events] == ["one", "two"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (None, "AlgorithmError: See job logs for more information, exit code: 3"),
        (b" \n", "AlgorithmError: See job logs for more information, exit code: 3"),
        (b"no such column\n", "AlgorithmError: no such column, exit code: 3"),
        (b"\xff" * 2000, "AlgorithmError: " + "\ufffd" * 1008),
    ],
)
def test_a_training_that_fails_gives_the_reason_that_it_wrote(
    account: Account, said: bytes | None, reason: str
) -> None:
    account.put("channels/train/a.csv", b"1\n")

    def trainer(tree: Path, *_: object) -> int:
        (tree / "model" / "half").write_bytes(b"half")
        if said is not None:
            (tree / "output" / "failure").write_bytes(said)
        return 3

    account.host.trainer = trainer
    name = f"fails-{next(NUMBERS)}"
    job = account.train(name)

    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Failed"
    assert job["FailureReason"] == reason
    assert "ModelArtifacts" not in job
    assert account.keys(f"trained/{name}/") == []


def test_a_training_says_1024_characters_of_its_failure(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "failure").write_text("x" * 2000, encoding="utf-8")

    assert training._failure(tmp_path, 3) == f"AlgorithmError: {'x' * 1024}, exit code: 3"


def test_a_training_is_told_of_in_its_steps_and_billed_by_the_second(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.put("channels/train/a.csv", b"1\n")
    steps: list[str] = []
    change = account.plane.store.change

    def changing(resource: Any, **changed: Any) -> None:
        if "SecondaryStatus" in changed:
            steps.append(changed["SecondaryStatus"])
        change(resource, **changed)

    monkeypatch.setattr(account.plane.store, "change", changing)
    account.train("stepped", OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}", "KmsKeyId": "alias/mine"})
    found = account.plane.store.find(TRAINING_JOB, "stepped")
    change(found, TrainingStartTime=1000.0, TrainingEndTime=1003.6)

    job = training.describe_training_job(account.plane, {"TrainingJobName": "stepped"})
    head = account.s3.head_object(Bucket=BUCKET, Key="stepped/output/model.tar.gz")
    assert steps == ["Downloading", "Training", "Uploading"]
    assert job["TrainingTimeInSeconds"] == job["BillableTimeInSeconds"] == 4
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/mine")
    assert account.keys("stepped/output/") == ["stepped/output/model.tar.gz"]


def test_jobs_have_40_seconds_to_end_with_the_control_plane(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, waited, stop = [100.0], [], threading.Event()

    class Slow:
        def join(self, seconds: float) -> None:
            waited.append(seconds)
            clock[0] += 30

    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    job = Job(Slow(), stop)  # type: ignore[arg-type]
    monkeypatch.setattr(account.plane, "jobs", {"a": job, "b": job, "c": job})

    jobs.end_all(account.plane)

    assert waited == [40.0, 10.0, 0.0]
    assert stop.is_set()


def test_a_stopped_training_keeps_what_it_wrote(account: Account) -> None:
    account.put("channels/train/a.csv", b"1\n")
    begun = threading.Event()

    def trainer(tree: Path, _environment: object, _log: object, stop: threading.Event) -> int:
        begun.set()
        stop.wait(60)
        (tree / "model" / "half").write_bytes(b"half")
        return 1

    account.host.trainer = trainer
    training.create_training_job(account.plane, training_request("halted"))
    assert begun.wait(60)
    training.stop_training_job(account.plane, {"TrainingJobName": "halted"})
    job = account.ended(training.describe_training_job, "TrainingJob", "halted")

    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "FailureReason" not in job
    assert members(account.get("trained/halted/output/model.tar.gz")) == {"half": b"half"}


def test_a_training_under_way_has_no_times_yet(account: Account) -> None:
    account.put("channels/train/a.csv", b"1\n")
    go_on = threading.Event()
    account.host.trainer = lambda *_: go_on.wait(60) and 0
    training.create_training_job(account.plane, training_request("busy"))

    during = training.describe_training_job(account.plane, {"TrainingJobName": "busy"})
    go_on.set()
    account.ended(training.describe_training_job, "TrainingJob", "busy")

    assert during["TrainingJobStatus"] == "InProgress"
    assert not during.keys() & {"BillableTimeInSeconds", "TrainingTimeInSeconds", "TrainingEndTime"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"AlgorithmSpecification": {"AlgorithmName": "a"}}, "AlgorithmSpecification requires a TrainingImage"),
        ({"AlgorithmSpecification": {"TrainingImage": "absent"}}, "Requested image absent not found"),
        ({"InputDataConfig": [channel("a"), channel("a")]}, "Channel names must be unique, got a, a"),
        (
            {"InputDataConfig": [{"ChannelName": "a", "DataSource": {"FileSystemDataSource": {}}}]},
            "Channel a: the local control plane reads an S3DataSource only",
        ),
        ({"InputDataConfig": [channel("a", InputMode="Pipe")]}, "Channel a: .* has input mode File"),
        ({"InputDataConfig": [channel("a", CompressionType="Gzip")]}, "without compression"),
        (
            {"AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "Pipe"}},
            "Channel train: .* has input mode File",
        ),
    ],
)
def test_a_training_job_that_cannot_run_is_refused(account: Account, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError, match=said):
        training.create_training_job(account.plane, training_request("refused", **changed))

    assert account.plane.store.get(TRAINING_JOB, "refused") is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"InputDataConfig": [channel("nothing")]}, "No S3 objects found under S3 URL"),
        ({"OutputDataConfig": {"S3OutputPath": "s3://nobodys/out"}}, "ClientError: Artifact upload failed:"),
    ],
)
def test_a_training_whose_objects_cannot_be_reached_says_so(
    account: Account, changed: dict[str, Any], reason: str
) -> None:
    account.put("channels/train/a.csv", b"1\n")

    job = account.train(f"reach-{next(NUMBERS)}", **changed)

    assert job["TrainingJobStatus"] == "Failed"
    assert reason in job["FailureReason"]


def test_jobs_are_listed(account: Account) -> None:
    account.put("listed/a", b"1\n")
    account.transform("listed", f"s3://{BUCKET}/listed/")
    account.put("channels/train/a.csv", b"1\n")
    account.train("listed")

    ours = {"NameContains": "listed"}
    (transformed,) = transform.list_transform_jobs(account.plane, ours)["TransformJobSummaries"]
    (trained,) = training.list_training_jobs(account.plane, ours)["TrainingJobSummaries"]

    assert (transformed["TransformJobName"], transformed["TransformJobStatus"]) == ("listed", "Completed")
    assert (trained["TrainingJobName"], trained["TrainingJobStatus"]) == ("listed", "Completed")


@pytest.mark.parametrize(
    ("manifest", "names"),
    [
        ([{"prefix": f"s3://{BUCKET}/manifest/"}, "a", "deep/b"], ["a", "deep/b"]),
        ([{"prefix": f"s3://{BUCKET}/manifest"}, "/a"], ["/a"]),
        ([], None),
        ({}, None),
        ([{"prefix": "nowhere"}, "a"], None),
        ([{"other": 1}, "a"], None),
        (["a"], None),
        ([{"prefix": f"s3://{BUCKET}/manifest/"}, 5], None),
        ([{"prefix": f"s3://{BUCKET}/manifest/"}, "../a"], None),
    ],
)
def test_a_manifest_lists_objects_below_its_prefix(account: Account, manifest: Any, names: list[str] | None) -> None:
    source = {"S3DataType": "ManifestFile", "S3Uri": account.put("manifest.json", json.dumps(manifest).encode())}
    account.put("manifest/a", b"1")

    with pytest.raises(HostingError) if names is None else contextlib.nullcontext():
        found = objects.find(account.s3, source)
        assert [one.name for one in found] == names
        assert found[0].read(account.s3) == b"1"
        assert found[0].url == f"s3://{BUCKET}/manifest/a"


def test_an_object_that_is_gone_is_said_to_be(account: Account) -> None:
    with pytest.raises(HostingError, match=f"Data download failed:s3://{BUCKET}/gone: .*NoSuchKey"):
        objects.Found(BUCKET, "gone", "gone").read(account.s3)


def test_an_upload_that_fails_raises_nothing_else(account: Account) -> None:
    with pytest.raises(ClientError):
        account.s3.put_object(Bucket="nobodys", Key="a", Body=b"")


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://b/k", ("b", "k")),
        ("s3://b/deep/k.tar.gz", ("b", "deep/k.tar.gz")),
        ("https://b.s3.amazonaws.com/deep/k", ("b", "deep/k")),
        ("https://b.s3-eu-west-1.amazonaws.com/k", ("b", "k")),
        ("s3://b", None),
        ("s3://b/", None),
        ("https://host/k", None),
        ("/tmp/k", None),  # noqa: S108 - not opened
    ],
)
def test_an_artifact_is_named_by_a_url_of_s3(url: str, parts: tuple[str, str] | None) -> None:
    if parts:
        assert artifacts.split(url) == parts
    else:
        with pytest.raises(ApiError) as refused:
            artifacts.split(url)
        assert str(refused.value) == f"Expected the URL of an object in S3, s3://bucket/key, got {url}"


def test_a_refused_url_is_repeated_up_to_200_characters() -> None:
    with pytest.raises(ApiError) as refused:
        artifacts.split("x" * 300)

    assert str(refused.value).endswith(f", got {'x' * 200}")
