"""The containers of the pipeline, in their order, as plain data: the one place that says what runs where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

# SageMaker passes the client's Accept to the last container only, and 5 MB at most from one container to the next
ENVIRONMENT: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "featurizer": {
            "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/x-npy",
            "MODEL_SERVER_MAX_RESPONSE": "5242880",
        },
        "predictor": {},
    }
)


@dataclass(frozen=True)
class Container:
    """One container: its host name in logs and errors, its image by digest, its artifact, its settings."""

    hostname: str
    image: str
    model_data_url: str
    environment: Mapping[str, str] = field(default_factory=dict)


def pipeline_containers(images: Mapping[str, str], model_data: Mapping[str, str]) -> list[Container]:
    """The featurizer, then the predictor. `images` and `model_data` are by stage."""
    return [Container(stage, images[stage], model_data[stage], dict(ENVIRONMENT[stage])) for stage in ENVIRONMENT]
