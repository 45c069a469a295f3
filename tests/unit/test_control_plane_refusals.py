"""Requests that the control plane refuses before it does anything of them."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local_test.control_plane import configs, ecr, endpoints, models, service
from local_test.control_plane.errors import ApiError
from local_test.control_plane.plane import Plane
from local_test.control_plane.store import CONFIG, ENDPOINT, MODEL

ROLE = "arn:aws:iam::123456789012:role/any"
VARIANT = {"VariantName": "AllTraffic", "ModelName": "m", "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1}
IMAGE = "127.0.0.1:1/serial-inference/predictor:1"


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    plane = service.make_plane(0, "processes", tmp_path, {"PATH": os.environ["PATH"]})
    models.create_model(plane, {"ModelName": "m", "ExecutionRoleArn": ROLE, "PrimaryContainer": {"Image": IMAGE}})
    return plane


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"AsyncInferenceConfig": {"OutputConfig": {}}},
            "does not host asynchronous inference, got AsyncInferenceConfig",
        ),
        ({"ExplainerConfig": {"ClarifyExplainerConfig": {}}}, "does not host explainers, got ExplainerConfig"),
        ({"ShadowProductionVariants": [VARIANT]}, "does not host shadow variants, got ShadowProductionVariants"),
        ({"ProductionVariants": [{**VARIANT, "ServerlessConfig": {"MaxConcurrency": 1}}]}, "host serverless inference"),
        ({"ProductionVariants": [{**VARIANT, "InstancePools": [{}]}]}, "does not host instance pools"),
    ],
)
def test_what_is_not_hosted_here_is_refused(plane: Plane, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(ApiError, match=reason):
        configs.create_endpoint_config(plane, {"EndpointConfigName": "c", "ProductionVariants": [VARIANT], **changed})

    assert plane.store.all(CONFIG) == []


def test_an_update_to_a_config_with_another_variant_is_refused(plane: Plane) -> None:
    for name, variant in (("c", "AllTraffic"), ("d", "Other")):
        given = {"EndpointConfigName": name, "ProductionVariants": [{**VARIANT, "VariantName": variant}]}
        configs.create_endpoint_config(plane, given)
    shown = [{"VariantName": "AllTraffic", "CurrentInstanceCount": 1, "DesiredInstanceCount": 1}]
    fields = {
        "EndpointName": "e",
        "EndpointConfigName": "c",
        "EndpointStatus": "InService",
        "ProductionVariants": shown,
    }
    plane.store.add(ENDPOINT, fields)

    with pytest.raises(ApiError, match=r"has variant AllTraffic; a blue/green update needs the same .* has Other"):
        endpoints.update_endpoint(plane, {"EndpointName": "e", "EndpointConfigName": "d"})

    assert endpoints.describe_endpoint(plane, {"EndpointName": "e"})["EndpointStatus"] == "InService"


def test_a_taken_name_is_refused_before_the_models_data_are_looked_at(plane: Plane) -> None:
    nowhere = {"Image": IMAGE, "ModelDataUrl": "s3://models/absent.tar.gz"}

    with pytest.raises(ApiError, match="Cannot create already existing model"):
        models.create_model(plane, {"ModelName": "m", "ExecutionRoleArn": ROLE, "PrimaryContainer": nowhere})

    assert len(plane.store.all(MODEL)) == 1


@pytest.mark.parametrize("operation", ["DescribeImages", "ListImages", "BatchGetImage", "BatchDeleteImage"])
def test_images_of_a_repository_that_nobody_created_are_not_found(plane: Plane, operation: str) -> None:
    plane.registry = "127.0.0.1:1"

    with pytest.raises(ApiError, match="The repository with name 'nobodys' does not exist"):
        ecr.OPERATIONS[operation](plane, {"repositoryName": "nobodys", "imageIds": [{"imageTag": "1"}]})


def test_an_image_without_a_registry_has_the_digest_of_its_manifest(plane: Plane) -> None:
    manifest = json.dumps({"schemaVersion": 2, "mediaType": "m", "config": {}, "layers": []})
    digest = f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
    given = {"repositoryName": "digests", "imageTag": "a", "imageManifest": manifest}
    with pytest.raises(ApiError, match="does not exist"):
        ecr.put_image(plane, given)
    ecr.create_repository(plane, {"repositoryName": "digests"})

    ecr.put_image(plane, given)

    (image,) = ecr.describe_images(plane, {"repositoryName": "digests"})["imageDetails"]
    assert image["imageDigest"] == digest
    with pytest.raises(ApiError, match=f"The image's digest is {digest}"):
        ecr.put_image(plane, {**given, "imageTag": "b", "imageDigest": "sha256:0"})
    with pytest.raises(ApiError, match="cannot do PutImage of ecr as it is asked"):
        ecr.put_image(plane, {**given, "imageManifest": "no JSON"})
    with pytest.raises(ApiError, match=r"Images are pushed to 127\.0\.0\.1:1"):
        ecr.put_image(replace(plane, registry="127.0.0.1:1"), given)
