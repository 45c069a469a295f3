"""Every operation that a verb asks of AWS, in its order; and no verb goes on when AWS refuses one of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.endpoint.errors import FAILED
from tests.aws_api import APPRUNNER, DELETED, ECS, LAMBDA, NOTHING, RELEASE, SAGEMAKER, Answers


@dataclass(frozen=True)
class Verb:
    """A command, what it meets in the account, and all that it asks of AWS. ROWS, OUT and IMAGE are the test's."""

    command: str
    operations: str
    answers: Answers = field(default_factory=lambda: NOTHING)
    config: str | None = None


BOTH = "DescribeRepositories DescribeImages DescribeRepositories DescribeImages"
STORED = "GetCallerIdentity HeadBucket PutObject PutObject"
ROLE_FOUND = "GetRole GetCallerIdentity GetRolePolicy PutRolePolicy"
ROLE_MADE = "GetRole CreateRole GetCallerIdentity GetRolePolicy PutRolePolicy"
ROLE_DELETED = "ListRolePolicies DeleteRolePolicy ListAttachedRolePolicies DetachRolePolicy DeleteRole"
CREATED = f"GetAuthorizationToken GetFunction {ROLE_MADE} CreateFunction GetFunctionConfiguration"
UPDATED = (
    f"GetAuthorizationToken GetFunction {ROLE_FOUND} GetFunctionConfiguration UpdateFunctionCode "
    "GetFunctionConfiguration UpdateFunctionConfiguration GetFunctionConfiguration TagResource"
)
STATUS = "status --artifacts ARTIFACTS --target"
HOSTED = "deploy --artifacts ARTIFACTS --image IMAGE --target"
VERBS = [
    Verb(
        "deploy --artifacts ARTIFACTS --role Given --tag abc",
        f"DescribeEndpoint GetRole {BOTH} {STORED} CreateModel CreateEndpointConfig CreateEndpoint DescribeEndpoint",
    ),
    Verb(
        "deploy --artifacts ARTIFACTS --role Given --tag abc --single",
        "DescribeEndpoint GetRole DescribeRepositories DescribeImages GetCallerIdentity HeadBucket PutObject "
        "CreateModel CreateEndpointConfig CreateEndpoint DescribeEndpoint",
    ),
    Verb(
        "deploy --artifacts ARTIFACTS --update --tag abc --alarm rings",
        f"DescribeEndpoint DescribeAlarms DescribeEndpointConfig DescribeModel {BOTH} {STORED} CreateModel "
        "CreateEndpointConfig UpdateEndpoint DescribeEndpoint AddTags "
        "ListEndpointConfigs ListTags DeleteEndpointConfig ListModels ListTags DeleteModel",
        SAGEMAKER,
        RELEASE,
    ),
    Verb("create-model --artifacts ARTIFACTS --role Given --tag abc", f"GetRole {BOTH} {STORED} CreateModel"),
    Verb(
        f"create-endpoint-config --release {RELEASE}",
        "DescribeModel ListTags GetCallerIdentity CreateEndpointConfig",
        SAGEMAKER,
    ),
    Verb(
        f"create-endpoint --release {RELEASE}",
        "DescribeModel ListTags DescribeEndpoint CreateEndpoint DescribeEndpoint",
        SAGEMAKER,
    ),
    Verb(
        "status --artifacts ARTIFACTS",
        "DescribeEndpoint ListTags DescribeEndpointConfig DescribeModel "
        "DescribeScalableTargets DescribeScalingPolicies GetMetricData",
        SAGEMAKER,
        RELEASE,
    ),
    Verb("logs", "FilterLogEvents", SAGEMAKER),
    Verb("invoke ROWS --retries 0", "InvokeEndpoint", SAGEMAKER),
    Verb(
        "batch ROWS --output OUT --compare 2",
        "DescribeEndpoint DescribeEndpointConfig DescribeModel ListTags GetCallerIdentity HeadBucket PutObject "
        "CreateTransformJob DescribeTransformJob ListObjectsV2 GetObject InvokeEndpoint ListObjectsV2 DeleteObjects",
        SAGEMAKER,
        RELEASE,
    ),
    Verb(
        "autoscale --max 3 --target 9",
        "DescribeEndpoint RegisterScalableTarget PutScalingPolicy",
        SAGEMAKER,
        RELEASE,
    ),
    Verb("autoscale --off", "DescribeScalableTargets DeregisterScalableTarget", SAGEMAKER),
    Verb(
        "delete --artifacts --images --yes",
        "ListTransformJobs ListTags DescribeScalableTargets DescribeEndpoint ListEndpointConfigs ListTags ListModels "
        "ListTags GetCallerIdentity ListObjectsV2 DescribeImages DescribeImages DescribeImages ListModels "
        "StopTransformJob DeregisterScalableTarget DescribeEndpoint DeleteEndpoint DescribeEndpoint "
        "DeleteEndpointConfig DeleteModel DeleteObjects " + "BatchDeleteImage DeleteRepository " * 3,
        DELETED,
        RELEASE,
    ),
    Verb(
        f"{HOSTED} lambda",
        f"{CREATED} GetFunctionUrlConfig CreateFunctionUrlConfig GetPolicy GetPolicy",
    ),
    Verb(
        f"{HOSTED} lambda --public",
        f"{CREATED} GetFunctionUrlConfig CreateFunctionUrlConfig GetPolicy AddPermission GetPolicy AddPermission",
    ),
    Verb(
        f"{HOSTED} lambda --api http",
        f"{CREATED} GetApis CreateApi GetRoutes CreateIntegration CreateRoute GetStages CreateStage "
        "GetPolicy AddPermission",
    ),
    Verb(
        f"{HOSTED} lambda --api rest",
        f"{CREATED} GetRestApis CreateRestApi GetResources CreateResource GetMethod PutMethod PutIntegration "
        "GetStage CreateDeployment GetPolicy AddPermission",
    ),
    Verb(f"{HOSTED} lambda --api none", CREATED),
    Verb(
        f"{HOSTED} ecs",
        f"GetAuthorizationToken DescribeServices {ROLE_MADE} GetRole CreateRole ListAttachedRolePolicies "
        "AttachRolePolicy CreateLogGroup CreateExpressGatewayService ListServiceDeployments DescribeServices "
        "DescribeExpressGatewayService ListTagsForResource",
    ),
    Verb(
        f"{HOSTED} apprunner",
        f"GetAuthorizationToken ListServices {ROLE_MADE} ListAutoScalingConfigurations "
        "CreateAutoScalingConfiguration CreateService ListOperations ListServices DescribeService",
    ),
    Verb(
        f"{HOSTED} lambda",
        f"{UPDATED} GetFunctionUrlConfig UpdateFunctionUrlConfig GetPolicy RemovePermission GetPolicy RemovePermission",
        LAMBDA,
    ),
    Verb(
        f"{HOSTED} lambda --api http",
        f"{UPDATED} GetApis GetRoutes UpdateRoute GetStages GetPolicy AddPermission",
        LAMBDA,
    ),
    Verb(
        f"{HOSTED} lambda --api rest",
        f"{UPDATED} GetRestApis GetResources CreateResource GetMethod DeleteMethod PutMethod PutIntegration "
        "GetStage CreateDeployment GetPolicy AddPermission",
        LAMBDA,
    ),
    Verb(
        f"{HOSTED} ecs",
        f"GetAuthorizationToken DescribeServices ListTagsForResource {ROLE_FOUND} ListServiceDeployments "
        "DescribeExpressGatewayService UpdateExpressGatewayService ListServiceDeployments TagResource "
        "DescribeServices DescribeExpressGatewayService ListTagsForResource",
        ECS,
    ),
    Verb(
        f"{HOSTED} apprunner",
        f"GetAuthorizationToken ListServices DescribeService ListTagsForResource {ROLE_FOUND} "
        "ListAutoScalingConfigurations DescribeAutoScalingConfiguration CreateAutoScalingConfiguration "
        "UpdateService ListOperations TagResource ListServices DescribeService",
        APPRUNNER,
    ),
    Verb(f"{STATUS} lambda", "GetFunction GetFunctionUrlConfig GetApis GetRestApis", LAMBDA),
    Verb(f"{STATUS} ecs", "DescribeServices DescribeExpressGatewayService ListTagsForResource", ECS),
    Verb(f"{STATUS} apprunner", "ListServices DescribeService ListTagsForResource", APPRUNNER),
    Verb(
        "delete --yes --target lambda",
        f"GetFunction GetApis GetRestApis GetRole DescribeImages DeleteApi DeleteRestApi DeleteFunction {ROLE_DELETED} "
        "BatchDeleteImage",
        LAMBDA,
    ),
    Verb(
        "delete --yes --target ecs",
        "DescribeServices ListTagsForResource GetRole GetRole DescribeImages "
        f"DescribeServices DeleteExpressGatewayService DescribeServices {ROLE_DELETED} {ROLE_DELETED} BatchDeleteImage",
        ECS,
    ),
    Verb(
        "delete --yes --target apprunner",
        "ListServices DescribeService ListTagsForResource ListAutoScalingConfigurations ListTagsForResource GetRole "
        "DescribeImages ListServices DescribeService DeleteService ListServices DeleteAutoScalingConfiguration "
        f"{ROLE_DELETED} BatchDeleteImage",
        APPRUNNER,
    ),
]  # fmt: skip
IDS = [f"{verb.command} of {'nothing' if verb.answers is NOTHING else 'what is there'}" for verb in VERBS]


