"""CreateEndpoint, UpdateEndpoint, UpdateEndpointWeightsAndCapacities, Describe, List and DeleteEndpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from local_test.control_plane import deployment
from local_test.control_plane.errors import ApiError
from local_test.control_plane.plane import Operation, Plane
from local_test.control_plane.store import CONFIG, ENDPOINT, MODEL, Fields, Resource

MOST_AT_ONCE = 50  # percent of the capacity that a first step may take
_SIZES = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}


def create_endpoint(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    _usable_config(plane, asked["EndpointConfigName"])
    _check_deployment(asked.get("DeploymentConfig", {}))
    given = {name: asked[name] for name in ("EndpointName", "EndpointConfigName", "Tags") if name in asked}
    made = plane.store.add(ENDPOINT, {**given, "EndpointStatus": "Creating"})
    deployment.in_background(f"create-{made.name}", deployment.create, plane, made)
    return {"EndpointArn": made.arn}


def describe_endpoint(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    with plane.store.lock:
        return dict(plane.store.find(ENDPOINT, asked["EndpointName"]).fields)


def list_endpoints(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    return plane.store.list(ENDPOINT, asked)


def update_endpoint(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    with plane.store.lock:
        found = plane.store.find(ENDPOINT, asked["EndpointName"])
        config = _usable_config(plane, asked["EndpointConfigName"])
        _check_idle(found)
        plane.store.find(CONFIG, found.fields["EndpointConfigName"])  # AWS moves from a config that is there only
        policy = asked.get("DeploymentConfig") or (
            found.fields.get("LastDeploymentConfig", {}) if asked.get("RetainDeploymentConfig") else {}
        )
        _check_deployment(policy)
        _check_same_variants(found, config)
        retained = _retained(found, asked)
        present = config.fields["ProductionVariants"][0]["InitialInstanceCount"]
        _check_steps(policy, retained.get("DesiredInstanceCount", present))
        pending = {"EndpointConfigName": config.name, "StartTime": time.time()}
        changed = {"EndpointStatus": "Updating", "PendingDeploymentSummary": pending, "FailureReason": None}
        plane.store.change(found, **changed)
    deployment.in_background(f"update-{found.name}", deployment.update, plane, found, config.name, policy, retained)
    return {"EndpointArn": found.arn}


def update_weights_and_capacities(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    """The counts are recorded and shown; one set of containers answers, whatever they are."""
    with plane.store.lock:
        found = plane.store.find(ENDPOINT, asked["EndpointName"])
        _check_idle(found)
        variants = [dict(variant) for variant in found.fields["ProductionVariants"]]
        by_name = {variant["VariantName"]: variant for variant in variants}
        for desired in asked["DesiredWeightsAndCapacities"]:
            if not (variant := by_name.get(desired["VariantName"])):
                raise ApiError(f"Variant {desired['VariantName']} of endpoint {found.name} not found.")
            for given, shown in (("DesiredWeight", "Weight"), ("DesiredInstanceCount", "InstanceCount")):
                if given in desired:
                    variant |= {f"Desired{shown}": desired[given], f"Current{shown}": desired[given]}
        plane.store.change(found, ProductionVariants=variants)
    return {"EndpointArn": found.arn}


def delete_endpoint(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    with plane.store.lock:
        found = plane.store.find(ENDPOINT, asked["EndpointName"])
        if found.fields["EndpointStatus"] not in ("InService", "Failed", "OutOfService"):
            raise _in_progress(found)
        plane.store.change(found, EndpointStatus="Deleting")
    deployment.in_background(f"delete-{found.name}", deployment.delete, plane, found)
    return {}


def _usable_config(plane: Plane, name: str) -> Resource:
    """The endpoint config; its models must still be there. Raises `ApiError`."""
    config = plane.store.find(CONFIG, name)
    for variant in config.fields["ProductionVariants"]:
        plane.store.find(MODEL, variant["ModelName"])
    return config


def _check_idle(endpoint: Resource) -> None:
    status = endpoint.fields["EndpointStatus"]
    if status == "Failed":
        raise ApiError(f'Cannot update endpoint "{endpoint.arn}": it is Failed and can only be deleted.')
    if status != "InService":
        raise _in_progress(endpoint)


def _in_progress(endpoint: Resource) -> ApiError:
    return ApiError(f'Cannot update in-progress endpoint "{endpoint.arn}".')


def _check_same_variants(endpoint: Resource, config: Resource) -> None:
    names = {variant["VariantName"] for variant in config.fields["ProductionVariants"]}
    present = {variant["VariantName"] for variant in endpoint.fields["ProductionVariants"]}
    if names != present:
        raise ApiError(
            f"Endpoint {endpoint.name} has variant {', '.join(sorted(present))}; a blue/green update needs the same in "
            f"endpoint configuration {config.name}, which has {', '.join(sorted(names))}."
        )


def _check_deployment(policy: Mapping[str, Any]) -> None:
    """Raise `ApiError` for what the API's shapes allow and the platform does not."""
    if "BlueGreenUpdatePolicy" in policy and "RollingUpdatePolicy" in policy:
        raise ApiError("Only one of BlueGreenUpdatePolicy and RollingUpdatePolicy can be provided.")
    routing = policy.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    for kind, size in _SIZES.items():
        given = routing.get(size)
        if routing.get("Type") == kind and not given:
            raise ApiError(f"{size} must be provided when the traffic routing type is {kind}.")
        if given and routing.get("Type") != kind:
            raise ApiError(f"{size} can only be provided when the traffic routing type is {kind}.")
        if given and given["Type"] == "CAPACITY_PERCENT":
            least = 10 if kind == "LINEAR" else 1
            if not least <= given["Value"] <= MOST_AT_ONCE:
                raise ApiError(f"{size} must be from {least} to {MOST_AT_ONCE} percent, got {given['Value']}.")


