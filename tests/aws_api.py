"""A stand-in for AWS: it notes and checks each request, and answers as a test says or else as a dry run does."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.client import BaseClient
from botocore.validate import ParamValidator

from pipeline.artifacts import STAGES
from pipeline.endpoint.dry_run import UNKNOWN_DIGEST
from pipeline.hosts.dry_run import HostRecorder
from tests.registry_api import TOKEN

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/Given"
RELEASE = "houses-20260101-000000-abcd"
IMAGE = {"imageDigest": "sha256:" + "a" * 64,
         "imageTags": [f"houses.{target}-" + "a" * 12 for target in ("lambda", "ecs", "apprunner")]}  # fmt: skip
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
Answer = Mapping[str, Any]
Answers = Mapping[str, Any]  # by operation; a function makes one of the requests before


def arn(service: str, name: str) -> str:
    return f"arn:aws:{service}:us-east-1:{ACCOUNT}:{name}"


OWN = {"serial-inference:endpoint": "houses", "serial-inference:release": RELEASE, "serial-inference:contract": "c"}
TAGS = [{"Key": key, "Value": value} for key, value in OWN.items()]
VARIANT = {
    "VariantName": "AllTraffic", "ModelName": RELEASE, "InstanceType": "ml.c5.large",
    "CurrentInstanceCount": 1, "DesiredInstanceCount": 2,
}  # fmt: skip
SCALED = {
    "ServiceNamespace": "sagemaker", "ResourceId": "endpoint/houses/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount", "MinCapacity": 1, "MaxCapacity": 4,
}  # fmt: skip
ENDPOINT = {
    "EndpointName": "houses", "EndpointArn": arn("sagemaker", "endpoint/houses"), "EndpointStatus": "InService",
    "CreationTime": WHEN, "LastModifiedTime": WHEN, "ProductionVariants": [VARIANT],
    "DataCaptureConfig": {"EnableCapture": True, "CurrentSamplingPercentage": 5, "DestinationS3Uri": "s3://b/c"},
}  # fmt: skip
HTTP_API = {"ApiId": "h", "ApiEndpoint": "https://h", "Tags": OWN}
REST_API = {"id": "r", "tags": OWN}
POLICY = {"Statement": [{"Sid": "public-url"}, {"Sid": "public-url-invoke"}]}


def first_cells(rows: bytes) -> bytes:
    """What this endpoint answers."""
    return b"".join(row.partition(b",")[0] + b"\n" for row in rows.splitlines())


def between(begin: str, end: str, answer: Answer, else_: Answer) -> Callable[[Aws], Answer]:
    """Answer otherwise after one operation, if one is named, and before another."""
    return lambda aws: answer if (not begin or begin in aws.operations) and end not in aws.done else else_


def turns(*answers: Answer) -> Callable[[Aws], Answer]:
    """Answer with one after the other, and with the last for ever."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def refused(code: str, message: str = "no") -> Answer:
    return {"Error": {"Code": code, "Message": message}}


