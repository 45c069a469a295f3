"""`status`: what an endpoint is, what it serves, and how it fares."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.endpoint import made, session
from pipeline.endpoint.autoscale import scaled_variants
from pipeline.endpoint.containers import PRIMARY
from pipeline.endpoint.errors import code_of
from pipeline.endpoint.release import CONTRACT_TAG, RELEASE_TAG, VARIANT
from pipeline.endpoint.session import ARTIFACTS, Clients, show_json
from pipeline.hosts import verbs
from pipeline.hosts.host import SAGEMAKER, add_target
from serving.contract import Contract
from serving.errors import BadArtifact

HELP = "show what an endpoint serves and how it fares"
EXAMPLES = """\
Says whether the endpoint serves the training run of your local artifacts, and CloudWatch's figures of the last hour.
The exit code is 0 when the endpoint is in service, 1 when it is anything else, 3 when there is none.

examples:
  python -m pipeline status
  python -m pipeline status --endpoint houses --artifacts artifacts/houses --json
  python -m pipeline status --target lambda
"""
HOUR = 3600
# What CloudWatch has of an endpoint: the metric, how an hour of it is summed up, and what it is called here
FIGURES = {
    "Invocations": ("Sum", "invocations"),
    "Invocation4XXErrors": ("Sum", "errors_4xx"),
    "Invocation5XXErrors": ("Sum", "errors_5xx"),
    "ModelLatency": ("Average", "model_us"),
    "OverheadLatency": ("Average", "overhead_us"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    session.add_arguments(parser)
    add_target(parser)
    parser.add_argument("--artifacts", type=Path, default=ARTIFACTS, metavar="DIR", help="to compare with")


def run(arguments: argparse.Namespace) -> int:
    clients = Clients.of(arguments)
    name = session.endpoint_name(arguments, arguments.artifacts)
    if arguments.target == SAGEMAKER:
        found = look(clients, name, arguments.artifacts)
    else:
        found = verbs.look(clients, arguments, name)
        found["local_artifacts"] = compared(arguments.artifacts, found["contract"])
    if arguments.json:
        show_json(found)
    else:
        print("\n".join(f"{name.replace('_', ' '):<16}{_shown(value)}" for name, value in found.items()))
    return 0 if found.get("serves") or found["status"] == "InService" else 1


def look(clients: Clients, name: str, artifacts: Path) -> dict[str, Any]:
    """All there is to say of an endpoint. Raises `PipelineError` (code 3) when there is none."""
    described = session.describe_endpoint(clients, name)
    tags = made.tags_of(clients, described["EndpointArn"])
    config = made.describe(clients, made.CONFIG, described.get("EndpointConfigName", "-")) or {}
    variant: dict[str, Any] = next(iter(config.get("ProductionVariants", ())), {})
    model = made.describe(clients, made.MODEL, variant.get("ModelName", "-")) or {}
    running: dict[str, Any] = next(iter(described.get("ProductionVariants", ())), {})
    return {
        "endpoint": name,
        "status": described["EndpointStatus"],
        "reason": described.get("FailureReason"),
        "created": described["CreationTime"],
        "changed": described["LastModifiedTime"],
        "release": tags.get(RELEASE_TAG),
        "config": described.get("EndpointConfigName"),
        "model": variant.get("ModelName"),
        "images": {one.get("ContainerHostname", PRIMARY): one["Image"] for one in made.containers_of(model)},
        "instance_type": variant.get("InstanceType"),
        "instances": running.get("CurrentInstanceCount"),
        "wanted": running.get("DesiredInstanceCount"),
        "scaling": scaling(clients, name),
        "data_capture": _capture(described.get("DataCaptureConfig") or {}),
        "contract": tags.get(CONTRACT_TAG),
        "local_artifacts": compared(artifacts, tags.get(CONTRACT_TAG)),
        "last_hour": figures(clients, name),
    }


def scaling(clients: Clients, name: str) -> dict[str, Any] | None:
    """The bounds of autoscaling and its targets. None: the number of instances is fixed."""
    if not (found := scaled_variants(clients, name)):
        return None
    client, target = clients.client("application-autoscaling"), found[0]["ResourceId"]
    policies = client.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=target)["ScalingPolicies"]
    targets = {
        policy["PolicyName"]: policy.get("TargetTrackingScalingPolicyConfiguration", {}).get("TargetValue")
        for policy in policies
    }
    return {"least": found[0]["MinCapacity"], "most": found[0]["MaxCapacity"], "targets": targets}


def figures(clients: Clients, name: str) -> dict[str, float | str]:
    """The endpoint's metrics of the last hour that CloudWatch has, or why they may not be read."""
    from botocore.exceptions import ClientError

    dimensions = [{"Name": "EndpointName", "Value": name}, {"Name": "VariantName", "Value": VARIANT}]
    queries = [
        {
            "Id": metric.lower(),
            "Label": metric,
            "MetricStat": {
                "Metric": {"Namespace": "AWS/SageMaker", "MetricName": metric, "Dimensions": dimensions},
                "Period": HOUR,
                "Stat": statistic,
            },
        }
        for metric, (statistic, _) in FIGURES.items()
    ]
    now = datetime.now(UTC)
    try:
        answer = clients.client("cloudwatch").get_metric_data(
            MetricDataQueries=queries, StartTime=now - timedelta(seconds=HOUR), EndTime=now
        )
    except ClientError as error:
        return {"not readable": code_of(error)}
    return {
        FIGURES[one["Label"]][1]: round(_summed(one["Label"], one["Values"]), 1)
        for one in answer["MetricDataResults"]
        if one["Values"]
    }


def _summed(metric: str, values: list[float]) -> float:
    """An hour back may touch two periods."""
    return sum(values) / (len(values) if FIGURES[metric][0] == "Average" else 1)


def _capture(config: Mapping[str, Any]) -> str | None:
    if not config.get("EnableCapture"):
        return None
    return f"{config.get('CurrentSamplingPercentage')} % to {config.get('DestinationS3Uri')}"


def compared(artifacts: Path, served: str | None) -> str | None:
    """Whether the endpoint serves the training run of these artifacts. None when there are none here."""
    try:
        local = Contract.load(artifacts / "featurizer" / "model").hash
    except (BadArtifact, OSError):
        return None
    return "the same training run" if local == served else f"another training run: {local}"


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return (
            "\n".join(
                f"{'' if i == 0 else ' ' * 16}{name} {_shown(one)}" for i, (name, one) in enumerate(value.items())
            )
            or "-"
        )
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S %Z}"
    if isinstance(value, float):
        return f"{value:,.0f}"
    return "-" if value is None else str(value)
