"""A CreateTrainingJob request: what of it is refused, what the service adds to it, and the metrics that it names."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping
from typing import Any

from local_test.control_plane.errors import ApiError
from local_test.control_plane.plane import Plane
from local_test.control_plane.store import Fields

_AS_SHOWN: Fields = dict.fromkeys(
    ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining"), False
)
_PARTS_AS_SHOWN: Mapping[str, Fields] = {
    "OutputDataConfig": {"KmsKeyId": "", "CompressionType": "GZIP"},
    "StoppingCondition": {"MaxRuntimeInSeconds": 86_400},
}
# What would change the training or its outcome, and is not done here.
_NOT_DONE = (
    *("CheckpointConfig", "TensorBoardOutputConfig", "DebugRuleConfigurations", "RetryStrategy"),
    *("ServerlessJobConfig", "ModelPackageConfig", "MlflowConfig", "SessionChainingConfig"),
)
_NOT_DONE_BY_ALGORITHM = ("ContainerEntrypoint", "ContainerArguments")

Given = Mapping[str, Any]


def completed(given: Given) -> Fields:
    """The request with the defaults that DescribeTrainingJob shows."""
    parts = {name: {**shown, **given.get(name, {})} for name, shown in _PARTS_AS_SHOWN.items()}
    return {"HyperParameters": {}, **_AS_SHOWN, **given, **parts}


def check(plane: Plane, given: Given) -> None:
    """Raise `ApiError` for what the shapes of the API allow and the service, or this one, does not."""
    algorithm = given.get("AlgorithmSpecification", {})
    if not (image := algorithm.get("TrainingImage")):
        raise ApiError("AlgorithmSpecification requires a TrainingImage; the local control plane has no algorithms.")
    _refuse_undone(given)
    metrics_of(algorithm, "")
    plane.host.check_image(image, False)
    channels = given.get("InputDataConfig", ())
    names = [channel["ChannelName"] for channel in channels]
    if len(set(names)) < len(names):
        raise ApiError(f"Channel names must be unique, got {', '.join(names)}.")
    for channel in channels:
        if "S3DataSource" not in channel["DataSource"]:
            raise ApiError(f"Channel {channel['ChannelName']}: the local control plane reads an S3DataSource only.")
        mode = channel.get("InputMode") or algorithm.get("TrainingInputMode", "File")
        if mode not in ("File", "FastFile") or channel.get("CompressionType", "None") != "None":
            raise ApiError(
                f"Channel {channel['ChannelName']}: the local control plane has input mode File without compression."
            )


def _refuse_undone(given: Given) -> None:
    algorithm, resources = given["AlgorithmSpecification"], given.get("ResourceConfig", {})
    named = [name for name in _NOT_DONE if given.get(name)]
    named += [f"AlgorithmSpecification.{name}" for name in _NOT_DONE_BY_ALGORITHM if algorithm.get(name)]
    named += ["ResourceConfig.InstanceGroups"] if resources.get("InstanceGroups") else []
    if named:
        raise ApiError(f"The local control plane trains without {', '.join(named)}.")
    if (count := resources.get("InstanceCount", 1)) != 1:
        raise ApiError(f"The local control plane trains on one instance, got InstanceCount {count}.")
    if given["OutputDataConfig"].get("CompressionType", "GZIP") != "GZIP":
        raise ApiError("The local control plane keeps artifacts as model.tar.gz, got CompressionType NONE.")


def metrics_of(algorithm: Given, text: str) -> list[Fields]:
    """The last value of each metric in what was printed. Raises `ApiError` for what is no regular expression."""
    found = []
    for metric in algorithm.get("MetricDefinitions", ()):
        try:
            values = re.findall(metric["Regex"], text)
        except re.error as error:
            raise ApiError(f"Metric {metric['Name']}: {metric['Regex']} is no regular expression: {error}.") from error
        value = values[-1][0] if values and isinstance(values[-1], tuple) else "".join(values[-1:])
        with contextlib.suppress(ValueError):  # nothing was printed, or no number
            found.append({"MetricName": metric["Name"], "Value": float(value), "Timestamp": time.time()})
    return found
