"""What happens to an endpoint after its API call was answered: its containers come up, are replaced, or end.

Each runs in a thread of its own and ends by setting the endpoint's status.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from local_test.control_plane import artifacts
from local_test.control_plane.errors import ApiError
from local_test.control_plane.fleet import Fleet, Traffic
from local_test.control_plane.hosting import HostingError, Unhealthy
from local_test.control_plane.plane import Plane
from local_test.control_plane.shifting import RolledBack, shift
from local_test.control_plane.store import CONFIG, ENDPOINT, MODEL, Fields, Resource
from local_test.endpoint import Limits
from serving.inside import inside

log = logging.getLogger("local_test.control_plane")

STARTED_WITHIN = 480  # seconds that the platform gives containers when the config does not say
LONGEST_REASON = 1024
_DRAINED_WITHIN = Limits().seconds + 5


def in_background(name: str, work: Callable[..., None], *arguments: Any) -> None:  # noqa: ANN401
    threading.Thread(target=work, args=arguments, name=f"endpoint-{name}", daemon=True).start()


def create(plane: Plane, endpoint: Resource) -> None:
    """Creating -> InService or Failed."""
    config = str(endpoint.fields["EndpointConfigName"])
    try:
        fleet = launch(plane, endpoint.name, config)
    except HostingError as error:
        plane.store.change(endpoint, EndpointStatus="Failed", FailureReason=_reason(error))
        log.warning("endpoint %s failed: %s", endpoint.name, error)
        return
    with plane.store.lock:
        plane.traffic[endpoint.name] = Traffic(fleet)
        _serve_from(plane, endpoint, fleet)
    log.info("endpoint %s is in service", endpoint.name)


def update(
    plane: Plane, endpoint: Resource, config: str, deployment: Mapping[str, Any], retained: Mapping[str, Any]
) -> None:
    """Updating -> InService with the new config, or with the old one and a FailureReason.

    `retained`: what the variant keeps of its counts and weights.
    """
    traffic = plane.traffic[endpoint.name]
    new = None
    try:
        new = launch(plane, endpoint.name, config)
        shift(plane, traffic, new, deployment)
    except (HostingError, RolledBack) as error:
        log.warning("update of endpoint %s failed: %s", endpoint.name, error)
        plane.store.change(endpoint, EndpointStatus="RollingBack")
        if new:
            _retire(traffic, new, traffic.fleet)
        changed = {"EndpointStatus": "InService", "FailureReason": _reason(error), "PendingDeploymentSummary": None}
        plane.store.change(endpoint, **changed)
        return
    with plane.store.lock:
        old = traffic.fleet  # the monitor may have replaced what was there in the beginning
        traffic.settle(new)
        plane.hosted[endpoint.name] = new.hosted
    policy = deployment.get("BlueGreenUpdatePolicy", {})
    plane.closing.wait(policy.get("TerminationWaitInSeconds", 0))
    _retire(traffic, old, new)
    _serve_from(plane, endpoint, new, deployment, retained)
    log.info("endpoint %s is updated", endpoint.name)


def delete(plane: Plane, endpoint: Resource) -> None:
    """Deleting -> gone, with all that ran and was written for it."""
    with plane.store.lock:
        traffic = plane.traffic.pop(endpoint.name, None)
        plane.hosted.pop(endpoint.name, None)
    if traffic:
        traffic.drain(traffic.fleet, _DRAINED_WITHIN)
        traffic.fleet.hosted.stop()
    shutil.rmtree(_directory(plane, endpoint.name), ignore_errors=True)
    plane.store.remove(ENDPOINT, endpoint.name)
    log.info("endpoint %s is deleted", endpoint.name)


def replace(plane: Plane, name: str, ill: Fleet) -> None:
    """Start an endpoint's containers anew, as the platform replaces an unhealthy instance. Raises `HostingError`."""
    ill.hosted.stop()
    fleet = launch(plane, name, ill.config)
    with plane.store.lock:
        traffic = plane.traffic.get(name)
        needed = traffic is not None and traffic.exchange(ill, fleet)
        if needed:
            plane.hosted[name] = fleet.hosted
    if not needed:  # deleted or updated meanwhile
        fleet.hosted.stop()


