"""CreateTransformJob, DescribeTransformJob, ListTransformJobs and StopTransformJob. The jobs really run."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from local_test.connection import Oversize
from local_test.container import NoAnswer
from local_test.control_plane import artifacts, jobs, logs, objects
from local_test.control_plane.batch import MOST_AT_ONCE, STRATEGIES, Failed, Say, Sender, make_plan, processing_of
from local_test.control_plane.errors import ApiError
from local_test.control_plane.filters import FilterError, Processing
from local_test.control_plane.hosting import ContainerSpec, HostingError
from local_test.control_plane.plane import Operation, Plane
from local_test.control_plane.store import MODEL, TRANSFORM_JOB, Fields, Resource
from local_test.endpoint import Endpoint, stream_of
from local_test.state import State
from serving.inside import inside

STARTED_WITHIN = 600.0  # seconds

Given = Mapping[str, Any]


def create_transform_job(plane: Plane, given: Given) -> Fields:
    plane.store.find(MODEL, given["ModelName"])
    _check(given)
    begun, ended = "TransformStartTime", "TransformEndTime"
    return {"TransformJobArn": jobs.start(plane, TRANSFORM_JOB, given, _work, begun, ended).arn}


def describe_transform_job(plane: Plane, given: Given) -> Fields:
    with plane.store.lock:
        return dict(plane.store.find(TRANSFORM_JOB, given["TransformJobName"]).fields)


def list_transform_jobs(plane: Plane, given: Given) -> Fields:
    return plane.store.list(TRANSFORM_JOB, given)


def stop_transform_job(plane: Plane, given: Given) -> Fields:
    return jobs.stop(plane, TRANSFORM_JOB, given["TransformJobName"])


OPERATIONS: dict[str, Operation] = {
    "CreateTransformJob": create_transform_job,
    "DescribeTransformJob": describe_transform_job,
    "ListTransformJobs": list_transform_jobs,
    "StopTransformJob": stop_transform_job,
}


def _check(given: Given) -> None:
    """Raise `ApiError` for what the shapes of the API allow and the service does not."""
    if given.get("DataCaptureConfig"):
        raise ApiError("The local control plane captures no data of transform jobs, got DataCaptureConfig.")
    split_type = given["TransformInput"].get("SplitType", "None")
    if split_type not in ("None", "Line"):
        raise ApiError(f"SplitType {split_type} is not supported by the local control plane: expected None or Line.")
    if given.get("BatchStrategy") == "SingleRecord" and split_type == "None":
        raise ApiError("BatchStrategy SingleRecord requires SplitType to be set to a value other than None.")
    payload, concurrent = given.get("MaxPayloadInMB", 0), given.get("MaxConcurrentTransforms", 0)
    if payload > MOST_AT_ONCE:
        raise ApiError(f"MaxPayloadInMB cannot be greater than {MOST_AT_ONCE}, got {payload}.")
    if payload * concurrent > MOST_AT_ONCE:
        raise ApiError(
            f"MaxConcurrentTransforms * MaxPayloadInMB cannot exceed {MOST_AT_ONCE} MB, got {concurrent} * {payload}."
        )
    _processing(given)


def _processing(given: Given) -> Processing:
    """Raises `ApiError` for what the service refuses."""
    try:
        return processing_of(given)
    except FilterError as error:
        raise ApiError(str(error)) from error


def _work(plane: Plane, job: Resource, stop: threading.Event) -> None:
    """Start the model's containers, transform each object, and stop them."""
    directory = inside(plane.directory / "transform-jobs", job.name)
    stream = f"{job.name}/{logs.INSTANCE}-{int(time.time())}"
    try:
        specs = _specs(plane, job.fields, directory)
        files = {stream_of(stream, spec.hostname): State(directory).log(spec.hostname) for spec in specs}
        data_log = directory / "data-log"
        with logs.follow(plane, logs.TRANSFORM_JOBS, {**files, f"{stream}/data-log": data_log}):
            instance_type = job.fields["TransformResources"]["InstanceType"]
            hosted = plane.host.start(f"transform-{job.name}", specs, directory, STARTED_WITHIN, instance_type)
            try:
                _transform(plane, job.fields, hosted.endpoint, partial(_say, data_log), stop)
            finally:
                hosted.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _specs(plane: Plane, given: Given, directory: Path) -> list[ContainerSpec]:
    """The model's containers in their batch environment: what the request does not say, they are not told."""
    directory.mkdir(parents=True)
    environment = {**given.get("Environment", {}), "SAGEMAKER_BATCH": "true"}
    if "MaxPayloadInMB" in given:
        environment["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(given["MaxPayloadInMB"])
    if "BatchStrategy" in given:
        environment["SAGEMAKER_BATCH_STRATEGY"] = {v: k for k, v in STRATEGIES.items()}[given["BatchStrategy"]]
    if "MaxConcurrentTransforms" in given:
        environment["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(given["MaxConcurrentTransforms"])
    model = plane.store.find(MODEL, given["ModelName"])
    return artifacts.specs(plane, model, directory, environment)


def _transform(plane: Plane, given: Given, endpoint: Endpoint, say: Say, stop: threading.Event) -> None:
    """Every object, also after one that failed: what the others give is of use. Raises the first failure then."""
    plan = make_plan(given, _offered(endpoint), say)
    s3 = plane.client("s3")
    found = objects.find(s3, given["TransformInput"]["DataSource"]["S3DataSource"])
    failures: list[Failed] = []
    with ThreadPoolExecutor(plan.concurrent) as workers:
        sender = Sender(endpoint, plan, workers, stop)
        for one in found:
            try:
                output = sender.transform(f"{one.bucket}/{one.key}", one.read(s3), say)
                _put(s3, given["TransformOutput"], one.name, output)
            except Failed as failed:
                failures.append(failed)
    if failures:
        raise failures[0]


def _offered(endpoint: Endpoint) -> Mapping[str, Any]:
    """What the model says of itself; nothing when it does not."""
    try:
        answer = endpoint.execution_parameters()
        found = json.loads(answer.body) if answer.status == HTTPStatus.OK else {}
    except (NoAnswer, Oversize, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _put(s3: Any, output: Given, name: str, content: bytes) -> None:  # noqa: ANN401 - boto3 is untyped
    """Raises `HostingError`."""
    bucket, prefix = objects.split_url(output["S3OutputPath"])
    key = f"{prefix.rstrip('/')}/{name}.out".lstrip("/")
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": output["KmsKeyId"]} if "KmsKeyId" in output else {}
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=content, **encryption)
    except ClientError as error:
        raise HostingError(f"ClientError: Failed to write s3://{bucket}/{key}: {error}") from error


def _say(file: Path, line: str) -> None:
    now = datetime.now(UTC)
    with file.open("a", encoding="utf-8") as opened:
        opened.write(f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}:[sagemaker logs]: {line}\n")
