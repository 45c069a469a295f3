"""What `deploy` asks of AWS, request by request, and what it says when AWS refuses."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.session
import pytest
from botocore import exceptions as boto
from botocore.validate import ParamValidator

from pipeline.artifacts import STAGES
from pipeline.cli import main, parser
from pipeline.endpoint import autoscale, delete, deploy, errors, images, made, release, storage, undo, update
from pipeline.endpoint.errors import FAILED, NOT_FOUND, TIMEOUT, WRONG, PipelineError
from pipeline.endpoint.hosting import Hosting, current_hosting
from pipeline.endpoint.made import Found
from pipeline.endpoint.plan import Plan
from pipeline.endpoint.session import Clients
from serving import artifact
from serving.contract import Contract

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/SageMakerServing"
DIGEST = "sha256:" + "a" * 64
REGISTRY = f"{ACCOUNT}.dkr.ecr.eu-central-1.amazonaws.com/serial-inference"
ENV = {"AWS_REGION": "eu-central-1"}
IMAGES = [f"--{stage}-image={REGISTRY}/{stage}@{DIGEST}" for stage in STAGES]
FOUND = ("deploy", "--dry-run", "--endpoint", "houses", "--role", ROLE)
DEPLOY = (*FOUND, *IMAGES)
SINGLE = (*FOUND, "--single", f"--image={REGISTRY}/pipeline@{DIGEST}")
NAME = re.compile(r"houses-\d{8}-\d{6}-[0-9a-f]{4}")
Answer = Mapping[str, Any]
pytestmark = pytest.mark.usefixtures("settings_checked_once", "no_pauses")


@pytest.fixture(scope="module")
def requests(untrained: Path) -> Callable[..., list[dict[str, Any]]]:
    """Run a dry run; the requests that it prints."""

    @cache
    def run(*more: str, command: tuple[str, ...] = DEPLOY) -> list[dict[str, Any]]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = main([*command, "--artifacts", str(untrained), *more], ENV)
        assert code == 0
        assert printed.getvalue().startswith('[\n  {\n    "')
        found: list[dict[str, Any]] = json.loads(printed.getvalue())
        return found

    return run


def of(requests: list[dict[str, Any]], operation: str) -> dict[str, Any]:
    """The one request of an operation, with the release's name as RELEASE."""
    [found] = [one["params"] for one in requests if one["operation"] == operation]
    made: dict[str, Any] = json.loads(NAME.sub("RELEASE", json.dumps(found)))
    return made


def tags(untrained: Path, **more: str) -> list[dict[str, str]]:
    own = {
        "serial-inference:endpoint": "houses",
        "serial-inference:release": "RELEASE",
        "serial-inference:contract": Contract.load(untrained / "predictor" / "model").hash,
    }
    return [{"Key": key, "Value": value} for key, value in {**more, **own}.items()]


def test_the_model_is_two_named_containers_by_digest(requests: Any, untrained: Path) -> None:
    where = f"s3://sagemaker-eu-central-1-{ACCOUNT}/serial-inference/houses/RELEASE"

    made = of(requests(), "CreateModel")

    assert made == {
        "ModelName": "RELEASE",
        "ExecutionRoleArn": ROLE,
        "Containers": [
            {
                "ContainerHostname": "featurizer",
                "Image": f"{REGISTRY}/featurizer@{DIGEST}",
                "ModelDataUrl": f"{where}/featurizer/model.tar.gz",
                "Environment": {
                    "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/x-npy",
                    "MODEL_SERVER_MAX_RESPONSE": "5000000",
                },
            },
            {
                "ContainerHostname": "predictor",
                "Image": f"{REGISTRY}/predictor@{DIGEST}",
                "ModelDataUrl": f"{where}/predictor/model.tar.gz",
                "Environment": {},
            },
        ],
        "Tags": tags(untrained),
    }


def test_a_single_container_is_the_primary_one_with_an_archive_of_its_own(requests: Any, untrained: Path) -> None:
    made = of(requests(command=SINGLE), "CreateModel")

    assert made == {
        "ModelName": "RELEASE",
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {
            "Image": f"{REGISTRY}/pipeline@{DIGEST}",
            "ModelDataUrl": f"s3://sagemaker-eu-central-1-{ACCOUNT}/serial-inference/houses/RELEASE/pipeline/model.tar.gz",
            "Environment": {},
        },
        "Tags": tags(untrained),
    }


