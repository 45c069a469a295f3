"""What an endpoint runs on: containers, instances, network, timeouts, data capture. Arguments in, requests out."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from pipeline.endpoint.errors import WRONG, PipelineError
from pipeline.endpoint.release import VARIANT, Release, as_tags

INSTANCE_TYPE = "ml.m5.xlarge"
MODES = ("Input", "Output")
# What a request for a config has from here, by its member and its variant's; all else that Describe shows is kept
OWN = (
    *("EndpointConfigName", "ProductionVariants", "DataCaptureConfig", "KmsKeyId"),
    *("EndpointConfigArn", "CreationTime", "ResponseMetadata"),
)
OWN_OF_VARIANT = (
    *("VariantName", "ModelName", "InitialInstanceCount", "InstanceType", "InitialVariantWeight", "VolumeSizeInGB"),
    *("ModelDataDownloadTimeoutInSeconds", "ContainerStartupHealthCheckTimeoutInSeconds"),
)
# Of a variant that somebody made elsewhere, what another instance type may not have
OF_THE_INSTANCE = ("InferenceAmiVersion", "CapacityReservationConfig", "AcceleratorType")


@dataclass(frozen=True)
class Hosting:
    """None: not given; an update then keeps what the endpoint has."""

    instance_type: str | None = None
    instance_count: int | None = None
    health_check_timeout: int | None = None
    download_timeout: int | None = None
    volume_size: int | None = None
    volume_kms_key: str | None = None
    subnets: Sequence[str] | None = None
    security_groups: Sequence[str] | None = None
    network_isolation: bool | None = None
    data_capture: int | None = None
    capture_to: str | None = None
    kms_key: str | None = None
    single: bool | None = None
    more: Mapping[str, Any] | None = None  # settings of the config, and those of its variant, that nobody can give here
    more_of_variant: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Hosting:
        given = cls(**{each.name: getattr(arguments, each.name, None) for each in fields(cls)})
        if bool(given.subnets) != bool(given.security_groups):
            raise PipelineError("a VPC needs both", "give --subnets and --security-groups together", WRONG)
        return given

    def over(self, current: Hosting) -> Hosting:
        """These settings, and those of the current endpoint where none are given."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        if self.instance_type not in (None, current.instance_type):
            kept = current.more_of_variant or {}
            given["more_of_variant"] = {name: kept[name] for name in kept if name not in OF_THE_INSTANCE}
        return replace(current, **{name: value for name, value in given.items() if value is not None})

    @property
    def vpc_config(self) -> dict[str, list[str]] | None:
        if not self.subnets or not self.security_groups:
            return None
        return {"SecurityGroupIds": list(self.security_groups), "Subnets": list(self.subnets)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what it runs on (an update keeps what is not given)")
    group.add_argument("--single", action=argparse.BooleanOptionalAction,
                       help="both stages in one container, of the pipeline image (default: two)")  # fmt: skip
    group.add_argument("--instance-type", metavar="TYPE", help=f"default {INSTANCE_TYPE}")
    group.add_argument("--instance-count", type=between(1, 1000), metavar="N", help="default 1")
    seconds = between(60, 3600)
    group.add_argument("--health-check-timeout", type=seconds, metavar="SECONDS",
                       help="until containers must answer /ping, 60 to 3600 (SageMaker's default: 480)")  # fmt: skip
    group.add_argument("--download-timeout", type=seconds, metavar="SECONDS",
                       help="how long fetching the artifacts may take, 60 to 3600")  # fmt: skip
    group.add_argument("--volume-size", type=between(1, 512), metavar="GB", help="of the instance's disk")
    group.add_argument("--volume-kms-key", metavar="KEY", help="KMS key of the instance's disk")
    group.add_argument("--subnets", nargs="+", metavar="SUBNET", help="of your VPC; with --security-groups")
    group.add_argument("--security-groups", nargs="+", metavar="GROUP")
    group.add_argument("--network-isolation", action=argparse.BooleanOptionalAction,
                       help="containers reach nothing, and have no AWS credentials (they need none)")  # fmt: skip
    group.add_argument("--data-capture", type=between(0, 100), metavar="PERCENT",
                       help="of requests and answers to keep in S3; 0: none (default)")  # fmt: skip
    group.add_argument(
        "--capture-to", type=s3_address, metavar="s3://...", help="default s3://BUCKET/serial-inference-capture"
    )


def s3_address(text: str) -> str:
    if not re.fullmatch("s3://[^/]+(/.*)?", text):  # AWS's description lets https:// pass
        raise argparse.ArgumentTypeError(f"expected s3://BUCKET/PREFIX, got {text!r}")
    return text


def between(least: int, most: int) -> Any:  # noqa: ANN401 - what argparse calls a type
    def whole_number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {text!r}")
        return int(text)

    return whole_number


def current_hosting(config: Mapping[str, Any], model: Mapping[str, Any], instances: int | None) -> Hosting:
    """What the endpoint has now, from what Describe says of its config and model."""
    variant = config["ProductionVariants"][0]
    capture = config.get("DataCaptureConfig") or {}
    vpc = model.get("VpcConfig") or {}
    return Hosting(
        instance_type=variant.get("InstanceType"),
        instance_count=instances or variant.get("InitialInstanceCount"),
        health_check_timeout=variant.get("ContainerStartupHealthCheckTimeoutInSeconds"),
        download_timeout=variant.get("ModelDataDownloadTimeoutInSeconds"),
        volume_size=variant.get("VolumeSizeInGB"),
        volume_kms_key=config.get("KmsKeyId"),
        subnets=vpc.get("Subnets"),
        security_groups=vpc.get("SecurityGroupIds"),
        network_isolation=model.get("EnableNetworkIsolation"),
        data_capture=capture.get("InitialSamplingPercentage") if capture.get("EnableCapture", True) else None,
        capture_to=capture.get("DestinationS3Uri"),
        kms_key=capture.get("KmsKeyId"),
        single=bool(model.get("PrimaryContainer")),
        more={name: value for name, value in config.items() if name not in OWN},
        more_of_variant={name: value for name, value in variant.items() if name not in OWN_OF_VARIANT},
    )


def config_request(release: Release, hosting: Hosting, bucket: str) -> dict[str, Any]:
    """CreateEndpointConfig: one variant of the release's model."""
    variant = {
        **(hosting.more_of_variant or {}),
        "VariantName": VARIANT,
        "ModelName": release.name,
        "InitialInstanceCount": hosting.instance_count or 1,
        "InstanceType": hosting.instance_type or INSTANCE_TYPE,
        "InitialVariantWeight": 1.0,
        "VolumeSizeInGB": hosting.volume_size,
        "ModelDataDownloadTimeoutInSeconds": hosting.download_timeout,
        "ContainerStartupHealthCheckTimeoutInSeconds": hosting.health_check_timeout,
    }
    request = {
        **(hosting.more or {}),
        "EndpointConfigName": release.name,
        "ProductionVariants": [_given(variant)],
        "DataCaptureConfig": _capture(hosting, bucket),
        "KmsKeyId": hosting.volume_kms_key,
        "Tags": as_tags(release.tags),
    }
    return _given(request)


def _capture(hosting: Hosting, bucket: str) -> dict[str, Any] | None:
    """SageMaker adds /ENDPOINT/VARIANT/year/month/day/hour to the destination. What is not named comes in base64."""
    if not hosting.data_capture:
        return None
    return {
        "EnableCapture": True,
        "InitialSamplingPercentage": hosting.data_capture,
        "DestinationS3Uri": hosting.capture_to or f"s3://{bucket}/serial-inference-capture",
        **({"KmsKeyId": hosting.kms_key} if hosting.kms_key else {}),
        "CaptureOptions": [{"CaptureMode": mode} for mode in MODES],
        "CaptureContentTypeHeader": {
            "CsvContentTypes": ["text/csv"],
            "JsonContentTypes": ["application/json", "application/jsonlines"],
        },
    }


def _given(request: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if value is not None}
