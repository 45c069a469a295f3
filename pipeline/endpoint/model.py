"""CreateModel through the SageMaker SDK v2: the only module that knows this SDK, whose support ends on 2027-07-06.

To leave it, replace the body of `create_model` by

    sagemaker.core.resources.Model.create(model_name=..., execution_role_arn=..., containers=[ContainerDefinition(
        container_hostname=..., image=..., model_data_url=..., environment=...), ...], tags=[Tag(key=..., value=...)],
        vpc_config=..., enable_network_isolation=..., session=clients.session, region=clients.region)

of `sagemaker-core`, or by `clients.client("sagemaker").create_model(...)`: the containers come as plain data, and a
test pins the request that goes out, whoever sends it. One container alone is the `primary_container`. Nothing else of
the project changes.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.endpoint.containers import Container
from pipeline.endpoint.errors import PipelineError
from pipeline.endpoint.release import as_tags
from pipeline.endpoint.session import Clients


def create_model(
    clients: Clients,
    name: str,
    role: str,
    containers: Sequence[Container],
    instance_type: str,
    tags: Mapping[str, str],
    vpc_config: Mapping[str, Sequence[str]] | None = None,
    network_isolation: bool = False,
) -> None:
    """Make an endpoint's model. Raises `PipelineError` when the name is taken: it would serve the old containers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # version 3 is advertised by every class
        sdk = _import_sdk()
        client = clients.client("sagemaker")
        client.meta.events.register("after-call.sagemaker.CreateModel", _refuse_taken_name, unique_id="taken-name")
        session = sdk.Session(
            boto_session=clients.session,
            sagemaker_client=client,
            sagemaker_runtime_client=clients.client("sagemaker-runtime"),
            default_bucket="none",  # else it asks AWS's own STS for one, wherever AWS_ENDPOINT_URL points
            sagemaker_config={"SchemaVersion": "1.0"},  # else files of this machine could change the request
        )
        session.sagemaker_config = {}  # the same, without being judged for a second each time that it is looked into
        models = [
            sdk.Model(one.image, one.model_data_url, role, env=dict(one.environment), sagemaker_session=session)
            for one in containers
        ]
        pipeline = sdk.pipeline.PipelineModel(models, role, name=name, sagemaker_session=session)
        definitions = pipeline.pipeline_container_def(instance_type)
        if len(definitions) == 1:  # no inference pipeline: the SDK makes the PrimaryContainer of what is in no list
            [definitions] = definitions
        else:  # the SDK names no containers; SageMaker would call them container-1 and container-2
            for definition, container in zip(definitions, containers, strict=True):
                definition["ContainerHostname"] = container.hostname
        session.create_model(name, role, definitions, vpc_config, network_isolation, tags=as_tags(tags))


def _refuse_taken_name(parsed: Mapping[str, Any], **_: object) -> None:
    """The SDK takes a model that is already there for the one it was asked to make, and goes on."""
    message = str(parsed.get("Error", {}).get("Message", ""))
    if "already exist" in message:
        raise PipelineError(f"AWS refused CreateModel: {message}", "run it again: each release has a name of its own")


def _import_sdk() -> Any:  # noqa: ANN401 - the SDK is untyped
    """The SDK, without its notes about version 3 and about settings files that it did not find."""
    for name in ("sagemaker", "sagemaker.config", "sagemaker.deprecations"):
        logging.getLogger(name).addFilter(_is_problem)
    importlib.import_module("sagemaker.pipeline")
    return importlib.import_module("sagemaker")


def _is_problem(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
