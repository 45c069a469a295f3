"""The control plane's jobs, data capture, metrics, logs and scaling, with boto3 and real stages."""

from __future__ import annotations

import gzip
import io
import json
import os
import socket
import tarfile
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from featurizer.model import Featurizer
from local_test.control_plane import jobs, logs, scaling, server, service
from local_test.control_plane.leftovers import end_leftovers
from local_test.control_plane.plane import Plane
from pipeline.artifacts import STAGES
from pipeline.cli import main
from pipeline.demo import in_process
from pipeline.endpoint.release import ENDPOINT_TAG, scratch_prefix
from serving.payload import Payload
from tests.conftest import ROOT
from tests.servers import wait_until

ROLE = "arn:aws:iam::123456789012:role/any"
BUCKET = "jobs"
OWN_BUCKET = "sagemaker-us-east-1-123456789012"  # that the project's commands choose
IMAGE = "127.0.0.1:1/serial-inference/{}:test"
GOOD = b"M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15\n"
BAD = b"M,0.455,0.365\n"


@dataclass(frozen=True)
class Account:
    """A control plane that runs, as a user of its APIs sees it."""

    plane: Plane

    def client(self, service: str) -> Any:
        return self.plane.client(service)

    def put(self, key: str, content: bytes) -> str:
        self.client("s3").put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def get(self, key: str) -> bytes:
        return self.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def keys(self, prefix: str) -> list[str]:
        found = self.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [one["Key"] for one in found.get("Contents", ())]

    def lines(self, group: str, stream: str) -> list[str]:
        """The log events of all streams that end so."""
        client = self.client("logs")
        try:
            streams = client.describe_log_streams(logGroupName=group)["logStreams"]
        except client.exceptions.ResourceNotFoundException:
            return []
        names = [one["logStreamName"] for one in streams if one["logStreamName"].endswith(stream)]
        found = [client.get_log_events(logGroupName=group, logStreamName=name)["events"] for name in names]
        return [event["message"] for events in found for event in events]


