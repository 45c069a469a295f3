"""What `deploy --target` asks of AWS, request by request, and what docs/iam/ allows for it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from botocore.model import ListShape, MapShape, Shape, StructureShape

from pipeline.cli import main
from pipeline.endpoint.errors import PipelineError
from pipeline.hosts import release_image, roles, sizes
from tests.unit.test_iam_policies import allowed, listed, operations, policy

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/Given"
pytestmark = pytest.mark.usefixtures("descriptions_read_once")
WAYS = {
    "url": ("--target=lambda",),
    "public": ("--target=lambda", "--public"),
    "http": ("--target=lambda", "--api=http"),
    "rest": ("--target=lambda", "--api=rest"),
    "none": ("--target=lambda", "--api=none"),
    "ecs": ("--target=ecs",),
    "apprunner": ("--target=apprunner",),
}


@pytest.fixture(scope="module")
def requests(untrained: Path) -> Callable[..., list[dict[str, Any]]]:
    """Run a dry run; the requests that it prints."""

    @cache
    def run(*more: str) -> list[dict[str, Any]]:
        printed = io.StringIO()
        given = ["deploy", "--dry-run", "--endpoint", "houses", "--tag", "abc", "--artifacts", str(untrained), *more]
        with contextlib.redirect_stdout(printed):
            assert main(given, {"AWS_REGION": "eu-central-1"}) == 0
        found: list[dict[str, Any]] = json.loads(printed.getvalue())
        return found

    return run


def of(requests: list[dict[str, Any]], operation: str) -> dict[str, Any]:
    [found] = [one["params"] for one in requests if one["operation"] == operation]
    made: dict[str, Any] = found
    return made


def violations(shape: Shape, value: Any, where: str) -> Iterator[str]:
    """What botocore does not check: patterns, and values of which AWS's own description knows all."""
    if isinstance(shape, StructureShape):
        for name, member in value.items():
            yield from violations(shape.members[name], member, f"{where}.{name}")
    elif isinstance(shape, ListShape):
        for member in value:
            yield from violations(shape.member, member, where)
    elif isinstance(shape, MapShape):
        for member in value.values():
            yield from violations(shape.value, member, where)
    elif isinstance(value, str):
        pattern = shape.metadata.get("pattern", "").replace(r"\p{L}\p{Z}\p{N}", r"\w ").replace(r"\u", "u")
        # Java's anchors are implied, and its control characters are not Python's.
        if pattern and "0009" not in pattern and not re.fullmatch(pattern.strip("^$"), value):
            yield f"{where}: {value!r} is not {pattern}"
        enum = shape.metadata.get("enum")
        if enum and value not in enum:
            yield f"{where}: {value!r} is none of {enum}"


@pytest.mark.parametrize("way", WAYS)
def test_every_request_is_as_the_service_describes_it(requests: Any, way: str) -> None:
    session = botocore.session.get_session()
    asked = [one for one in requests(*WAYS[way]) if one["service"] != "registry"]

    found = [
        problem
        for one in asked
        for problem in violations(
            session.get_service_model(one["service"]).operation_model(one["operation"]).input_shape or Shape("", {}),
            one["params"],
            one["operation"],
        )
    ]

    assert len(asked) > 5
    assert found == []


def test_a_function_is_the_image_by_digest(requests: Any) -> None:
    made = of(requests("--target=lambda", "--role", ROLE, "--memory=2048", "--request-timeout=9"), "CreateFunction")

    digest = "sha256:" + "0" * 64
    image = f"{'0' * 12}.dkr.ecr.eu-central-1.amazonaws.com/serial-inference/pipeline@{digest}"
    assert made.pop("Tags")["serial-inference:endpoint"] == "houses"
    assert made == {
        "FunctionName": "houses",
        "Role": ROLE,
        "PackageType": "Image",
        "Code": {"ImageUri": image.replace("0" * 12, ACCOUNT, 1)},
        "Architectures": ["x86_64"],
        "MemorySize": 2048,
        "Timeout": 9,
        "ImageConfig": {"EntryPoint": ["/opt/program/serving/bin/serve"], "Command": ["serve"]},
    }


