"""Application Auto Scaling of endpoints that must exist, and the CloudWatch metrics that it goes by."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from local_test.control_plane.behind import ask
from local_test.control_plane.errors import ApiError
from local_test.control_plane.gathering import Gathered
from local_test.control_plane.plane import Invoked, Observer, Operation, Plane
from local_test.control_plane.store import ENDPOINT, Fields, Resource
from local_test.endpoint import PRIMARY

SERVICE = "application-autoscaling"
TARGET = "AnyScaleFrontendService"  # what X-Amz-Target has before the operation
DIMENSION = ("sagemaker", "sagemaker:variant:DesiredInstanceCount")
NAMESPACE = "AWS/SageMaker"
SHIPPED_EVERY = 10.0  # seconds
_RESOURCE = re.compile(r"endpoint/(?P<endpoint>[^/]+)/variant/(?P<variant>[^/]+)")
_MOST = 1000  # metrics of one call


def register_scalable_target(plane: Plane, given: Mapping[str, Any]) -> Fields:
    """Keep a target, in moto, of an endpoint's variant that is there. Raises `ApiError` for any other."""
    if (given["ServiceNamespace"], given["ScalableDimension"]) != DIMENSION:
        raise ApiError(f"The local control plane has targets of {' and '.join(DIMENSION)} only.")
    with plane.store.lock:
        endpoint, variant = _variant(plane, str(given["ResourceId"]))
        answer = ask(plane.region, SERVICE, f"{TARGET}.RegisterScalableTarget", given)
        _bound(plane, endpoint, variant, given)
    return answer


OPERATIONS: dict[str, Operation] = {"RegisterScalableTarget": register_scalable_target}


def _variant(plane: Plane, resource_id: str) -> tuple[Resource, str]:
    """The endpoint and variant of a resource id. Raises `ApiError` unless they can be scaled."""
    found = _RESOURCE.fullmatch(resource_id)
    endpoint = plane.store.get(ENDPOINT, found["endpoint"]) if found else None
    if not found or not endpoint:
        raise ApiError(f"SageMaker endpoint does not exist: {resource_id}")
    if endpoint.fields["EndpointStatus"] not in ("InService", "Updating"):
        raise ApiError(f"SageMaker endpoint is not in service: {resource_id}")
    names = [variant["VariantName"] for variant in endpoint.fields.get("ProductionVariants", ())]
    if found["variant"] not in names:
        raise ApiError(f"SageMaker variant does not exist: {resource_id}")
    return endpoint, found["variant"]


def _bound(plane: Plane, endpoint: Resource, name: str, given: Mapping[str, Any]) -> None:
    """Bring the variant's instance count, which is shown and means nothing here, within the target's bounds."""
    variants = [dict(variant) for variant in endpoint.fields["ProductionVariants"]]
    for variant in variants:
        if variant["VariantName"] == name:
            count = variant["CurrentInstanceCount"]
            bounded = min(max(count, given.get("MinCapacity", count)), given.get("MaxCapacity", count))
            variant |= {"CurrentInstanceCount": bounded, "DesiredInstanceCount": bounded}
    plane.store.change(endpoint, ProductionVariants=variants)


@dataclass(frozen=True)
class Measured:
    """A value of a metric of one invocation."""

    name: str
    unit: str
    dimensions: tuple[tuple[str, str], ...]
    value: float


def ship(plane: Plane, measured: list[Measured]) -> None:
    """Put each metric's values as one statistic set, which has their count, sum, least and largest."""
    values: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[float]] = defaultdict(list)
    for one in measured:
        values[one.name, one.unit, one.dimensions].append(one.value)
    now = datetime.now(UTC)
    data = [
        {
            "MetricName": name,
            "Unit": unit,
            "Timestamp": now,
            "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions],
            "StatisticValues": {"SampleCount": len(some), "Sum": sum(some), "Minimum": min(some), "Maximum": max(some)},
        }
        for (name, unit, dimensions), some in values.items()
    ]
    client = plane.client("cloudwatch")
    for at in range(0, len(data), _MOST):
        client.put_metric_data(Namespace=NAMESPACE, MetricData=data[at : at + _MOST])


_gathered = Gathered(ship, SHIPPED_EVERY)


def record(plane: Plane, invoked: Invoked) -> None:
    """Measure an invocation; the metrics are there some seconds later."""
    for one in measure(invoked, _instances(plane, invoked)):
        _gathered.add(plane, one)


OBSERVERS: tuple[Observer, ...] = (record,)


def _instances(plane: Plane, invoked: Invoked) -> int:
    endpoint = plane.store.get(ENDPOINT, invoked.endpoint)
    variants = endpoint.fields.get("ProductionVariants", ()) if endpoint else ()
    return next((one["CurrentInstanceCount"] for one in variants if one["VariantName"] == invoked.variant), 1)


def model_status(invoked: Invoked) -> int:
    """The status that the model answered, which a ModelError tells; 0 when it gave none."""
    if invoked.status != HTTPStatus.FAILED_DEPENDENCY:
        return invoked.status
    try:
        return int(json.loads(invoked.response_body)["OriginalStatusCode"])
    except (ValueError, KeyError, TypeError):
        return 0


def measure(invoked: Invoked, instances: int) -> Iterable[Measured]:
    """What SageMaker measures of an invocation. Times are in microseconds."""
    dimensions = (("EndpointName", invoked.endpoint), ("VariantName", invoked.variant))
    model = sum(invoked.times.values()) * 1000
    status = model_status(invoked)
    counted = {
        "Invocations": 1.0,
        "InvocationsPerInstance": 1 / max(1, instances),
        "Invocation4XXErrors": float(400 <= status < 500),
        "Invocation5XXErrors": float(not 200 <= status < 500),
        "InvocationModelErrors": float(not 200 <= status < 300),
    }
    for name, value in counted.items():
        yield Measured(name, "None", dimensions, value)
    yield Measured("ModelLatency", "Microseconds", dimensions, model)
    yield Measured("OverheadLatency", "Microseconds", dimensions, max(0.0, invoked.seconds * 1e6 - model))
    for container, milliseconds in invoked.times.items():
        if container != PRIMARY:  # measured of pipelines only
            own = (*dimensions, ("ContainerName", container))
            yield Measured("ContainerLatency", "Microseconds", own, milliseconds * 1000)
