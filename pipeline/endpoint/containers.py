"""The containers of an endpoint, in their order, as plain data: the one place that says what runs where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

Environments = Mapping[str, Mapping[str, str]]
# SageMaker passes the client's Accept to the last container only, and 5 MB at most from one container to the next
SERIAL: Environments = MappingProxyType(
    {
        "featurizer": {
            "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/x-npy",
            "MODEL_SERVER_MAX_RESPONSE": "5000000",
        },
        "predictor": {},
    }
)
# Both stages in one process: pipeline/Dockerfile
SINGLE: Environments = MappingProxyType({"pipeline": {}})
ENVIRONMENT: Environments = MappingProxyType({**SERIAL, **SINGLE})
PRIMARY = "primary"  # what SageMaker calls the container of a model that has only one, in errors


@dataclass(frozen=True)
class Container:
    """One container: its host name in logs and errors, its image by digest, its artifact, its settings."""

    hostname: str
    image: str
    model_data_url: str
    environment: Mapping[str, str] = field(default_factory=dict)


def make_containers(images: Mapping[str, str], model_data: Mapping[str, str]) -> list[Container]:
    """The containers that have an image, in their order. `images` and `model_data` are by name."""
    return [
        Container(name, images[name], model_data[name], dict(environment))
        for name, environment in ENVIRONMENT.items()
        if name in images
    ]