def test_a_url_is_for_signed_requests_unless_it_is_asked_to_be_public(requests: Any) -> None:
    private, public = requests(*WAYS["url"]), requests(*WAYS["public"])

    permissions = [one["params"] for one in public if one["operation"] == "AddPermission"]
    assert of(private, "CreateFunctionUrlConfig")["AuthType"] == "AWS_IAM"
    assert not [one for one in private if one["operation"] == "AddPermission"]
    assert of(public, "CreateFunctionUrlConfig") == {
        "FunctionName": "houses", "AuthType": "NONE", "InvokeMode": "BUFFERED"
    }  # fmt: skip
    assert [one["StatementId"] for one in permissions] == ["public-url", "public-url-invoke"]
    assert [(one["Action"], one["Principal"]) for one in permissions] == [
        ("lambda:InvokeFunctionUrl", "*"),
        ("lambda:InvokeFunction", "*"),
    ]
    assert permissions[0]["FunctionUrlAuthType"] == "NONE"
    assert permissions[1]["InvokedViaFunctionUrl"] is True


def test_an_http_api_passes_every_request_on_in_version_2(requests: Any) -> None:
    asked = requests(*WAYS["http"])

    integration, route = of(asked, "CreateIntegration"), of(asked, "CreateRoute")
    assert (integration["IntegrationType"], integration["PayloadFormatVersion"]) == ("AWS_PROXY", "2.0")
    assert integration["TimeoutInMillis"] == 30_000  # the most that an HTTP API waits
    assert (route["RouteKey"], route["AuthorizationType"]) == ("ANY /{proxy+}", "AWS_IAM")
    assert of(asked, "CreateApi")["ProtocolType"] == "HTTP"
    assert of(asked, "CreateStage") == {"ApiId": "0" * 10, "StageName": "$default", "AutoDeploy": True}
    assert route["Target"] == f"integrations/{'0' * 10}"
    assert of(asked, "AddPermission") == {
        "FunctionName": "houses", "StatementId": f"http-api-{'0' * 10}", "Principal": "apigateway.amazonaws.com",
        "Action": "lambda:InvokeFunction",
        "SourceArn": f"arn:aws:execute-api:eu-central-1:{'0' * 12}:{'0' * 10}/*/*",
    }  # fmt: skip
    assert of(requests("--target=lambda", "--api=http", "--public"), "CreateRoute")["AuthorizationType"] == "NONE"


def test_a_rest_api_keeps_every_body_as_it_is(requests: Any) -> None:
    asked = requests(*WAYS["rest"])

    assert of(asked, "CreateRestApi")["binaryMediaTypes"] == ["*/*"]
    integration = of(asked, "PutIntegration")
    assert (integration["type"], integration["timeoutInMillis"]) == ("AWS_PROXY", 29_000)  # what each REST API may wait
    assert (integration["httpMethod"], integration["integrationHttpMethod"]) == ("ANY", "POST")
    assert of(asked, "CreateRestApi")["endpointConfiguration"] == {"types": ["REGIONAL"]}
    assert (of(asked, "CreateResource")["parentId"], of(asked, "CreateResource")["pathPart"]) == ("0" * 10, "{proxy+}")
    assert of(asked, "AddPermission")["StatementId"] == f"rest-api-{'0' * 10}"
    assert of(asked, "PutMethod")["authorizationType"] == "AWS_IAM"
    public = requests("--target=lambda", "--api=rest", "--public")
    assert of(public, "PutMethod")["authorizationType"] == "NONE"
    assert of(asked, "CreateDeployment")["stageName"] == "prod"


def test_ecs_is_told_everything_but_a_role_for_the_container(requests: Any) -> None:
    given = (
        "--target=ecs",
        "--cpu=512",
        "--memory=1024",
        "--least=2",
        "--most=6",
        "--cluster=other",
        "--subnets",
        "s1",
    )

    made = of(requests(*given), "CreateExpressGatewayService")

    assert (made["serviceName"], made["cluster"], made["healthCheckPath"]) == ("houses", "other", "/ping")
    assert (made["cpu"], made["memory"], made["cpuArchitecture"]) == ("512", "1024", "X86_64")
    assert (made["scalingTarget"]["minTaskCount"], made["scalingTarget"]["maxTaskCount"]) == (2, 6)
    assert made["networkConfiguration"] == {"subnets": ["s1"]}
    image = made["primaryContainer"].pop("image")
    assert image.endswith("/serial-inference/pipeline@sha256:" + "0" * 64)
    assert made["primaryContainer"] == {
        "containerPort": 8080, "command": ["/opt/program/serving/bin/serve"],
        "awsLogsConfiguration": {"logGroup": "/aws/ecs/houses", "logStreamPrefix": "serve"},
    }  # fmt: skip
    assert of(requests(*given), "CreateLogGroup")["logGroupName"] == "/aws/ecs/houses"
    assert "taskRoleArn" not in made