# Refused without harm: status says that it may not read figures, and a prediction is asked for again
NOT_NEEDED = {("status", "GetMetricData"), ("batch", "InvokeEndpoint")}
READS = ("Get", "List", "Describe", "Head", "Filter")
# What is undone, and by what, when a later request of a deploy or a batch is refused
UNDOES = {
    "PutObject": "DeleteObjects", "CreateModel": "DeleteModel", "CreateEndpointConfig": "DeleteEndpointConfig",
    "CreateEndpoint": "DeleteEndpoint", "CreateTransformJob": "StopTransformJob", "CreateRole": "DeleteRole",
    "CreateFunction": "DeleteFunction", "CreateFunctionUrlConfig": "DeleteFunctionUrlConfig",
    "AddPermission": "RemovePermission", "CreateApi": "DeleteApi", "CreateRestApi": "DeleteRestApi",
    "UpdateFunctionCode": "UpdateFunctionCode", "UpdateFunctionConfiguration": "UpdateFunctionConfiguration",
    "UpdateFunctionUrlConfig": "UpdateFunctionUrlConfig", "CreateExpressGatewayService": "DeleteExpressGatewayService",
    "UpdateExpressGatewayService": "UpdateExpressGatewayService", "CreateService": "DeleteService",
    "CreateAutoScalingConfiguration": "DeleteAutoScalingConfiguration",
}  # fmt: skip
MAY_UNDO = {*UNDOES.values(), "DeleteRolePolicy", "DetachRolePolicy", "BatchDeleteImage"}


