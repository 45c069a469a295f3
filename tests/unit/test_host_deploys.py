"""`deploy`, `status` and `delete` on Lambda, ECS and App Runner: run twice, broken off midway, and deleted."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from moto import mock_aws

from pipeline.cli import main
from pipeline.endpoint.errors import FAILED, NOT_FOUND
from tests.host_apis import HostApis, host_apis
from tests.registry_api import DOCKER, TOKEN, MemoryRegistry, memory_registry

REPOSITORY = "serial-inference/pipeline"
READS = ("Get", "List", "Describe")
TARGETS = [
    ("--target=lambda",),
    ("--target=lambda", "--public"),
    ("--target=lambda", "--api=http"),
    ("--target=lambda", "--api=rest"),
    ("--target=lambda", "--api=none"),
    ("--target=ecs",),
    ("--target=apprunner",),
]
IDS = [" ".join(one) for one in TARGETS]
pytestmark = pytest.mark.usefixtures("clients_made_once", "no_pauses")


@dataclass
class Account:
    """AWS as moto and `HostApis` play it, and a registry. `asked`: all operations that AWS was asked for."""

    artifacts: Path
    registry: MemoryRegistry
    apis: HostApis
    asked: list[str] = field(default_factory=list)
    attached: dict[str, list[str]] = field(default_factory=dict)
    last: list[str] = field(default_factory=list)
    refused: str | None = None
    tags_are_kept_back: bool = False
    said: Callable[[], tuple[str, str]] = lambda: ("", "")

    @property
    def env(self) -> dict[str, str]:
        urls = {f"AWS_ENDPOINT_URL_{name}": self.apis.url for name in ("ECS", "APPRUNNER", "SAGEMAKER")}
        keys = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
        return {"AWS_REGION": "us-east-1", **keys, **urls}

    def run(self, verb: str, *more: str) -> int:
        given = [verb, "--endpoint", "houses", *more]
        if verb != "delete":
            given += ["--artifacts", str(self.artifacts)]
        if verb == "deploy" and any(one.startswith("--target") for one in more):
            given += ["--image", f"{self.registry.host}/{REPOSITORY}:abc"]
        self.asked.clear()
        return main(given, self.env)

    def deploy(self, *more: str) -> str:
        self.said()
        code = self.run("deploy", *more)
        out, error = self.said()
        assert code == 0, error
        self.last = list(self.asked)
        return out

    def changes(self) -> list[str]:
        return [one for one in self.asked if not one.startswith(READS)]

    @property
    def deployed(self) -> list[str]:
        """What the last deploy asked for that changes something."""
        return [one for one in self.last if not one.startswith(READS)]

    def status(self, target: str) -> dict[str, Any]:
        self.said()
        assert self.run("status", f"--target={target}", "--json") == 0
        found: dict[str, Any] = json.loads(self.said()[0])
        return found

    def tags(self) -> list[str]:
        images = self.client("ecr").describe_images(repositoryName=REPOSITORY)["imageDetails"]
        return [tag for image in images for tag in image.get("imageTags", ())]

    def statements(self) -> list[str]:
        client = self.client("lambda")
        try:
            return [one["Sid"] for one in json.loads(client.get_policy(FunctionName="houses")["Policy"])["Statement"]]
        except client.exceptions.ResourceNotFoundException:
            return []

    def everything(self) -> list[str]:
        """All that is in the account, whoever made it, but the logs."""
        listed = {
            "functions": self.client("lambda").list_functions()["Functions"],
            "roles": self.client("iam").list_roles()["Roles"],
            "http": self.client("apigatewayv2").get_apis()["Items"],
            "rest": self.client("apigateway").get_rest_apis()["items"],
            "images": self.tags(),
            "ecs": self.apis.express,
            "apprunner": [one for one in self.apis.runner.values() if one["Status"] != "DELETED"],
            "scalings": self.apis.scalings,
        }
        return [kind for kind, found in listed.items() if found]

    def managed(self, operation: str, given: dict[str, str]) -> dict[str, Any]:
        """The policies of AWS's own, which moto does not have."""
        has = self.attached.setdefault(given["RoleName"], [])
        if operation == "AttachRolePolicy":
            has.append(given["PolicyArn"])
        if operation == "DetachRolePolicy":
            has.remove(given["PolicyArn"])
        return {"AttachedPolicies": [{"PolicyArn": arn} for arn in has]}

    def left(self, target: str) -> str:
        self.said()
        assert self.run("delete", target, "--dry-run") == 0
        return self.said()[0]

    @staticmethod
    @cache
    def client(service: str) -> Any:
        return boto3.Session("any", "any", region_name="us-east-1").client(service)