def test_ecs_starts_another_task_when_the_cpus_are_busy_to_60_percent(requests: Any) -> None:
    scaling = of(requests(*WAYS["ecs"]), "CreateExpressGatewayService")["scalingTarget"]

    assert (scaling["autoScalingMetric"], scaling["autoScalingTargetValue"]) == ("AVERAGE_CPU", 60)


def test_security_groups_without_subnets_are_all_that_ecs_is_told_of_the_network(requests: Any) -> None:
    given = requests("--target=ecs", "--security-groups", "g1", "g2")

    assert of(given, "CreateExpressGatewayService")["networkConfiguration"] == {"securityGroups": ["g1", "g2"]}
    assert "networkConfiguration" not in of(requests(*WAYS["ecs"]), "CreateExpressGatewayService")


def test_a_dry_run_names_the_image_and_how_much_of_it_is_sent(requests: Any, untrained: Path) -> None:
    layer = release_image.make_layer(untrained)
    (step,) = [one for one in requests(*WAYS["url"]) if one["service"] == "registry"]

    host = f"{'0' * 12}.dkr.ecr.eu-central-1.amazonaws.com"
    assert step["operation"] == "AppendLayer"
    assert step["params"] == {
        "base": f"{host}/serial-inference/pipeline:abc", "layer": layer.digest, "bytes": len(layer.content),
        "image": f"{host}/serial-inference/pipeline:houses.lambda-{'0' * 12}",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "option"), [("ecs", "--least=100"), ("ecs", "--most=1"), ("apprunner", "--least=25")]
)
def test_one_bound_of_the_containers_can_be_given_alone(requests: Any, target: str, option: str) -> None:
    operation = {"ecs": "CreateExpressGatewayService", "apprunner": "CreateAutoScalingConfiguration"}[target]

    sent = of(requests(f"--target={target}", option), operation)

    bounds = sent.get("scalingTarget", sent)
    number = int(option.partition("=")[2])
    assert {bounds.get("minTaskCount", bounds.get("MinSize")), bounds.get("maxTaskCount", bounds.get("MaxSize"))} == {
        number
    }


def test_ecs_is_told_of_a_cluster_only_when_one_is_given(requests: Any) -> None:
    made = of(requests(*WAYS["ecs"]), "CreateExpressGatewayService")

    assert "cluster" not in made


@pytest.mark.parametrize(("api", "seconds", "most"), [("http", 900, 30), ("rest", 60, 29)])
def test_whoever_asks_for_more_time_than_an_api_gives_is_told_so(
    requests: Any, capsys: pytest.CaptureFixture[str], api: str, seconds: int, most: int
) -> None:
    asked = requests("--target=lambda", f"--api={api}", f"--request-timeout={seconds}")

    told = capsys.readouterr().err
    assert of(asked, "CreateFunction")["Timeout"] == seconds
    assert f"API Gateway waits {most} s for a function" in told
    assert f"--request-timeout {seconds} holds only for calls that do not go through --api {api}" in told


@pytest.mark.parametrize("given", [("--request-timeout=900",), ("--api=http", "--request-timeout=30")])
def test_nothing_is_said_of_a_time_that_can_be_taken(
    requests: Any, capsys: pytest.CaptureFixture[str], given: tuple[str, ...]
) -> None:
    asked = requests("--target=lambda", *given)

    assert of(asked, "CreateFunction")["Timeout"] in (30, 900)
    assert "API Gateway waits" not in capsys.readouterr().err


@pytest.mark.parametrize(("target", "pairs"), sizes.PAIRS.items())
def test_no_size_is_allowed_that_the_service_does_not_describe(target: str, pairs: Any) -> None:
    """App Runner's description lists all sizes; Fargate's does not."""
    for cpu, memories in pairs.items():
        for memory in memories:
            sizes.refuse_others(target, cpu, memory)
            if target == "apprunner":
                model = botocore.session.get_session().get_service_model(target)
                assert re.fullmatch(model.shape_for("Cpu").metadata["pattern"], str(cpu))
                assert re.fullmatch(model.shape_for("Memory").metadata["pattern"], str(memory))


def documented() -> dict[str, dict[int, set[int]]]:
    """The sizes of docs/hosting.md: by target and CPU, each memory."""
    text = (ROOT / "docs" / "hosting.md").read_text()
    rows = re.findall(r"^\| (\d+)[^|]* \| ([^|]+) \| ([^|]+) \|$", text.partition("| `--cpu` |")[2], re.MULTILINE)[:5]
    sizes: dict[str, dict[int, set[int]]] = {"ecs": {}, "apprunner": {}}
    for cpu, *cells in rows:
        for target, cell in zip(sizes, cells, strict=True):
            numbers = [int(number) for number in re.findall(r"\d+", cell)]
            steps = range(numbers[0], numbers[1] + 1, numbers[-1]) if "in steps of" in cell else numbers
            sizes[target][int(cpu)] = set(steps)
    return sizes


