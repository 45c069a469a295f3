"""CreateTrainingJob refuses what the shapes of the API allow, and the service or the local control plane does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from local_test.control_plane import service, training
from local_test.control_plane.errors import ApiError
from local_test.control_plane.plane import Plane

IMAGE = "127.0.0.1:1/serial-inference/featurizer:1"
TRAIN = {
    "ChannelName": "train",
    "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/rows/"}},
}


def job(channels: list[dict[str, Any]], **algorithm: Any) -> dict[str, Any]:
    return {
        "TrainingJobName": "job",
        "RoleArn": "arn:aws:iam::123456789012:role/any",
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File", **algorithm},
        "InputDataConfig": channels,
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/models/"},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 5},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    }


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    return service.make_plane(0, "processes", tmp_path, {"PATH": os.environ["PATH"]})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (job([TRAIN], TrainingImage=""), "AlgorithmSpecification requires a TrainingImage"),
        (job([TRAIN], TrainingImage="127.0.0.1:1/elsewhere:1"), "elsewhere"),
        (job([TRAIN, TRAIN]), "Channel names must be unique, got train, train"),
        (
            job([{**TRAIN, "DataSource": {"FileSystemDataSource": {}}}]),
            "Channel train: the local control plane reads an S3DataSource only",
        ),
        (job([TRAIN, {**TRAIN, "ChannelName": "b", "InputMode": "Pipe"}]), "Channel b: .* has input mode File without"),
        (job([TRAIN], TrainingInputMode="Pipe"), "Channel train: .* has input mode File without compression"),
        (job([{**TRAIN, "CompressionType": "Gzip"}]), "Channel train: .* has input mode File without compression"),
        ({**job([TRAIN]), "CheckpointConfig": {"S3Uri": "s3://b/c"}}, "trains without CheckpointConfig"),
        (job([TRAIN], ContainerEntrypoint=["sh"]), "trains without AlgorithmSpecification.ContainerEntrypoint"),
        (
            {**job([TRAIN]), "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2}},
            "trains on one instance, got InstanceCount 2",
        ),
        ({**job([TRAIN]), "ResourceConfig": {"InstanceGroups": [{}]}}, "trains without ResourceConfig.InstanceGroups"),
        (
            {**job([TRAIN]), "OutputDataConfig": {"S3OutputPath": "s3://b", "CompressionType": "NONE"}},
            "keeps artifacts as model.tar.gz, got CompressionType NONE",
        ),
        (job([TRAIN], MetricDefinitions=[{"Name": "loss", "Regex": "("}]), r"Metric loss: \( is no regular expression"),
    ],
)
def test_a_training_that_cannot_be_done_here_is_refused(plane: Plane, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ApiError, match=reason):
        training.create_training_job(plane, given)

    assert training.list_training_jobs(plane, {})["TrainingJobSummaries"] == []
