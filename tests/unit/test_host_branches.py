"""Lambda, ECS and App Runner where something is on its way, refused, half-made, or already as it should be."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pipeline.endpoint.errors import FAILED, NOT_FOUND, TIMEOUT, WRONG, PipelineError
from pipeline.hosts import host, on_ecs, roles
from pipeline.hosts.host import as_dict
from tests.aws_api import (
    APPRUNNER,
    ECS,
    EXPRESS,
    HOST,
    LAMBDA,
    NOTHING,
    OWN,
    ROLE,
    RUNS,
    SERVICE,
    TAGS,
    Aws,
    refused,
    turns,
)

DEPLOY = "deploy --artifacts ARTIFACTS --image IMAGE --target"
BUSY = "OPERATION_IN_PROGRESS"


def params(aws: Aws, operation: str) -> list[dict[str, Any]]:
    return [one["params"] for one in aws.requests if one["operation"] == operation]


def deployments(*statuses: str) -> Any:
    return turns(*({"serviceDeployments": [{"status": status, "createdAt": 1}]} for status in statuses))


def operations(*statuses: str) -> Any:
    return turns(*({"OperationSummaryList": [{"Id": "0000000000", "Status": status}]} for status in statuses))


@pytest.mark.parametrize(
    ("target", "answers", "operation", "states"),
    [
        ("lambda", {"GetFunctionConfiguration": turns(
            {"State": "Pending"}, {"State": "Pending"}, {"State": "Active", "LastUpdateStatus": "InProgress"},
            {"State": "Active", "LastUpdateStatus": "Successful"})},
         "GetFunctionConfiguration", ["Pending", "updating"]),
        ("ecs", {"ListServiceDeployments": turns(
            {"serviceDeployments": []}, *[{"serviceDeployments": [{"status": one}]} for one in
                                          ("IN_PROGRESS", "IN_PROGRESS", "SUCCESSFUL")])},
         "ListServiceDeployments", ["PENDING", "IN_PROGRESS"]),
        ("apprunner", {"ListOperations": turns(
            {"OperationSummaryList": [{"Id": "older", "Status": "FAILED"}]},
            *[{"OperationSummaryList": [{"Id": "0000000000", "Status": one}]} for one in
              ("PENDING", "IN_PROGRESS", "SUCCEEDED")])},
         "ListOperations", ["PENDING", "IN_PROGRESS"]),
    ],
)  # fmt: skip
def test_a_host_is_waited_for_and_each_state_is_shown_once(
    run: Any, capsys: pytest.CaptureFixture[str], target: str, answers: Any, operation: str, states: list[str]
) -> None:
    code, aws = run(f"{DEPLOY} {target}", {**NOTHING, **answers})

    output = capsys.readouterr().err
    assert (code, aws.operations.count(operation)) == (0, 4)
    assert [line.split()[2] for line in output.splitlines() if line.endswith(" s)")] == states


@pytest.mark.parametrize(
    ("target", "answers", "message"),
    [
        ("lambda", {"GetFunctionConfiguration": {"State": "Failed", "StateReason": "no image"}},
         "function houses failed: no image"),
        ("lambda", {"GetFunctionConfiguration": {"State": "Failed", "LastUpdateStatusReason": "another"}},
         "function houses failed: no reason given"),
        ("lambda", {"GetFunctionConfiguration": {"LastUpdateStatus": "Failed", "LastUpdateStatusReason": "too big"}},
         "function houses failed: too big"),
        *(("ecs", {"ListServiceDeployments": deployments("IN_PROGRESS", status)},
           f"service houses was not deployed, {status}: no reason given") for status in on_ecs.FAILED),
        ("ecs", {"ListServiceDeployments": {"serviceDeployments": [{"status": "STOPPED", "statusReason": "no task"}]}},
         "service houses was not deployed, STOPPED: no task"),
        *(("apprunner", {"ListOperations": operations("IN_PROGRESS", status)},
           f"service houses was not deployed: {status}") for status in ("FAILED", "ROLLBACK_FAILED",
                                                                        "ROLLBACK_SUCCEEDED")),
    ],
)  # fmt: skip
def test_a_host_that_fails_ends_a_deploy_with_the_reason(
    run: Any, capsys: pytest.CaptureFixture[str], target: str, answers: Any, message: str
) -> None:
    words = {"DescribeLogStreams": {"logStreams": []}}

    code, aws = run(f"{DEPLOY} {target}", {**NOTHING, **words, **answers})

    output = capsys.readouterr().err
    assert code == FAILED
    assert f"pipeline: {message}\n" in output
    assert ("no log in /aws/ecs/houses: the containers did not start" in output) == (target == "ecs")
    assert {"lambda": "DeleteFunction", "ecs": "DeleteExpressGatewayService", "apprunner": "DeleteService"}[
        target
    ] in aws.operations


def test_a_deployment_of_another_revision_is_not_the_one_that_is_waited_for(run: Any) -> None:
    older = {"status": "SUCCESSFUL", "targetServiceRevisionArn": "r1", "createdAt": 2}
    listed = [
        {"serviceDeployments": [older]}, {"serviceDeployments": [older]},
        {"serviceDeployments": [older, {"status": "SUCCESSFUL", "targetServiceRevisionArn": "r2", "createdAt": 1}]},
    ]  # fmt: skip
    answers = {
        **ECS, "ListServiceDeployments": turns(*listed),
        "UpdateExpressGatewayService": {"service": {"targetConfiguration": {"serviceRevisionArn": "r2"}}},
    }  # fmt: skip

    code, aws = run(f"{DEPLOY} ecs", answers)

    assert (code, aws.operations.count("ListServiceDeployments")) == (0, 3)


def test_the_newest_deployment_counts_where_none_is_named(run: Any) -> None:
    old, new = {"status": "STOPPED", "createdAt": "2026-01-01"}, {"status": "SUCCESSFUL", "createdAt": "2026-01-02"}

    code, _ = run(f"{DEPLOY} ecs", {**NOTHING, "ListServiceDeployments": {"serviceDeployments": [old, new]}})

    assert code == 0


@pytest.mark.parametrize("target", ["lambda", "ecs", "apprunner"])
def test_a_host_that_takes_too_long_ends_with_4(
    run: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    now = iter(range(0, 10_000, 10))
    monkeypatch.setattr(host, "time", SimpleNamespace(monotonic=lambda: next(now)))
    answers = {
        "GetFunctionConfiguration": {"State": "Pending"}, "ListServiceDeployments": deployments("IN_PROGRESS"),
        "ListOperations": operations("IN_PROGRESS"),
    }  # fmt: skip

    code, _ = run(f"{DEPLOY} {target} --timeout 25", {**NOTHING, **answers})

    assert code == TIMEOUT
    assert " after 25 s\n  next: give a longer --timeout" in capsys.readouterr().err


def test_a_service_that_drains_is_waited_for_and_made_anew(run: Any) -> None:
    drains = {"services": [{**SERVICE, "status": "DRAINING"}]}
    states = turns(drains, drains, drains, {"services": [{**SERVICE, "status": "INACTIVE"}]}, {"services": [SERVICE]})

    code, aws = run(f"{DEPLOY} ecs", {**ECS, "DescribeServices": states})

    before = aws.operations[: aws.operations.index("CreateExpressGatewayService")]
    assert (code, before.count("DescribeServices")) == (0, 4)


def test_a_service_that_drains_already_is_only_waited_for_when_it_is_deleted(run: Any) -> None:
    drains, gone = {"services": [{**SERVICE, "status": "DRAINING"}]}, {"services": []}

    code, aws = run("delete --yes --target ecs", {**ECS, "DescribeServices": turns(drains, drains, drains, gone)})

    assert (code, "DeleteExpressGatewayService" in aws.operations) == (0, False)
    assert aws.operations.count("DescribeServices") == 4


@pytest.mark.parametrize(
    ("status", "code", "anew"), [("CREATE_FAILED", 0, True), ("PAUSED", FAILED, False), ("RUNNING", 0, False)]
)
def test_a_service_that_cannot_be_updated_is_made_anew_or_refused(
    run: Any, capsys: pytest.CaptureFixture[str], status: str, code: int, anew: bool
) -> None:
    shown = [{**RUNS, "Status": one} for one in (BUSY, status)]
    answers = {**APPRUNNER, "DescribeService": turns(*({"Service": one} for one in (shown[0], *[shown[1]] * 9)))}

    ended, aws = run(f"{DEPLOY} apprunner", answers)

    assert (ended, "CreateService" in aws.operations, "DeleteService" in aws.operations) == (code, anew, anew)
    assert ("resume it, or delete it" in capsys.readouterr().err) == (code == FAILED)


def test_a_service_that_cannot_be_deleted_is_an_error(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stays = [{"Service": {**RUNS, "Status": status}} for status in ("RUNNING", "RUNNING", "DELETE_FAILED")]
    listed = {"ListServices": lambda _: {"ServiceSummaryList": [RUNS]}}

    code, _ = run("delete --yes --target apprunner", {**APPRUNNER, **listed, "DescribeService": turns(*stays)})

    assert code == FAILED
    assert "service houses was not deleted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("refusal", "attempts"),
    [
        ("The role defined for the function cannot be assumed by Lambda.", 3),
        ("Error in assuming instance ROLE", 3),
        ("The role is wrong", 1),
        ("cannot be assumed", 1),
    ],
)
def test_only_a_role_that_nobody_knows_yet_is_waited_for(
    run: Any, refusal: str, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("pipeline.endpoint.session.time.sleep", pauses.append)
    unknown = refused("InvalidParameterValueException", refusal)

    code, aws = run(f"{DEPLOY} lambda", {**NOTHING, "CreateFunction": turns(unknown, unknown, {})})

    assert (code == 0, aws.operations.count("CreateFunction")) == (attempts == 3, attempts)
    assert len(pauses) == attempts - 1


def test_a_role_that_stays_unknown_is_an_error_after_a_minute(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10_000, 25))
    monkeypatch.setattr(host, "time", SimpleNamespace(monotonic=lambda: next(now)))

    code, aws = run(
        f"{DEPLOY} lambda", {**NOTHING, "CreateFunction": refused("InvalidParameterValueException", "role: assume")}
    )

    assert (code, aws.operations.count("CreateFunction")) == (FAILED, 3)


OTHERS = {"Tags": [{"Key": "serial-inference:endpoint", "Value": "villas"}]}


@pytest.mark.parametrize(
    ("target", "answers"),
    [
        ("lambda", {**LAMBDA, "GetFunction": {**LAMBDA["GetFunction"], "Tags": {}}}),
        ("lambda", {**LAMBDA, "GetRole": {"Role": {"Arn": ROLE, **OTHERS}}}),
        ("ecs", {**ECS, "ListTagsForResource": {"tags": []}}),
        ("apprunner", {**APPRUNNER, "ListTagsForResource": OTHERS}),
    ],
)
def test_what_is_not_of_this_service_is_neither_changed_nor_deleted(
    run: Any, capsys: pytest.CaptureFixture[str], target: str, answers: Any
) -> None:
    code, aws = run(f"{DEPLOY} {target}", answers)

    assert code == FAILED
    assert "which was not made by deploy: it lacks the tag serial-inference:endpoint=houses" in capsys.readouterr().err
    assert [one for one in aws.operations if one.startswith(("Update", "Create", "Put", "Delete"))] == []
    run(f"delete --yes --target {target} --json", answers)
    kinds = {one["kind"] for one in json.loads(capsys.readouterr().out)["deleted"]}
    assert kinds & ({"role"} if answers.get("GetRole") != HOST["GetRole"] else {"function", "service"}) == set()


def test_tags_of_a_service_that_went_meanwhile_are_none(run: Any) -> None:
    code, aws = run(
        "delete --yes --target apprunner", {**APPRUNNER, "ListTagsForResource": refused("ResourceNotFoundException")}
    )

    assert (code, "DeleteService" in aws.operations) == (0, False)


@pytest.mark.parametrize("target", ["lambda", "ecs", "apprunner"])
def test_a_service_that_is_not_there_is_not_found(run: Any, capsys: pytest.CaptureFixture[str], target: str) -> None:
    assert run(f"status --target {target}", NOTHING)[0] == NOT_FOUND

    assert f"there is no houses on {target} in us-east-1" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--artifacts", "--images", "--bucket b"])
def test_what_only_sagemaker_has_is_not_deleted_elsewhere(run: Any, option: str) -> None:
    code, aws = run(f"delete --yes --target ecs {option}", ECS)

    assert (code, aws.operations) == (WRONG, [])


def test_the_settings_that_a_service_has_are_not_sent_again(run: Any) -> None:
    _, aws = run(f"{DEPLOY} ecs", NOTHING)
    (created,) = params(aws, "CreateExpressGatewayService")
    only_new = ("serviceName", "infrastructureRoleArn", "tags")
    active = {key: value for key, value in created.items() if key not in only_new}
    more = {**active, "securityGroups": ["by ECS"], "primaryContainer": {**active["primaryContainer"], "more": 1}}
    answers = {**ECS, "GetRole": {"Role": {"Arn": created["executionRoleArn"], "Tags": TAGS}}}

    def updated(**changed: Any) -> bool:
        service = {"activeConfigurations": [{**more, **changed}, EXPRESS]}
        _, aws = run(f"{DEPLOY} ecs", {**answers, "DescribeExpressGatewayService": {"service": service}})
        return "UpdateExpressGatewayService" in aws.operations

    assert not updated()
    assert updated(cpu="4096")
    assert updated(primaryContainer={**active["primaryContainer"], "image": "former"})
    assert updated(scalingTarget=None)


def test_an_update_that_fails_puts_back_what_the_service_had(run: Any) -> None:
    answers = {
        **ECS,
        "ListServiceDeployments": deployments("SUCCESSFUL", "STOPPED"),
        "DescribeLogStreams": {"logStreams": []},
    }

    code, aws = run(f"{DEPLOY} ecs", answers)

    back = {**EXPRESS, "serviceArn": SERVICE["serviceArn"]}
    del back["ingressPaths"]
    assert code == FAILED
    assert params(aws, "UpdateExpressGatewayService")[1:] == [back]


def test_the_first_scaling_that_is_as_wanted_is_taken(run: Any) -> None:
    _, aws = run(f"{DEPLOY} apprunner", NOTHING)
    (wanted,) = params(aws, "CreateAutoScalingConfiguration")
    wanted.pop("Tags")
    listed = [
        {"AutoScalingConfigurationArn": f"s{number}", "AutoScalingConfigurationRevision": number, "Status": status}
        for number, status in ((9, "active"), (10, "ACTIVE"), (11, "inactive"))
    ]
    answers = {
        **APPRUNNER, "ListAutoScalingConfigurations": {"AutoScalingConfigurationSummaryList": listed},
        "DescribeAutoScalingConfiguration": lambda aws: {"AutoScalingConfiguration": {**wanted, **aws.last}},
    }  # fmt: skip

    _, aws = run(f"{DEPLOY} apprunner", answers)

    (sent,) = params(aws, "UpdateService")
    assert sent["AutoScalingConfigurationArn"] == "s10"
    assert "CreateAutoScalingConfiguration" not in aws.operations
    _, aws = run(f"{DEPLOY} apprunner --most 9", answers)
    assert "CreateAutoScalingConfiguration" in aws.operations


@pytest.mark.parametrize("listed", [True, False])
def test_services_are_found_on_every_page(run: Any, listed: bool) -> None:
    other = {**RUNS, "ServiceName": "villas"}
    deleted = {**RUNS, "Status": "DELETED"}
    pages = turns(
        {"ServiceSummaryList": [other, deleted], "NextToken": "2"},
        {"ServiceSummaryList": [RUNS] if listed else [other]},
    )

    code, aws = run("status --target apprunner", {**APPRUNNER, "ListServices": pages})

    assert code == (0 if listed else NOT_FOUND)
    assert params(aws, "ListServices") == [{}, {"NextToken": "2"}]


@pytest.mark.parametrize("answer", [{"Service": {**RUNS, "Status": "DELETED"}}, refused("ResourceNotFoundException")])
def test_a_service_that_is_deleted_while_it_is_looked_at_is_none(run: Any, answer: Any) -> None:
    assert run("status --target apprunner", {**APPRUNNER, "DescribeService": answer})[0] == NOT_FOUND


@pytest.mark.parametrize(("options", "cluster"), [("", "default"), ("--cluster other", "other")])
@pytest.mark.parametrize("command", [f"{DEPLOY} ecs", "status --target ecs", "delete --yes --target ecs"])
def test_a_service_is_looked_for_in_its_cluster(run: Any, command: str, options: str, cluster: str) -> None:
    code, aws = run(f"{command} {options}", ECS)

    assert code == 0
    assert {one["params"]["cluster"] for one in aws.requests if "cluster" in one["params"]} == {cluster}


@pytest.mark.parametrize(
    ("names", "tags"),
    [
        ([{"Key": "a", "Value": "b"}], {"a": "b"}),
        ([{"key": "a", "value": "b"}, {"key": "c"}], {"a": "b", "c": ""}),
        ([], {}),
    ],
)
def test_tags_are_read_in_both_spellings(names: Any, tags: dict[str, str]) -> None:
    assert as_dict(names) == tags


def test_a_role_that_nobody_knows_is_tried_for_a_minute_to_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 60.0, 60.5])
    monkeypatch.setattr(host, "time", SimpleNamespace(monotonic=lambda: next(now)))
    unknown = refused("InvalidParameterValueException", "cannot assume the role")["Error"]
    pauses: list[None] = []
    attempts: list[None] = []

    def create() -> None:
        attempts.append(None)
        raise ClientError({"Error": unknown}, "CreateFunction")

    clients: Any = SimpleNamespace(pause=lambda: pauses.append(None))
    with pytest.raises(ClientError):
        host.once_the_role_is_known(clients, create)

    assert (len(attempts), len(pauses)) == (2, 1)


def test_a_host_is_waited_for_until_its_time_is_over_and_not_longer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr(host, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    states = iter(["PENDING", "PENDING", "BUSY", "BUSY"])

    def pause() -> None:
        clock[0] += 10.0

    clients: Any = SimpleNamespace(pause=pause)
    with pytest.raises(PipelineError, match=r"^service x is still BUSY after 20 s$") as caught:
        host.wait_for(clients, "service x", lambda: next(states), 20.0)

    assert (caught.value.code, caught.value.next_step, clock[0]) == (TIMEOUT, "give a longer --timeout", 130.0)
    assert capsys.readouterr().err == "service x: PENDING (0 s)\nservice x: BUSY (20 s)\n"
    host.wait_for(clients, "service x", lambda: None, 0.0)
    assert (clock[0], capsys.readouterr().err) == (130.0, "")


CREATED = {
    "lambda": ["role houses-lambda", "function houses", "the URL of function houses"],
    "lambda --api http": ["role houses-lambda", "function houses", "HTTP API houses"],
    "lambda --api rest": ["role houses-lambda", "function houses", "REST API houses"],
    "ecs": ["role houses-ecs-execution", "role houses-ecs-infrastructure", "service houses"],
    "apprunner": ["role houses-apprunner-access", "scaling houses", "service houses"],
}


@pytest.mark.parametrize("target", CREATED)
def test_whoever_deploys_is_told_of_each_thing_that_is_made(
    run: Any, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    code, _ = run(f"{DEPLOY} {target}", NOTHING)

    said = capsys.readouterr().err.splitlines()
    assert code == 0
    assert [line.removeprefix("creating ") for line in said if line.startswith("creating ")] == CREATED[target]


@pytest.mark.parametrize(
    ("target", "answers", "said"),
    [
        ("lambda", LAMBDA, ["updating function houses", "changing the settings of function houses"]),
        ("ecs", ECS, ["updating service houses"]),
        ("apprunner", APPRUNNER, ["updating service houses"]),
    ],
)
def test_whoever_deploys_is_told_of_what_is_changed(
    run: Any, capsys: pytest.CaptureFixture[str], target: str, answers: Any, said: list[str]
) -> None:
    code, _ = run(f"{DEPLOY} {target}", answers)

    lines = capsys.readouterr().err.splitlines()
    assert code == 0
    assert [line for line in lines if line.startswith(("updating", "changing"))] == said


@pytest.mark.parametrize(
    ("target", "answers", "next_step"),
    [
        ("lambda", {"GetFunctionConfiguration": {"State": "Failed"}}, "change what it names"),
        ("ecs", {"ListServiceDeployments": deployments("STOPPED"), "DescribeLogStreams": {"logStreams": []}},
         "see the containers' last words above"),
        ("apprunner", {"ListOperations": operations("FAILED")},
         "its log names the reason: /aws/apprunner/houses/.../service in CloudWatch Logs"),
        ("lambda", {"GetRole": {"Role": {"Arn": ROLE, **OTHERS}}}, "give another name with --endpoint"),
    ],
)  # fmt: skip
def test_a_deploy_that_failed_says_how_to_go_on(
    run: Any, capsys: pytest.CaptureFixture[str], target: str, answers: Any, next_step: str
) -> None:
    code, _ = run(f"{DEPLOY} {target}", {**NOTHING, **answers})

    assert (code, f"\n  next: {next_step}\n" in capsys.readouterr().err) == (FAILED, True)


def test_a_log_group_that_cannot_be_made_ends_a_deploy_and_one_that_is_there_does_not(run: Any) -> None:
    codes = [
        run(f"{DEPLOY} ecs", {**NOTHING, "CreateLogGroup": refused(code)})[0]
        for code in ("ResourceAlreadyExistsException", "AccessDeniedException")
    ]

    assert codes == [0, FAILED]


def test_a_roles_name_has_room_for_its_suffix() -> None:
    assert roles.LAMBDA.name("a" * 63) == f"{'a' * 57}-lambda"
    assert roles.LAMBDA.name("a" * 57) == f"{'a' * 57}-lambda"
    assert roles.LAMBDA.name("houses") == "houses-lambda"


@pytest.mark.parametrize("answer", [{"PolicyDocument": {}}, refused("NoSuchEntity")])
def test_a_half_made_role_is_mended_and_a_whole_one_is_left(run: Any, answer: Any) -> None:
    _, aws = run(f"{DEPLOY} lambda", {**LAMBDA, "GetRolePolicy": answer})
    (put,) = params(aws, "PutRolePolicy")
    whole = {"PolicyDocument": json.loads(put["PolicyDocument"])}

    code, again = run(f"{DEPLOY} lambda", {**LAMBDA, "GetRolePolicy": whole})
    assert code == 0
    assert "PutRolePolicy" not in again.operations


def test_a_managed_policy_is_attached_once_and_in_the_regions_partition(run: Any) -> None:
    _, aws = run(f"{DEPLOY} ecs --region cn-north-1", NOTHING)
    (attached,) = params(aws, "AttachRolePolicy")
    assert attached["PolicyArn"].startswith("arn:aws-cn:iam::aws:policy/service-role/AmazonECSInfrastructureRole")

    has = {"AttachedPolicies": [{"PolicyArn": attached["PolicyArn"]}]}
    _, again = run(f"{DEPLOY} ecs --region cn-north-1", {**NOTHING, "ListAttachedRolePolicies": has})
    assert "AttachRolePolicy" not in again.operations


def test_the_permissions_and_addresses_are_of_the_regions_partition(run: Any) -> None:
    _, aws = run(f"{DEPLOY} lambda --api rest --region cn-north-1", NOTHING)

    (integration,), (permission,) = params(aws, "PutIntegration"), params(aws, "AddPermission")
    function = "arn:aws-cn:lambda:cn-north-1:123456789012:function:houses"
    assert integration["uri"] == (
        f"arn:aws-cn:apigateway:cn-north-1:lambda:path/2015-03-31/functions/{function}/invocations"
    )
    assert permission["SourceArn"] == "arn:aws-cn:execute-api:cn-north-1:123456789012:0000000000/*/*"


@pytest.mark.parametrize(
    ("api", "answers", "changes"),
    [
        ("http", {"GetRoutes": {"Items": [{"RouteId": "r", "AuthorizationType": "AWS_IAM"}]}}, []),
        ("http", {}, ["UpdateRoute"]),
        ("http", {"GetRoutes": {"Items": []}, "GetStages": {"Items": []}},
         ["CreateIntegration", "CreateRoute", "CreateStage"]),
        ("rest", {"GetMethod": {"authorizationType": "AWS_IAM", "methodIntegration": {"uri": "f"}}}, []),
        ("rest", {"GetMethod": {"authorizationType": "AWS_IAM", "methodIntegration": {"uri": "f"}},
                  "GetStage": refused("NotFoundException")}, ["CreateDeployment"]),
        ("rest", {"GetMethod": {"authorizationType": "AWS_IAM"}},
         ["DeleteMethod", "PutMethod", "PutIntegration", "CreateDeployment"]),
        ("rest", {"GetMethod": refused("NotFoundException")}, ["PutMethod", "PutIntegration", "CreateDeployment"]),
        ("url", {"GetFunctionUrlConfig": {"FunctionUrl": "https://f/", "AuthType": "AWS_IAM"},
                 "GetPolicy": refused("ResourceNotFoundException")}, []),
    ],
)  # fmt: skip
def test_an_api_is_changed_only_where_it_is_not_as_wanted(run: Any, api: str, answers: Any, changes: list[str]) -> None:
    resources = {"GetResources": {"items": [{"path": "/", "id": "1"}, {"path": "/{proxy+}", "id": "2"}]}}

    code, aws = run(f"{DEPLOY} lambda --api {api}", {**LAMBDA, **resources, **answers})

    own = [one for one in aws.operations if "Function" not in one and "Role" not in one]
    sent = [one for one in own if one.startswith(("Create", "Update", "Put", "Delete", "Remove"))]
    assert (code, sent) == (0, changes)


def test_a_function_that_is_as_wanted_is_not_changed(run: Any) -> None:
    _, aws = run(f"{DEPLOY} lambda", NOTHING)
    (created,) = params(aws, "CreateFunction")
    image = {"EntryPoint": created["ImageConfig"]["EntryPoint"], "Command": ["serve"], "WorkingDirectory": ""}
    has = {"FunctionArn": "arn:f", "MemorySize": created["MemorySize"], "Timeout": created["Timeout"], "Role": ROLE}
    function = {
        "Configuration": {**has, "ImageConfigResponse": {"ImageConfig": image}},
        "Code": created["Code"], "Tags": created["Tags"],
    }  # fmt: skip

    def changes(**changed: Any) -> list[str]:
        _, aws = run(f"{DEPLOY} lambda", {**LAMBDA, "GetFunction": {**function, **changed}})
        return [one for one in aws.operations if one.startswith(("UpdateFunction", "TagResource")) and "Url" not in one]

    assert changes() == []
    assert changes(Code={"ImageUri": "h/n@former"}) == ["UpdateFunctionCode"]
    assert changes(Configuration={**has, "ImageConfigResponse": {}}) == ["UpdateFunctionConfiguration"]
    assert changes(Configuration={**function["Configuration"], "Timeout": 1}) == ["UpdateFunctionConfiguration"]
    assert changes(Tags={**created["Tags"], "team": "a"}) == []
    assert changes(Tags=OWN) == ["TagResource"]


def test_a_function_that_cannot_be_updated_gets_back_what_it_had(run: Any) -> None:
    refusal = {"UpdateFunctionUrlConfig": refused("AccessDeniedException")}

    code, aws = run(f"{DEPLOY} lambda", {**LAMBDA, **refusal})

    configuration = LAMBDA["GetFunction"]["Configuration"]
    former = {"FunctionName": "houses", **{key: configuration[key] for key in ("Role", "MemorySize", "Timeout")}}
    assert code == FAILED
    assert params(aws, "UpdateFunctionConfiguration")[1:] == [{**former, "ImageConfig": {}}]
    assert params(aws, "UpdateFunctionCode")[1:] == [{"FunctionName": "houses", "ImageUri": "h/n@former"}]
    waited = "GetFunctionConfiguration"
    after = aws.operations[aws.operations.index("UpdateFunctionUrlConfig") + 1 :]
    assert [one for one in after if "Function" in one and "Url" not in one] == [
        waited, "UpdateFunctionConfiguration", waited, waited, "UpdateFunctionCode", waited,
    ]  # fmt: skip


def test_a_function_whose_update_failed_gets_back_what_it_had(run: Any) -> None:
    fine, failed = {"LastUpdateStatus": "Successful"}, {"LastUpdateStatus": "Failed"}

    code, aws = run(f"{DEPLOY} lambda", {**LAMBDA, "GetFunctionConfiguration": turns(fine, failed, failed, fine)})

    images = [one["ImageUri"] for one in params(aws, "UpdateFunctionCode")]
    assert (code, images[1:]) == (FAILED, ["h/n@former"])


def made_service(run: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A service of App Runner and its scaling, as a first deploy makes them."""
    _, aws = run(f"{DEPLOY} apprunner", NOTHING)
    (created,), (scaling,) = params(aws, "CreateService"), params(aws, "CreateAutoScalingConfiguration")
    arn = {"AutoScalingConfigurationArn": created["AutoScalingConfigurationArn"]}
    return {**RUNS, **created, "AutoScalingConfigurationSummary": arn}, {**scaling, **arn}