# What AWS answers where nothing is there yet
SERVICE = {
    "serviceArn": arn("ecs", "service/default/houses"), "status": "ACTIVE", "runningCount": 1, "desiredCount": 2,
}  # fmt: skip
EXPRESS = {
    "cpu": "256", "memory": "512", "scalingTarget": {"minTaskCount": 1, "maxTaskCount": 3},
    "primaryContainer": {"image": "h/n@former"}, "ingressPaths": [{"endpoint": "houses.ecs.on.aws/"}],
}  # fmt: skip
RUNS = {
    "ServiceName": "houses", "ServiceArn": arn("apprunner", "service/houses/1"), "Status": "RUNNING",
    "ServiceUrl": "houses.awsapprunner.com", "UpdatedAt": WHEN,
    "SourceConfiguration": {"ImageRepository": {"ImageIdentifier": "h/n:former", "ImageRepositoryType": "ECR"}},
    "InstanceConfiguration": {"Cpu": "1024", "Memory": "2048"},
    "AutoScalingConfigurationSummary": {"AutoScalingConfigurationArn": arn("apprunner", "scaling/houses/1/0")},
}  # fmt: skip
NOTHING: Answers = {
    "ListRolePolicies": {"PolicyNames": []},
    "ListAttachedRolePolicies": {"AttachedPolicies": []},
    "GetApis": between("CreateApi", "DeleteApi", {"Items": [HTTP_API]}, {"Items": []}),
    "GetRestApis": between("CreateRestApi", "DeleteRestApi", {"items": [REST_API]}, {"items": []}),
    "DescribeServices": between(
        "CreateExpressGatewayService", "DeleteExpressGatewayService", {"services": [SERVICE]}, {"services": []}
    ),
    "DescribeExpressGatewayService": {"service": {}},
    "ListServices": between(
        "CreateService", "DeleteService", {"ServiceSummaryList": [RUNS]}, {"ServiceSummaryList": []}
    ),
    "DescribeService": {"Service": RUNS},
    "ListTagsForResource": {"tags": []},
}
# What AWS answers where an endpoint or a service of that name is there, made by an earlier run
SAGEMAKER: Answers = {
    "DescribeEndpoint": lambda aws: {**ENDPOINT, "EndpointConfigName": aws.config},
    "DescribeEndpointConfig": {
        "ProductionVariants": [{"VariantName": "AllTraffic", "ModelName": RELEASE, "InstanceType": "ml.c5.large"}]
    },
    "DescribeModel": {
        "ModelArn": arn("sagemaker", "model/m"), "ExecutionRoleArn": ROLE,
        "Containers": [{"ContainerHostname": one, "Image": f"h/{one}@{UNKNOWN_DIGEST}"} for one in STAGES],
    },
    "ListTags": {"Tags": TAGS},
    "ListTransformJobs": {"TransformJobSummaries": [{"TransformJobName": RELEASE, "TransformJobArn": arn("s", "j")}]},
    "ListEndpointConfigs": {
        "EndpointConfigs": [{"EndpointConfigName": RELEASE, "EndpointConfigArn": arn("sagemaker", "config/c")}]
    },
    "ListModels": {"Models": [{"ModelName": RELEASE, "ModelArn": arn("sagemaker", "model/m")}]},
    "DescribeScalableTargets": {"ScalableTargets": [SCALED]},
    "DescribeScalingPolicies": {
        "ScalingPolicies": [{"PolicyName": "p", "TargetTrackingScalingPolicyConfiguration": {"TargetValue": 3000.0}}]
    },
    "GetMetricData": {
        "MetricDataResults": [
            {"Label": "Invocations", "Values": [1200.0, 34.0]},
            {"Label": "ModelLatency", "Values": [2000.0, 4000.5]},
            {"Label": "Invocation5XXErrors", "Values": []},
        ]
    },
    "ListObjectsV2": lambda aws: {
        "Contents": [{"Key": f"{aws.last['Prefix']}{RELEASE}/rows.csv.out", "LastModified": WHEN}]
    },
    "FilterLogEvents": {
        "events": [{"eventId": "1", "timestamp": 1, "logStreamName": "AllTraffic/i/featurizer", "message": "{}"}]
    },
    "DescribeTransformJob": {"TransformJobStatus": "Completed", "CreationTime": WHEN},
    "InvokeEndpoint": lambda aws: {"Body": io.BytesIO(first_cells(aws.last["Body"])), "ContentType": "text/csv"},
    "GetObject": lambda _: {"Body": io.BytesIO(b"1\n3\n")},
}  # fmt: skip
DELETED = {
    **SAGEMAKER,
    "DescribeTransformJob": {"TransformJobStatus": "InProgress"},
    "DescribeImages": {"imageDetails": [{**IMAGE, "imageTags": ["abc"]}]},
}
HOST: Answers = {
    "GetRole": {"Role": {"Arn": ROLE, "Tags": TAGS}},
    "ListRolePolicies": {"PolicyNames": ["serial-inference"]},
    "ListAttachedRolePolicies": {"AttachedPolicies": [{"PolicyArn": arn("iam", "policy/p")}]},
    "DescribeImages": {"imageDetails": [IMAGE]},
}
LAMBDA: Answers = {
    **HOST,
    "GetFunction": {
        "Configuration": {"FunctionArn": arn("lambda", "f"), "Role": ROLE, "MemorySize": 512, "Timeout": 30,
                          "State": "Active", "LastModified": "2026-01-01T00:00:00.000+0000"},
        "Code": {"ImageUri": "h/n@former"}, "Tags": {**OWN, "serial-inference:release": "former"},
    },
    "GetFunctionUrlConfig": {"FunctionUrl": "https://f/", "AuthType": "NONE"},
    "GetPolicy": {"Policy": json.dumps(POLICY)},
    "GetApis": {"Items": [HTTP_API]},
    "GetRoutes": {"Items": [{"RouteId": "r", "AuthorizationType": "NONE"}]},
    "GetStages": {"Items": [{"StageName": "$default"}]},
    "GetRestApis": {"items": [REST_API]},
    "GetMethod": {"authorizationType": "NONE", "methodIntegration": {"uri": "f"}},
    "GetStage": {"stageName": "prod"},
}  # fmt: skip
ECS: Answers = {
    **HOST,
    "DescribeServices": between("", "DeleteExpressGatewayService", {"services": [SERVICE]}, {"services": []}),
    "DescribeExpressGatewayService": {"service": {"activeConfigurations": [EXPRESS], "updatedAt": WHEN}},
    "UpdateExpressGatewayService": {"service": {}},
    "ListTagsForResource": {"tags": [{"key": key, "value": value} for key, value in OWN.items()]},
}
APPRUNNER: Answers = {
    **HOST,
    "ListServices": between("", "DeleteService", {"ServiceSummaryList": [RUNS]}, {"ServiceSummaryList": []}),
    "DescribeService": {"Service": RUNS},
    "ListTagsForResource": {"Tags": TAGS},
    "ListAutoScalingConfigurations": {
        "AutoScalingConfigurationSummaryList": [
            {"AutoScalingConfigurationArn": arn("apprunner", "scaling/houses/1/0"),
             "AutoScalingConfigurationRevision": 1}
        ]
    },
    "DescribeAutoScalingConfiguration": {"AutoScalingConfiguration": {"MinSize": 9}},
    "UpdateService": {"Service": {"ServiceArn": RUNS["ServiceArn"]}, "OperationId": "0000000000"},
}  # fmt: skip