def test_a_single_container_changes_nothing_but_image_and_archive(requests: Any) -> None:
    given = ("--instance-type", "ml.c5.large", "--instance-count", "3", "--health-check-timeout", "90",
             "--kms-key", "k", "--volume-kms-key", "key", "--tags", "team=a", "--data-capture", "25",
             "--network-isolation", "--subnets", "s1", "--security-groups", "g1")  # fmt: skip

    def besides(sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
        made = [of(sent, name) for name in ("CreateModel", "CreateEndpointConfig", "CreateEndpoint")]
        return [{k: v for k, v in one.items() if k not in ("Containers", "PrimaryContainer")} for one in made]

    two, one = requests(*given), requests(*given, command=SINGLE)

    assert besides(one) == besides(two)
    assert len(two) - len(one) == 2  # an image less to look up, and an archive less to store


def test_a_network_is_the_models(requests: Any) -> None:
    made = of(requests("--subnets", "s1", "s2", "--security-groups", "g1", "--network-isolation"), "CreateModel")

    assert made["VpcConfig"] == {"Subnets": ["s1", "s2"], "SecurityGroupIds": ["g1"]}
    assert made["EnableNetworkIsolation"] is True


def test_the_endpoint_config_has_what_was_asked_for_and_no_more(requests: Any, untrained: Path) -> None:
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": "RELEASE",
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.xlarge",
        "InitialVariantWeight": 1.0,
    }
    given = ("--instance-type", "ml.c5.large", "--instance-count", "3", "--health-check-timeout", "90",
             "--download-timeout", "120", "--volume-kms-key", "key", "--volume-size", "20", "--tags", "team=a b",
             "--data-capture", "25", "--capture-to", "s3://mine/capture", "--kms-key", "other")  # fmt: skip

    plain, full = of(requests(), "CreateEndpointConfig"), of(requests(*given), "CreateEndpointConfig")

    assert plain == {"EndpointConfigName": "RELEASE", "ProductionVariants": [variant], "Tags": tags(untrained)}
    assert full == {
        "EndpointConfigName": "RELEASE",
        "ProductionVariants": [
            {
                **variant,
                "InstanceType": "ml.c5.large",
                "InitialInstanceCount": 3,
                "VolumeSizeInGB": 20,
                "ModelDataDownloadTimeoutInSeconds": 120,
                "ContainerStartupHealthCheckTimeoutInSeconds": 90,
            }
        ],
        "KmsKeyId": "key",
        "DataCaptureConfig": {
            "EnableCapture": True,
            "InitialSamplingPercentage": 25,
            "DestinationS3Uri": "s3://mine/capture",
            "KmsKeyId": "other",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {
                "CsvContentTypes": ["text/csv"],
                "JsonContentTypes": ["application/json", "application/jsonlines"],
            },
        },
        "Tags": tags(untrained, team="a b"),
    }


def test_the_endpoint_is_made_of_the_config_and_tagged(requests: Any, untrained: Path) -> None:
    made = of(requests(), "CreateEndpoint")

    assert made == {"EndpointName": "houses", "EndpointConfigName": "RELEASE", "Tags": tags(untrained)}


def test_every_request_of_s3_names_the_buckets_owner(requests: Any) -> None:
    sent = [one["params"] for one in requests("--kms-key", "alias/k") if one["service"] == "s3"]

    assert {one["ExpectedBucketOwner"] for one in sent} == {ACCOUNT}
    puts = [one for one in sent if "Key" in one]
    assert [one["Key"].rpartition("/houses/")[2].partition("/")[2] for one in puts] == [
        "featurizer/model.tar.gz",
        "predictor/model.tar.gz",
    ]
    assert {(one["ServerSideEncryption"], one["SSEKMSKeyId"]) for one in puts} == {("aws:kms", "alias/k")}


def test_nothing_is_made_before_all_was_found(requests: Any) -> None:
    order = [one["operation"] for one in requests()]

    assert order == [
        *("DescribeEndpoint", "DescribeImages", "DescribeImages", "GetCallerIdentity"),
        *("HeadBucket", "PutObject", "PutObject", "CreateModel", "CreateEndpointConfig", "CreateEndpoint"),
        "DescribeEndpoint",
    ]


def test_images_are_those_of_the_tag_when_none_are_given(untrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["deploy", "--dry-run", "--role", ROLE, "--tag", "0123456789ab", "--artifacts", str(untrained)]

    assert main(given, {**ENV, "REPOSITORY_PREFIX": "mine"}) == 0

    sent = json.loads(capsys.readouterr().out)
    asked = [one["params"] for one in sent if one["operation"] == "DescribeImages"]
    assert asked == [
        {"repositoryName": f"mine/{stage}", "imageIds": [{"imageTag": "0123456789ab"}]} for stage in STAGES
    ]


def test_each_request_is_as_aws_describes_it(requests: Any) -> None:
    session = botocore.session.get_session()
    updated = requests("--update", "--strategy", "linear")
    for one in requests("--data-capture", "1") + updated + requests("--network-isolation", command=SINGLE):
        shape = session.get_service_model(one["service"]).operation_model(one["operation"]).input_shape

        assert not ParamValidator().validate(one["params"], shape).has_errors() if shape else not one["params"]
        assert_patterns(one["params"], shape)


def assert_patterns(given: Any, shape: Any) -> None:
    """botocore checks types and sizes, but leaves the patterns and the enums to AWS."""
    if shape is None:
        return
    if shape.type_name == "structure":
        for name, value in given.items():
            assert_patterns(value, shape.members[name])
    elif shape.type_name == "list":
        for value in given:
            assert_patterns(value, shape.member)
    elif shape.type_name == "string":
        pattern = shape.metadata.get("pattern", ".*").replace("\\p{L}\\p{Z}\\p{N}", "\\w\\s")
        assert re.fullmatch(pattern, given, re.DOTALL), (given, pattern)
        assert given in getattr(shape, "enum", []) or not getattr(shape, "enum", [])


@pytest.mark.parametrize(
    ("given", "policy"),
    [
        (
            [],
            {
                "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
                "TerminationWaitInSeconds": 0,
                "MaximumExecutionTimeoutInSeconds": 1800,
            },
        ),
        (
            ["--strategy", "canary", "--step", "5", "--wait", "300", "--bake", "600"],
            {
                "TrafficRoutingConfiguration": {
                    "Type": "CANARY",
                    "WaitIntervalInSeconds": 300,
                    "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
                },
                "TerminationWaitInSeconds": 600,
                "MaximumExecutionTimeoutInSeconds": 2700,
            },
        ),
        (
            ["--strategy", "linear", "--wait", "60"],
            {
                "TrafficRoutingConfiguration": {
                    "Type": "LINEAR",
                    "WaitIntervalInSeconds": 60,
                    "LinearStepSize": {"Type": "INSTANCE_COUNT", "Value": 1},
                },
                "TerminationWaitInSeconds": 0,
                "MaximumExecutionTimeoutInSeconds": 1920,
            },
        ),
    ],
    ids=["all-at-once", "canary", "linear"],
)
def test_an_update_moves_traffic_as_told(requests: Any, given: list[str], policy: dict[str, Any]) -> None:
    sent = of(requests("--update", *given), "UpdateEndpoint")

    assert sent == {
        "EndpointName": "houses",
        "EndpointConfigName": "RELEASE",
        "RetainAllVariantProperties": True,
        "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DataCaptureConfig"}],
        "DeploymentConfig": {"BlueGreenUpdatePolicy": policy},
    }