@pytest.mark.parametrize("target", ["ecs", "apprunner"])
def test_the_sizes_are_those_of_the_document_and_no_others(target: str) -> None:
    def accepted(cpu: int, memory: int) -> bool:
        try:
            sizes.refuse_others(target, cpu, memory)
        except PipelineError:
            return False
        return True

    pairs = documented()[target]
    assert list(pairs) == [256, 512, 1024, 2048, 4096]
    for cpu, memories in pairs.items():
        assert {memory for memory in range(256, 32768, 256) if accepted(cpu, memory)} == memories


@pytest.mark.parametrize(("memory", "accepted"), [(127, False), (128, True), (10240, True), (10241, False)])
def test_a_function_has_memory_within_lambdas_bounds(memory: int, accepted: bool) -> None:
    with contextlib.nullcontext() if accepted else pytest.raises(PipelineError):
        sizes.refuse_others("lambda", None, memory)


@pytest.mark.parametrize(("length", "accepted"), [(3, False), (4, True), (32, True), (33, False)])
def test_app_runner_takes_names_of_some_lengths_and_others_any(length: int, accepted: bool) -> None:
    with contextlib.nullcontext() if accepted else pytest.raises(PipelineError):
        sizes.refuse_name("apprunner", "a" * length)
    sizes.refuse_name("ecs", "a" * length)


def test_what_is_not_given_is_as_help_says(requests: Any) -> None:
    function = of(requests(*WAYS["url"]), "CreateFunction")
    task = of(requests(*WAYS["ecs"]), "CreateExpressGatewayService")
    service = of(requests(*WAYS["apprunner"]), "CreateService")
    scaling = of(requests(*WAYS["apprunner"]), "CreateAutoScalingConfiguration")

    assert (function["MemorySize"], function["Timeout"]) == (1024, 30)
    assert (task["cpu"], task["memory"]) == ("1024", "2048")
    assert (task["scalingTarget"]["minTaskCount"], task["scalingTarget"]["maxTaskCount"]) == (1, 4)
    assert service["InstanceConfiguration"] == {"Cpu": "1024", "Memory": "2048"}
    assert (scaling["MinSize"], scaling["MaxSize"], scaling["MaxConcurrency"]) == (1, 4, 100)


@pytest.mark.parametrize(("target", "operation"), [("ecs", "CreateExpressGatewayService"),
                                                   ("apprunner", "CreateAutoScalingConfiguration")])  # fmt: skip
def test_more_containers_at_least_than_the_usual_most_are_also_the_most(
    requests: Any, target: str, operation: str
) -> None:
    sent = of(requests(f"--target={target}", "--least=6"), operation)

    bounds = sent.get("scalingTarget", sent)
    assert [bounds[name] for name in bounds if name.startswith(("min", "max", "Min", "MaxS"))] == [6, 6]


