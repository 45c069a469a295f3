"""What `batch` and `autoscale` ask of AWS, checked against botocore's description of the APIs."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from pipeline.cli import main
from pipeline.endpoint import autoscale, batch, batch_files, comparison, transform
from pipeline.endpoint.autoscale import Scaling
from pipeline.endpoint.batch_files import Location, Rows
from pipeline.endpoint.capacity import Capacity, Step, measure
from pipeline.endpoint.errors import WRONG, PipelineError
from pipeline.endpoint.transform import Job
from serving.contract import Column, ColumnType, Contract, Task
from tests.unit.abalone import HEADER, ROW

MODELS = botocore.session.get_session()
SCALING = Scaling("abalone", "AllTraffic", 1, 4, 3000.0, 300, 60)
JOB = Job(
    name="abalone-20260101-120000-abcd",
    model="abalone-20260101-110000-abcd",
    source="s3://rows/in",
    target="s3://rows/out",
    content_type="text/csv",
    accept="text/csv",
    tags={"serial-inference:endpoint": "abalone"},
)


def faults(service: str, operation: str, request: dict[str, Any]) -> str:
    shape = MODELS.get_service_model(service).operation_model(operation).input_shape
    return ParamValidator().validate(request, shape).generate_report()


@pytest.mark.parametrize(
    "job",
    [
        JOB,
        replace(JOB, split="None", content_type="application/json", accept="application/json"),
        replace(JOB, strategy="SingleRecord", payload_mb=6, concurrent=4, instance_count=3, kms_key="key"),
        replace(JOB, join=True, assemble="Line", input_filter="$[1:]", output_filter="$[0,-1]"),
    ],
)
def test_a_job_is_what_the_api_takes(job):
    assert faults("sagemaker", "CreateTransformJob", transform.request(job)) == ""


def test_what_is_not_asked_for_is_left_to_the_platform():
    asked = transform.request(JOB)

    assert asked == {
        "TransformJobName": "abalone-20260101-120000-abcd",
        "ModelName": "abalone-20260101-110000-abcd",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://rows/in"}},
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        "TransformOutput": {"S3OutputPath": "s3://rows/out", "Accept": "text/csv", "AssembleWith": "None"},
        "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
        "Tags": [{"Key": "serial-inference:endpoint", "Value": "abalone"}],
    }


@pytest.mark.parametrize(("kind", "key"), [("ml.m5.xlarge", "key"), ("ml.g5.xlarge", None), ("ml.g6e.xlarge", None)])
def test_a_key_is_of_the_disks_too_where_these_take_one(kind: str, key: str | None) -> None:
    asked = transform.request(replace(JOB, instance_type=kind, kms_key="key"))

    assert (asked["TransformOutput"]["KmsKeyId"], asked["TransformResources"].get("VolumeKmsKeyId")) == ("key", key)


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (replace(JOB, payload_mb=30, concurrent=4), "over 100 MB"),
        (replace(JOB, split="None", strategy="SingleRecord"), "needs records"),
        (replace(JOB, join=True), "needs answers like the input"),
        (replace(JOB, join=True, assemble="Line", accept="application/json"), "needs answers like the input"),
    ],
)
def test_a_job_that_would_fail_later_is_refused_now(job, reason):
    with pytest.raises(PipelineError, match=reason) as refused:
        transform.request(job)

    assert refused.value.code == 2


def test_all_payloads_under_way_may_have_100_mb_together():
    for payload_mb, concurrent in ((100, 0), (100, 1), (50, 2)):
        assert transform.request(replace(JOB, payload_mb=payload_mb, concurrent=concurrent))["MaxPayloadInMB"]

    with pytest.raises(PipelineError, match=r"^--max-payload 101 times --max-concurrent 1 is over 100 MB$"):
        transform.request(replace(JOB, payload_mb=101))


@pytest.mark.parametrize(
    ("given", "split", "assemble", "accept"),
    [
        (["rows.csv"], "Line", "None", "text/csv"),
        (["rows.csv", "--join", "input"], "Line", "Line", "text/csv"),
        (["rows.csv", "--output-filter", "$[-1]"], "Line", "Line", "text/csv"),
        (["rows.json"], "None", "None", "application/json"),
        (["rows.jsonl", "--accept", "text/csv"], "Line", "None", "text/csv"),
        (["rows.csv", "--split", "None", "--assemble-with", "Line"], "None", "Line", "text/csv"),
    ],
)
def test_the_defaults_follow_the_type(given, split, assemble, accept):
    _, job = job_of(*given)

    assert (job.split, job.assemble, job.accept) == (split, assemble, accept)
    assert job.payload_mb == (4 if split == "Line" else 0)


def job_of(*given: str) -> tuple[argparse.Namespace, Job]:
    """The arguments as they are read, and the job that they describe."""
    parser = argparse.ArgumentParser()
    batch.add_arguments(parser)
    arguments = parser.parse_args(["--output", "out", *given])
    place = Location("rows", "key")
    content_type = batch.by_suffix(arguments.input)
    return arguments, batch.job_of(arguments, "name", "model", content_type, batch.Places(place, place, place), {})


@pytest.mark.parametrize(
    "given",
    [
        ["s3://bucket/rows.csv"],
        ["rows.csv", "--output", "s3://bucket/out"],
        ["rows.json"],
        ["rows.csv", "--accept", "application/json"],
        ["rows.csv", "--accept", "application/x-npy"],
        ["rows.csv", "--join", "input"],
        ["rows.csv", "--input-filter", "$[1:]"],
        ["rows.csv", "--output-filter", "$[0]"],
    ],
)
def test_answers_that_cannot_be_compared_are_refused_only_when_they_are_to_be(given):
    with pytest.raises(PipelineError, match="--compare needs a local FILE and DIRECTORY") as refused:
        batch._check_comparison(*job_of(*given, "--compare", "5"))

    assert refused.value.code == WRONG
    batch._check_comparison(*job_of(*given))


def test_the_first_ten_of_all_differences_are_told():
    found = [comparison.Difference(row, "1", "2") for row in range(1, 13)]

    told = comparison.summary(found, 50)

    assert (told["rows"], told["different"]) == (50, 12)
    assert told["first"] == [{"row": row, "endpoint": "1", "batch": "2"} for row in range(1, 11)]


@pytest.mark.parametrize("given", [["rows.csv"], ["rows.jsonl", "--accept", "text/csv; output=label"]])
def test_rows_and_answers_of_lines_can_be_compared(given):
    batch._check_comparison(*job_of(*given, "--compare", "5"))


@pytest.mark.parametrize(("name", "reason"), [("a file", "File exists"), ("a file/below", "Not a directory"),
                                              ("closed", "it cannot be written")])  # fmt: skip
def test_answers_that_could_not_be_written_start_no_job(name, reason, tmp_path, monkeypatch, capsys):
    (tmp_path / "a file").touch()
    monkeypatch.setattr("os.access", lambda path, mode: (path.name, mode) != ("closed", os.W_OK))

    code = main(["batch", "rows.csv", "--output", str(tmp_path / name), "--model", "m", "--endpoint", "e"],
                {"AWS_REGION": "us-east-1"})  # fmt: skip

    assert code == WRONG
    assert f"--output {tmp_path / name}: {reason}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "found"), [("s3://bucket/a/b/", "a/b/"), ("s3://bucket/a", "a"), ("s3://bucket", ""), ("s3://bucket/", "")]
)
def test_an_address_keeps_its_last_slash(url, found):
    assert Location.of(url) == Location("bucket", found)


@pytest.mark.parametrize("url", ["bucket/key", "s3:///key", "https://bucket/key"])
def test_other_addresses_are_refused(url):
    with pytest.raises(PipelineError, match="expected s3://"):
        Location.of(url)


@pytest.fixture
def headed(tmp_path: Path) -> Rows:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"sex,length\nM,1\nF,2\n")
    return Rows.of(file, "text/csv", lines=True)


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_a_file_without_rows_starts_no_job(content, tmp_path, capsys):
    (tmp_path / "rows.csv").write_bytes(content)

    code = main(["batch", str(tmp_path / "rows.csv"), "--output", str(tmp_path), "--model", "m", "--endpoint", "e"],
                {"AWS_REGION": "us-east-1"})  # fmt: skip

    assert code == WRONG
    assert "there are no rows in" in capsys.readouterr().err


def test_a_header_is_refused_unless_something_is_said(headed, tmp_path):
    with pytest.raises(PipelineError, match="begins with a header"):
        batch_files.judge_header(headed, batch_files.REFUSE, tmp_path)


def test_the_order_of_columns_is_told_where_no_contract_knows_it(headed, tmp_path, capsys):
    batch_files.judge_header(headed, batch_files.STRIP, tmp_path)

    assert capsys.readouterr().err == (
        "without a header the columns are taken in training's order; here they are sex,length\n"
    )


def test_a_stripped_file_has_all_its_rows_and_no_header(headed):
    with headed.stripped() as file:
        assert file.read_bytes() == b"M,1\nF,2\n"
        assert file.name == "rows.csv"

    assert list(headed.records()) == [b"M,1\n", b"F,2\n"]


def test_columns_in_another_order_than_the_models_are_refused(untrained, tmp_path):
    right, turned = tmp_path / "right.csv", tmp_path / "turned.csv"
    lines = [HEADER, ROW, ROW]
    right.write_text("\n".join(lines))
    turned.write_text("\n".join(",".join(reversed(line.split(","))) for line in lines))

    batch_files.judge_header(Rows.of(right, "text/csv", lines=True), batch_files.STRIP, untrained)
    with pytest.raises(PipelineError, match="another order than the model"):
        batch_files.judge_header(Rows.of(turned, "text/csv", lines=True), batch_files.STRIP, untrained)


@pytest.mark.parametrize(
    ("text", "choice", "header", "bare"),
    [
        pytest.param(f"{ROW}\n{ROW}\n", batch_files.REFUSE, "", True, id="data"),
        pytest.param(f"{HEADER}\n{ROW}\n", batch_files.STRIP, f"{HEADER}\n", True, id="stripped"),
        pytest.param(f"{HEADER}\n{ROW}\n", batch_files.KEEP, f"{HEADER}\n", False, id="kept"),
        pytest.param(f"{HEADER}\n{ROW}\n", batch_files.ABSENT, "", True, id="said to be data"),
        pytest.param(f"{HEADER}\n", batch_files.STRIP, f"{HEADER}\n", True, id="names alone"),
        pytest.param(f"sex,{ROW[2:]}\n{ROW}\n", batch_files.REFUSE, "", False, id="one name"),
        pytest.param(f"{ROW}\n", batch_files.REFUSE, "", False, id="one row"),
    ],
)
def test_a_job_says_that_there_is_no_header_where_that_is_sure(text, choice, header, bare, untrained, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text(text)

    rows = batch_files.judge_header(Rows.of(file, "text/csv", lines=True), choice, untrained)

    assert (rows.header.decode(), rows.bare) == (header, bare)
    assert not batch_files.judge_header(Rows.of(file, "application/jsonlines", lines=True), choice, untrained).bare


def test_names_that_are_numbers_are_a_header_to_who_knows_the_contract(tmp_path):
    artifacts = tmp_path / "artifacts"
    (artifacts / "featurizer" / "model").mkdir(parents=True)
    columns = tuple(Column(name, ColumnType.NUMERIC) for name in "01")
    digits = Contract("digits", Task.REGRESSION, columns, ("0", "1"), {})
    (artifacts / "featurizer/model/contract.json").write_text(digits.to_json())
    file = tmp_path / "rows.csv"
    file.write_bytes(b"0,1\n1,1\n")

    with pytest.raises(PipelineError, match="begins with a header") as caught:
        batch_files.judge_header(Rows.of(file, "text/csv", lines=True), batch_files.REFUSE, artifacts)
    assert "absent if it is data" in caught.value.next_step
    assert not batch_files.judge_header(Rows.of(file, "text/csv", lines=True), batch_files.REFUSE, tmp_path).bare


def test_line_ends_within_quotes_are_refused_where_lines_are_cut(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(b'a,1\n"b\nc",2\n')

    assert Rows.of(file, "text/csv", lines=False).header == b""
    with pytest.raises(PipelineError, match="record 2 has a line end within quotes"):
        Rows.of(file, "text/csv", lines=True)


def test_a_sample_is_the_same_each_time_and_never_more_than_there_is():
    assert comparison.sample_of(1000, 10) == comparison.sample_of(1000, 10)
    assert len(set(comparison.sample_of(1000, 10))) == 10
    assert comparison.sample_of(3, 10) == [0, 1, 2]


def test_the_scaling_requests_are_what_the_api_takes():
    service = "application-autoscaling"

    assert faults(service, "RegisterScalableTarget", autoscale.target_request(SCALING)) == ""
    assert faults(service, "PutScalingPolicy", autoscale.policy_request(SCALING)) == ""
    assert faults(service, "DeregisterScalableTarget", SCALING.address) == ""


def test_the_policy_tracks_invocations_per_instance():
    asked = autoscale.policy_request(SCALING)

    assert asked["ResourceId"] == "endpoint/abalone/variant/AllTraffic"
    assert asked["ScalableDimension"] == "sagemaker:variant:DesiredInstanceCount"
    assert asked["TargetTrackingScalingPolicyConfiguration"] == {
        "TargetValue": 3000.0,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        "ScaleInCooldown": 300,
        "ScaleOutCooldown": 60,
    }


@pytest.mark.parametrize(
    ("status", "name", "reason"), [("Updating", None, "is Updating"), ("InService", "other", "no variant other")]
)
def test_an_endpoint_that_cannot_be_scaled_is_refused(status, name, reason):
    described = {
        "EndpointName": "abalone",
        "EndpointStatus": status,
        "ProductionVariants": [{"VariantName": "AllTraffic"}],
    }

    with pytest.raises(PipelineError, match=reason):
        autoscale.find_variant(described, name)


def step(concurrency: int, per_second: float, p99: float, failures: int = 0) -> Step:
    return Step(concurrency, per_second, p99 / 2, p99, failures)


@pytest.mark.parametrize(
    ("steps", "instances", "target"),
    [
        ([step(1, 10, 50), step(2, 20, 80), step(4, 40, 300)], 1, 600),
        ([step(1, 10, 50), step(2, 20, 80), step(4, 40, 90, failures=1)], 2, 300),
        ([step(1, 20, 50), step(2, 15, 80)], 1, 600),
        ([step(1, 0.01, 50)], 1, 1),
    ],
)
def test_the_target_is_half_of_the_best_good_rate_of_an_instance_in_a_minute(steps, instances, target):
    assert Capacity(steps, instances, 200.0).target == target


def test_measuring_ends_at_the_first_failure():
    said: list[str] = []

    capacity = measure(lambda: "it broke" if said else 0.001, 1000.0, 0.0001, 64, 1, said.append)

    assert capacity.steps[-1].failures
    assert "it broke" in said[-1]
    assert len(said) == len(capacity.steps) == 2


def test_measuring_needs_one_request_in_time():
    with pytest.raises(PipelineError, match="one request at a time is not answered in time"):
        measure(lambda: 0.5, 100.0, 0.001, 4, 1, lambda _: None)
