"""How an update's new containers get their share of the requests, and what sends it back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from local_test.control_plane.fleet import Fleet, Traffic
from local_test.control_plane.plane import Plane
from local_test.control_plane.store import CONFIG


class RolledBack(Exception):
    """An update that must go back. The message is the FailureReason."""


def shift(plane: Plane, traffic: Traffic, new: Fleet, deployment: Mapping[str, Any]) -> None:
    """Send the new fleet its shares, and watch the alarms after each. Raises `RolledBack`."""
    alarms = [alarm["AlarmName"] for alarm in deployment.get("AutoRollbackConfiguration", {}).get("Alarms", ())]
    policy = deployment.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration") or deployment.get(
        "RollingUpdatePolicy", {}
    )
    wait = float(policy.get("WaitIntervalInSeconds", 0))
    for percent in _shares(plane, policy, new.config):
        traffic.shift(new, percent)
        _watch(plane, alarms, wait)


def _shares(plane: Plane, policy: Mapping[str, Any], config: str) -> Iterator[int]:
    """The percentages of the requests that go to the new fleet, one after the other."""
    step = next((policy[name] for name in ("CanarySize", "LinearStepSize", "MaximumBatchSize") if name in policy), None)
    if policy.get("Type") != "ALL_AT_ONCE" and step:
        size, whole = int(step["Value"]), 100
        if step["Type"] == "INSTANCE_COUNT":
            whole = plane.store.find(CONFIG, config).fields["ProductionVariants"][0]["InitialInstanceCount"]
        size = min(size, max(1, whole // 2))
        moved = [size] if "CanarySize" in policy else range(size, whole, size)
        yield from (max(1, one * 100 // whole) for one in moved)
    yield 100


def _watch(plane: Plane, alarms: list[str], seconds: float) -> None:
    """Wait, and raise `RolledBack` for an alarm that goes off meanwhile, or when the control plane ends."""
    deadline = time.monotonic() + seconds
    while True:
        if alarms and (ringing := _ringing(plane, alarms)):
            raise RolledBack(f"Deployment was rolled back because alarms are in ALARM state: {', '.join(ringing)}.")
        left = deadline - time.monotonic()
        if left <= 0:
            return
        if plane.closing.wait(min(left, 1.0)):
            raise RolledBack("The control plane is stopping.")


def _ringing(plane: Plane, alarms: list[str]) -> list[str]:
    found = plane.client("cloudwatch").describe_alarms(AlarmNames=alarms)
    kinds = ("MetricAlarms", "CompositeAlarms")
    # moto does not choose by state where names are given
    return [one["AlarmName"] for kind in kinds for one in found.get(kind, ()) if one["StateValue"] == "ALARM"]
