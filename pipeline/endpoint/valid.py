"""Requests held against AWS's description of them, values and limits too, and the option that a refused one is from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from aws.validation import Broken, broken
from pipeline.endpoint.errors import WRONG, PipelineError
from pipeline.endpoint.session import Clients

# The option by a member that it becomes, of whichever service; the first that fits.
OPTIONS = {
    "transformOutput.kmsKeyId": "--kms-key",
    "volumeKmsKeyId": "--kms-key",
    "dataCaptureConfig.kmsKeyId": "--kms-key",
    "sSEKMSKeyId": "--kms-key",
    "kmsKeyId": "--volume-kms-key",
    "destinationS3Uri": "--capture-to",
    "s3OutputPath": "--output",
    "instanceType": "--instance-type",
    "subnets": "--subnets",
    **dict.fromkeys(("securityGroupIds", "securityGroups"), "--security-groups"),
    **dict.fromkeys(("executionRoleArn", "roleArn", "roleName", "role"), "--role"),
    "infrastructureRoleArn": "--infrastructure-role",
    **dict.fromkeys(("repositoryName", "repositoryNames"), "--repository-prefix"),
    "imageTag": "--tag",
    "bucket": "--bucket",
    **dict.fromkeys(("alarmNames", "alarmName"), "--alarm"),
    **dict.fromkeys(("endpointName", "functionName", "serviceName"), "--endpoint"),
    "cluster": "--cluster",
    "tags": "--tags",
    "modelName": "--model",
    "inputFilter": "--input-filter",
    "outputFilter": "--output-filter",
    "contentType": "--content-type",
    "accept": "--accept",
    **dict.fromkeys(("memory", "memorySize"), "--memory"),
    "cpu": "--cpu",
    **dict.fromkeys(("minSize", "minTaskCount"), "--least"),
    **dict.fromkeys(("maxSize", "maxTaskCount"), "--most"),
    "maxConcurrency": "--concurrency",
}


def check_request(operation: Any, asked: Mapping[str, Any]) -> None:  # noqa: ANN401 - botocore is untyped
    """Raise `PipelineError` for a request that AWS would refuse by its own description. `operation`: its model."""
    found = list(broken(operation.input_shape, asked)) if operation.input_shape else []
    if not found:
        return
    raise PipelineError(
        f"AWS would refuse {operation.name}: {'; '.join(map(_worded, found))}",
        f"change {' and '.join(dict.fromkeys(map(_option, found)))}; for what is newer than this botocore, update it",
        WRONG,
    )


def check_requests(clients: Clients, service: str, **asked: Mapping[str, Any]) -> None:
    """The same for what will be sent later, by operation: before anything is made."""
    model = clients.client(service).meta.service_model
    for operation, params in asked.items():
        check_request(model.operation_model(operation), params)


def _worded(one: Broken) -> str:
    rule = one.rule
    if one.choices:
        near = get_close_matches(one.value.strip("'"), one.choices, 3, 0) or one.choices
        rule = f"be one that it lists, such as {', '.join(near)}"
    return f"{one.place} must {rule}; got {one.value}"


def _option(one: Broken) -> str:
    place = re.sub(r"\.(\d+\.)?member\b", "", f".{one.place}.")
    return next((option for member, option in OPTIONS.items() if f".{member}." in place), f"what gives {one.place}")