def with_image(service: dict[str, Any], image: str) -> dict[str, Any]:
    source = service["SourceConfiguration"]
    repository = {**source["ImageRepository"], "ImageIdentifier": image}
    return {**service, "SourceConfiguration": {**source, "ImageRepository": repository}}


@pytest.mark.parametrize("rolled_back", [True, False])
def test_an_app_runner_update_is_put_back_unless_that_was_done(run: Any, rolled_back: bool) -> None:
    service, scaling = made_service(run)
    former = with_image(service, "h/n:former")
    answers = {
        **APPRUNNER, "TagResource": refused("AccessDeniedException"),
        "DescribeAutoScalingConfiguration": {"AutoScalingConfiguration": scaling},
        "GetRole": {"Role": {"Arn": service["SourceConfiguration"]["AuthenticationConfiguration"]["AccessRoleArn"],
                             "Tags": TAGS}},
        "DescribeService": lambda aws: {
            "Service": service if "UpdateService" in aws.operations and not rolled_back else former
        },
    }  # fmt: skip

    code, aws = run(f"{DEPLOY} apprunner", answers)

    images = [one["SourceConfiguration"]["ImageRepository"]["ImageIdentifier"] for one in params(aws, "UpdateService")]
    assert code == FAILED
    assert images[0] == service["SourceConfiguration"]["ImageRepository"]["ImageIdentifier"]
    assert images[1:] == ([] if rolled_back else ["h/n:former"])


