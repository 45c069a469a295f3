"""What the verbs print of what AWS answers: for people, and with --json for machines."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest

from pipeline.endpoint.errors import FAILED
from tests.aws_api import (
    APPRUNNER,
    DELETED,
    ECS,
    LAMBDA,
    NOTHING,
    RELEASE,
    SAGEMAKER,
    Answers,
    refused,
)
from tests.unit.abalone import CONTRACT

DIGEST = "sha256:" + "0" * 64
REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serial-inference"
BUCKET = "s3://sagemaker-us-east-1-123456789012/serial-inference/houses"
WHEN = "2026-01-01 00:00:00+00:00"
OTHER = f"another training run: {CONTRACT.hash}"
DEPLOY = "deploy --artifacts ARTIFACTS --role Given --tag abc"
HOSTED = "deploy --artifacts ARTIFACTS --image IMAGE --target"
STATUS = "status --artifacts ARTIFACTS"
SCALE = "autoscale --max 3 --target 9"
STAMP = re.compile(rf"(?!{RELEASE})houses-\d{{8}}-\d{{6}}-[0-9a-f]{{4}}|houses\.[a-z]+-[0-9a-f]{{12}}")
TWO = ("featurizer", "predictor")


def deployed(*names: str, **more: Any) -> dict[str, Any]:
    return {
        "endpoint": "houses", "endpoint_arn": None, "status": "InService", "release": "NEW",
        "contract": CONTRACT.hash, "images": {name: f"{REGISTRY}/{name}@{DIGEST}" for name in names},
        "artifacts": {name: f"{BUCKET}/NEW/{name}/model.tar.gz" for name in names}, "instance_type": "ml.m5.xlarge",
        "instance_count": 1, **more,
    }  # fmt: skip


def hosted(target: str, url: str | None) -> dict[str, Any]:
    return {
        "target": target, "endpoint": "houses", "url": url, "release": "NEW", "contract": CONTRACT.hash,
        "image": "IMAGE",
    }  # fmt: skip


def kinds(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"kind": kind, "name": name} for kind, name in pairs]


ADDRESS = {
    "ServiceNamespace": "sagemaker", "ResourceId": "endpoint/houses/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}  # fmt: skip
LEFT = kinds(
    ("running transform job", RELEASE), ("scaling target", ADDRESS["ResourceId"]), ("endpoint", "houses"),
    ("endpoint config", RELEASE), ("model", RELEASE), ("artifacts", f"{BUCKET}/ (1 objects)"),
    *(("images", f"serial-inference/{name} (1 of 1)")
      for name in (*TWO, "pipeline")),
)  # fmt: skip
SERVES = {"serves": True, "reason": None, "local_artifacts": OTHER}
JSON: list[tuple[str, Answers, str | None, Any]] = [
    (DEPLOY, NOTHING, None, deployed(*TWO)),
    (f"{DEPLOY} --single --instance-type ml.c5.large --instance-count 3", NOTHING, None,
     deployed("pipeline", instance_type="ml.c5.large", instance_count=3)),
    (f"{DEPLOY} --update", SAGEMAKER, RELEASE,
     deployed(*TWO, endpoint_arn="arn:aws:sagemaker:us-east-1:123456789012:endpoint/houses",
              instance_type="ml.c5.large", instance_count=2)),
    ("create-model --artifacts ARTIFACTS --role Given --tag abc", NOTHING, None,
     {"release": "NEW", "endpoint": "houses", "images": deployed(*TWO)["images"]}),
    (f"create-endpoint-config --release {RELEASE}", SAGEMAKER, None, {"release": RELEASE, "endpoint": "houses"}),
    (f"create-endpoint --release {RELEASE}", SAGEMAKER, None,
     {"release": RELEASE, "endpoint": "houses", "status": "InService"}),
    (STATUS, SAGEMAKER, RELEASE,
     {"endpoint": "houses", "status": "InService", "reason": None, "created": WHEN, "changed": WHEN, "release": RELEASE,
      "config": RELEASE, "model": RELEASE, "images": {name: f"h/{name}@{DIGEST}" for name in TWO},
      "instance_type": "ml.c5.large", "instances": 1, "wanted": 2,
      "scaling": {"least": 1, "most": 4, "targets": {"p": 3000.0}}, "data_capture": "5 % to s3://b/c",
      "contract": "c", "local_artifacts": OTHER, "last_hour": {"invocations": 1234.0, "model_us": 3000.2}}),
    (f"{STATUS} --target lambda", LAMBDA, None,
     {**SERVES, "endpoint": "houses", "target": "lambda", "status": "Active", "changed": "2026-01-01T00:00:00.000+0000",
      "image": "h/n@former", "memory": "512 MB", "request_timeout": "30 s",
      "urls": ["https://f", "https://h", "https://r.execute-api.us-east-1.amazonaws.com/prod"],
      "release": "former", "contract": "c"}),
    (f"{STATUS} --target ecs", ECS, None,
     {**SERVES, "endpoint": "houses", "target": "ecs", "status": "ACTIVE", "changed": WHEN, "image": "h/n@former",
      "cpu": "256", "memory": "512", "tasks": "1 of 2", "scaling": "1 to 3", "urls": ["https://houses.ecs.on.aws"],
      "release": RELEASE, "contract": "c"}),
    (f"{STATUS} --target apprunner", APPRUNNER, None,
     {**SERVES, "endpoint": "houses", "target": "apprunner", "status": "RUNNING", "changed": WHEN,
      "image": "h/n:former", "cpu": "1024", "memory": "2048", "urls": ["https://houses.awsapprunner.com"],
      "release": RELEASE, "contract": "c"}),
    ("logs", SAGEMAKER, None, {"time": 1, "stream": "AllTraffic/i/featurizer", "message": "{}"}),
    ("batch ROWS --output OUT --compare 1", SAGEMAKER, RELEASE,
     {"job": "NEW", "model": RELEASE, "seconds": "SECONDS", "outputs": [f"TMP/out/{RELEASE}/rows.csv.out"],
      "compared": {"rows": 1, "different": 0, "first": []}}),
    (SCALE, SAGEMAKER, RELEASE,
     {"endpoint": "houses", "variant": "AllTraffic", "min": 1, "max": 3, "target": 9.0, "policy": "arn:p", "on": True}),
    ("autoscale --off", SAGEMAKER, None, {"endpoint": "houses", "was_on": True, "on": False}),
    ("autoscale --off --variant Blue", SAGEMAKER, None, {"endpoint": "houses", "was_on": False, "on": False}),
    ("autoscale --off --dry-run", SAGEMAKER, None,
     {"requests": [
         {"service": "application-autoscaling", "operation": "DeregisterScalableTarget", "params": ADDRESS}]}),
    ("delete --artifacts --images --yes", DELETED, RELEASE, {"endpoint": "houses", "deleted": LEFT}),
    ("delete --artifacts --images --dry-run", DELETED, RELEASE, {"endpoint": "houses", "would_delete": LEFT}),
    ("delete --yes", SAGEMAKER, RELEASE, {"endpoint": "houses", "deleted": LEFT[:5]}),
    ("delete --target lambda", LAMBDA, None,
     {"endpoint": "houses", "deleted": kinds(
         ("HTTP API", "houses (h)"), ("REST API", "houses (r)"), ("function", "houses"), ("role", "houses-lambda"),
         ("release images", "serial-inference/pipeline:houses.lambda-... (1)"))}),
    ("delete --target ecs", ECS, None,
     {"endpoint": "houses", "deleted": kinds(
         ("service", "houses"), ("role", "houses-ecs-execution"), ("role", "houses-ecs-infrastructure"),
         ("release images", "serial-inference/pipeline:houses.ecs-... (1)"))}),
    ("delete --target apprunner", APPRUNNER, None,
     {"endpoint": "houses", "deleted": kinds(
         ("service", "houses"), ("scaling", "houses/1/0"), ("role", "houses-apprunner-access"),
         ("release images", "serial-inference/pipeline:houses.apprunner-... (1)"))}),
    (f"{HOSTED} lambda", NOTHING, None, hosted("lambda", "https://0000000000.lambda-url.us-east-1.on.aws")),
    (f"{HOSTED} lambda --api http", NOTHING, None,
     hosted("lambda", "https://0000000000.execute-api.us-east-1.amazonaws.com")),
    (f"{HOSTED} lambda --api rest", NOTHING, None,
     hosted("lambda", "https://0000000000.execute-api.us-east-1.amazonaws.com/prod")),
    (f"{HOSTED} lambda --api none", NOTHING, None, hosted("lambda", None)),
    (f"{HOSTED} lambda --api rest --region cn-north-1", NOTHING, None,
     hosted("lambda", "https://0000000000.execute-api.cn-north-1.amazonaws.com.cn/prod")),
    (f"{HOSTED} ecs", ECS, None, hosted("ecs", "https://houses.ecs.on.aws")),
    (f"{HOSTED} apprunner", APPRUNNER, None, hosted("apprunner", "https://houses.awsapprunner.com")),
]  # fmt: skip


def normal(text: str, places: dict[str, str]) -> str:
    """The text without what is of this run only."""
    for place, name in places.items():
        text = text.replace(place, name)
    text = re.sub(r"127\.0\.0\.1:\d+/serial-inference/pipeline@sha256:[0-9a-f]{64}", "IMAGE", text)
    return re.sub(r'"seconds": [0-9.]+', '"seconds": "SECONDS"', STAMP.sub("NEW", text))


@pytest.mark.parametrize(("command", "answers", "config", "expected"), JSON, ids=[one[0] for one in JSON])
def test_machines_get_one_object_with_all_there_is_to_know(
    run: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str], command: str, answers: Answers, config: str | None,
    expected: Any,
) -> None:  # fmt: skip
    code, _ = run(f"{command} --json", {**answers, "PutScalingPolicy": {"PolicyARN": "arn:p"}}, config)

    assert code == 0
    assert json.loads(normal(capsys.readouterr().out, {str(tmp_path): "TMP"})) == expected


SIGNED = r'curl --aws-sigv4 "aws:amz:us-east-1:{}" --user '
TEXT: list[tuple[str, Answers, str | None, list[str]]] = [
    (DEPLOY, NOTHING, None,
     [r"Endpoint houses is in service: release NEW\.",
      r"python -m pipeline invoke --endpoint houses --region us-east-1 ARTIFACTS/test\.csv\n",
      r"It costs money until it is deleted: python -m pipeline delete --endpoint houses --region us-east-1\n\Z"]),
    ("create-model --artifacts ARTIFACTS --role Given --tag abc", NOTHING, None, [r"\ANEW\n\Z"]),
    (f"create-endpoint-config --release {RELEASE}", SAGEMAKER, None, [r"\A\Z"]),
    (f"create-endpoint --release {RELEASE}", SAGEMAKER, None, [r"\Aendpoint houses is in service\n\Z"]),
    (STATUS, SAGEMAKER, RELEASE,
     [r"\Aendpoint        houses\nstatus          InService\nreason          -\n",
      r"\ncreated         2026-01-01 00:00:00 UTC\n",
      rf"\nimages          featurizer h/featurizer@{DIGEST}\n                predictor h/predictor@{DIGEST}\n",
      r"\nscaling         least 1\n                most 4\n                targets p 3,000\n",
      r"\nlast hour       invocations 1,234\n                model us 3,000\n\Z".replace("model us", "model_us")]),
    ("logs", SAGEMAKER, None, [r"\A\{\}\n\Z"]),
    ("batch ROWS --output OUT", SAGEMAKER, RELEASE,
     [rf"\Ajob NEW of model {RELEASE} is complete after \d s:\n  TMP/out/{RELEASE}/rows\.csv\.out\n\Z"]),
    ("batch ROWS --output OUT --compare 9", SAGEMAKER, RELEASE,
     [r"\nthe endpoint gives the same answers to 2 rows, to the bit\n\Z"]),
    (SCALE, SAGEMAKER, RELEASE,
     [r"\Ahouses has 1 to 3 instances for 9 invocations a minute each; after a change it waits 60 s to add and 300 s"]),
    ("autoscale --off", SAGEMAKER, None, [r"\Aautoscaling of houses is off\n\Z"]),
    ("autoscale --off --variant Blue", SAGEMAKER, None, [r"\Aautoscaling of houses was not on\n\Z"]),
    ("delete --dry-run", SAGEMAKER, RELEASE,
     [rf"\Awould delete running transform job {RELEASE}\n(would delete .*\n)+\Z"]),
    ("delete --yes", SAGEMAKER, RELEASE, [rf"\Adeleted running transform job {RELEASE}\n(deleted .*\n)+\Z"]),
    (f"{HOSTED} lambda", NOTHING, None,
     [r"\A\nhouses serves on lambda: release NEW\.\n", r"docs/iam/lambda-invoker\.json", SIGNED.format("lambda"),
      r"\$AWS_SESSION_TOKEN.*\n    --data-binary @rows\.csv https://0000000000\.lambda-url\.us-east-1\.on\.aws/invocations",
      r"aws lambda invoke --function-name houses --region us-east-1",
      r"python -m pipeline status --target lambda --endpoint houses --region us-east-1\n",
      r"python -m pipeline delete --target lambda --endpoint houses --region us-east-1\n\Z"]),
    (f"{HOSTED} lambda --public", NOTHING, None, [r"Whoever knows the address may call it\.", r"  curl -H"]),
    (f"{HOSTED} lambda --api http", NOTHING, None, [SIGNED.format("execute-api")]),
    (f"{HOSTED} lambda --api rest", NOTHING, None, [SIGNED.format("execute-api"), r"amazonaws\.com/prod/invocations"]),
    (f"{HOSTED} ecs --cluster other", ECS, None,
     [r"@rows\.csv https://houses\.ecs\.on\.aws/invocations\n",
      r"delete --target ecs --endpoint houses --region us-east-1 --cluster other\n\Z"]),
    (f"{HOSTED} apprunner", APPRUNNER, None, [r"\nApp Runner is closed", r"https://houses\.awsapprunner\.com/invocations"]),
]  # fmt: skip


@pytest.mark.parametrize(("command", "answers", "config", "patterns"), TEXT, ids=[one[0] for one in TEXT])
def test_people_read_what_happened_and_how_to_go_on(
    run: Any, untrained: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str], command: str, answers: Answers,
    config: str | None, patterns: list[str],
) -> None:  # fmt: skip
    code, _ = run(command, answers, config)

    printed = normal(capsys.readouterr().out, {str(tmp_path): "TMP", str(untrained): "ARTIFACTS"})
    assert code == 0
    for pattern in patterns:
        assert re.search(pattern, printed), printed


@pytest.mark.parametrize(
    ("command", "answers", "config", "code", "message"),
    [
        (f"{STATUS} --json", {**SAGEMAKER, "DescribeEndpoint": {
            "EndpointStatus": "Failed", "EndpointArn": "a", "CreationTime": 1, "LastModifiedTime": 2,
            "FailureReason": "no ping"}}, RELEASE, 1, {"status": "Failed", "reason": "no ping"}),
        (f"{STATUS} --target lambda --json", {**LAMBDA, "GetFunction": {
            "Configuration": {"State": "Failed", "StateReason": "no image", "MemorySize": 1, "Timeout": 2},
            "Code": {}}},
         None, 1, {"status": "Failed", "serves": False, "reason": "no image"}),
        (f"{STATUS} --target lambda --json", {**LAMBDA, "GetFunction": {
            "Configuration": {"LastUpdateStatus": "Failed", "LastUpdateStatusReason": "no image", "MemorySize": 1,
                              "Timeout": 2}, "Code": {}}},
         None, 0, {"status": "Active, last update Failed", "serves": True, "reason": "no image"}),
        (f"{STATUS} --target ecs --json", {**ECS, "DescribeServices": {
            "services": [{"serviceArn": "a", "status": "ACTIVE"}]}}, None, 1,
         {"serves": False, "tasks": "0 of 0"}),
        (f"{STATUS} --target ecs --json", {**ECS, "DescribeServices": {
            "services": [{"serviceArn": "a", "status": "DRAINING", "runningCount": 1}]}}, None, 1, {"serves": False}),
        (f"{STATUS} --target apprunner --json", {**APPRUNNER, "DescribeService": {"Service": {
            "ServiceArn": "a", "Status": "PAUSED", "SourceConfiguration": {"ImageRepository": {"ImageIdentifier": "i"}},
            "InstanceConfiguration": {}}}}, None, 1, {"status": "PAUSED", "serves": False, "urls": []}),
    ],
)  # fmt: skip
def test_the_exit_code_of_status_says_whether_it_serves(
    run: Any,
    capsys: pytest.CaptureFixture[str],
    command: str,
    answers: Answers,
    config: str | None,
    code: int,
    message: Any,
) -> None:
    assert run(command, answers, config)[0] == code

    assert message.items() <= json.loads(capsys.readouterr().out).items()


def test_rows_that_the_endpoint_answers_otherwise_are_named_and_end_a_batch_with_1(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {**SAGEMAKER, "GetObject": lambda _: {"Body": io.BytesIO(b"1\n3.5\n")}}

    code, _ = run("batch ROWS --output OUT --compare 2", other, RELEASE)

    output = capsys.readouterr()
    assert code == FAILED
    assert "DIFFERENT row 2: the endpoint says 3, the batch 3.5\n" in output.err
    assert f"1 of 2 rows differ; is the endpoint's model {RELEASE}?" in output.err
    assert "the endpoint gives the same answers" not in output.out


def test_of_many_rows_that_differ_ten_are_shown(run: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.csv").write_text("".join(f"{number},1\n" for number in range(1, 13)))
    other = {**SAGEMAKER, "GetObject": lambda _: {"Body": io.BytesIO(b"0\n" * 12)}}

    run("batch ROWS --output OUT --compare 12", other, RELEASE)

    output = capsys.readouterr().err
    assert re.findall("^DIFFERENT row ([0-9]+):", output, re.MULTILINE) == [str(number) for number in range(1, 11)]
    assert "12 of 12 rows differ" in output


def test_rows_without_an_answer_are_not_compared(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fewer = {**SAGEMAKER, "GetObject": lambda _: {"Body": io.BytesIO(b"1\n")}}

    code, aws = run("batch ROWS --output OUT --compare 2", fewer, RELEASE)

    assert (code, "InvokeEndpoint" in aws.operations) == (FAILED, False)
    assert re.search(r"rows\.csv has 2 rows, \S+/rows\.csv\.out 1 answers\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("command", "answers", "config", "lines"),
    [
        (DEPLOY, NOTHING, None,
         [f"release NEW: artifacts to {BUCKET.removesuffix('serial-inference/houses')}", "creating model NEW",
          "creating endpoint houses", "houses: InService (0 s)"]),
        (f"{DEPLOY} --update", {**SAGEMAKER, "ListEndpointConfigs": {"EndpointConfigs": []},
                                "ListModels": {"Models": []}}, RELEASE,
         [f"release NEW: artifacts to {BUCKET.removesuffix('serial-inference/houses')}", "creating model NEW",
          "updating endpoint houses: all-at-once", "houses: InService (0 s)"]),
        ("create-model --artifacts ARTIFACTS --role Given --tag abc", NOTHING, None, ["model NEW for endpoint houses"]),
        (f"create-endpoint-config --release {RELEASE}", SAGEMAKER, None, [f"endpoint config {RELEASE}"]),
        ("batch ROWS --output OUT", SAGEMAKER, RELEASE,
         [f"uploading TMP/rows.csv to {BUCKET}/batch/NEW/in/rows.csv", "NEW: Completed (0 s)"]),
        ("delete --yes", SAGEMAKER, RELEASE,
         [f"deleting running transform job {RELEASE}", f"stopping {RELEASE}",
          "deleting scaling target endpoint/houses/variant/AllTraffic", "deleting endpoint houses",
          f"deleting endpoint config {RELEASE}", f"deleting model {RELEASE}"]),
    ],
)  # fmt: skip
def test_progress_names_each_thing_that_is_made_or_deleted(
    run: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str], command: str, answers: Answers, config: str | None,
    lines: list[str],
) -> None:  # fmt: skip
    run(command, answers, config)

    assert normal(capsys.readouterr().err, {str(tmp_path): "TMP"}).splitlines() == lines


def test_status_asks_for_the_figures_of_the_last_hour_as_a_whole(run: Any) -> None:
    _, aws = run(STATUS, SAGEMAKER, RELEASE)

    (asked,) = [one["params"] for one in aws.requests if one["operation"] == "GetMetricData"]
    assert (asked["EndTime"] - asked["StartTime"]).total_seconds() == 3600
    queries = [(one["Label"], one["MetricStat"]) for one in asked["MetricDataQueries"]]
    assert [(label, query["Stat"], query["Period"]) for label, query in queries] == [
        ("Invocations", "Sum", 3600), ("Invocation4XXErrors", "Sum", 3600), ("Invocation5XXErrors", "Sum", 3600),
        ("ModelLatency", "Average", 3600), ("OverheadLatency", "Average", 3600),
    ]  # fmt: skip
    dimensions = [{"Name": "EndpointName", "Value": "houses"}, {"Name": "VariantName", "Value": "AllTraffic"}]
    for label, query in queries:
        assert query["Metric"] == {"Namespace": "AWS/SageMaker", "MetricName": label, "Dimensions": dimensions}


def test_figures_that_may_not_be_read_are_no_error(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run(f"{STATUS} --json", {**SAGEMAKER, "GetMetricData": refused("AccessDenied")}, RELEASE)

    assert (code, json.loads(capsys.readouterr().out)["last_hour"]) == (0, {"not readable": "AccessDenied"})