def test_alarms_roll_an_update_back_and_a_given_count_replaces_autoscalings(requests: Any) -> None:
    asked = requests("--update", "--alarm", "a", "--alarm", "b", "--instance-count", "2")

    sent = of(asked, "UpdateEndpoint")
    assert of(asked, "DescribeAlarms") == {"AlarmNames": ["a", "b"], "AlarmTypes": ["MetricAlarm", "CompositeAlarm"]}
    assert sent["DeploymentConfig"]["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "a"}, {"AlarmName": "b"}]}
    assert sent["RetainAllVariantProperties"] is False
    assert "ExcludeRetainedVariantProperties" not in sent


@pytest.mark.parametrize(
    ("given", "env", "reason", "next_step"),
    [
        ([], {}, "no AWS region is set", "give --region"),
        (["--role", "arn:aws:iam::1:user/me"], ENV, "is no role's ARN", "arn:aws:iam::ACCOUNT:role/NAME"),
        (["--endpoint", "not_a_name"], ENV, "expected letters, digits and hyphens", "give another name"),
        (["--subnets", "s1"], ENV, "a VPC needs both", "--security-groups together"),
        (["--strategy", "canary"], ENV, "--strategy is about an update", "add --update"),
        (["--update", "--step", "20"], ENV, "need shifts", "--strategy canary or linear"),
        (["--update", "--strategy", "linear", "--step", "5"], ENV, "--step 5", "expected 10 to 50 percent"),
        (["--artifacts", "nowhere"], ENV, "there is no model directory nowhere", "python -m pipeline train"),
        (["--featurizer-image", "featurizer"], ENV, "'featurizer' is no image URI", "expected HOST/NAME:TAG"),
        (["--image", "h/pipeline"], ENV, "--image is not for an endpoint of featurizer and predictor", "add --single"),
        (["--single"], ENV, "--featurizer-image is not for an endpoint of pipeline", "add --no-single"),
        (["--tags", *(f"k{i}=v" for i in range(8))], ENV, "8 tags", "give 7 at most"),
    ],
)
def test_wrong_arguments_end_with_2_and_the_next_step(
    untrained: Path,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    env: dict[str, str],
    reason: str,
    next_step: str,
) -> None:
    code = main([*DEPLOY, "--artifacts", str(untrained), *given], {"AWS_PROFILE": "", **env})

    said = capsys.readouterr()
    assert code == WRONG, said.err
    assert reason in said.err
    assert next_step in said.err.partition("next: ")[2]
    assert said.out == ""


@pytest.mark.parametrize("given", ["team", "aws:x=1", "serial-inference:endpoint=x", "=x"])
def test_tags_that_aws_or_we_own_are_refused(capsys: pytest.CaptureFixture[str], given: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*DEPLOY, "--tags", given], ENV)

    assert ended.value.code == WRONG
    assert "--tags" in capsys.readouterr().err


def test_a_role_is_asked_for_and_machines_get_the_error_as_json(
    untrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["deploy", "--dry-run", "--json", "--artifacts", str(untrained)], ENV)

    said = json.loads(capsys.readouterr().err)
    assert code == said["exit_code"] == WRONG
    assert said["error"] == "which role may SageMaker take?"
    assert "SAGEMAKER_ROLE_ARN" in said["next_step"]


def test_artifacts_of_two_training_runs_are_refused(untrained: Path, tmp_path: Path) -> None:
    for stage, run in (("featurizer", 1), ("predictor", 2)):
        contract = Contract.load(untrained / stage / "model")
        model = tmp_path / stage / "model"
        model.mkdir(parents=True)
        (model / "contract.json").write_text(replace(contract, training={"run": run}).to_json())
        artifact.write_manifest(model)

    with pytest.raises(PipelineError, match="are of two training runs") as refused:
        release.sound_contract(tmp_path)

    assert "python -m pipeline train" in refused.value.next_step