@pytest.fixture(scope="module")
def apis() -> Iterator[HostApis]:
    with host_apis() as server:
        yield server


@pytest.fixture
def account(
    untrained: Path, apis: HostApis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Account]:
    vars(apis).update(vars(HostApis(apis.url)))
    # moto imports it for the import of an OpenAPI document, which nobody asks for here.
    for name, member in (("", "validate"), (".validation", ""), (".validation.exceptions", "OpenAPIValidationError")):
        module = ModuleType(f"openapi_spec_validator{name}")
        setattr(module, member or "nothing", None)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    with mock_aws(), memory_registry() as registry:
        found = Account(untrained, registry, apis, said=lambda: tuple(capsys.readouterr()))
        ask = BaseClient._make_api_call

        def watched(self: BaseClient, operation: str, given: Any) -> Any:
            if operation != "PutImage":  # the registry's, below
                found.asked.append(operation)
                assert len(found.asked) < 300, "it asks for ever"
            if operation == found.refused:
                error = {"Code": "AccessDeniedException", "Message": "not for you"}
                raise ClientError({"Error": error}, operation)
            if operation == "GetAuthorizationToken":
                return {"authorizationData": [{"authorizationToken": TOKEN}]}
            if operation.endswith(("AttachRolePolicy", "DetachRolePolicy", "AttachedRolePolicies")):
                return found.managed(operation, given)
            answer = ask(self, operation, given)
            if operation == "GetFunction" and found.tags_are_kept_back:
                answer.pop("Tags")
                answer["TagsError"] = {"ErrorCode": "AccessDeniedException", "Message": "no lambda:ListTags for you"}
            return answer

        def tagged(name: str, tag: str, content: bytes) -> None:
            found.client("ecr").put_image(
                repositoryName=name, imageTag=tag, imageManifest=content.decode(), imageManifestMediaType=DOCKER
            )

        monkeypatch.setattr(BaseClient, "_make_api_call", watched)
        found.client("ecr").create_repository(repositoryName=REPOSITORY)
        registry.add_image("abc")
        registry.tagged = tagged
        yield found


@pytest.mark.parametrize("target", TARGETS, ids=IDS)
def test_deploy_twice_changes_nothing_and_delete_twice_leaves_nothing(
    account: Account, target: tuple[str, ...]
) -> None:
    first = account.deploy(*target)
    account.registry.sent.clear()

    assert account.run("deploy", *target) == 0
    second, error = account.said()
    account.last = list(account.asked)

    assert first == second
    assert f"{account.tags()[0]} is there already\n" in error
    assert [one for one in account.deployed if one != "GetCallerIdentity"] == []
    assert account.registry.sent == []

    assert account.run("delete", target[0], "--yes") == 0
    deleted = account.said()[0]
    assert account.run("delete", target[0], "--yes") == 0

    assert "deleted role houses-" in deleted
    assert "deleted release images" in deleted
    assert account.changes() == []
    assert account.said()[0] == "nothing is left of houses\n"
    assert account.everything() == []


LAMBDA, ECS, RUNNER = "--target=lambda", "--target=ecs", "--target=apprunner"
# An operation of each kind, the last one that a host needs among them
REFUSED = [
    *[((LAMBDA,), one) for one in ("PutRolePolicy", "CreateFunction", "GetFunctionConfiguration")],
    ((LAMBDA, "--public"), "AddPermission"),
    *[((LAMBDA, "--api=http"), one) for one in ("CreateRoute", "AddPermission")],
    *[((LAMBDA, "--api=rest"), one) for one in ("PutIntegration", "AddPermission")],
    *[((ECS,), one) for one in ("AttachRolePolicy", "CreateExpressGatewayService", "DescribeExpressGatewayService")],
    *[((RUNNER,), one) for one in ("CreateAutoScalingConfiguration", "CreateService", "ListOperations")],
]


@pytest.mark.parametrize(("target", "operation"), REFUSED)
def test_whatever_is_refused_nothing_is_left(account: Account, target: tuple[str, ...], operation: str) -> None:
    account.refused = operation

    code = account.run("deploy", *target)

    out, error = account.said()
    assert (code, out) == (FAILED, "")
    assert f"AWS refused {operation}: not for you (AccessDenied" in error
    assert " is left: " not in error
    account.refused = None
    assert account.everything() == []


