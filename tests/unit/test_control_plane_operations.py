"""Every operation of every service is done, passed to moto on purpose, or refused as its protocol writes errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session
from werkzeug.test import Client, EnvironBuilder

from local_test.control_plane import protocols, server
from local_test.control_plane.docker_host import DockerHost
from local_test.control_plane.errors import ApiError
from local_test.control_plane.passed import PASSED
from local_test.control_plane.plane import Plane
from local_test.control_plane.protocols import AWS_JSON
from local_test.control_plane.registry import Registry
from pipeline.cli import main
from pipeline.endpoint.errors import WRONG
from tests.scripted_host import scripted_plane

WALKED = (
    *("sagemaker", "sagemaker-runtime", "sagemaker-metrics", "sagemaker-featurestore-runtime", "sagemaker-a2i-runtime"),
    *("ecr", "s3", "iam", "sts", "logs", "cloudwatch", "application-autoscaling"),
    *("pricing", "lambda", "ecs", "apprunner", "apigateway", "cloudfront"),
)
# No operation of these is ever passed on, so that one of each protocol is enough: EC2's has 830.
ASKED = {
    "ec2": ["DescribeInstances"],
    "ssm": ["GetParameter"],
    "dynamodb": ["ListTables"],
    "route53": ["GetHostedZone"],
}
DONE_OVER_HTTP = {("sagemaker-runtime", "InvokeEndpoint")}
SAME_REQUEST = {("s3", name) for name in ("GetBucketLifecycle", "PutBucketLifecycle")}
BIDIRECTIONAL = ("InvokeEndpointWithBidirectionalStream",)  # HTTP/2, which boto3 does not speak


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with scripted_plane(tmp_path_factory.mktemp("plane")) as (plane, _):
        yield plane


def client_of(plane: Plane, service: str) -> Any:
    """A client that sends what it is given, right or wrong."""
    return Session().create_client(
        service,
        region_name=plane.region,
        endpoint_url=plane.url,
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - any will do
        config=Config(parameter_validation=False, inject_host_prefix=False, retries={"total_max_attempts": 1}),
    )


def sample(shape: Any) -> Any:
    """The smallest value of a shape."""
    if shape is None:
        return {}
    if shape.type_name == "structure":
        return {name: sample(shape.members[name]) for name in shape.required_members}
    if shape.type_name == "list":
        return [sample(shape.member)]
    if shape.type_name == "string":
        return shape.enum[0] if shape.enum else "a" * max(1, shape.metadata.get("min", 1))
    small = {"map": {}, "boolean": True, "blob": b"", "timestamp": 1}
    return small.get(shape.type_name, shape.metadata.get("min", 1))


def asked(client: Any, operation: str) -> tuple[int, str, str]:
    """The status that an operation is answered with, and the code and message when it is refused."""
    given = sample(client.meta.service_model.operation_model(operation).input_shape)
    try:
        answer = client._make_api_call(operation, given)
        return answer["ResponseMetadata"]["HTTPStatusCode"], "", ""
    except ClientError as error:
        told = error.response
        return told["ResponseMetadata"]["HTTPStatusCode"], told["Error"]["Code"], told["Error"]["Message"]


def done(plane: Plane, service: str, signing: str) -> set[str]:
    """What the server does itself."""
    own = server.Application(plane)._operations
    if service.startswith("sagemaker-"):
        return {name for kind, name in DONE_OVER_HTTP if kind == service}
    return {name for (kind, name) in own if kind == signing}


@pytest.mark.parametrize("service", [*WALKED, *ASKED])
def test_every_operation_is_done_or_passed_on_purpose_or_refused_in_words(plane: Plane, service: str) -> None:
    model = Session().get_service_model(service)
    ours = done(plane, service, model.signing_name)
    passed = PASSED.get(model.signing_name, frozenset())
    client = client_of(plane, service)
    wrong = {}

    for operation in ASKED.get(service, model.operation_names):
        if operation in BIDIRECTIONAL:
            continue
        answered = status, code, message = asked(client, operation)
        if operation in ours | passed or (service, operation) in SAME_REQUEST:
            sound = status != 500 and "does not do" not in message
        elif operation == "SimulatePrincipalPolicy":
            sound = answered == (403, "AccessDenied", "The local control plane does not judge by policies.")
        else:
            sound = (status, code) == (501, "NotImplemented") and "The local control plane does not do " in message
        if not sound:
            wrong[operation] = answered

    assert wrong == {}


def test_what_is_passed_is_what_the_services_have() -> None:
    names = {"monitoring": "cloudwatch"}

    for signing, operations in PASSED.items():
        assert operations <= set(Session().get_service_model(names.get(signing, signing)).operation_names)
    assert "sagemaker" not in PASSED


def signed(service: str) -> dict[str, str]:
    scope = f"Credential=local/20260101/us-east-1/{service}/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"}


@pytest.fixture
def web(plane: Plane) -> Client:
    return Client(server.Application(plane))


@pytest.mark.parametrize(
    ("path", "service", "status", "kind"),
    [
        ("/endpoints/e/async-invocations", "sagemaker", 501, "application/json"),
        ("/endpoints/e/invocations-response-stream", "sagemaker", 501, "application/json"),
        ("/endpoints/e/invocations-bidirectional-stream", "sagemaker", 501, "application/json"),
        ("/moto-api/reset", "", 404, "text/xml"),
        ("/moto-api/static/sagemaker/endpoint-results", "", 404, "text/xml"),
        ("/nothing/at/all", "iam", 501, "application/json"),
        ("/no/json/at/all", "logs", 501, "application/json"),
        ("/bucket?torrent", "s3", 501, "text/xml"),
        ("/v20180820/jobs", "s3", 501, "text/xml"),
        ("/service/GraniteServiceVersion20100801/operation/ListMetrics", "monitoring", 501, "application/cbor"),
    ],
)
def test_paths_that_nobody_answers_are_refused_as_their_protocol_has_it(
    web: Client, path: str, service: str, status: int, kind: str
) -> None:
    target = {"X-Amz-Target": "Logs_20140328.DescribeLogGroups"} if service == "logs" else {}

    answer = web.post(path, data=b"{}", headers={**target, **signed(service)} if service else {})

    assert (answer.status_code, answer.mimetype) == (status, kind)
    assert b"The local control plane" in answer.data
    assert b"<html" not in answer.data.lower()


def test_a_form_that_nobody_signed_is_refused_in_xml(web: Client) -> None:
    answer = web.post("/", data={"Action": "GetUser\0<&>", "Version": "2010-05-08"})

    assert (answer.status_code, answer.mimetype) == (501, "text/xml")
    assert b"<Message>The local control plane does not do GetUser\\x00&lt;&amp;&gt; of S3" in answer.data


def test_a_failure_of_moto_is_answered_in_the_protocol_too(
    web: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_environ: object, _start: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(server.behind, "application", lambda _service: fail)

    answer = web.post("/", data={"Action": "ListRoles"}, headers=signed("iam"))

    assert (answer.status_code, answer.mimetype) == (501, "text/xml")
    assert (
        b"<Message>The local control plane cannot do ListRoles of iam as it is asked: ZeroDivisionError()"
        in answer.data
    )
    assert "moto failed at ListRoles of iam" in caplog.text


HOSTILE = (
    "--help",
    "\0",
    "a\0b",
    "../../x",
    "/etc/passwd",
    "",
    "x" * 5000,
    "\ud800",
    "é",
    "-1",
    "9" * 5000,
    "<&>",
    "\r\nA: b",
)


@pytest.mark.parametrize("service", ["sagemaker", "ecr", "logs", "application-autoscaling", "monitoring"])
@pytest.mark.parametrize("registry", ["", "127.0.0.1:1"])
def test_no_value_of_a_member_is_the_servers_own_fault(tmp_path: Path, service: str, registry: str) -> None:
    wrong = []
    with scripted_plane(tmp_path) as (real, _):
        own = server.Application(real)
        operations = {name for kind, name in own._operations if kind == service} | PASSED.get(service, frozenset())
        web = Client(server.Application(replace(real, registry=registry)))
        model = Session().get_service_model("cloudwatch" if service == "monitoring" else service)
        for operation in sorted(operations):
            shape = model.operation_model(operation).input_shape
            for name, member in shape.members.items() if shape else ():
                for value in HOSTILE:
                    body = json.dumps({**sample(shape), name: [value] if member.type_name == "list" else value})
                    target = {"X-Amz-Target": f"{model.metadata['targetPrefix']}.{operation}"}
                    answer = web.post("/", data=body, headers={**target, **signed(service)}, content_type=AWS_JSON)
                    told = answer.get_json(force=True, silent=True) or {}
                    if answer.status_code == 500 or (answer.status_code > 200 and "__type" not in told):
                        wrong.append((operation, name, str(value)[:20], answer.status_code))

    assert wrong == []


@pytest.mark.parametrize(
    ("operation", "fields", "code", "said"),
    [
        ("ListModels", {"NextToken": "abc"}, "ValidationException", "Invalid pagination token: abc"),
        ("ListModels", {"NextToken": "-5"}, "ValidationException", "Invalid pagination token: -5"),
        ("ListModels", {"CreationTimeAfter": "yesterday"}, "SerializationException", "yesterday can not be converted"),
        ("ListModels", {"CreationTimeAfter": 10**400}, "SerializationException", "can not be converted to timestamp"),
        ("CreateModel", {"ModelName": "a\0b"}, "ValidationException", "at 'modelName' failed to satisfy"),
        ("CreateModel", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "SerializationException", "not JSON"),
        ("CreateModel", b'{"a":' * 65 + b"1" + b"}" * 65, "SerializationException", "nested more than 64 deep"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_values_that_are_none_are_refused_in_words(
    web: Client, operation: str, fields: Any, code: str, said: str
) -> None:
    body = fields if isinstance(fields, bytes) else json.dumps(fields)

    answer = web.post("/", data=body, headers={"X-Amz-Target": f"SageMaker.{operation}", **signed("sagemaker")})

    told = answer.get_json(force=True)
    assert (answer.status_code, told["__type"]) == (400, code)
    assert said in told["message"]


def test_a_member_that_is_null_is_one_that_is_not_there(web: Client) -> None:
    asked = {"NameContains": None, "NextToken": None, "CreationTimeAfter": None, "SortBy": None, "MaxResults": None}

    answer = web.post(
        "/", data=json.dumps(asked), headers={"X-Amz-Target": "SageMaker.ListModels", **signed("sagemaker")}
    )

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "names"),
    [
        ("GET", "/", {}, {"ListBuckets", "ListDirectoryBuckets"}),
        ("GET", "/b/", {}, {"ListObjects"}),
        ("GET", "/b?list-type=2&prefix=a", {}, {"ListObjectsV2"}),
        ("GET", "/b/k?versionId=1", {}, {"GetObject"}),
        ("PUT", "/b/k", {"x-amz-copy-source": "b/a"}, {"CopyObject"}),
        ("PUT", "/b/k?partNumber=1&uploadId=u", {"x-amz-copy-source": "b/a"}, {"UploadPartCopy"}),
        ("PUT", "/b/k?partNumber=1&uploadId=u", {}, {"UploadPart"}),
        ("POST", "/b/k?uploads", {}, {"CreateMultipartUpload"}),
        ("GET", "/b?website", {}, {"GetBucketWebsite"}),
        ("GET", "/b?acl&website", {}, set()),
        ("POST", "/b", {}, set()),
        ("POST", "/WriteGetObjectResponse", {}, set()),
        ("GET", "/k", {"Host": "b.s3.localhost:1"}, {"ListObjects", "GetObject"}),
    ],
)
def test_a_request_to_s3_is_known_by_its_path_its_query_and_its_headers(
    method: str, path: str, headers: dict[str, str], names: set[str]
) -> None:
    environ = EnvironBuilder(path=path, method=method, headers=headers).get_environ()

    assert protocols.read(environ, "s3").operations == names


@pytest.mark.parametrize(
    "image", ["--help", "-", "a\0b", "a b", "", "é", "127.0.0.1:99999/a:b", "127.0.0.1:1/a:../../b", "127.0.0.1:1/a@b"]
)
def test_an_image_that_docker_cannot_be_asked_for_is_not_found(tmp_path: Path, image: str) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\ncase $* in *--help*|*' - '*) echo Usage ;; *) exit 1 ;; esac\n")
    docker.chmod(0o755)

    with pytest.raises(ApiError, match=r"^Requested image .* not found\.$"):
        DockerHost(str(docker), "label").check_image(image, serial=False)


def test_a_reference_is_one_part_of_the_registrys_path() -> None:
    with pytest.raises(ConnectionRefusedError):  # and no InvalidURL
        Registry(Path(), 1).manifest("a", "b\r\nX: y")


@pytest.mark.parametrize("target", ["lambda", "ecs", "apprunner"])
@pytest.mark.parametrize("verb", ["deploy --tag t --artifacts ARTIFACTS", "status", "delete --yes"])
def test_what_only_aws_hosts_is_refused_at_once(
    plane: Plane, untrained: Path, capsys: pytest.CaptureFixture[str], verb: str, target: str
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    env = {"AWS_ENDPOINT_URL": plane.url, "AWS_REGION": plane.region, **keys}

    words = verb.replace("ARTIFACTS", str(untrained)).split()
    code = main([*words, "--target", target, "--endpoint", "houses"], env)

    reason, _, next_step = capsys.readouterr().err.partition("next: ")
    assert code == WRONG
    assert reason.strip() == (
        f"pipeline: {plane.url} is the local control plane, which stands in for SageMaker and not for {target}"
    )
    assert next_step.startswith("unset AWS_ENDPOINT_URL to do this on AWS; ")
