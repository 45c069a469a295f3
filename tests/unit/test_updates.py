"""`deploy --update`: what an endpoint keeps, how long it is waited for, and what becomes of releases old and new."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.endpoint.errors import FAILED, NOT_FOUND, TIMEOUT, WRONG
from tests.aws_api import ENDPOINT, RELEASE, ROLE, SAGEMAKER, VARIANT, WHEN, Aws, arn, refused

UPDATE = "deploy --artifacts ARTIFACTS --update --tag abc"
DEPLOY = "deploy --artifacts ARTIFACTS --tag abc"


def params(aws: Aws, operation: str) -> list[dict[str, Any]]:
    return [one["params"] for one in aws.requests if one["operation"] == operation]


def after_update(status: str, config: str = "", **more: str) -> dict[str, Any]:
    """The endpoint in service, and with this status after an update; `config` is not the new one then."""

    def describe(aws: Aws) -> dict[str, Any]:
        if "UpdateEndpoint" not in aws.operations:
            return {**ENDPOINT, "EndpointConfigName": RELEASE}
        return {**ENDPOINT, "EndpointStatus": status, "EndpointConfigName": config or aws.config, **more}

    return {**SAGEMAKER, "DescribeLogStreams": {"logStreams": []}, "DescribeEndpoint": describe}


def test_an_update_that_was_rolled_back_deletes_the_new_release_only(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code, aws = run(UPDATE, after_update("InService", RELEASE, FailureReason="an alarm rang."), RELEASE)

    output = capsys.readouterr().err
    new = params(aws, "CreateModel")[0]["ModelName"]
    assert code == FAILED
    assert (
        f"the update of houses was rolled back: an alarm rang. {RELEASE} serves, the new release is deleted\n" in output
    )
    assert "the containers did not start" in output
    assert params(aws, "DeleteEndpointConfig") == [{"EndpointConfigName": new}]
    assert params(aws, "DeleteModel") == [{"ModelName": new}]
    stored = [one["Key"] for one in params(aws, "PutObject")]
    assert [[key["Key"] for key in one["Delete"]["Objects"]] for one in params(aws, "DeleteObjects")] == [stored]
    assert "AddTags" not in aws.operations


def test_an_update_that_left_the_endpoint_failed_deletes_nothing(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, aws = run(UPDATE, after_update("Failed"), RELEASE)

    output = capsys.readouterr().err
    assert code == FAILED
    assert "the update of houses failed and left it Failed: no reason given\n" in output
    assert "python -m pipeline delete --endpoint houses\n" in output
    assert [one for one in aws.operations if one.startswith("Delete")] == []


def test_an_update_deletes_old_releases_and_tags_the_endpoint_as_the_new_one(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = {
        "ListModels": lambda aws: {"Models": [
            {"ModelName": name, "ModelArn": arn("sagemaker", name)} for name in (aws.config, RELEASE)
        ]},
        "DeleteEndpointConfig": refused("ValidationException", 'Could not find endpoint configuration "x"'),
    }  # fmt: skip

    code, aws = run(UPDATE, {**SAGEMAKER, **listed}, RELEASE)

    new = params(aws, "CreateModel")[0]["ModelName"]
    (tags,) = params(aws, "AddTags")
    assert code == 0
    assert params(aws, "DeleteModel") == [{"ModelName": RELEASE}]
    assert (tags["ResourceArn"], {"Key": "serial-inference:release", "Value": new} in tags["Tags"]) == (
        ENDPOINT["EndpointArn"], True
    )  # fmt: skip
    output = capsys.readouterr().err
    assert f"deleted model {RELEASE}\n" in output
    assert f"deleted endpoint config {RELEASE}\n" not in output  # somebody else was quicker


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ("", 35),
        ("--bake 100", 135),
        ("--strategy canary --wait 20 --bake 3", 58),
        ("--strategy linear --step 30 --wait 20 --bake 3 --instance-count 10", 118),  # four shifts
        ("--strategy linear --wait 1", 37),  # two, of one instance each
    ],
)
def test_an_update_is_given_the_time_that_its_waits_take(
    run: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: str, seconds: int
) -> None:
    now = iter(range(0, 10_000, 25))
    monkeypatch.setattr("pipeline.endpoint.waiting.time", SimpleNamespace(monotonic=lambda: next(now)))

    code, _ = run(f"{UPDATE} --timeout 35 {options}", after_update("Updating"), RELEASE)

    assert code == TIMEOUT
    assert f"endpoint houses is still Updating after {seconds} s" in capsys.readouterr().err


def instances(desired: int) -> dict[str, Any]:
    one = {**ENDPOINT, "ProductionVariants": [{**VARIANT, "DesiredInstanceCount": desired}]}
    return {**SAGEMAKER, "DescribeEndpoint": lambda aws: {**one, "EndpointConfigName": aws.config}}


def changed(aws: Aws) -> list[str]:
    return [one for one in aws.operations if not one.startswith(("Describe", "Get", "List"))]


@pytest.mark.parametrize(
    ("options", "desired", "said"),
    [
        ("--strategy canary", 1, "--strategy canary moves half of the instances at most, and there is one"),
        ("--strategy linear", 1, "add --instance-count 2, or leave out --strategy"),
        ("--strategy canary --instance-count 1", 2, "and there is one"),
        ("--strategy linear --wait 3600 --bake 3600", 10, "take 39600 s in all: expected less than the 28800 s"),
        ("--strategy linear --wait 3600", 8, "give shorter ones, or a larger --step"),
        ("", 1, None),
        ("--strategy canary", 2, None),
        ("--strategy canary --instance-count 2", 1, None),
        ("--strategy linear --wait 3600", 7, None),
        ("--strategy canary --wait 3600 --bake 3600", 10, None),
    ],
)
def test_a_rollout_that_sagemaker_would_not_do_is_refused_before_anything_is_made(
    run: Any, capsys: pytest.CaptureFixture[str], options: str, desired: int, said: str | None
) -> None:
    code, aws = run(f"{UPDATE} {options}", instances(desired), RELEASE)

    assert (code, changed(aws) == []) == ((WRONG, True) if said else (0, False))
    assert (said or "") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "count", "kind", "step", "longest"),
    [
        ("--strategy linear", 2, "LinearStepSize", 1, 1800),
        ("--strategy linear --step 30 --wait 60 --bake 5", 10, "LinearStepSize", 3, 1800 + 4 * 60 + 5),
        ("--strategy linear --step 50 --wait 60", 3, "LinearStepSize", 1, 1800 + 3 * 60),
        ("--strategy linear", 19, "LinearStepSize", 2, 1800),  # one is less than SageMaker takes
        ("--strategy canary", 2, "CanarySize", 1, 1800),
        ("--strategy canary --step 1 --wait 300 --bake 600", 100, "CanarySize", 1, 2700),
        ("--strategy canary --step 50", 9, "CanarySize", 4, 1800),
        ("--strategy linear --wait 3500", 8, "LinearStepSize", 1, 28800),
        ("--strategy linear --step 9", 2, "LinearStepSize", None, None),
    ],
)
def test_a_step_is_in_whole_instances_and_an_update_is_given_the_time_of_its_waits(
    run: Any, capsys: pytest.CaptureFixture[str], options: str, count: int, kind: str, step: int | None, longest: int
) -> None:
    code, aws = run(f"{UPDATE} {options}", instances(count), RELEASE)

    if step is None:
        assert (code, aws.operations) == (WRONG, [])
        assert "--step 9\n  next: expected 10 to 50 percent for linear\n" in capsys.readouterr().err
        return
    (asked,) = params(aws, "UpdateEndpoint")
    policy = asked["DeploymentConfig"]["BlueGreenUpdatePolicy"]
    assert (code, policy["TrafficRoutingConfiguration"][kind]) == (0, {"Type": "INSTANCE_COUNT", "Value": step})
    assert policy["MaximumExecutionTimeoutInSeconds"] == longest


CONFIG = {
    "ProductionVariants": [{
        "VariantName": "AllTraffic", "ModelName": RELEASE, "InstanceType": "ml.c5.large", "InitialInstanceCount": 1,
        "VolumeSizeInGB": 20, "ModelDataDownloadTimeoutInSeconds": 120,
        "ContainerStartupHealthCheckTimeoutInSeconds": 90,
    }],
    "KmsKeyId": "key",
    "DataCaptureConfig": {
        "EnableCapture": True, "InitialSamplingPercentage": 5, "DestinationS3Uri": "s3://b/c", "CaptureOptions": [],
    },
}  # fmt: skip
MODEL = {
    **SAGEMAKER["DescribeModel"], "VpcConfig": {"Subnets": ["s"], "SecurityGroupIds": ["g"]},
    "EnableNetworkIsolation": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ("", {}),
        ("--instance-type ml.m5.large --health-check-timeout 60", {"type": "ml.m5.large", "timeout": 60}),
        ("--data-capture 0", {"capture": None}),
        ("--data-capture 7 --capture-to s3://x", {"capture": (7, "s3://x")}),
        ("--no-network-isolation", {"isolation": None}),
        ("--subnets t --security-groups h", {"vpc": {"Subnets": ["t"], "SecurityGroupIds": ["h"]}}),
    ],
)
def test_an_update_keeps_what_it_is_not_given(run: Any, options: str, changed: dict[str, Any]) -> None:
    answers = {**SAGEMAKER, "DescribeEndpointConfig": CONFIG, "DescribeModel": MODEL}

    code, aws = run(f"{UPDATE} {options}", answers, RELEASE)

    (config,), (model,) = params(aws, "CreateEndpointConfig"), params(aws, "CreateModel")
    (variant,), capture = config["ProductionVariants"], config.get("DataCaptureConfig")
    usual = {
        "type": "ml.c5.large", "count": 2, "volume": 20, "download": 120, "timeout": 90, "key": "key",
        "capture": (5, "s3://b/c"), "vpc": MODEL["VpcConfig"], "isolation": True, "role": ROLE,
    }  # fmt: skip
    assert code == 0
    assert {
        "type": variant["InstanceType"], "count": variant["InitialInstanceCount"], "volume": variant["VolumeSizeInGB"],
        "download": variant["ModelDataDownloadTimeoutInSeconds"], "key": config["KmsKeyId"],
        "timeout": variant["ContainerStartupHealthCheckTimeoutInSeconds"],
        "capture": (capture["InitialSamplingPercentage"], capture["DestinationS3Uri"]) if capture else None,
        "vpc": model.get("VpcConfig"), "isolation": model.get("EnableNetworkIsolation"),
        "role": model["ExecutionRoleArn"],
    } == {**usual, **changed}  # fmt: skip


@pytest.mark.parametrize(("options", "lost"), [("", set()), ("--instance-type ml.m5.large", {"InferenceAmiVersion"})])
def test_an_update_keeps_what_somebody_set_elsewhere(run: Any, options: str, lost: set[str]) -> None:
    of_variant = {
        "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}, "EnableSSMAccess": True,
        "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 3},
        "InferenceAmiVersion": "al2-ami-sagemaker-inference-gpu-2",
    }  # fmt: skip
    of_config = {"MetricsConfig": {"EnableEnhancedMetrics": True}, "EnableNetworkIsolation": False}
    shown = {
        **CONFIG, **of_config, "EndpointConfigName": RELEASE, "EndpointConfigArn": "a", "CreationTime": WHEN,
        "ProductionVariants": [CONFIG["ProductionVariants"][0] | of_variant],  # type: ignore[operator]
        "DataCaptureConfig": {**CONFIG["DataCaptureConfig"], "KmsKeyId": "captures"},  # type: ignore[dict-item]
    }  # fmt: skip

    code, aws = run(f"{UPDATE} {options}", {**SAGEMAKER, "DescribeEndpointConfig": shown}, RELEASE)

    (config,) = params(aws, "CreateEndpointConfig")
    (variant,) = config["ProductionVariants"]
    assert code == 0
    assert {name: config[name] for name in of_config} == of_config
    assert {name: variant[name] for name in of_variant if name in variant} == {
        name: value for name, value in of_variant.items() if name not in lost
    }
    assert config["DataCaptureConfig"]["KmsKeyId"] == "captures"
    assert (config["EndpointConfigName"], variant["ModelName"]) != (RELEASE, RELEASE)


def test_capture_that_was_switched_off_stays_off(run: Any) -> None:
    capture = {**CONFIG["DataCaptureConfig"], "EnableCapture": False}  # type: ignore[dict-item]

    code, aws = run(UPDATE, {**SAGEMAKER, "DescribeEndpointConfig": {**CONFIG, "DataCaptureConfig": capture}}, RELEASE)

    assert code == 0
    assert "DataCaptureConfig" not in params(aws, "CreateEndpointConfig")[0]


def test_an_endpoint_whose_config_was_deleted_is_not_updated(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    gone = refused("ValidationException", "Could not find endpoint configuration")

    code, aws = run(f"{UPDATE} --role Given", {**SAGEMAKER, "DescribeEndpointConfig": gone}, RELEASE)

    assert (code, changed(aws)) == (NOT_FOUND, [])
    reason, _, next_step = capsys.readouterr().err.partition("next: ")
    assert f"the endpoint config {RELEASE} that houses serves is gone: SageMaker cannot update it" in reason
    assert "python -m pipeline delete --endpoint houses, then deploy without --update; or make a config" in next_step


@pytest.mark.parametrize(
    ("answers", "config", "code", "message"),
    [
        ({}, None, NOT_FOUND, "there is no endpoint houses to update"),
        ({"DescribeEndpoint": {**ENDPOINT, "EndpointStatus": "Updating", "EndpointConfigName": RELEASE}}, RELEASE,
         FAILED, "endpoint houses is Updating: only one in service can be updated"),
    ],
)  # fmt: skip
def test_what_cannot_be_updated_is_refused_before_anything_is_made(
    run: Any, capsys: pytest.CaptureFixture[str], answers: Any, config: str | None, code: int, message: str
) -> None:
    ended, aws = run(UPDATE, {**SAGEMAKER, **answers}, config)

    assert (ended, aws.operations) == (code, ["DescribeEndpoint"])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "env_role", "name"),
    [("--role Given", "", "Given"), (f"--role {ROLE}", "", None), ("", "Env", "Env"), ("--role Given", "Env", "Given")],
)
def test_the_role_is_the_one_that_is_given_by_name_or_arn(
    run: Any, options: str, env_role: str, name: str | None
) -> None:
    code, aws = run(f"{DEPLOY} {options}", {"GetRole": {"Role": {"Arn": ROLE}}}, env={"SAGEMAKER_ROLE_ARN": env_role})

    assert code == 0
    assert [one["RoleName"] for one in params(aws, "GetRole")] == ([name] if name else [])
    assert params(aws, "CreateModel")[0]["ExecutionRoleArn"] == ROLE


def test_a_role_that_is_not_there_is_not_found(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, aws = run(f"{DEPLOY} --role Other", {"GetRole": refused("NoSuchEntity")})

    assert (code, "CreateModel" in aws.operations) == (NOT_FOUND, False)
    assert "there is no role Other" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["create-endpoint", "create-endpoint-config"])
@pytest.mark.parametrize(
    ("answers", "code", "message"),
    [
        (
            {"DescribeModel": refused("ValidationException", "Could not find model")},
            NOT_FOUND,
            f"there is no model {RELEASE}",
        ),
        ({"ListTags": {"Tags": []}}, FAILED, f"model {RELEASE} was not made here: it lacks our tags"),
    ],
)
def test_a_step_needs_the_model_of_the_first(
    run: Any, capsys: pytest.CaptureFixture[str], verb: str, answers: Any, code: int, message: str
) -> None:
    ended, aws = run(f"{verb} --release {RELEASE}", {**SAGEMAKER, **answers})

    assert (ended, [one for one in aws.operations if one.startswith("Create")]) == (code, [])
    assert message in capsys.readouterr().err