class Aws:
    """Stands in for AWS: notes every operation, and answers each with the next of its answers, the last for ever."""

    def __init__(self, **answers: list[Answer] | Answer) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def attach(self, client: Any) -> None:
        client.meta.events.register("before-call", self.answer)

    def answer(self, model: Any, **_: object) -> tuple[SimpleNamespace, Answer]:
        self.asked.append(model.name)
        assert len(self.asked) < 300, "it asks for ever"
        known = self.answers.get(model.name, {})
        deleted = "DeleteEndpoint" in self.asked and "Error" not in self.answers.get("DeleteEndpoint", {})
        if model.name == "DescribeEndpoint" and deleted:
            known = GONE
        answer = (known.pop(0) if len(known) > 1 else known[0]) if isinstance(known, list) else known
        status = 400 if "Error" in answer else 200
        return SimpleNamespace(status_code=status, headers={}), {"ResponseMetadata": {}, **answer}


def refused(code: str, message: str = "no") -> Answer:
    return {"Error": {"Code": code, "Message": message}}


def clients(aws: Aws) -> Clients:
    return Clients("eu-central-1", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, prepare=aws.attach)


def plan(aws: Aws, untrained: Path) -> Plan:
    new = release.Release("houses", "houses-20260101-000000-abcd", "hash", {})
    found = {stage: f"{REGISTRY}/{stage}@{DIGEST}" for stage in STAGES}
    return Plan(clients(aws), new, untrained, "bucket", None, ROLE, found, Hosting())


def of_type(media_type: str) -> Answer:
    return {"imageDetails": [{"imageDigest": DIGEST, "imageManifestMediaType": media_type}]}


GONE = refused("ValidationException", 'Could not find endpoint "x"')
IDENTITY = {"Account": ACCOUNT}


def described(status: str, **more: str) -> Answer:
    return {"EndpointStatus": status, "EndpointConfigName": "houses-20260101-000000-abcd", **more}