def launch(plane: Plane, name: str, config_name: str) -> Fleet:
    """Start the containers of an endpoint config and return once they are healthy. Raises `HostingError`."""
    instance = f"i-{uuid.uuid4().hex[:17]}"
    directory = _directory(plane, name) / instance
    directory.mkdir(parents=True)
    try:
        config = plane.store.recall(CONFIG, config_name)
        variant = config.fields["ProductionVariants"][0]
        specs = artifacts.specs(plane, plane.store.recall(MODEL, variant["ModelName"]), directory)
    except ApiError as error:
        raise HostingError(error.message) from error
    if plane.closing.is_set():
        raise HostingError("the control plane is stopping")
    within = float(variant.get("ContainerStartupHealthCheckTimeoutInSeconds") or STARTED_WITHIN)
    try:
        hosted = plane.host.start(name, specs, directory, within, variant["InstanceType"])
    except Unhealthy as error:
        raise Unhealthy(error.names, variant["VariantName"]) from error
    endpoint = dataclasses.replace(hosted.endpoint, variant=variant["VariantName"])
    return Fleet(instance, config_name, directory, hosted, endpoint)


def _serve_from(
    plane: Plane,
    endpoint: Resource,
    fleet: Fleet,
    deployment: Mapping[str, Any] | None = None,
    retained: Mapping[str, Any] | None = None,
) -> None:
    """Show the endpoint as in service with what it has now."""
    config = plane.store.recall(CONFIG, fleet.config)
    with plane.store.lock:
        plane.hosted[endpoint.name] = fleet.hosted
        plane.store.change(
            endpoint,
            EndpointStatus="InService",
            EndpointConfigName=config.name,
            ProductionVariants=[_summary(plane, config.fields["ProductionVariants"][0]) | dict(retained or {})],
            DataCaptureConfig=_capture(config),
            FailureReason=None,
            PendingDeploymentSummary=None,
            LastDeploymentConfig=dict(deployment) if deployment else None,
        )


def _capture(config: Resource) -> Fields | None:
    """The config's data capture as DescribeEndpoint shows it."""
    if not (given := config.fields.get("DataCaptureConfig")):
        return None
    enabled = bool(given.get("EnableCapture"))
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled else "Stopped",
        "CurrentSamplingPercentage": given["InitialSamplingPercentage"],
        "DestinationS3Uri": given["DestinationS3Uri"],
        "KmsKeyId": given.get("KmsKeyId", ""),
    }


def _summary(plane: Plane, variant: Mapping[str, Any]) -> Fields:
    """A variant as DescribeEndpoint shows it."""
    containers = artifacts.containers_of(plane.store.recall(MODEL, variant["ModelName"]))
    now, weight, count = time.time(), variant["InitialVariantWeight"], variant["InitialInstanceCount"]
    images = [
        {"SpecifiedImage": one["Image"], "ResolvedImage": plane.host.resolve(one["Image"]), "ResolutionTime": now}
        for _, one in containers
    ]
    return {
        "VariantName": variant["VariantName"],
        "DeployedImages": images,
        "CurrentWeight": weight,
        "DesiredWeight": weight,
        "CurrentInstanceCount": count,
        "DesiredInstanceCount": count,
    }


def _retire(traffic: Traffic, leaving: Fleet, staying: Fleet) -> None:
    """Send every request to `staying`, and stop `leaving` once it has answered what it was asked."""
    traffic.settle(staying)
    if not traffic.drain(leaving, _DRAINED_WITHIN):
        log.warning("%s still answers requests and is stopped", leaving.instance)
    leaving.hosted.stop()


def _directory(plane: Plane, name: str) -> Path:
    return inside(plane.directory / "endpoints", name)


def _reason(error: Exception) -> str:
    return str(error)[:LONGEST_REASON]
