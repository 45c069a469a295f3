"""The control plane's API as clients see it: who answers a request, what is listed, and what a process is told."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from werkzeug.test import Client

from local_test.control_plane import (
    behind,
    command,
    configs,
    docker_host,
    ecr,
    models,
    process_host,
    registry,
    server,
    service,
    tags,
    validation,
)
from local_test.control_plane.docker_host import BIND_LABEL
from local_test.control_plane.errors import ApiError, LimitExceeded
from local_test.control_plane.hosting import ContainerSpec, HostingError, Unhealthy
from local_test.control_plane.plane import STATUS_PATH, Plane
from local_test.control_plane.process_host import ProcessHost
from local_test.control_plane.registry import Manifest, Registry
from local_test.control_plane.store import CONFIG, ENDPOINT, KINDS, MODEL, Store
from local_test.process import Process
from local_test.state import State
from tests.conftest import ROOT
from tests.scripted_host import scripted_plane

ROLE = "arn:aws:iam::123456789012:role/any"
PRIMARY = {"ModelName": "m", "ExecutionRoleArn": ROLE, "PrimaryContainer": {"Image": "i"}}
VARIANT = {"VariantName": "AllTraffic", "ModelName": "m", "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1}


def source(**changed: str) -> dict[str, Any]:
    whole = {"S3Uri": "s3://nobodys/m.tar.gz", "S3DataType": "S3Object", "CompressionType": "Gzip"}
    return {"S3DataSource": {**whole, **changed}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with scripted_plane(tmp_path_factory.mktemp("plane")) as (plane, _):
        yield plane


@pytest.fixture
def plane(shared: Plane) -> Plane:
    """A control plane that knows nothing yet."""
    shared.store = Store(shared.region)
    return shared


@pytest.fixture
def client(plane: Plane) -> Client:
    return Client(server.Application(plane))


def signed(service: str, region: str = "eu-west-1") -> dict[str, str]:
    scope = f"Credential=local/20260101/{region}/{service}/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"}


def call(client: Client, operation: str, fields: Any, service: str = "sagemaker", target: str = "SageMaker") -> Any:
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return client.post("/", data=body, headers={"X-Amz-Target": f"{target}.{operation}", **signed(service)})


def test_an_operation_is_answered_in_the_shape_of_aws(client: Client) -> None:
    answered = call(
        client, "CreateModel", {"ModelName": "m", "PrimaryContainer": {"Image": "i"}, "ExecutionRoleArn": ROLE}
    )

    assert (answered.status_code, answered.content_type) == (200, "application/x-amz-json-1.1")
    assert answered.get_json(force=True) == {"ModelArn": "arn:aws:sagemaker:us-east-1:123456789012:model/m"}
    assert answered.headers["x-amzn-RequestId"] == answered.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("operation", "fields", "status", "code", "said"),
    [
        ("CreateModel", {}, 400, "ValidationException", "1 validation error detected"),
        ("DescribeModel", {"ModelName": "x"}, 400, "ValidationException", "Could not find model"),
        ("DescribeModel", b"{", 400, "SerializationException", "The request body is not JSON."),
        ("DescribeModel", b"[]", 400, "SerializationException", "The request body is not a JSON object."),
        ("DescribeModel", b"", 400, "ValidationException", "'modelName' failed to satisfy constraint"),
    ],
)
def test_a_refusal_is_answered_in_the_shape_of_aws(
    client: Client, operation: str, fields: Any, status: int, code: str, said: str
) -> None:
    answered = call(client, operation, fields)

    assert (answered.status_code, answered.get_json(force=True)["__type"]) == (status, code)
    assert said in answered.get_json(force=True)["message"]


def test_an_operation_that_nobody_has_is_refused(client: Client) -> None:
    answered = call(client, "CreateStudioLifecycleConfig", {})

    assert (answered.status_code, answered.get_json(force=True)["__type"]) == (501, "NotImplemented")
    assert answered.content_type == "application/x-amz-json-1.1"
    assert "does not do CreateStudioLifecycleConfig of sagemaker" in answered.get_json(force=True)["message"]


def test_an_unsigned_call_is_sagemakers_by_its_target(client: Client) -> None:
    answered = client.post("/", data=b"{}", headers={"X-Amz-Target": "SageMaker.ListModels"})

    assert (answered.status_code, answered.get_json(force=True)) == (200, {"Models": []})


@pytest.mark.parametrize("region", ["eu-west-1", "us-east-1"])
def test_all_regions_are_this_one(client: Client, plane: Plane, region: str) -> None:
    """For moto, too, which would keep a repository in the region that was signed for."""
    target = "AmazonEC2ContainerRegistry_V20150921"
    name = f"region-{region}"
    headers = {"X-Amz-Target": f"{target}.CreateRepository", **signed("ecr", region)}

    made = client.post("/", data=json.dumps({"repositoryName": name}), headers=headers)

    assert made.status_code == 200, made.text
    assert made.get_json(force=True)["repository"]["repositoryArn"].split(":")[3] == plane.region
    assert behind.ask(plane.region, "ecr", f"{target}.DescribeRepositories", {"repositoryNames": [name]})


def test_a_service_that_is_passed_is_answered_by_moto(client: Client) -> None:
    buckets = client.get("/", headers=signed("s3"))

    assert (buckets.status_code, b"ListAllMyBucketsResult" in buckets.data) == (200, True)


def test_moto_is_asked_from_inside_and_its_refusals_are_raised(plane: Plane) -> None:
    target = "AmazonEC2ContainerRegistry_V20150921"
    behind.ask(plane.region, "ecr", f"{target}.CreateRepository", {"repositoryName": "asked"})

    found = behind.ask(plane.region, "ecr", f"{target}.DescribeRepositories", {"repositoryNames": ["asked"]})
    with pytest.raises(ApiError, match="The repository with name 'absent' does not exist") as refused:
        behind.ask(plane.region, "ecr", f"{target}.DescribeRepositories", {"repositoryNames": ["absent"]})

    assert [one["repositoryName"] for one in found["repositories"]] == ["asked"]
    assert (refused.value.code, refused.value.status) == ("RepositoryNotFoundException", 400)


def test_events_are_found_by_a_json_pattern_and_others_are_motos(plane: Plane) -> None:
    logs = plane.client("logs")
    logs.create_log_group(logGroupName="patterned")
    logs.create_log_stream(logGroupName="patterned", logStreamName="s")
    now = int(time.time() * 1000)
    events = [{"timestamp": now, "message": text} for text in ('{"status": 200}', '{"status": 500}', "plain 500")]
    logs.put_log_events(logGroupName="patterned", logStreamName="s", logEvents=events)

    found = {
        pattern: [
            event["message"]
            for event in logs.filter_log_events(logGroupName="patterned", filterPattern=pattern)["events"]
        ]
        for pattern in ("{ $.status = 500 }", " { $.status < 500 }", "plain", "")
    }

    assert found == {
        "{ $.status = 500 }": ['{"status": 500}'],
        " { $.status < 500 }": ['{"status": 200}'],
        "plain": ["plain 500"],
        "": [event["message"] for event in events],
    }


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:4566"}, 200),
        ({"Host": "127.9.9.9"}, 200),
        ({"Host": "[::1]:4566"}, 200),
        ({"Host": "models.s3.localhost:4566"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "localhost", "Sec-Fetch-Site": "none"}, 200),
        ({"Host": "localhost", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Host": "128.0.0.1"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "notlocalhost"}, 403),
        ({"Host": "localhost", "Origin": "http://localhost"}, 403),
        ({"Host": "localhost", "Sec-Fetch-Site": "same-site"}, 403),
    ],
    ids=str,
)
def test_programs_of_this_machine_are_answered_and_web_pages_are_not(
    client: Client, headers: Mapping[str, str], status: int
) -> None:
    assert client.get(STATUS_PATH, headers=dict(headers)).status_code == status


def test_a_list_has_pages_orders_and_filters(plane: Plane) -> None:
    for number, name in enumerate(("b-one", "a-two", "c-Three")):
        made = plane.store.add(ENDPOINT, {"EndpointName": name, "EndpointStatus": "Failed" if number else "InService"})
        made.fields.update(CreationTime=100.0 + number, LastModifiedTime=200.0 + number)

    def names(**asked: Any) -> list[str]:
        return [one["EndpointName"] for one in plane.store.list(ENDPOINT, asked)["Endpoints"]]

    assert names() == ["c-Three", "a-two", "b-one"]
    assert names(SortOrder="Ascending") == ["b-one", "a-two", "c-Three"]
    assert names(SortBy="Name", SortOrder="Ascending") == ["a-two", "b-one", "c-Three"]
    assert names(SortBy="Name") == ["c-Three", "b-one", "a-two"]
    assert names(SortBy="Status", SortOrder="Ascending") == ["a-two", "c-Three", "b-one"]
    assert names(SortBy="Status") == ["b-one", "c-Three", "a-two"]
    assert names(NameContains="THREE") == ["c-Three"]
    assert names(StatusEquals="Failed") == ["c-Three", "a-two"]
    assert names(CreationTimeAfter=100.0, CreationTimeBefore=102.0) == ["a-two"]
    assert names(LastModifiedTimeAfter=201.0) == ["c-Three"]
    assert names(LastModifiedTimeBefore=201.0) == ["b-one"]
    first = plane.store.list(ENDPOINT, {"MaxResults": 2})
    last = plane.store.list(ENDPOINT, {"MaxResults": 2, "NextToken": first["NextToken"]})
    assert [one["EndpointName"] for one in first["Endpoints"] + last["Endpoints"]] == names()
    assert "NextToken" not in last
    assert "NextToken" not in plane.store.list(ENDPOINT, {"MaxResults": 3})
    assert first["Endpoints"][0] == {
        "EndpointName": "c-Three",
        "EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/c-Three",
        "CreationTime": 102.0,
        "LastModifiedTime": 202.0,
        "EndpointStatus": "Failed",
    }


def test_a_list_has_a_hundred_on_a_page(plane: Plane) -> None:
    for number in range(101):
        plane.store.add(MODEL, {"ModelName": f"m{number}"})

    listed = models.list_models(plane, {})

    assert (len(listed["Models"]), listed["NextToken"]) == (100, "100")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.word)
def test_a_name_is_taken_until_its_resource_is_removed(plane: Plane, kind: Any) -> None:
    made = plane.store.add(kind, {kind.name: "n", "Tags": [{"Key": "a", "Value": "b"}]})

    with pytest.raises(ApiError, match=f'Cannot create already existing {kind.spoken} "{made.arn}"'):
        plane.store.add(kind, {kind.name: "n"})
    assert plane.store.by_arn(made.arn) is plane.store.find(kind, "n") is made
    assert (made.tags, "Tags" in made.fields) == ({"a": "b"}, False)
    plane.store.remove(kind, "n")
    with pytest.raises(ApiError, match=f'Could not find {kind.spoken} "{made.arn}"'):
        plane.store.find(kind, "n")
    with pytest.raises(ApiError, match="Could not find resource"):
        plane.store.by_arn(made.arn)
    assert plane.store.recall(kind, "n") is made
    again = plane.store.add(kind, {kind.name: "n"})
    assert plane.store.recall(kind, "n") is again


def test_what_was_never_there_cannot_be_recalled(plane: Plane) -> None:
    with pytest.raises(ApiError, match="Could not find model"):
        plane.store.recall(MODEL, "never")


def test_a_change_sets_removes_and_dates(plane: Plane) -> None:
    made = plane.store.add(MODEL, {"ModelName": "m", "A": 1, "B": 2})
    made.fields["LastModifiedTime"] = 0.0

    plane.store.change(made, A=None, B=3, C=None)

    assert made.fields["LastModifiedTime"] > 0
    assert {name: made.fields.get(name) for name in "ABC"} == {"A": None, "B": 3, "C": None}
    assert not {"A", "C"} & made.fields.keys()


def test_a_resource_has_fifty_tags_at_most(plane: Plane) -> None:
    arn = plane.store.add(MODEL, {"ModelName": "m"}).arn
    fifty = [{"Key": str(number), "Value": "v"} for number in range(50)]

    assert tags.add_tags(plane, {"ResourceArn": arn, "Tags": fifty}) == {"Tags": fifty}
    with pytest.raises(ApiError, match="A resource may have 50 tags, got 51") as refused:
        tags.add_tags(plane, {"ResourceArn": arn, "Tags": [{"Key": "one more", "Value": "v"}]})
    assert refused.value.code == LimitExceeded("").code == "ResourceLimitExceeded"
    changed = tags.add_tags(plane, {"ResourceArn": arn, "Tags": [{"Key": "0", "Value": "new"}]})
    assert changed["Tags"] == [{"Key": "0", "Value": "new"}, *fifty[1:]]
    assert tags.list_tags(plane, {"ResourceArn": arn}) == changed


@pytest.mark.parametrize(
    ("container", "said"),
    [
        ({}, "hosts containers with an Image; a ModelPackageName names none"),
        ({"Image": "absent"}, "Requested image absent not found"),
        (
            {"Image": "i", "ModelDataSource": {"S3DataSource": {}}},
            "as an archive, a ModelDataSource of S3Object and Gzip",
        ),
        ({"Image": "i", "ModelDataSource": source(CompressionType="None")}, "a ModelDataSource of S3Object and Gzip"),
        ({"Image": "i", "ModelDataSource": source(S3DataType="S3Prefix")}, "a ModelDataSource of S3Object and Gzip"),
        ({"Image": "i", "ModelDataSource": source()}, "Could not find model data at s3://nobodys/m.tar.gz"),
        ({"Image": "i", "ModelDataSource": source(), "ModelDataUrl": "s3://a/b"}, "Both ModelDataUrl and ModelData"),
        ({"Image": "i", "AdditionalModelDataSources": [{}]}, "got AdditionalModelDataSources"),
        ({"Image": "i", "Environment": {"SAGEMAKER_SAFE_PORT_RANGE": "1-2"}}, "SAGEMAKER_SAFE_PORT_RANGE is reserved"),
        ({"Image": "i", "Environment": {"é": "x" * 32767}}, "may take 32768 bytes, got 32769"),
        ({"Image": "i", "ModelDataUrl": "/tmp/m.tar.gz"}, "Expected the URL of an object in S3"),  # noqa: S108
    ],
)
def test_a_container_that_cannot_be_hosted_is_refused(plane: Plane, container: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ApiError, match=said):
        models.create_model(plane, {**PRIMARY, "PrimaryContainer": container or {"ModelPackageName": "p"}})

    assert plane.store.get(MODEL, "m") is None


@pytest.mark.parametrize(
    "changed",
    [
        {"PrimaryContainer": {"Image": "i", "Environment": {"é": "x" * 32766}}},
        {"PrimaryContainer": {"Image": "i", "ContainerHostname": "h", "Mode": "SingleModel"}},
        {"PrimaryContainer": None, "Containers": [{"Image": "i"}] * 15},
        {"PrimaryContainer": None, "Containers": [{"Image": "i"}]},
        {"PrimaryContainer": None, "Containers": [{"Image": "i"}] * 2, "InferenceExecutionConfig": {"Mode": "Serial"}},
    ],
)
def test_a_container_within_the_limits_is_hosted(plane: Plane, changed: Mapping[str, Any]) -> None:
    given = {name: value for name, value in {**PRIMARY, **changed}.items() if value}

    assert models.create_model(plane, given)["ModelArn"].endswith("/m")
    assert models.describe_model(plane, {"ModelName": "m"})["EnableNetworkIsolation"] is False


def test_more_than_fifteen_containers_are_refused(plane: Plane) -> None:
    with pytest.raises(ApiError, match="expected 1 to 15 containers, got 16"):
        models.create_model(plane, {"ModelName": "m", "Containers": [{"Image": "i"}] * 16})


@pytest.mark.parametrize(
    ("config", "variant", "said"),
    [
        ({"AsyncInferenceConfig": {"a": 1}}, {}, "does not host asynchronous inference, got AsyncInferenceConfig"),
        ({"ExplainerConfig": {"a": 1}}, {}, "does not host explainers"),
        ({"ShadowProductionVariants": [VARIANT]}, {}, "does not host shadow variants"),
        ({"CrossRegionTrafficConfig": {"a": 1}}, {}, "does not host traffic of other regions"),
        ({}, {"ServerlessConfig": {"a": 1}}, "does not host serverless inference, got ServerlessConfig"),
        ({}, {"InstancePools": [1]}, "does not host instance pools"),
        ({}, {"ModelName": ""}, "ModelName must be provided for production variant AllTraffic"),
        ({}, {"InstanceType": None}, "InstanceType must be provided"),
        ({}, {"InitialInstanceCount": 0}, "InitialInstanceCount must be provided"),
    ],
)
def test_a_config_that_cannot_be_hosted_is_refused(
    plane: Plane, config: Mapping[str, Any], variant: Mapping[str, Any], said: str
) -> None:
    models.create_model(plane, PRIMARY)
    fields = {"EndpointConfigName": "c", "ProductionVariants": [{**VARIANT, **variant}], **config}

    with pytest.raises(ApiError, match=said):
        configs.create_endpoint_config(plane, fields)

    assert plane.store.get(CONFIG, "c") is None


def test_a_config_is_described_with_its_defaults_and_deleted(plane: Plane) -> None:
    models.create_model(plane, PRIMARY)
    made = configs.create_endpoint_config(plane, {"EndpointConfigName": "c", "ProductionVariants": [VARIANT]})

    described = configs.describe_endpoint_config(plane, {"EndpointConfigName": "c"})
    listed = configs.list_endpoint_configs(plane, {})
    configs.delete_endpoint_config(plane, {"EndpointConfigName": "c"})

    assert described.pop("CreationTime") <= time.time()
    assert described == {
        "EndpointConfigName": "c",
        "EndpointConfigArn": made["EndpointConfigArn"],
        "ProductionVariants": [{**VARIANT, "InitialVariantWeight": 1.0}],
    }
    assert [one["EndpointConfigArn"] for one in listed["EndpointConfigs"]] == [made["EndpointConfigArn"]]
    assert plane.store.all(CONFIG) == []


def test_a_config_is_kept_while_an_endpoint_is_moved_to_it(plane: Plane) -> None:
    models.create_model(plane, PRIMARY)
    for name in ("c", "d", "e"):
        configs.create_endpoint_config(plane, {"EndpointConfigName": name, "ProductionVariants": [VARIANT]})
    pending = {"EndpointConfigName": "d"}
    fields = {"EndpointName": "e", "EndpointConfigName": "c", "EndpointStatus": "Updating"}
    plane.store.add(ENDPOINT, {**fields, "PendingDeploymentSummary": pending})

    for name in ("c", "d"):
        with pytest.raises(ApiError, match=f'endpoint-config/{name}": it is in use by "arn:.*:endpoint/e"'):
            configs.delete_endpoint_config(plane, {"EndpointConfigName": name})
    configs.delete_endpoint_config(plane, {"EndpointConfigName": "e"})

    assert [one.name for one in plane.store.all(CONFIG)] == ["c", "d"]


@pytest.mark.parametrize(
    ("operation", "fields", "said"),
    [
        ("CreateModel", {"ModelName": 5}, "NUMBER_VALUE can not be converted to string at 'modelName'"),
        ("CreateModel", {"ModelName": True}, "BOOLEAN_VALUE can not be converted to string"),
        ("CreateModel", {"ModelName": {}}, "START_OBJECT can not be converted to string"),
        ("CreateModel", {"ModelName": []}, "START_ARRAY can not be converted to string"),
        ("CreateModel", {"ModelName": "m", "Containers": [None]}, "NULL_VALUE can not be converted to structure"),
        (
            "CreateModel",
            {"ModelName": "m", "EnableNetworkIsolation": "no"},
            "STRING_VALUE can not be converted to bool",
        ),
        ("CreateModel", {"ModelName": "m", "PrimaryContainer": {"Environment": []}}, "converted to map"),
        ("ListModels", {"MaxResults": True}, "BOOLEAN_VALUE can not be converted to integer at 'maxResults'"),
        ("ListModels", {"MaxResults": 1.5}, "NUMBER_VALUE can not be converted to integer"),
        ("ListModels", {"CreationTimeAfter": []}, "START_ARRAY can not be converted to timestamp"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_place(operation: str, fields: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ApiError, match=said) as refused:
        validation.check(operation, fields)

    assert refused.value.code == "SerializationException"


@pytest.mark.parametrize(
    ("operation", "fields", "said"),
    [
        ("ListModels", {"MaxResults": 0}, "Value '0' at 'maxResults' .*value greater than or equal to 1"),
        ("ListModels", {"MaxResults": 101}, "Value '101' at 'maxResults' .*value less than or equal to 100"),
        (
            "AddTags",
            {"ResourceArn": "arn:aws:sagemaker:b:123456789012:d", "Tags": [{"Key": "a"}]},
            "1 validation error detected: Value null at 'tags.1.member.value' failed",
        ),
        (
            "CreateModel",
            {"ModelName": "m", "PrimaryContainer": {"Environment": {"A": "x" * 70_000}}},
            "at 'primaryContainer.environment.A.member' .*length less than or equal to",
        ),
        ("CreateModel", {"ModelName": "x" * 300}, f"Value '{'x' * 256}' at 'modelName'"),
    ],
)
def test_a_broken_rule_is_named_with_its_place(operation: str, fields: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ApiError, match=said):
        validation.check(operation, fields)


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("ListModels", {"MaxResults": 1}),
        ("ListModels", {"MaxResults": 100, "CreationTimeAfter": 1.5}),
        ("ListModels", {"CreationTimeAfter": "2026-01-01T00:00:00Z"}),
        ("ListModels", {"NameContains": None}),
        ("CreateModel", {"ModelName": "x" * 63, "EnableNetworkIsolation": True}),
    ],
)
def test_values_at_their_limits_pass(operation: str, fields: Mapping[str, Any]) -> None:
    validation.check(operation, fields)


STAND_IN = """
import http.server, json, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(os.environ.get("PING", "200")))
        self.end_headers()