def test_an_endpoint_that_fails_leaves_nothing_and_shows_the_last_words(
    untrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = described("Failed", FailureReason="no ping")
    aws = Aws(
        GetCallerIdentity=IDENTITY,
        DescribeEndpoint=[described("Creating"), failed],
        DescribeLogStreams={"logStreams": [{"logStreamName": "AllTraffic/i-1/predictor"}]},
        GetLogEvents={"events": [{"message": "BadArtifact: model.json is damaged"}]},
    )

    with pytest.raises(PipelineError, match="endpoint houses is Failed: no ping") as error:
        deploy.create(plan(aws, untrained), timeout=60)

    assert error.value.code == FAILED
    assert aws.asked[-5:] == [
        *("DeleteEndpoint", "DescribeEndpoint", "DeleteEndpointConfig", "DeleteModel", "DeleteObjects"),
    ]
    assert "last words in AllTraffic/i-1/predictor:\n  BadArtifact: model.json" in capsys.readouterr().err


def test_a_refused_config_takes_the_model_and_the_artifacts_with_it(untrained: Path) -> None:
    aws = Aws(GetCallerIdentity=IDENTITY, CreateEndpointConfig=refused("ResourceLimitExceeded"))

    with pytest.raises(boto.ClientError):
        deploy.create(plan(aws, untrained), timeout=60)

    assert aws.asked[-3:] == ["DeleteEndpointConfig", "DeleteModel", "DeleteObjects"]


def test_ctrl_c_leaves_nothing(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_seconds: float) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    aws = Aws(GetCallerIdentity=IDENTITY, DescribeEndpoint=described("Creating"))
    monkeypatch.setattr("time.sleep", interrupt)

    with pytest.raises(KeyboardInterrupt):
        deploy.create(plan(aws, untrained), timeout=60)

    assert aws.asked[-3:] == ["DeleteEndpointConfig", "DeleteModel", "DeleteObjects"]
    assert "DeleteEndpoint" in aws.asked


def test_a_second_ctrl_c_leaves_the_rest_and_says_what(capsys: pytest.CaptureFixture[str]) -> None:
    deleted: list[str] = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    def fail() -> None:
        with undo.leaving_nothing() as made:
            made("artifacts", lambda: deleted.append("artifacts"))
            made("endpoint houses", interrupted)
            made("bucket", lambda: deleted.append("bucket"))
            raise PipelineError("it failed", "try again")

    with pytest.raises(KeyboardInterrupt):
        fail()

    assert deleted == ["bucket"]
    assert "left: endpoint houses, artifacts; python -m pipeline delete finds it" in capsys.readouterr().err


NOT_SEEN = refused("ValidationException", 'Could not find endpoint configuration "x"')


def test_what_was_just_made_may_be_seen_late(untrained: Path) -> None:
    aws = Aws(
        GetCallerIdentity=IDENTITY,
        CreateEndpointConfig=[refused("ValidationException", 'Could not find model "x"'), {}],
        CreateEndpoint=[NOT_SEEN, NOT_SEEN, {}],
        DescribeEndpoint=described("InService"),
    )

    deploy.create(plan(aws, untrained), timeout=60)

    assert [aws.asked.count(one) for one in ("CreateEndpointConfig", "CreateEndpoint")] == [2, 3]


def test_what_stays_unseen_is_refused(untrained: Path) -> None:
    aws = Aws(GetCallerIdentity=IDENTITY, CreateEndpoint=NOT_SEEN, DescribeEndpoint=GONE)

    with pytest.raises(boto.ClientError, match="Could not find endpoint configuration"):
        deploy.create(plan(aws, untrained), timeout=60)

    assert aws.asked[-1] == "DeleteObjects"


@pytest.mark.parametrize(
    ("names", "code", "reason"),
    [
        (["fine", "any"], None, ""),
        (["unsure"], None, ""),
        (["fine", "gone"], NOT_FOUND, "there is no CloudWatch alarm gone"),
        (["fine", "rings"], FAILED, "alarm rings is in ALARM state already"),
        (["all"], FAILED, "alarm all is in ALARM state already"),
    ],
)
def test_an_alarm_that_is_missing_or_rings_already_starts_no_update(
    names: list[str], code: int | None, reason: str
) -> None:
    states = {"fine": "OK", "unsure": "INSUFFICIENT_DATA", "rings": "ALARM"}
    aws = Aws(
        DescribeEndpoint=described("InService"),
        DescribeAlarms={
            "MetricAlarms": [{"AlarmName": name, "StateValue": state} for name, state in states.items()],
            "CompositeAlarms": [{"AlarmName": "any", "StateValue": "OK"}, {"AlarmName": "all", "StateValue": "ALARM"}],
        },
        DescribeEndpointConfig=refused("ThrottlingException", "asked next"),
    )
    given = ["deploy", "--update", "--alarm", *" --alarm ".join(names).split()]
    asked = parser("deploy").parse_args(given, argparse.Namespace(env=ENV))
    new = release.new_release("houses", "hash", {})

    with pytest.raises((PipelineError, boto.ClientError)) as error:
        update.run(asked, clients(aws), new, described("InService"), update.Rollout.of(asked), deploy.build)

    assert getattr(error.value, "code", None) == code
    assert reason in str(error.value)
    assert ("DescribeEndpointConfig" in aws.asked) == (code is None)


def test_an_update_that_nobody_waits_for_goes_on_and_nothing_of_it_is_deleted(
    untrained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = Aws(
        GetCallerIdentity=IDENTITY,
        DescribeEndpointConfig={"ProductionVariants": [{"ModelName": "m", "InitialInstanceCount": 1}]},
        DescribeImages=of_type(images.DOCKER_MANIFEST),
        DescribeEndpoint=described("Updating"),
    )
    given = [
        "deploy",
        "--update",
        "--strategy",
        "canary",
        "--instance-count",
        "2",
        "--role",
        ROLE,
        "--artifacts",
        str(untrained),
        *IMAGES,
    ]
    asked = parser("deploy").parse_args(given, argparse.Namespace(env=ENV))
    new = release.new_release("houses", "hash", {})

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        update.run(asked, clients(aws), new, described("InService"), update.Rollout.of(asked), deploy.build)

    assert "UpdateEndpoint" in aws.asked
    assert not [one for one in aws.asked if one.startswith("Delete")]
    assert "the update of houses goes on" in capsys.readouterr().err


def test_an_update_whose_acceptance_was_lost_on_the_way_goes_on(untrained: Path) -> None:
    new = release.new_release("houses", "hash", {})
    under_way = {**described("Updating"), "PendingDeploymentSummary": {"EndpointConfigName": new.name}}
    aws = Aws(
        GetCallerIdentity=IDENTITY,
        DescribeEndpointConfig={"ProductionVariants": [{"ModelName": "m", "InitialInstanceCount": 1}]},
        DescribeImages=of_type(images.DOCKER_MANIFEST),
        UpdateEndpoint=refused(
            "ValidationException", 'Cannot update in-progress endpoint "x"'
        ),  # of the second request
        DescribeEndpoint=[under_way, {**described("InService"), "EndpointConfigName": new.name}],
        ListEndpointConfigs={"EndpointConfigs": []},
        ListModels={"Models": []},
    )
    given = ["deploy", "--update", "--role", ROLE, "--artifacts", str(untrained), *IMAGES]
    asked = parser("deploy").parse_args(given, argparse.Namespace(env=ENV))

    _, after = update.run(asked, clients(aws), new, described("InService"), update.Rollout.of(asked), deploy.build)

    assert after["EndpointConfigName"] == new.name


def test_an_update_that_is_refused_for_another_one_deletes_what_it_made(
    untrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = Aws(
        GetCallerIdentity=IDENTITY,
        DescribeEndpointConfig={"ProductionVariants": [{"ModelName": "m", "InitialInstanceCount": 1}]},
        DescribeImages=of_type(images.DOCKER_MANIFEST),
        UpdateEndpoint=refused("ValidationException", 'Cannot update in-progress endpoint "x"'),
        DescribeEndpoint={**described("Updating"), "PendingDeploymentSummary": {"EndpointConfigName": "theirs"}},
    )
    given = ["deploy", "--update", "--role", ROLE, "--artifacts", str(untrained), *IMAGES]
    asked = parser("deploy").parse_args(given, argparse.Namespace(env=ENV))
    new = release.new_release("houses", "hash", {})

    with pytest.raises(boto.ClientError, match="in-progress"):
        update.run(asked, clients(aws), new, described("InService"), update.Rollout.of(asked), deploy.build)

    assert {"DeleteEndpointConfig", "DeleteModel"} <= set(aws.asked)
    assert "deleting what was made" in capsys.readouterr().err


def test_what_cannot_be_deleted_again_is_named_and_the_first_error_stays(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(error: Exception) -> Callable[[], None]:
        def delete() -> None:
            raise error

        return delete

    def fail() -> None:
        with undo.leaving_nothing() as made_here:
            made_here("model m", refuse(refusal("AccessDeniedException")))
            made_here("endpoint houses", refuse(PipelineError("still there", "run it again")))
            raise PipelineError("it failed", "try again")

    with pytest.raises(PipelineError, match="it failed"):
        fail()

    assert capsys.readouterr().err.splitlines() == [
        "this failed; deleting what was made (Ctrl-C leaves the rest)",
        "endpoint houses is left: still there; python -m pipeline delete finds it",
        "model m is left: AWS refused CreateModel: why (AccessDeniedException); python -m pipeline delete finds it",
    ]


def test_what_an_endpoint_uses_stays_for_as_long_as_the_endpoint(capsys: pytest.CaptureFixture[str]) -> None:
    deleted: list[str] = []

    def refuse() -> None:
        raise PipelineError("endpoint houses is still Creating after 1800 s", "give a longer --timeout")

    def fail() -> None:
        with undo.leaving_nothing() as made_here:
            made_here("model m", lambda: deleted.append("model m"))
            made_here("endpoint config c", lambda: deleted.append("endpoint config c"))
            made_here("endpoint houses", refuse, uses=True)
            made_here("scaling target", lambda: deleted.append("scaling target"))
            raise PipelineError("it failed", "try again")

    with pytest.raises(PipelineError, match="it failed"):
        fail()

    assert deleted == ["scaling target"]
    assert capsys.readouterr().err.splitlines()[1:] == [
        "endpoint houses is left: endpoint houses is still Creating after 1800 s; python -m pipeline delete finds it",
        "what it uses stays with it: endpoint config c, model m; it may cost until that is deleted: "
        "python -m pipeline delete",
    ]


def test_an_endpoint_that_stays_in_creating_keeps_its_config_and_its_model(
    untrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws = Aws(
        GetCallerIdentity=IDENTITY,
        DescribeEndpoint=described("Creating"),
        DeleteEndpoint=refused("ValidationException", "Cannot update in-progress endpoint"),
    )

    with pytest.raises(PipelineError, match="still Creating"):
        deploy.create(plan(aws, untrained), timeout=0)

    assert {"DeleteEndpointConfig", "DeleteModel", "DeleteObjects"}.isdisjoint(aws.asked)
    assert "what it uses stays with it" in capsys.readouterr().err


def test_who_has_made_nothing_does_not_speak_of_deleting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PipelineError), undo.leaving_nothing():
        raise PipelineError("refused", "give another")

    assert capsys.readouterr().err == ""


def test_an_endpoint_that_somebody_else_made_first_is_not_deleted(untrained: Path) -> None:
    aws = Aws(
        GetCallerIdentity=IDENTITY,
        CreateEndpoint=refused("ValidationException", "Cannot create already existing endpoint"),
        DescribeEndpoint={**described("InService"), "EndpointConfigName": "theirs"},
    )

    with pytest.raises(boto.ClientError):
        deploy.create(plan(aws, untrained), timeout=60)

    assert "DeleteEndpoint" not in aws.asked
    assert "DeleteModel" in aws.asked


def test_an_endpoint_that_takes_too_long_ends_with_4_and_is_deleted(untrained: Path) -> None:
    aws = Aws(GetCallerIdentity=IDENTITY, DescribeEndpoint=described("Creating"))

    with pytest.raises(PipelineError, match="is still Creating") as error:
        deploy.create(plan(aws, untrained), timeout=0)

    assert error.value.code == TIMEOUT
    assert "DeleteEndpoint" in aws.asked


def test_a_model_whose_name_is_taken_is_refused_though_the_sdk_would_go_on(untrained: Path) -> None:
    taken = refused("ValidationException", 'Cannot create already existing model "arn"')
    aws = Aws(GetCallerIdentity=IDENTITY, CreateModel=taken)

    with pytest.raises(PipelineError, match="already existing model"):
        deploy.create(plan(aws, untrained), timeout=60)

    assert "CreateEndpointConfig" not in aws.asked


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        (refused("ImageNotFoundException"), NOT_FOUND, "there is no image serial-inference/featurizer:t"),
        (of_type("application/vnd.oci.image.index.v1+json"), FAILED, "manifest type application/vnd.oci.image.index"),
        (of_type("application/vnd.oci.image.manifest.v1+json"), FAILED, "SageMaker takes application/vnd.docker"),
    ],
)
def test_an_image_that_sagemaker_would_refuse_is_refused_with_what_makes_it(
    answer: Answer, code: int, reason: str
) -> None:
    aws = Aws(
        DescribeRepositories={"repositories": [{"repositoryUri": f"{REGISTRY}/featurizer"}]}, DescribeImages=answer
    )

    with pytest.raises(PipelineError) as error:
        images.find_images(clients(aws), "serial-inference", "t", dict.fromkeys(STAGES))

    assert error.value.code == code
    assert reason in error.value.message
    assert "./build_and_push.sh" in error.value.next_step


@pytest.mark.parametrize(("platform", "accepted"), [("amd64", True), ("arm64", False)])
def test_a_docker_list_of_manifests_must_have_one_for_amd64(platform: str, accepted: bool) -> None:
    manifests = [{"platform": {"os": "linux", "architecture": platform}}]
    aws = Aws(
        DescribeImages=of_type(images.DOCKER_LIST),
        BatchGetImage={"images": [{"imageManifest": json.dumps({"manifests": manifests})}]},
    )
    given = dict.fromkeys(STAGES, f"{REGISTRY}/one:t")

    if accepted:
        found = images.find_images(clients(aws), "p", "t", given)
        assert set(found.values()) == {f"{REGISTRY}/one@{DIGEST}"}
    else:
        with pytest.raises(PipelineError, match="is not for linux/amd64"):
            images.find_images(clients(aws), "p", "t", given)


@pytest.mark.parametrize(
    ("given", "model", "single"),
    [
        (None, {"PrimaryContainer": {"Image": "one"}}, True),
        (None, {"Containers": [{"Image": "one"}, {"Image": "two"}]}, False),
        (False, {"PrimaryContainer": {"Image": "one"}}, False),
        (True, {"Containers": [{"Image": "one"}, {"Image": "two"}]}, True),
    ],
)
def test_an_update_keeps_the_number_of_containers_unless_it_is_given(
    given: bool | None, model: dict[str, Any], single: bool
) -> None:
    now = current_hosting({"ProductionVariants": [{}]}, model, None)

    assert Hosting(single=given).over(now).single is single


DIGESTS = [f"sha256:{digit * 64}" for digit in "abc"]


def _images_to_delete(aws: Aws, used: Clients) -> list[Found]:
    tagged = [["0123456789ab"], ["other"], ["houses.lambda-" + "c" * 12]]
    aws.answers |= {
        "DescribeImages": {
            "imageDetails": [{"imageDigest": d, "imageTags": t} for d, t in zip(DIGESTS, tagged, strict=True)]
        },
        "ListModels": {"Models": [{"ModelName": "villas"}]},
    }
    return list(delete._unused_images(used, ["serial-inference/pipeline"], going=["houses"]))


def test_all_images_go_but_those_that_models_and_other_hosts_run(capsys: pytest.CaptureFixture[str]) -> None:
    aws = Aws(DescribeModel={"PrimaryContainer": {"Image": f"{REGISTRY}/pipeline@{DIGESTS[1]}"}})

    deleted: list[Any] = []
    used = clients(aws)
    used.client("ecr").meta.events.register(
        "provide-client-params.ecr.BatchDeleteImage", lambda params, **_: deleted.append(params["imageIds"])
    )

    (found,) = _images_to_delete(aws, used)
    found.delete()

    assert found.name == "serial-inference/pipeline (1 of 3)"
    assert deleted == [[{"imageDigest": DIGESTS[0]}]]
    assert "DeleteRepository" not in aws.asked
    said = capsys.readouterr().err
    assert f"keeping serial-inference/pipeline@{DIGESTS[1][:19]}: model villas uses it" in said
    assert f"keeping serial-inference/pipeline@{DIGESTS[2][:19]}: another host uses it" in said


def test_an_image_that_a_model_may_use_which_nobody_may_look_at_stays(capsys: pytest.CaptureFixture[str]) -> None:
    aws = Aws(DescribeModel=refused("AccessDeniedException", "no"))

    assert _images_to_delete(aws, clients(aws)) == []

    assert not [operation for operation in aws.asked if operation.startswith(("BatchDelete", "Delete"))]
    why = "model villas, which you may not describe, may use it"
    assert capsys.readouterr().err.count(why) == 2


def test_an_image_that_ecr_keeps_is_named() -> None:
    kept = {
        "imageId": {"imageTag": "abc"},
        "failureCode": "ImageReferencedByManifestList",
        "failureReason": "a list has it",
    }
    aws = Aws(BatchDeleteImage={"failures": [{**kept, "failureCode": "ImageNotFound"}, kept]})

    with pytest.raises(PipelineError, match="ECR kept houses abc: a list has it"):
        images.delete_images(clients(aws), "houses", [{"imageTag": "abc"}])


def test_a_bucket_of_another_account_is_never_written(untrained: Path) -> None:
    aws = Aws(GetCallerIdentity=IDENTITY, HeadBucket=refused("403"))

    with pytest.raises(PipelineError, match="is not owned by account") as error:
        deploy.create(plan(aws, untrained), timeout=60)

    assert "--bucket" in error.value.next_step
    assert "PutObject" not in aws.asked


def test_a_missing_bucket_is_made_private_and_encrypted() -> None:
    aws = Aws(GetCallerIdentity=IDENTITY, HeadBucket=refused("404"))

    storage.ensure_bucket(clients(aws), "bucket")

    assert aws.asked[-3:] == ["CreateBucket", "PutPublicAccessBlock", "PutBucketEncryption"]


def refusal(code: str, message: str = "why") -> boto.ClientError:
    return boto.ClientError({"Error": {"Code": code, "Message": message}}, "CreateModel")


@pytest.mark.parametrize(
    ("error", "code", "next_step"),
    [
        (refusal("AccessDeniedException"), FAILED, "docs/iam/"),
        (refusal("ExpiredToken"), FAILED, "renew your credentials"),
        (refusal("InvalidClientTokenId"), FAILED, "check AWS_ACCESS_KEY_ID"),
        (refusal("UnauthorizedOperation"), FAILED, "docs/iam/"),
        (refusal("UnrecognizedClientException"), FAILED, "check AWS_ACCESS_KEY_ID"),
        (refusal("SignatureDoesNotMatch"), FAILED, "check AWS_SECRET_ACCESS_KEY and the clock"),
        (refusal("ImageNotFoundException"), NOT_FOUND, "./build_and_push.sh"),
        (refusal("NoSuchBucket"), NOT_FOUND, "check --bucket"),
        (refusal("NoSuchKey"), NOT_FOUND, "check the name and --region"),
        (refusal("404"), NOT_FOUND, "check the name and --region"),
        (refusal("403"), FAILED, "change what it refuses"),
        (boto.UnknownServiceError(service_name="x", known_service_names=[]), FAILED, "aws sts get-caller-identity"),
        (refusal("ThrottlingException"), FAILED, "wait a minute"),
        (refusal("ResourceLimitExceeded"), FAILED, "Service Quotas"),
        (refusal("RepositoryNotFoundException"), NOT_FOUND, "./build_and_push.sh"),
        (refusal("ValidationException", 'Could not find model "m"'), NOT_FOUND, "check the name and --region"),
        (refusal("ValidationException", "1 validation error"), FAILED, "change what it refuses"),
        (boto.NoCredentialsError(), FAILED, "--profile NAME"),
        (boto.NoRegionError(), WRONG, "--region"),
        (boto.ProfileNotFound(profile="x"), WRONG, "aws configure list-profiles"),
        (boto.EndpointConnectionError(endpoint_url="http://x"), FAILED, "AWS_ENDPOINT_URL"),
        (boto.ReadTimeoutError(endpoint_url="http://x"), TIMEOUT, "run it again"),
        (boto.ParamValidationError(report="x"), WRONG, "change the argument"),
    ],
    ids=lambda value: getattr(value, "operation_name", "") and errors.code_of(value),
)
def test_what_boto_raises_is_one_line_with_the_next_step(error: Any, code: int, next_step: str) -> None:
    explained = errors.explain(error)

    assert explained.code == code
    assert next_step in explained.next_step
    assert "\n" not in explained.message


def test_no_credentials_are_needed_by_a_dry_run_and_asked_for_by_a_real_one(
    untrained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    given = [one for one in DEPLOY if one != "--dry-run"]

    code = main([*given, "--artifacts", str(untrained)], ENV)

    assert code == FAILED
    assert "no AWS credentials" in (said := capsys.readouterr().err)
    assert "python -m local_test up" in said


def test_an_endpoint_that_exists_is_not_deployed_over() -> None:
    with pytest.raises(PipelineError, match="exists already") as live:
        deploy.refuse_existing({"EndpointName": "houses", "EndpointStatus": "InService"})
    with pytest.raises(PipelineError, match="is Failed") as failed:
        deploy.refuse_existing({"EndpointName": "houses", "EndpointStatus": "Failed"})

    assert "--update" in live.value.next_step
    assert "delete" in failed.value.next_step


def test_the_scaling_of_every_variant_is_found_whatever_it_is_called() -> None:
    def target(resource: str) -> Answer:
        return {"ServiceNamespace": "sagemaker", "ResourceId": resource, "ScalableDimension": "d"}

    known = ["endpoint/houses/variant/Blue", "endpoint/houses-2/variant/AllTraffic", "endpoint/houses/variant/Green"]
    aws = Aws(DescribeScalableTargets={"ScalableTargets": [target(one) for one in known]})

    found = autoscale.scaled_variants(clients(aws), "houses")

    assert [one["ResourceId"] for one in found] == [known[0], known[2]]


def test_names_of_releases_fit_and_tell_whose_they_are() -> None:
    long = "a" * 63

    first, second = (release.new_release(long, "hash", {}).name for _ in range(2))

    assert first != second
    assert len(first) == release.LONGEST_NAME
    assert release.is_release_of(long, first)
    assert release.is_release_of("houses", "houses-20260101-000000-abcd")
    assert not release.is_release_of("houses", "houses-new-20260101-000000-abcd")


def test_what_another_endpoints_tag_claims_is_left_alone() -> None:
    name = "houses-20260101-000000-abcd"
    listed = {"Models": [{"ModelName": name, "ModelArn": f"arn:aws:sagemaker:eu-central-1:{ACCOUNT}:model/{name}"}]}

    def found(tags: list[dict[str, str]]) -> list[str]:
        return made.find_made(clients(Aws(ListModels=listed, ListTags={"Tags": tags})), made.MODEL, "houses")

    assert found([{"Key": "serial-inference:endpoint", "Value": "houses"}]) == [name]
    assert found([]) == [name]
    assert found([{"Key": "serial-inference:endpoint", "Value": "houses-2"}]) == []


def test_only_one_module_knows_the_sagemaker_sdk() -> None:
    package = Path(release.__file__).parent
    imports = re.compile(r"import_module\(\"sagemaker|^\s*(import|from) sagemaker", re.MULTILINE)

    knowing = [path.name for path in package.glob("*.py") if imports.search(path.read_text())]

    assert knowing == ["model.py"]


def test_the_clients_go_where_the_environment_says() -> None:
    env = {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "http://127.0.0.1:8080"}

    assert Clients("r", env).endpoint_url("s3") == "http://127.0.0.1:4566"
    assert Clients("r", env).endpoint_url("sagemaker-runtime") == "http://127.0.0.1:8080"
    assert Clients("r", {**env, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}).endpoint_url("s3") is None
    assert Clients("r", env).local
    assert not Clients("r", {}).local