def test_an_app_runner_service_that_is_as_wanted_is_not_changed(run: Any) -> None:
    service, scaling = made_service(run)
    role = service["SourceConfiguration"]["AuthenticationConfiguration"]["AccessRoleArn"]
    answers = {
        **APPRUNNER, "GetRole": {"Role": {"Arn": role, "Tags": TAGS}},
        "DescribeAutoScalingConfiguration": {"AutoScalingConfiguration": scaling},
    }  # fmt: skip

    def updated(changed: dict[str, Any]) -> bool:
        _, aws = run(f"{DEPLOY} apprunner", {**answers, "DescribeService": {"Service": {**service, **changed}}})
        return "UpdateService" in aws.operations

    assert not updated({})
    assert updated(with_image(service, "h/n:former"))
    assert updated({"InstanceConfiguration": {"Cpu": "256", "Memory": "512"}})
    assert updated({"HealthCheckConfiguration": {"Protocol": "TCP"}})
    assert updated({"AutoScalingConfigurationSummary": {"AutoScalingConfigurationArn": "another"}})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--target=lambda", "--update"], "--update is not for lambda"),
        (["--target=lambda", "--single"], "--single is not for lambda"),
        (["--target=lambda", "--instance-type=ml.m5.large"], "--instance-type is not for lambda"),
        (["--target=lambda", "--cpu=512"], "--cpu is not for lambda"),
        (["--target=lambda", "--subnets", "a"], "--subnets is not for lambda"),
        (["--target=apprunner", "--api=url"], "--api is not for apprunner"),
        (["--target=ecs", "--least=3", "--most=2"], "--least 3 is more than --most 2"),
        (["--public"], "--public is not for sagemaker"),
        (["--target=lambda", "--memory=20000"], "lambda has 128 to 10240 MB, not --memory 20000"),
        (
            ["--target=apprunner", "--cpu=777", "--memory=129"],
            "apprunner has --cpu 256, 512, 1024, 2048 or 4096, not 777",
        ),
        (
            ["--target=apprunner", "--memory=8192"],
            "apprunner has, with --cpu 1024, --memory 2048, 3072 or 4096, not 8192",
        ),
        (["--target=apprunner", "--cpu=512"], "apprunner has, with --cpu 512, --memory 1024, not 2048"),
        (["--target=ecs", "--cpu=300", "--memory=999"], "ecs has --cpu 256, 512, 1024, 2048 or 4096, not 300"),
        (
            ["--target=ecs", "--cpu=4096", "--memory=9000"],
            "ecs has, with --cpu 4096, --memory 8192 to 30720 in steps of 1024, not 9000",
        ),
        (
            ["--target=ecs", "--dry-run", "--memory=999"],
            "ecs has, with --cpu 1024, --memory 2048 to 8192 in steps of 1024, not 999",
        ),
    ],
)
def test_what_a_host_does_not_have_is_refused(
    run: Any, capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    code, aws = run(f"deploy --artifacts ARTIFACTS {' '.join(options)}", NOTHING)

    assert (code, aws.operations) == (WRONG, [])
    assert reason in capsys.readouterr().err
