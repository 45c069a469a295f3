"""CreateTrainingJob, DescribeTrainingJob, ListTrainingJobs and StopTrainingJob. The image's `train` really runs."""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local_test import opt_ml
from local_test.control_plane import jobs, logs, objects, training_request
from local_test.control_plane.hosting import HostingError
from local_test.control_plane.plane import Operation, Plane
from local_test.control_plane.store import TRAINING_JOB, Fields, Resource
from serving.inside import OutsideError, inside

LONGEST_FAILURE = 1024  # characters of /opt/ml/output/failure
HOST_NAME = "algo-1"
TOO_LONG = "MaxRuntimeExceeded"

Given = Mapping[str, Any]


def create_training_job(plane: Plane, given: Given) -> Fields:
    training_request.check(plane, given)
    started = {"SecondaryStatus": "Starting", **training_request.completed(given)}
    begun, ended = "TrainingStartTime", "TrainingEndTime"
    return {"TrainingJobArn": jobs.start(plane, TRAINING_JOB, started, _work, begun, ended).arn}


def describe_training_job(plane: Plane, given: Given) -> Fields:
    with plane.store.lock:
        fields = dict(plane.store.find(TRAINING_JOB, given["TrainingJobName"]).fields)
    if fields["TrainingJobStatus"] not in jobs.UNDER_WAY:
        seconds = max(1, round(fields["TrainingEndTime"] - fields["TrainingStartTime"]))
        if fields["SecondaryStatus"] != TOO_LONG:
            fields |= {"SecondaryStatus": fields["TrainingJobStatus"]}
        fields |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
    return fields


def list_training_jobs(plane: Plane, given: Given) -> Fields:
    return plane.store.list(TRAINING_JOB, given)


def stop_training_job(plane: Plane, given: Given) -> Fields:
    return jobs.stop(plane, TRAINING_JOB, given["TrainingJobName"])


OPERATIONS: dict[str, Operation] = {
    "CreateTrainingJob": create_training_job,
    "DescribeTrainingJob": describe_training_job,
    "ListTrainingJobs": list_training_jobs,
    "StopTrainingJob": stop_training_job,
}


def _work(plane: Plane, job: Resource, stop: threading.Event) -> None:
    """Lay out /opt/ml, train, and keep what came of it.

    A training that is asked to stop gets SIGTERM. The job is Stopped then, and what it wrote by then is kept.
    """
    directory = inside(plane.directory / "training-jobs", job.name)
    tree = directory / "opt-ml"
    tree.mkdir(parents=True)
    log = directory / "algo-1.log"
    stream = f"{job.name}/{HOST_NAME}-{int(time.time())}"
    try:
        with logs.follow(plane, logs.TRAINING_JOBS, {stream: log}):
            plane.store.change(job, SecondaryStatus="Downloading")
            lay_out(plane, job.fields, tree, directory / "channels")
            plane.store.change(job, SecondaryStatus="Training")
            code, late = _train(plane, job, tree, log, stop)
            plane.store.change(job, SecondaryStatus="Uploading")
            _keep(plane, job, tree, succeeded=not code or stop.is_set())
            printed = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            metrics = training_request.metrics_of(job.fields["AlgorithmSpecification"], printed)
            plane.store.change(job, FinalMetricDataList=metrics or None)
            if late:
                plane.store.change(job, SecondaryStatus=TOO_LONG)
            if code and not stop.is_set():
                raise HostingError(_failure(tree, code))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def lay_out(plane: Plane, given: Given, tree: Path, scratch: Path) -> None:
    """Make the tree that is mounted at /opt/ml. Raises `HostingError`."""
    s3 = plane.client("s3")
    channels = {}
    for channel in given.get("InputDataConfig", ()):
        name = channel["ChannelName"]
        directory = _place(scratch, name)
        channels[name] = str(directory)
        _download(s3, channel["DataSource"]["S3DataSource"], directory)
    hyperparameters = {name: str(value) for name, value in given["HyperParameters"].items()}
    opt_ml.prepare(tree, channels, hyperparameters)
    config = tree / "input" / "config" / "inputdataconfig.json"
    described = json.loads(config.read_text(encoding="utf-8"))
    for channel in given.get("InputDataConfig", ()):
        if "ContentType" in channel:
            described[channel["ChannelName"]] |= {"ContentType": channel["ContentType"]}
    config.write_text(json.dumps(described), encoding="utf-8")