def test_nothing_is_asked_of_a_host_before_the_image_is_there(account: Account) -> None:
    account.registry.refused = {("PUT", "/manifests/"): 403}

    code = account.run("deploy", "--target=lambda")

    assert code == FAILED
    error = account.said()[1]
    assert "let your identity pull and push there" in error
    assert re.search(
        r"(?m)^pushing \S+/pipeline:houses\.lambda-[0-9a-f]{12}: \S+ and [1-9]\d+ bytes of artifacts$", error
    )
    assert account.changes() == ["BatchDeleteImage"]
    assert account.everything() == []


@pytest.mark.parametrize(
    ("target", "last"),
    [
        ((LAMBDA,), "GetFunctionConfiguration"),
        ((LAMBDA, "--api=http"), "CreateRoute"),
        ((LAMBDA, "--api=rest"), "PutIntegration"),
        ((ECS,), "DescribeExpressGatewayService"),
        ((RUNNER,), "ListOperations"),
    ],
)
def test_a_run_that_died_is_taken_up_by_the_next(
    account: Account, monkeypatch: pytest.MonkeyPatch, target: tuple[str, ...], last: str
) -> None:
    account.refused = last
    with monkeypatch.context() as died:  # a process that is killed undoes nothing
        died.setattr("contextlib.ExitStack.__exit__", lambda *_: False)
        assert account.run("deploy", *target) == FAILED
    account.refused = None

    again = account.deploy(*target)

    assert "houses serves on" in again
    assert account.run("delete", target[0], "--yes") == 0
    assert account.everything() == []


@pytest.mark.parametrize("target", ["lambda", "ecs", "apprunner"])
def test_another_image_is_all_that_an_update_changes(account: Account, target: str) -> None:
    account.deploy(f"--target={target}")
    before = account.status(target)
    account.registry.tags.pop("abc")
    account.registry.add_image("abc", history=[{"created_by": "another build"}])

    account.deploy(f"--target={target}")

    after = account.status(target)
    updates = {
        "lambda": ["UpdateFunctionCode", "TagResource"],
        "ecs": ["UpdateExpressGatewayService", "TagResource"],
        "apprunner": ["UpdateService", "TagResource"],
    }
    assert [one for one in account.deployed if one not in ("GetCallerIdentity", "GetAuthorizationToken")] == updates[
        target
    ]
    assert {key for key in after if after[key] != before[key]} - {"changed"} == {"image", "release"}


def test_a_delete_keeps_the_image_and_the_roles_that_another_deployment_uses(account: Account) -> None:
    account.deploy("--target=lambda")
    (tag,) = account.tags()
    for target in ("ecs", "apprunner"):
        assert account.run("delete", f"--target={target}", "--yes") == 0
        assert account.changes() == []
    account.deploy("--target=ecs")
    account.deploy("--target=ecs", "--cluster=busy")
    assert len(account.tags()) == 3

    assert account.run("delete", "--target=ecs", "--yes") == 0
    assert sorted(account.tags()) == sorted([tag, tag.replace("houses.lambda", "houses.ecs.busy")])
    assert account.client("iam").get_role(RoleName="houses-busy-ecs-execution")
    assert account.run("delete", "--target=ecs", "--cluster=busy", "--yes") == 0

    assert account.tags() == [tag]
    assert account.status("lambda")["serves"] is True


@pytest.mark.parametrize("target", ["lambda", "ecs", "apprunner"])
def test_status_says_what_serves(account: Account, target: str) -> None:
    assert account.run("status", f"--target={target}") == NOT_FOUND
    account.deploy(f"--target={target}")

    found = account.status(target)

    assert found["serves"] is True
    assert found["release"].startswith(f"houses.{target}-")
    assert found["local_artifacts"] == "the same training run"
    assert found["urls"][0].startswith("https://")


def test_a_failed_ecs_update_goes_back_to_the_former_image(account: Account) -> None:
    account.deploy("--target=ecs")
    before = account.status("ecs")["image"]
    account.registry.tags.pop("abc")
    account.registry.add_image("abc", history=[{"created_by": "another build"}])
    account.apis.fails = True

    code = account.run("deploy", "--target=ecs")

    error = account.said()[1]
    assert code == FAILED
    assert "service houses was not deployed, ROLLBACK_SUCCESSFUL" in error
    assert account.status("ecs")["image"] == before
    assert len(account.tags()) == 1