def test_a_name_that_app_runner_does_not_take_is_refused_before_anything_is_made(
    untrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "serial-inference-california-housing"
    command = ["deploy", "--target", "apprunner", "--dry-run", "--endpoint", name, "--artifacts", str(untrained)]

    code = main(command, {"AWS_REGION": "eu-west-1"})

    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert said.err.startswith(f"pipeline: apprunner takes names of 4 to 32 characters, not '{name}'")


def test_serve_takes_no_notice_of_the_word_that_lambda_gives_it(tmp_path: Path) -> None:
    """An image's command stays an argument of the entry point when a host names only that."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    said = subprocess.run([ROOT / "serving/bin/serve", "serve"], env=path, check=True, capture_output=True, text=True)

    assert said.stdout == "-m serving serve\n"


def test_app_runner_asks_ping_and_deploys_nothing_by_itself(requests: Any) -> None:
    asked = requests("--target=apprunner", "--concurrency=20", "--most=2")

    made, scaling = of(asked, "CreateService"), of(asked, "CreateAutoScalingConfiguration")
    assert made["HealthCheckConfiguration"] == {
        "Protocol": "HTTP", "Path": "/ping", "Interval": 10, "Timeout": 5, "HealthyThreshold": 1,
        "UnhealthyThreshold": 5,
    }  # fmt: skip
    assert made["SourceConfiguration"]["AutoDeploymentsEnabled"] is False
    assert made["SourceConfiguration"]["ImageRepository"]["ImageRepositoryType"] == "ECR"
    assert of(asked, "ListAutoScalingConfigurations") == {
        "AutoScalingConfigurationName": "houses", "LatestOnly": False, "MaxResults": 100
    }  # fmt: skip
    assert made["SourceConfiguration"]["ImageRepository"]["ImageConfiguration"] == {"Port": "8080"}
    assert (scaling["MaxConcurrency"], scaling["MinSize"], scaling["MaxSize"]) == (20, 1, 2)


def test_whoever_asks_for_app_runner_is_told_that_it_is_closed(
    untrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "deploy",
        "--dry-run",
        "--target=apprunner",
        "--endpoint=houses",
        "--tag=abc",
        "--artifacts",
        str(untrained),
    ]
    main(given, {"AWS_REGION": "eu-central-1"})
    told = capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["deploy", "--help"])

    assert "closed to new customers since 2026-04-30" in told
    assert "closed to new customers since 2026-04-30" in " ".join(capsys.readouterr().out.split())


PLACES = {
    "partition": "aws", "region": "REGION", "account": "ACCOUNT", "repository": "serial-inference/pipeline",
    "name": "serial-inference-abalone",
}  # fmt: skip
ROLES = {
    "lambda-role": roles.LAMBDA,
    "ecs-execution-role": roles.ECS_EXECUTION,
    "ecs-infrastructure-role": roles.ECS_INFRASTRUCTURE,
    "apprunner-access-role": roles.APPRUNNER_ACCESS,
}


@pytest.mark.parametrize("name", ROLES)
def test_the_roles_that_deploy_makes_are_those_of_the_documents(name: str) -> None:
    role = ROLES[name]

    assert policy(f"{name}-trust") == role.trust["Statement"]
    if role.statements:
        assert policy(name) == role.policy(**PLACES)["Statement"]


@pytest.mark.parametrize(("target", "ways"), [("lambda", ("public", "http", "rest")), ("ecs", ("ecs",)),
                                              ("apprunner", ("apprunner",))])  # fmt: skip
def test_the_deployer_may_do_all_that_a_deploy_asks_for(requests: Any, target: str, ways: tuple[str, ...]) -> None:
    asked = {(one["service"], one["operation"]) for way in ways for one in requests(*WAYS[way])}
    named = {f"{service}:{operation}" for service, operation in asked if not service.startswith("apigateway")}

    assert named - {"registry:AppendLayer", "sts:GetCallerIdentity"} - allowed(f"{target}-deployer") == set()


SERVICES = {
    "on_lambda": ("lambda",), "lambda_apis": ("lambda",), "on_ecs": ("ecs", "logs"), "on_apprunner": ("apprunner",),
    "roles": ("iam",), "release_image": ("ecr",), "registry": ("ecr",),
}  # fmt: skip
DEPLOYERS = {"lambda": ("on_lambda", "lambda_apis"), "ecs": ("on_ecs",), "apprunner": ("on_apprunner",)}


@pytest.mark.parametrize("target", DEPLOYERS)
def test_the_deployer_may_also_update_and_delete(target: str) -> None:
    needed = set()
    for module in (*DEPLOYERS[target], "release_image", "registry"):
        text = (ROOT / "pipeline" / "hosts" / f"{module}.py").read_text()
        called = {one or other for one, other in re.findall(r'\.(\w+)\b|"(\w+)"', text)}
        for service in SERVICES[module]:
            needed |= {f"{service}:{name}" for name in operations(service) if xform_name(name) in called}
    needed.discard("logs:ListTagsForResource")  # of the same name as ECS's, which is called

    assert len(needed) > 8
    assert needed - allowed(f"{target}-deployer") == set()


@pytest.mark.parametrize("target", DEPLOYERS)
def test_roles_can_be_made_for_this_project_and_passed_to_the_host_only(target: str) -> None:
    statements = {one["Sid"]: one for one in policy(f"{target}-deployer")}

    services = {"lambda": "lambda.", "ecs": "ecs", "apprunner": "build.apprunner."}
    passed = listed(statements["PassTheRoles"]["Condition"]["StringEquals"]["iam:PassedToService"])
    assert [one for one in passed if one.startswith(services[target])] == passed != []
    for name in ("MakeTheRoles", "PassTheRoles"):
        arns = listed(statements[name]["Resource"])
        assert [arn for arn in arns if ":role/serial-inference-*-" in arn] == arns != []