@pytest.mark.parametrize("verb", VERBS, ids=IDS)
def test_a_verb_asks_aws_for_these_operations_in_this_order(run: Any, verb: Verb) -> None:
    code, aws = run(verb.command, verb.answers, verb.config)

    assert code == 0
    assert aws.operations == verb.operations.split()


@pytest.mark.parametrize("verb", VERBS, ids=IDS)
def test_a_verb_ends_with_the_reason_and_leaves_nothing_when_aws_refuses_a_request(
    run: Any, verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    operations = verb.operations.split()
    for at, operation in enumerate(operations):
        if (verb.command.split()[0], operation) in NOT_NEEDED:
            continue

        code, aws = run(verb.command, verb.answers, verb.config, refuses=at)

        output = capsys.readouterr()
        assert (code, output.out) == (FAILED, ""), operation
        assert re.search(
            rf"^pipeline: (.*: )?AWS refused {operation}: Rate exceeded \(ThrottlingException\)\n"
            r"  next: wait a minute and run it again\n\Z", output.err, re.MULTILINE,
        ), output.err  # fmt: skip
        changes = {one for one in aws.operations[at + 1 :] if not one.startswith(READS)}
        assert undone(verb, operations[:at], operation) <= changes <= may_undo(verb), operation


def undone(verb: Verb, done: list[str], refused: str) -> set[str]:
    """The operations that must follow, so that nothing is left of those that were done."""
    if not verb.command.startswith(("deploy", "batch", "create-model")) or "UpdateEndpoint" in done:
        return set()
    ended = {"StopTransformJob"} if "DescribeTransformJob" in done else set()
    if verb.command.startswith("batch") and refused in ("ListObjectsV2", "DeleteObjects"):
        ended.add("DeleteObjects")
    return {UNDOES[one] for one in done if one in UNDOES} - ended


def may_undo(verb: Verb) -> set[str]:
    return set() if verb.command.startswith("delete") else MAY_UNDO


DELETING = [verb for verb in VERBS if verb.command.startswith("delete")]
MISSING = {
    "sagemaker": ("ValidationException", 'Could not find model "m"'),
    "application-autoscaling": ("ObjectNotFoundException", "no target"),
    "iam": ("NoSuchEntity", "no role"),
    "apigateway": ("NotFoundException", "no API"),
    "apigatewayv2": ("NotFoundException", "no API"),
    "ecs": ("ServiceNotFoundException", "no service"),
    "lambda": ("ResourceNotFoundException", "no function"),
    "apprunner": ("ResourceNotFoundException", "no service"),
}


@pytest.mark.parametrize("verb", DELETING, ids=lambda verb: verb.command)
def test_what_somebody_else_deletes_meanwhile_is_no_error(run: Any, verb: Verb) -> None:
    answers = {**verb.answers, "DescribeTransformJob": {"TransformJobStatus": "Completed"}}
    whole, aws = run(verb.command, answers, verb.config)
    ended = {
        request["operation"]: run(verb.command, answers, verb.config, refuses=at, refusal=MISSING[request["service"]])[
            0
        ]
        for at, request in enumerate(aws.requests)
        if not request["operation"].startswith(READS) and request["service"] in MISSING
    }

    assert whole == 0
    assert set(ended.values()) == {0}, ended