THROTTLED = ("ThrottlingException", "Rate exceeded")


@dataclass
class Aws(HostRecorder):
    """AWS as a dry run plays it, but for the answers that a test gives. The request number `refuses` is refused.

    `last`: the parameters of the last request. `done`: all operations that were not refused.
    """

    account: str = ACCOUNT
    answers: Answers = field(default_factory=dict)
    refuses: int | None = None
    refusal: tuple[str, str] = THROTTLED
    last: dict[str, Any] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    @property
    def operations(self) -> list[str]:
        return [one["operation"] for one in self.requests]

    def call(self, client: BaseClient, operation: str, params: dict[str, Any]) -> Answers:
        """Take the place of a client's request and its answer."""
        model = client.meta.service_model.operation_model(operation)
        if model.input_shape:
            assert ParamValidator().validate(params, model.input_shape).generate_report() == ""
        self._note(params, model)
        assert len(self.requests) < 300, "it asks for ever"
        self.last = params
        answer: Answers = {"Error": dict(zip(("Code", "Message"), self.refusal, strict=True))}
        if len(self.requests) - 1 != self.refuses:
            answer = self._answer(model)[1]
        if "Error" not in answer or self.refusal != THROTTLED:  # what is missing is gone, too
            self.done.add(operation)
        if "Error" in answer:
            raise client.exceptions.from_code(answer["Error"]["Code"])(answer, operation)
        return answer

    def _answers(self, operation: str) -> Answers:
        if operation == "GetAuthorizationToken":
            return {"authorizationData": [{"authorizationToken": TOKEN}]}
        if operation == "DescribeEndpoint" and "DeleteEndpoint" in self.done:
            self.config = None
        if operation not in self.answers or (operation == "DescribeEndpoint" and self.config is None):
            return super()._answers(operation)
        answer: Any = self.answers[operation]
        return answer(self) if callable(answer) else answer