def _check_steps(policy: Mapping[str, Any], instances: int) -> None:
    """Raise `ApiError` for a step of more than half of the instances; one instance is the least that a step moves."""
    routing = policy.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    sizes = {name: routing[name] for name in _SIZES.values() if name in routing}
    if batch := policy.get("RollingUpdatePolicy", {}).get("MaximumBatchSize"):
        sizes["MaximumBatchSize"] = batch
    for name, size in sizes.items():
        percent = size["Type"] == "CAPACITY_PERCENT"
        step = max(1, instances * size["Value"] // 100) if percent else size["Value"]
        if name == _SIZES["LINEAR"] and not percent and step * 10 < instances:
            raise ApiError(f"{name} must be at least 10 percent of the variant's {instances} instances, got {step}.")
        if step * 100 > instances * MOST_AT_ONCE:
            raise ApiError(
                f"{name} must be at most {MOST_AT_ONCE} percent of the variant's instances: expected at least "
                f"{2 * step} instances for a step of {step}, got {instances}."
            )


def _retained(endpoint: Resource, asked: Mapping[str, Any]) -> Fields:
    """What a variant keeps, whatever the new config says: its count and weight, unless they are excluded."""
    if not asked.get("RetainAllVariantProperties"):
        return {}
    excluded = {one["VariantPropertyType"] for one in asked.get("ExcludeRetainedVariantProperties", ())}
    (present,) = endpoint.fields["ProductionVariants"]
    kinds = [kind for kind in ("Weight", "InstanceCount") if f"Desired{kind}" not in excluded]
    return {name: present[name] for kind in kinds for name in (f"Desired{kind}", f"Current{kind}")}


OPERATIONS: dict[str, Operation] = {
    "CreateEndpoint": create_endpoint,
    "DescribeEndpoint": describe_endpoint,
    "ListEndpoints": list_endpoints,
    "UpdateEndpoint": update_endpoint,
    "UpdateEndpointWeightsAndCapacities": update_weights_and_capacities,
    "DeleteEndpoint": delete_endpoint,
}