@pytest.fixture(scope="module")
def account(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """A control plane that hosts processes, with a bucket and two models.

    `pipeline` has both stages, `first` the featurizer alone, which starts sooner.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("NO_PROXY", "*")
        patch.setattr(scaling._gathered, "seconds", 0.5)  # between two shipments of metrics
        env = {"PATH": os.environ["PATH"], "MODEL_SERVER_WORKERS": "1"}
        plane = service.make_plane(port, "processes", tmp_path_factory.mktemp("plane"), env)
        listening = server.make(plane, port)
        threads = [
            threading.Thread(target=listening.serve_forever),
            threading.Thread(target=logs.follow_endpoints, args=(plane,)),
        ]
        for thread in threads:
            thread.start()
        try:
            made = Account(plane)
            _prepare(made, artifacts)
            yield made
        finally:
            plane.closing.set()
            jobs.end_all(plane)
            end_leftovers(plane.directory, docker="")
            listening.shutdown()
            listening.server_close()
            for thread in threads:
                thread.join()


def _prepare(account: Account, artifacts: Path) -> None:
    account.client("s3").create_bucket(Bucket=BUCKET)
    containers = []
    for stage in ("featurizer", "predictor"):
        url = account.put(f"models/{stage}/model.tar.gz", (artifacts / stage / "model.tar.gz").read_bytes())
        containers.append({"ContainerHostname": stage, "Image": IMAGE.format(stage), "ModelDataUrl": url})
    containers[0]["Environment"] = {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/x-npy"}
    sagemaker = account.client("sagemaker")
    sagemaker.create_model(ModelName="pipeline", ExecutionRoleArn=ROLE, Containers=containers)
    alone = {"Image": IMAGE.format("featurizer"), "ModelDataUrl": containers[0]["ModelDataUrl"]}
    sagemaker.create_model(ModelName="first", ExecutionRoleArn=ROLE, PrimaryContainer=alone)


def request(name: str, source: str, **changed: Any) -> dict[str, Any]:
    """A transform job that splits by lines; `Input`, `Output` and anything else override."""
    data = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}}
    input_ = {"DataSource": data, "ContentType": "text/csv", "SplitType": "Line"}
    output = {"S3OutputPath": f"s3://{BUCKET}/out/{name}", "Accept": "text/csv"}
    return {
        "TransformJobName": name,
        "ModelName": "first",
        "TransformInput": input_ | changed.pop("Input", {}),
        "TransformOutput": output | changed.pop("Output", {}),
        "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
        **changed,
    }


def run(account: Account, asked: Mapping[str, Any]) -> Any:
    """Create a transform job and wait for its end."""
    client = account.client("sagemaker")
    client.create_transform_job(**asked)
    return wait(lambda: client.describe_transform_job(TransformJobName=asked["TransformJobName"]), "TransformJobStatus")


def wait(describe: Callable[[], Any], status: str) -> Any:
    found: list[Any] = []

    def over() -> bool:
        found[:] = [describe()]
        return found[0][status] not in ("InProgress", "Stopping")

    wait_until(over, "the job to be over", 120)
    return found[0]


def refusal(call: Callable[..., Any], **given: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**given)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.fixture(scope="module")
def rows(artifacts: Path) -> list[bytes]:
    """Rows without header or label, with their ends."""
    _, *lines = (artifacts / "test.csv").read_bytes().splitlines()
    return [line.rpartition(b",")[0] + b"\n" for line in lines]


def features(artifacts: Path, rows: list[bytes]) -> bytes:
    """The answer of the model `first` to the rows."""
    return Featurizer.load(artifacts / "featurizer" / "model")(Payload(b"".join(rows), "text/csv", "text/csv")).body


def test_batch_answers_equal_those_made_in_process(account: Account, artifacts: Path, rows: list[bytes]) -> None:
    half = len(rows) // 2
    source = account.put("in/equal/a.csv", b"".join(rows[:half])).rpartition("/")[0]
    account.put("in/equal/deep/b.csv.gz", b"".join(rows[half:]))

    limits = {"MaxPayloadInMB": 1, "MaxConcurrentTransforms": 2}
    job = run(account, request("equal", f"{source}/", ModelName="pipeline", **limits))

    assert job["TransformJobStatus"] == "Completed", job
    assert job["TransformEndTime"] >= job["TransformStartTime"] >= job["CreationTime"]
    assert account.keys("out/equal/") == ["out/equal/a.csv.out", "out/equal/deep/b.csv.gz.out"]
    answers = account.get("out/equal/a.csv.out") + account.get("out/equal/deep/b.csv.gz.out")
    expected = in_process(artifacts, b"".join(rows).decode()).ravel()
    assert np.array(answers.split(), dtype=np.float32).tobytes() == expected.tobytes()
    for stage in STAGES:
        assert account.lines(logs.TRANSFORM_JOBS, f"/{stage}")


def test_records_keep_their_order_whatever_is_sent_at_once(
    account: Account, artifacts: Path, rows: list[bytes]
) -> None:
    some = rows[:60]
    source = account.put("in/order/rows.csv.gz", gzip.compress(b"".join(some)))

    single = {"BatchStrategy": "SingleRecord", "MaxConcurrentTransforms": 8, "MaxPayloadInMB": 1}
    job = run(account, request("order", source, Input={"CompressionType": "Gzip"}, **single))

    assert job["TransformJobStatus"] == "Completed", job
    assert account.get("out/order/rows.csv.gz.out") == features(artifacts, some)


def test_answers_are_joined_with_their_rows_and_filtered(account: Account, artifacts: Path, rows: list[bytes]) -> None:
    some = rows[:20]
    named = b"".join(b"id-%d," % number + row for number, row in enumerate(some))
    source = account.put("in/join/rows.csv", named)

    filters = {"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"}
    job = run(account, request("join", source, Output={"AssembleWith": "Line"}, DataProcessing=filters))

    assert job["TransformJobStatus"] == "Completed", job
    answers = [line.rpartition(b",")[2] for line in features(artifacts, some).splitlines()]
    joined = [b"id-%d,%s" % (number, answer) for number, answer in enumerate(answers)]
    assert account.get("out/join/rows.csv.out").splitlines() == joined


def test_a_manifest_names_the_objects_and_a_job_name_is_used_once(account: Account) -> None:
    account.put("in/manifest/a.csv", GOOD)
    account.put("in/manifest/other.csv", BAD)
    source = account.put("manifest.json", json.dumps([{"prefix": f"s3://{BUCKET}/in/manifest/"}, "a.csv"]).encode())
    data = {"S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": source}}

    asked = request("manifest", source, Input={"DataSource": data})
    job = run(account, asked)
    code, message = refusal(account.client("sagemaker").create_transform_job, **asked)

    assert job["TransformJobStatus"] == "Completed", job
    assert account.keys("out/manifest/") == ["out/manifest/a.csv.out"]
    assert (code, message.startswith("Job name must be unique")) == ("ResourceInUse", True)


def test_a_bad_row_fails_its_file_and_the_job_and_the_log_says_why(account: Account) -> None:
    account.put("in/bad/a.csv", GOOD)
    account.put("in/bad/b.csv", GOOD + BAD)

    job = run(account, request("bad", f"s3://{BUCKET}/in/bad/"))

    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"] == "ClientError: See job logs for more information"
    assert account.keys("out/bad/") == ["out/bad/a.csv.out"]
    said = account.lines(logs.TRANSFORM_JOBS, "data-log")
    assert any("jobs/in/bad/b.csv: ClientError: 400" in line for line in said)
    assert any("jobs/in/bad/b.csv:" in line and "column_count" in line for line in said)


def test_a_prefix_without_objects_fails_the_job(account: Account) -> None:
    job = run(account, request("nothing", f"s3://{BUCKET}/in/nothing/"))

    assert job["TransformJobStatus"] == "Failed"
    assert f'No S3 objects found under S3 URL "s3://{BUCKET}/in/nothing/"' in job["FailureReason"]


def test_a_job_that_ended_leaves_no_process_and_no_file(account: Account) -> None:
    wait_until(lambda: not account.plane.jobs, "the jobs to end")

    assert list((account.plane.directory / "transform-jobs").iterdir()) == []


def test_a_job_is_stopped(account: Account, rows: list[bytes]) -> None:
    source = account.put("in/stopped/rows.csv", b"".join(rows * 20))
    client = account.client("sagemaker")
    client.create_transform_job(**request("stopped", source, BatchStrategy="SingleRecord", MaxConcurrentTransforms=1))

    client.stop_transform_job(TransformJobName="stopped")
    job = wait(lambda: client.describe_transform_job(TransformJobName="stopped"), "TransformJobStatus")

    assert job["TransformJobStatus"] == "Stopped"
    assert account.keys("out/stopped/") == []
    code, message = refusal(client.stop_transform_job, TransformJobName="stopped")
    assert (code, message.endswith("is in status Stopped.")) == ("ValidationException", True)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"MaxPayloadInMB": 20, "MaxConcurrentTransforms": 6}, "cannot exceed 100 MB, got 6 \\* 20"),
        ({"MaxPayloadInMB": 101}, "cannot be greater than 100"),
        ({"BatchStrategy": "SingleRecord", "Input": {"SplitType": "None"}}, "requires SplitType"),
        ({"Input": {"SplitType": "TFRecord"}}, "expected None or Line"),
        ({"DataProcessing": {"JoinSource": "Input"}}, "SplitType and AssembleWith"),
        ({"DataProcessing": {"JoinSource": "Input"}, "Output": {"Accept": "application/json"}}, "to be the same"),
        ({"DataProcessing": {"InputFilter": "$.name"}}, "chosen by index"),
        ({"BatchStrategy": "Some"}, "1 validation error detected"),
        ({"ModelName": "missing"}, "Could not find model"),
    ],
)
def test_what_the_service_refuses_is_refused_at_once(account: Account, changed: dict[str, Any], reason: str) -> None:
    client = account.client("sagemaker")

    with pytest.raises(ClientError, match=reason) as caught:
        client.create_transform_job(**request("refused", f"s3://{BUCKET}/in/", **changed))

    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert "refused" not in [one["TransformJobName"] for one in client.list_transform_jobs()["TransformJobSummaries"]]


def training_request(name: str, **changed: Any) -> dict[str, Any]:
    def channel(name: str) -> dict[str, Any]:
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/train/{name}/"}
        return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "ContentType": "text/csv"}

    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": IMAGE.format("featurizer"), "TrainingInputMode": "File"},
        "InputDataConfig": [channel("train"), channel("schema")],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/trained"},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 5},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        **changed,
    }


def put_training_data(account: Account, artifacts: Path) -> None:
    account.put("train/train/rows.csv", (artifacts / "test.csv").read_bytes())
    account.put("train/schema/schema.toml", (ROOT / "pipeline/datasets/abalone.toml").read_bytes())


def train(account: Account, asked: Mapping[str, Any], artifacts: Path) -> Any:
    put_training_data(account, artifacts)
    client = account.client("sagemaker")
    client.create_training_job(**asked)
    return wait(lambda: client.describe_training_job(TrainingJobName=asked["TrainingJobName"]), "TrainingJobStatus")


def test_a_training_job_makes_an_artifact_that_a_model_can_have(account: Account, artifacts: Path) -> None:
    job = train(account, training_request("fitted", HyperParameters={"seed": "7"}), artifacts)

    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Completed", job
    assert job["BillableTimeInSeconds"] == job["TrainingTimeInSeconds"] > 0
    assert job["ModelArtifacts"] == {"S3ModelArtifacts": f"s3://{BUCKET}/trained/fitted/output/model.tar.gz"}
    with tarfile.open(fileobj=io.BytesIO(account.get("trained/fitted/output/model.tar.gz"))) as archive:
        assert {"contract.json", "manifest.json", "preprocess.joblib"} <= set(archive.getnames())
    assert "trained/fitted/output/output.tar.gz" in account.keys("trained/fitted/")
    container = {"Image": IMAGE.format("featurizer"), "ModelDataUrl": job["ModelArtifacts"]["S3ModelArtifacts"]}
    client = account.client("sagemaker")
    client.create_model(ModelName="fitted", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    client.delete_model(ModelName="fitted")


def test_a_training_that_is_stopped_does_not_go_on(account: Account, artifacts: Path) -> None:
    put_training_data(account, artifacts)
    client = account.client("sagemaker")
    client.create_training_job(**training_request("halted"))
    client.stop_training_job(TrainingJobName="halted")

    job = wait(lambda: client.describe_training_job(TrainingJobName="halted"), "TrainingJobStatus")

    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Stopped"
    with tarfile.open(fileobj=io.BytesIO(account.get("trained/halted/output/model.tar.gz"))) as archive:
        assert "contract.json" not in archive.getnames()


def test_what_a_training_says_of_its_failure_is_the_reason(account: Account, artifacts: Path) -> None:
    job = train(account, training_request("unfit", HyperParameters={"no_such": "thing"}), artifacts)

    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: ")
    assert "no_such" in job["FailureReason"]
    assert "ModelArtifacts" not in job
    assert account.lines(logs.TRAINING_JOBS, "") != []


@pytest.fixture(scope="module")
def endpoint(account: Account) -> Iterator[str]:
    """An endpoint in service that captures all it is asked and answers."""
    client = account.client("sagemaker")
    variant = {"VariantName": "AllTraffic", "ModelName": "pipeline", "InstanceType": "ml.m5.xlarge"}
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{BUCKET}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
    }
    client.create_endpoint_config(
        EndpointConfigName="c", ProductionVariants=[{**variant, "InitialInstanceCount": 1}], DataCaptureConfig=capture
    )
    client.create_endpoint(EndpointName="e", EndpointConfigName="c")
    status = lambda: client.describe_endpoint(EndpointName="e")["EndpointStatus"]  # noqa: E731
    wait_until(lambda: status() != "Creating", "the endpoint")
    assert status() == "InService"
    yield "e"
    client.delete_endpoint(EndpointName="e")
    wait_until(lambda: not client.list_endpoints()["Endpoints"], "the endpoint to be gone")


def invoke(account: Account, body: bytes, accept: str = "application/json") -> bytes:
    runtime = account.client("sagemaker-runtime")
    return runtime.invoke_endpoint(EndpointName="e", ContentType="text/csv", Accept=accept, Body=body)["Body"].read()


def captured(account: Account) -> list[dict[str, Any]]:
    return [json.loads(line) for key in account.keys("captured/") for line in account.get(key).splitlines()]


def test_what_is_asked_and_answered_is_captured(account: Account, endpoint: str) -> None:
    answered = invoke(account, GOOD)
    binary = invoke(account, GOOD, "application/x-npy")

    found = wait_until(lambda: len(some := captured(account)) >= 2 and some, "what was captured")

    first, second = (one["captureData"] for one in found[:2])
    assert first["endpointInput"] == {
        "observedContentType": "text/csv", "mode": "INPUT", "data": GOOD.decode(), "encoding": "CSV"
    }  # fmt: skip
    assert first["endpointOutput"]["data"] == answered.decode()
    assert first["endpointOutput"]["encoding"] == "JSON"
    assert second["endpointOutput"]["encoding"] == "BASE64"
    assert b64decode(second["endpointOutput"]["data"]) == binary
    assert all(one["eventVersion"] == "0" and one["eventMetadata"]["eventId"] for one in found)
    day = datetime.now(UTC).strftime("%Y/%m")
    assert all(key.startswith(f"captured/{endpoint}/AllTraffic/{day}") for key in account.keys("captured/"))


def test_the_lines_of_every_container_reach_cloudwatch(account: Account, endpoint: str) -> None:
    invoke(account, GOOD)

    for stage in ("featurizer", "predictor"):
        stream = f"AllTraffic/local/{stage}"
        lines = wait_until(lambda stream=stream: account.lines(f"{logs.ENDPOINTS}/{endpoint}", stream), "its lines")
        file = next((account.plane.directory / "endpoints" / endpoint).glob(f"*/{stage}.log"))
        assert lines == file.read_text().splitlines()[: len(lines)]


def test_invocations_are_counted_and_timed(account: Account, endpoint: str) -> None:
    for _ in range(3):
        invoke(account, GOOD)
    with pytest.raises(ClientError):
        invoke(account, BAD)

    def wait_for(name: str, least: float, **more: str) -> float:
        return wait_until(lambda: (found := sums(account, endpoint, name, **more)) >= least and found, name)

    counted = wait_for("Invocations", 4)
    assert counted == int(counted)
    assert wait_for("Invocation4XXErrors", 1) == 1
    assert sums(account, endpoint, "Invocation5XXErrors") == 0
    for container in ("featurizer", "predictor"):
        wait_for("ContainerLatency", 1, ContainerName=container)
    wait_for("ModelLatency", 1)


def sums(account: Account, endpoint: str, name: str, **more: str) -> float:
    dimensions = {"EndpointName": endpoint, "VariantName": "AllTraffic", **more}
    now = datetime.now(UTC)
    found = account.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=1),
        Period=60,
        Statistics=["Sum"],
    )
    return sum(point["Sum"] for point in found["Datapoints"])


@pytest.mark.usefixtures("endpoint")
@pytest.mark.parametrize("resource", ["endpoint/none/variant/AllTraffic", "endpoint/e/variant/Other", "endpoint/e"])
def test_only_variants_that_exist_are_scaled(account: Account, resource: str) -> None:
    client = account.client("application-autoscaling")

    code, message = refusal(client.register_scalable_target, **target(resource, 1, 2))

    assert code == "ValidationException"
    assert resource in message
    assert client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []


def test_a_scaled_variant_has_at_least_its_smallest_capacity(account: Account, endpoint: str) -> None:
    client = account.client("application-autoscaling")
    resource = f"endpoint/{endpoint}/variant/AllTraffic"

    client.register_scalable_target(**target(resource, 2, 4))

    (kept,) = client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (kept["ResourceId"], kept["MinCapacity"], kept["MaxCapacity"]) == (resource, 2, 4)
    (variant,) = account.client("sagemaker").describe_endpoint(EndpointName=endpoint)["ProductionVariants"]
    assert variant["DesiredInstanceCount"] == variant["CurrentInstanceCount"] == 2
    dimension = {"ServiceNamespace": "sagemaker", "ScalableDimension": "sagemaker:variant:DesiredInstanceCount"}
    client.deregister_scalable_target(ResourceId=resource, **dimension)


def target(resource: str, least: int, most: int) -> dict[str, Any]:
    return {
        "ServiceNamespace": "sagemaker",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "ResourceId": resource,
        "MinCapacity": least,
        "MaxCapacity": most,
    }


def verb(account: Account, *arguments: str) -> int:
    """A command of the project's own, against the control plane."""
    keys = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    return main(arguments, {"AWS_ENDPOINT_URL": account.plane.url, "AWS_REGION": account.plane.region, **keys})


def test_machines_read_what_status_logs_and_autoscale_say(
    account: Account, endpoint: str, artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(name: str, *arguments: str) -> str:
        assert verb(account, name, "--endpoint", endpoint, "--json", *arguments) == 0
        return capsys.readouterr().out

    status = json.loads(said("status", "--artifacts", str(artifacts)))
    lines = [json.loads(line) for line in said("logs", "--since", "1h", "--container", "predictor").splitlines()]
    quick = ("--step", "0.2", "--most", "2", "--p99", "60000", "--max", "4", "--dry-run")
    measured = json.loads(said("autoscale", "--measure", str(artifacts / "test.csv"), *quick))

    assert status["status"] == "InService"
    assert status["last_hour"]["invocations"] >= 4
    assert status["last_hour"]["model_us"] > 0
    assert {one["stream"] for one in lines} == {"AllTraffic/local/predictor"}
    register, policy = (one["params"] for one in measured["requests"])
    tracked = policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"]
    assert register["ResourceId"] == policy["ResourceId"] == f"endpoint/{endpoint}/variant/AllTraffic"
    assert tracked == measured["measured"]["proposed_target"] > 0
    assert status["scaling"] is None


def test_delete_finds_what_a_killed_batch_left(
    account: Account, rows: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    name = "killed-20260101-000000-abcd"
    account.client("s3").create_bucket(Bucket=OWN_BUCKET)
    key = f"{scratch_prefix('killed')}{name}/in/rows.csv"
    account.client("s3").put_object(Bucket=OWN_BUCKET, Key=key, Body=b"".join(rows * 20))
    tags = [{"Key": ENDPOINT_TAG, "Value": "killed"}]
    job = request(name, f"s3://{OWN_BUCKET}/{key}", BatchStrategy="SingleRecord", MaxConcurrentTransforms=1, Tags=tags)
    client = account.client("sagemaker")
    client.create_transform_job(**job)

    first = verb(account, "delete", "--endpoint", "killed", "--artifacts", "--yes", "--json")
    deleted = json.loads(capsys.readouterr().out)["deleted"]
    ended = wait(lambda: client.describe_transform_job(TransformJobName=name), "TransformJobStatus")
    second = verb(account, "delete", "--endpoint", "killed", "--artifacts", "--yes")

    assert (first, second) == (0, 0)
    assert [one["kind"] for one in deleted] == ["running transform job", "artifacts"]
    assert ended["TransformJobStatus"] == "Stopped"
    assert "nothing is left of killed" in capsys.readouterr().out
    assert client.describe_model(ModelName="pipeline")


def test_a_model_that_is_refused_takes_its_artifacts_with_it(
    account: Account, artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    account.client("ecr").create_repository(repositoryName="unknown")
    manifest = (ROOT / "docs" / "manifest.json").read_text(encoding="utf-8")
    account.client("ecr").put_image(repositoryName="unknown", imageTag="t", imageManifest=manifest)
    host = account.plane.url.partition("://")[2]
    images = [f"--{stage}-image={host}/unknown:t" for stage in STAGES]

    code = verb(
        account, "create-model", "--endpoint", "refused", "--role", ROLE, "--artifacts", str(artifacts), *images
    )

    found = account.client("s3").list_objects_v2(Bucket=OWN_BUCKET, Prefix="serial-inference/refused/")
    assert code == 1
    assert "cannot be run without Docker" in capsys.readouterr().err
    assert "Contents" not in found


def test_images_are_named_after_the_control_plane_when_there_is_no_registry(account: Account) -> None:
    ecr = account.client("ecr")

    made = ecr.create_repository(repositoryName="serial-inference/named")["repository"]

    assert made["repositoryUri"] == f"{account.plane.url.partition('://')[2]}/serial-inference/named"
    (token,) = ecr.get_authorization_token()["authorizationData"]
    assert token["proxyEndpoint"] == account.plane.url
    assert timedelta(hours=11) < token["expiresAt"] - datetime.now(UTC) < timedelta(hours=13)