print(json.dumps(dict(os.environ)), flush=True)
if sys.argv[1:] == ["train"]:
    sys.exit(3)
http.server.HTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever(0.05)
"""


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> ProcessHost:
    """A host whose containers print their environment and answer pings."""
    monkeypatch.setattr(process_host, "COMMAND", (sys.executable, "-c", STAND_IN))
    ours = {
        "AWS_PROFILE": "a",
        "SM_X": "b",
        "SAGEMAKER_X": "c",
        "STAGE": "d",
        "PORT": "e",
        "KEPT": "f",
        "CONTAINERS": "g",
        "ENDPOINT_NAME": "h",
        "MODEL_SERVER_RUN_DIR": "i",
    }
    return ProcessHost({"PATH": os.environ["PATH"], **ours})


def environment_of(log: Path) -> dict[str, str]:
    return json.loads(log.read_text(encoding="utf-8").splitlines()[0])


def test_processes_are_told_what_the_platform_tells_containers(processes: ProcessHost, tmp_path: Path) -> None:
    (tmp_path / "artifact").mkdir()
    specs = [
        ContainerSpec("first", "a/featurizer:1", {"MINE": "1", "STAGE": "lost"}, tmp_path / "artifact"),
        ContainerSpec("second", "a/predictor:1", {}, None),
    ]

    hosted = processes.start("e", specs, tmp_path, 60, "ml.m5.xlarge")
    running = hosted.ended()
    _, recorded = State(tmp_path).load()
    environments = [environment_of(hosted.logs[name]) for name in ("first", "second")]
    hosted.stop()

    ports = [container.port for container in hosted.endpoint.containers]
    assert (running, hosted.ended()) == ([], ["first", "second"])
    assert processes.resolve("a/featurizer:1") == "a/featurizer:1"
    assert [process.port for process in recorded] == ports
    assert State(tmp_path).load() == ("", [])
    assert [one["SAGEMAKER_BIND_TO_PORT"] for one in environments] == [str(port) for port in ports]
    assert {one["SAGEMAKER_SAFE_PORT_RANGE"] for one in environments} == {f"{min(ports)}-{max(ports)}"}
    assert [one["STAGE"] for one in environments] == ["featurizer", "predictor"]
    assert [one["SM_MODEL_DIR"] for one in environments] == [str(tmp_path / "artifact"), str(tmp_path / "model-second")]
    assert (tmp_path / "model-second").is_dir()
    assert {one["MODEL_SERVER_HOST"] for one in environments} == {"127.0.0.1"}
    assert (environments[0]["MINE"], environments[0]["KEPT"]) == ("1", "f")
    assert not {"AWS_PROFILE", "SM_X", "SAGEMAKER_X", "PORT", "CONTAINERS", "ENDPOINT_NAME"} & environments[0].keys()
    assert "MODEL_SERVER_RUN_DIR" not in environments[0]


def test_processes_that_are_not_healthy_in_time_are_stopped(processes: ProcessHost, tmp_path: Path) -> None:
    spec = ContainerSpec("primary", "featurizer", {"PING": "503"}, None)

    with pytest.raises(Unhealthy, match="The primary container for production variant"):
        processes.start("e", [spec], tmp_path, 0.5, "ml.m5.xlarge")

    assert State(tmp_path).load() == ("", [])


def test_a_training_process_gets_its_tree_and_gives_its_exit_code(
    processes: ProcessHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "__main__.py").write_text(STAND_IN, encoding="utf-8")
    monkeypatch.setattr(process_host, "CHECKOUT", tmp_path)
    (tmp_path / "predictor").mkdir()
    (tmp_path / "predictor" / "wsgi.py").touch()

    code = processes.train("predictor", tmp_path / "tree", {"MINE": "1"}, tmp_path / "log", threading.Event())

    told = environment_of(tmp_path / "log")
    assert code == 3
    assert (told["STAGE"], told["SAGEMAKER_BASE_DIR"]) == ("predictor", str(tmp_path / "tree"))
    assert (told["SM_MODEL_DIR"], told["MINE"]) == (str(tmp_path / "tree" / "model"), "1")
    assert "AWS_PROFILE" not in told


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("127.0.0.1:5000/a/b:tag", "127.0.0.1:5000/a/b"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b"),
        ("a/b:tag", "a/b"),
        ("b:tag", "b"),
    ],
)
def test_an_image_has_a_name_without_its_tag(image: str, name: str) -> None:
    assert docker_host._untagged(image) == name


@pytest.mark.parametrize(
    ("ports", "told"),
    [
        ([8080], []),
        ([8080, 8081], ["--env", "SAGEMAKER_BIND_TO_PORT=8081", "--env", "SAGEMAKER_SAFE_PORT_RANGE=8080-8081"]),
    ],
)
def test_only_containers_of_several_are_told_their_ports(ports: list[int], told: list[str]) -> None:
    assert docker_host._serial(ports, len(ports) - 1) == told


@pytest.mark.parametrize(
    ("instance_type", "cpus", "gib"),
    [("ml.t2.medium", 2, 4), ("ml.m5.4xlarge", 16, 64), ("ml.c5.xlarge", 4, 8), ("ml.g4dn.xlarge", 4, 16)],
)
def test_an_instance_type_is_as_large_as_its_name_says(instance_type: str, cpus: int, gib: int) -> None:
    assert docker_host.size_of(instance_type) == (cpus, gib << 30)


def test_the_label_that_several_containers_need_is_that_of_our_dockerfiles() -> None:
    for stage in ("featurizer", "predictor"):
        assert f"LABEL {BIND_LABEL}=true" in (ROOT / stage / "Dockerfile").read_text(encoding="utf-8")


def test_a_registry_that_ends_shows_the_last_20_lines_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(registry, "stop", lambda _processes, seconds: waited.append(seconds))
    State(tmp_path).log("registry").write_text("".join(f"line {number}\n" for number in range(30)))
    ended = Process("registry", 2**22 + 1, "0", 1)

    with pytest.raises(HostingError) as refused:
        registry._wait(Registry(tmp_path, 1), ended)

    head, *lines = str(refused.value).splitlines()
    assert head == "docker-registry does not answer on 127.0.0.1:1. The end of its log:"
    assert lines == [f"line {number}" for number in range(10, 30)]
    assert waited == [10]


def test_a_registry_has_ten_seconds_to_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds * 100

    monkeypatch.setattr(registry, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))

    with pytest.raises(HostingError, match="docker-registry does not answer"):
        registry._wait(Registry(tmp_path, 1), SimpleNamespace(is_alive=lambda: True))  # type: ignore[arg-type]

    assert clock == [110.0]


@pytest.mark.parametrize(
    ("content", "size"),
    [({"layers": [{"size": 3}, {"size": 4}, {}], "config": {"size": 5}}, 12), ({"config": {}}, 0), ({"a": []}, 0)],
)  # fmt: skip
def test_an_image_is_as_large_as_its_layers_and_configuration(content: Mapping[str, Any], size: int) -> None:
    assert Manifest("sha256:0", "any", json.dumps(content).encode()).size == size


def test_a_page_of_images_has_a_hundred(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [f"sha256:{number}" for number in range(101)]
    monkeypatch.setattr(plane, "registry", "127.0.0.1:1")
    monkeypatch.setattr(Registry, "tags", lambda _self, _name: {})
    monkeypatch.setattr(Registry, "digests", lambda _self, _name: digests)
    monkeypatch.setattr(ecr, "_check_repository", lambda _plane, _name: None)

    first = ecr.list_images(plane, {"repositoryName": "a"})
    last = ecr.list_images(plane, {"repositoryName": "a", "nextToken": first["nextToken"]})

    assert (len(first["imageIds"]), first["nextToken"]) == (100, "100")
    assert last == {"imageIds": [{"imageDigest": "sha256:100"}]}


def test_a_token_of_the_registry_lasts_twelve_hours(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecr, "time", SimpleNamespace(time=lambda: 1000.0))

    (token,) = ecr.get_authorization_token(plane, {})["authorizationData"]

    assert token == {"authorizationToken": "QVdTOmxvY2Fs", "expiresAt": 44200.0, "proxyEndpoint": plane.url}


def test_clients_of_the_control_plane_ask_once(plane: Plane) -> None:
    config = plane.client("s3").meta.config

    assert (config.retries["total_max_attempts"], config.region_name) == (1, "us-east-1")


def test_the_server_needs_its_port_and_directory_and_serves_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[tuple[str, str]] = []
    served: list[Plane] = []
    monkeypatch.setattr(service.logs, "configure", lambda name, level: levels.append((name, level)))
    monkeypatch.setattr(service, "run", served.append)
    arguments = ["--port", "5", "--host", "processes", "--directory", str(tmp_path / "deep" / "new")]

    codes = [service.main(arguments, {}), service.main(arguments, {"LOG_LEVEL": "DEBUG"})]

    assert codes == [0, 0]
    assert levels == [("control-plane", "INFO"), ("control-plane", "DEBUG")]
    assert (served[0].url, served[0].host.name) == ("http://127.0.0.1:5", "processes")
    assert served[0].directory.is_dir()
    for missing in (arguments[2:], arguments[:4]):
        with pytest.raises(SystemExit):
            service.main(missing, {})


def test_commands_find_the_server_that_runs(plane: Plane, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = int(plane.url.rpartition(":")[2])
    with_reason = {"EndpointName": "bad", "EndpointStatus": "Failed", "FailureReason": "no such image"}
    plane.store.add(ENDPOINT, {"EndpointName": "good", "EndpointStatus": "InService"})
    arguments = argparse.Namespace(state=tmp_path, port=0, host="processes")
    server = Process.start(command.NAME, ("sleep", "600"), {"PATH": os.environ["PATH"]}, port, tmp_path / "log")
    State(tmp_path).save(command.NAME, [server])

    with contextlib.ExitStack() as stack:
        stack.callback(server.kill)
        codes = [command.up(arguments, {"PATH": ""}), command.status(arguments, {})]
        plane.store.add(ENDPOINT, with_reason)
        codes.append(command.status(arguments, {}))
        plane.store = Store(plane.region)
        codes.append(command.status(arguments, {}))

    said = capsys.readouterr().out.splitlines()
    head = f"control plane on http://127.0.0.1:{port}, pid {server.pid}, hosts models in processes of this checkout"
    assert codes == [0] * 4
    assert said[0] == f"The control plane already runs on http://127.0.0.1:{port} (scripted)."
    assert said[1:] == [
        head,
        f"{'good':<40}InService",
        head,
        f"{'good':<40}InService",
        f"{'bad':<40}{'Failed':<14}no such image",
        head,
        "no endpoints",
    ]