def test_a_failed_apprunner_update_leaves_the_former_image(account: Account) -> None:
    account.deploy("--target=apprunner")
    before = account.status("apprunner")["image"]
    account.registry.tags.pop("abc")
    account.registry.add_image("abc", history=[{"created_by": "another build"}])
    account.apis.fails = True

    code = account.run("deploy", "--target=apprunner")

    assert code == FAILED
    assert "ROLLBACK_SUCCEEDED" in account.said()[1]
    assert account.status("apprunner")["image"] == before
    assert len(account.tags()) == 1


def test_a_failed_lambda_update_goes_back_to_the_former_image(account: Account) -> None:
    account.deploy("--target=lambda")
    before = account.status("lambda")["image"]
    account.registry.tags.pop("abc")
    account.registry.add_image("abc", history=[{"created_by": "another build"}])
    account.refused = "UpdateFunctionConfiguration"

    code = account.run("deploy", "--target=lambda", "--memory=512")

    account.refused = None
    assert code == FAILED
    assert account.status("lambda")["image"] == before
    assert account.status("lambda")["memory"] == "1024 MB"
    assert len(account.tags()) == 1


def test_what_was_made_by_others_is_neither_changed_nor_deleted(account: Account) -> None:
    iam = account.client("iam")
    iam.create_role(RoleName="houses-lambda", AssumeRolePolicyDocument="{}")

    code = account.run("deploy", "--target=lambda")

    assert code == FAILED
    assert "there is role houses-lambda already, which was not made by deploy" in account.said()[1]
    assert account.left("--target=lambda") == "nothing is left of houses\n"
    assert iam.get_role(RoleName="houses-lambda")


@pytest.mark.parametrize("verb", ["deploy", "status", "delete"])
def test_a_function_whose_tags_cannot_be_read_is_not_taken_for_somebody_elses(account: Account, verb: str) -> None:
    account.deploy(LAMBDA)
    account.tags_are_kept_back = True

    code = account.run(verb, LAMBDA, *["--yes"] * (verb == "delete"))

    error = account.said()[1]
    assert code == FAILED
    assert "the tags of function houses cannot be read: no lambda:ListTags for you (AccessDeniedException)" in error
    assert "docs/iam/lambda-deployer.json" in error
    assert "functions" in account.everything()
    assert [one for one in account.changes() if one.startswith("Delete")] == []


@pytest.mark.parametrize("target", [ECS, RUNNER])
@pytest.mark.parametrize("verb", ["deploy", "status", "delete"])
def test_a_service_whose_tags_cannot_be_read_is_not_taken_for_somebody_elses(
    account: Account, target: str, verb: str
) -> None:
    account.deploy(target)
    account.refused = "ListTagsForResource"

    code = account.run(verb, target, *["--yes"] * (verb == "delete"))

    assert code == FAILED
    assert "AWS refused ListTagsForResource: not for you (AccessDeniedException)" in account.said()[1]
    assert target.removeprefix("--target=") in account.everything()


def test_an_ecs_service_that_is_not_shown_is_not_taken_for_none(account: Account) -> None:
    account.apis.hidden = "arn:aws:ecs:us-east-1:123456789012:service/default/houses"

    code = account.run("deploy", ECS)

    assert code == FAILED
    assert "service houses cannot be described: HIDDEN" in account.said()[1]
    assert "CreateExpressGatewayService" not in account.asked


def test_a_role_that_is_not_yet_known_everywhere_is_waited_for(account: Account) -> None:
    account.apis.assumable = False

    account.deploy("--target=ecs")

    assert account.asked.count("CreateExpressGatewayService") == 2


def test_who_may_call_can_be_changed(account: Account) -> None:
    account.deploy("--target=lambda", "--public")

    account.deploy("--target=lambda")

    policy = account.client("lambda")
    assert policy.get_function_url_config(FunctionName="houses")["AuthType"] == "AWS_IAM"
    assert account.statements() == []


@pytest.mark.parametrize("api", ["http", "rest"])
def test_who_may_call_an_api_can_be_changed(account: Account, api: str) -> None:
    account.deploy("--target=lambda", f"--api={api}")

    account.deploy("--target=lambda", f"--api={api}", "--public")

    changed = {"http": ["UpdateRoute"], "rest": ["PutMethod", "PutIntegration", "CreateDeployment"]}
    assert [one for one in account.deployed if one.startswith(("Update", "Put", "Create"))] == changed[api]