def _download(s3: Any, source: Given, directory: Path) -> None:  # noqa: ANN401 - boto3 is untyped
    for one in objects.find(s3, source):
        file = _place(directory, one.name.lstrip("/"))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(one.read(s3))
        except OSError as error:  # one object is called as another one's directory
            raise HostingError(f"ClientError: Data download failed:{one.url}: {error.strerror}") from error


def _place(directory: Path, name: str) -> Path:
    """Where a file or a channel of this name lies. Raises `HostingError`."""
    try:
        return inside(directory, name)
    except OutsideError as error:
        raise HostingError(f"ClientError: Data download failed:{error}") from error


def _train(plane: Plane, job: Resource, tree: Path, log: Path, stop: threading.Event) -> tuple[int, bool]:
    """The exit code, and whether the time that it may take was over: it is stopped then."""
    late = threading.Event()

    def end() -> None:
        late.set()
        stop.set()

    timer = threading.Timer(job.fields["StoppingCondition"]["MaxRuntimeInSeconds"], end)
    timer.daemon = True
    environment = {
        **job.fields.get("Environment", {}),
        "TRAINING_JOB_NAME": job.name,
        "TRAINING_JOB_ARN": job.arn,
    }
    timer.start()
    try:
        image = job.fields["AlgorithmSpecification"]["TrainingImage"]
        return plane.host.train(image, tree, environment, log, stop), late.is_set()
    finally:
        timer.cancel()


def _keep(plane: Plane, job: Resource, tree: Path, *, succeeded: bool) -> None:
    """Upload model.tar.gz of a training that went well, and output.tar.gz of any that wrote some. `HostingError`."""
    s3 = plane.client("s3")
    output = job.fields["OutputDataConfig"]
    bucket, prefix = objects.split_url(output["S3OutputPath"])
    key = f"{prefix.rstrip('/')}/{job.name}/output".lstrip("/")
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": output["KmsKeyId"]} if output["KmsKeyId"] else {}
    try:
        if succeeded:
            _pack(s3, inside(tree, "model"), {"Bucket": bucket, "Key": f"{key}/model.tar.gz", **encryption})
            plane.store.change(job, ModelArtifacts={"S3ModelArtifacts": f"s3://{bucket}/{key}/model.tar.gz"})
        if any((data := inside(tree, "output/data")).iterdir()):
            _pack(s3, data, {"Bucket": bucket, "Key": f"{key}/output.tar.gz", **encryption})
    except (ClientError, BotoCoreError, OSError, OutsideError) as error:  # also what the image left there
        raise HostingError(f"ClientError: Artifact upload failed:{error}") from error


def _pack(s3: Any, directory: Path, where: Given) -> None:  # noqa: ANN401 - boto3 is untyped
    """Upload a directory as a gzip tar with its files at the root."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            for path in sorted(directory.iterdir()):
                archive.add(path, path.name)
        file.seek(0)
        s3.put_object(Body=file, **where)


def _failure(tree: Path, code: int) -> str:
    """The FailureReason: what the image wrote of it, or that it wrote nothing."""
    try:
        file = inside(tree, "output/failure")  # the image may have made it a link
        said = file.read_text(encoding="utf-8", errors="replace")[:LONGEST_FAILURE].strip()
    except (OSError, OutsideError):
        said = ""
    return f"AlgorithmError: {said or 'See job logs for more information'}, exit code: {code}"
