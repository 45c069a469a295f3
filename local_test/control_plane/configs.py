"""CreateEndpointConfig, DescribeEndpointConfig, ListEndpointConfigs and DeleteEndpointConfig."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local_test.control_plane.errors import ApiError
from local_test.control_plane.plane import Operation, Plane
from local_test.control_plane.store import CONFIG, ENDPOINT, MODEL, Fields, Resource

_NOT_HOSTED = {
    "AsyncInferenceConfig": "asynchronous inference",
    "ExplainerConfig": "explainers",
    "ShadowProductionVariants": "shadow variants",
    "CrossRegionTrafficConfig": "traffic of other regions",
}
_NOT_HOSTED_IN_A_VARIANT = {"ServerlessConfig": "serverless inference", "InstancePools": "instance pools"}


def create_endpoint_config(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    _refuse_unhosted(_NOT_HOSTED, asked)
    variants = asked["ProductionVariants"]
    if len(variants) > 1:
        raise ApiError(f"This control plane hosts endpoints with one production variant, got {len(variants)}.")
    completed = [_variant(plane, variant) for variant in variants]
    return {"EndpointConfigArn": plane.store.add(CONFIG, {**asked, "ProductionVariants": completed}).arn}


def describe_endpoint_config(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    found = plane.store.find(CONFIG, asked["EndpointConfigName"])
    return {name: value for name, value in found.fields.items() if name != "LastModifiedTime"}


def list_endpoint_configs(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    return plane.store.list(CONFIG, asked)


def delete_endpoint_config(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    """Refused while an endpoint is on its way to it. One that serves goes on: the SDK deletes its config first."""
    with plane.store.lock:
        found = plane.store.find(CONFIG, asked["EndpointConfigName"])
        if users := changing_endpoints_of(plane, found.name):
            raise ApiError(f'Cannot delete endpoint configuration "{found.arn}": it is in use by "{users[0].arn}".')
        plane.store.remove(CONFIG, found.name)
    return {}


def changing_endpoints_of(plane: Plane, config: str) -> list[Resource]:
    """The endpoints that are being made from an endpoint config, moved to it or away from it."""
    return [
        endpoint
        for endpoint in plane.store.all(ENDPOINT)
        if endpoint.fields["EndpointStatus"] in ("Creating", "Updating", "RollingBack")
        and config
        in (
            endpoint.fields["EndpointConfigName"],
            endpoint.fields.get("PendingDeploymentSummary", {}).get("EndpointConfigName"),
        )
    ]


def _variant(plane: Plane, variant: Mapping[str, Any]) -> dict[str, Any]:
    """A variant with what the service fills in. Raises `ApiError`."""
    _refuse_unhosted(_NOT_HOSTED_IN_A_VARIANT, variant)
    for name in ("ModelName", "InstanceType", "InitialInstanceCount"):
        if not variant.get(name):
            raise ApiError(f"{name} must be provided for production variant {variant['VariantName']}.")
    plane.store.find(MODEL, variant["ModelName"])
    return {"InitialVariantWeight": 1.0, **variant}


def _refuse_unhosted(names: Mapping[str, str], asked: Mapping[str, Any]) -> None:
    for name, what in names.items():
        if asked.get(name):
            raise ApiError(f"This control plane does not host {what}, got {name}.")


OPERATIONS: dict[str, Operation] = {
    "CreateEndpointConfig": create_endpoint_config,
    "DescribeEndpointConfig": describe_endpoint_config,
    "ListEndpointConfigs": list_endpoint_configs,
    "DeleteEndpointConfig": delete_endpoint_config,
}
