"""CreateModel, DescribeModel, ListModels and DeleteModel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local_test.control_plane import artifacts
from local_test.control_plane.configs import changing_endpoints_of
from local_test.control_plane.errors import ApiError
from local_test.control_plane.plane import Operation, Plane
from local_test.control_plane.store import CONFIG, MODEL, Fields

MOST_ENVIRONMENT = 32 * 1024  # bytes of all containers together
# Names that the platform sets itself: what a request says of them would be lost.
_PLATFORM = ("SAGEMAKER_BIND_TO_PORT", "SAGEMAKER_SAFE_PORT_RANGE")


def create_model(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    _refuse_taken(plane, asked["ModelName"])
    containers = _containers_given(asked)
    _check_hostnames(containers)
    _check_environment(containers)
    for container in containers:
        _check_container(plane, container, serial=len(containers) > 1)
    given = {**asked, "EnableNetworkIsolation": asked.get("EnableNetworkIsolation", False)}
    if "Containers" in asked:
        given.setdefault("InferenceExecutionConfig", {"Mode": "Serial"})
    return {"ModelArn": plane.store.add(MODEL, given).arn}


def describe_model(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    found = plane.store.find(MODEL, asked["ModelName"])
    return {name: value for name, value in found.fields.items() if name != "LastModifiedTime"}


def list_models(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    return plane.store.list(MODEL, asked)


def delete_model(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    """Refused while an endpoint is on its way to it. One that serves goes on: AWS's own SDK deletes its model first."""
    with plane.store.lock:
        found = plane.store.find(MODEL, asked["ModelName"])
        for config in plane.store.all(CONFIG):
            uses = any(variant["ModelName"] == found.name for variant in config.fields["ProductionVariants"])
            if uses and (users := changing_endpoints_of(plane, config.name)):
                raise ApiError(f'Cannot delete model "{found.arn}": it is in use by endpoint "{users[0].arn}".')
        plane.store.remove(MODEL, found.name)
    return {}


def _refuse_taken(plane: Plane, name: str) -> None:
    """Before anything that takes time; `Store.add` looks again."""
    if taken := plane.store.get(MODEL, name):
        raise ApiError(f'Cannot create already existing model "{taken.arn}".')


def _containers_given(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    primary, several = asked.get("PrimaryContainer"), asked.get("Containers")
    if primary and several:
        raise ApiError("Both PrimaryContainer and Containers have been provided. Please provide only one of them.")
    if several is not None and not 1 <= len(several) <= 15:
        raise ApiError(f"Containers: expected 1 to 15 containers, got {len(several)}.")
    if not (primary or several):
        raise ApiError("Either PrimaryContainer or Containers must be provided.")
    if asked.get("InferenceExecutionConfig", {}).get("Mode") == "Direct":
        raise ApiError("This control plane hosts containers in Serial mode only, got InferenceExecutionConfig Direct.")
    return [primary] if primary else list(several or ())


def _check_hostnames(containers: list[dict[str, Any]]) -> None:
    if len(containers) == 1:
        return
    named = [container["ContainerHostname"] for container in containers if container.get("ContainerHostname")]
    if named and len(named) < len(containers):
        raise ApiError("ContainerHostname must be given for every container of an inference pipeline, or for none.")
    if len(set(named)) < len(named):
        raise ApiError(f"ContainerHostname must be unique within a model, got {', '.join(named)}.")


def _check_environment(containers: list[dict[str, Any]]) -> None:
    whole = 0
    for container in containers:
        for name, value in container.get("Environment", {}).items():
            whole += len(name.encode()) + len(value.encode())
            if name in _PLATFORM:
                raise ApiError(f"Environment variable {name} is reserved: the platform sets it.")
    if whole > MOST_ENVIRONMENT:
        raise ApiError(f"The environment of all containers may take {MOST_ENVIRONMENT} bytes, got {whole}.")


def _check_container(plane: Plane, container: dict[str, Any], *, serial: bool) -> None:
    if not (image := container.get("Image")):
        raise ApiError("This control plane hosts containers with an Image; a ModelPackageName names none.")
    if container.get("Mode") == "MultiModel":
        raise ApiError("This control plane hosts containers of one model each, got Mode MultiModel.")
    if container.get("AdditionalModelDataSources"):
        raise ApiError("This control plane fetches one archive for a container, got AdditionalModelDataSources.")
    plane.host.check_image(image, serial)
    if url := artifacts.url_of(container):
        artifacts.check(plane, url)


OPERATIONS: dict[str, Operation] = {
    "CreateModel": create_model,
    "DescribeModel": describe_model,
    "ListModels": list_models,
    "DeleteModel": delete_model,
}
