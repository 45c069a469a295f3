"""A Batch Transform job: what it is asked, and how it is waited for."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.endpoint import logs
from pipeline.endpoint.errors import TIMEOUT, WRONG, PipelineError, explain
from pipeline.endpoint.hosting import INSTANCE_TYPE
from pipeline.endpoint.release import as_tags
from pipeline.endpoint.session import Clients, say

MOST_MB = 100  # of all payloads under way
# Of a payload of lines: its features, four bytes each, must stay within the 5 MB that pass between two containers.
USUAL_MB = 4
POLL = 10.0  # seconds
REMINDER = 60.0  # seconds between lines where no terminal shows the time pass
LAST_WORDS = 20  # lines
ENCRYPTED = ("g4dn", "g5", "g6", "g6e", "trn1")  # instances with disks of their own, which take no key
ENDED = ("Completed", "Failed", "Stopped")


@dataclass(frozen=True)
class Job:
    """What CreateTransformJob is asked. An empty text and 0 leave the choice to the platform."""

    name: str
    model: str
    source: str  # s3://
    target: str  # s3://
    content_type: str
    accept: str
    split: str = "Line"
    strategy: str = ""
    assemble: str = "None"
    payload_mb: int = 0
    concurrent: int = 0
    join: bool = False
    input_filter: str = ""
    output_filter: str = ""
    instance_type: str = INSTANCE_TYPE
    instance_count: int = 1
    kms_key: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def looks_into_answers(self) -> bool:
        return self.join or bool(self.output_filter)


def request(job: Job) -> dict[str, Any]:
    """CreateTransformJob. Raises `PipelineError` for what the platform would refuse only later."""
    _check(job)
    processing = {"InputFilter": job.input_filter, "OutputFilter": job.output_filter}
    processing |= {"JoinSource": "Input" if job.join else ""}
    family = job.instance_type.partition(".")[2].partition(".")[0]
    optional = {
        "BatchStrategy": job.strategy,
        "MaxPayloadInMB": job.payload_mb,
        "MaxConcurrentTransforms": job.concurrent,
        "DataProcessing": _given(processing),
    }
    return {
        "TransformJobName": job.name,
        "ModelName": job.model,
        **_given(optional),
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": job.source}},
            "ContentType": job.content_type,
            "SplitType": job.split,
        },
        "TransformOutput": {
            "S3OutputPath": job.target,
            "Accept": job.accept,
            "AssembleWith": job.assemble,
            **_given({"KmsKeyId": job.kms_key}),
        },
        "TransformResources": {
            "InstanceType": job.instance_type,
            "InstanceCount": job.instance_count,
            **_given({"VolumeKmsKeyId": "" if family in ENCRYPTED else job.kms_key}),
        },
        "Tags": as_tags(job.tags),
    }


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _check(job: Job) -> None:
    if job.payload_mb * max(1, job.concurrent) > MOST_MB:
        raise PipelineError(
            f"--max-payload {job.payload_mb} times --max-concurrent {max(1, job.concurrent)} is over {MOST_MB} MB",
            "lower one of them",
            WRONG,
        )
    if job.split == "None" and job.strategy == "SingleRecord":
        raise PipelineError("--strategy SingleRecord needs records", "give --split Line", WRONG)
    if job.join and (job.split != job.assemble or job.content_type != job.accept):
        raise PipelineError(
            f"--join input needs answers like the input: split {job.split}, assembled {job.assemble}; "
            f"{job.content_type} in, {job.accept} out",
            "give --split and --assemble-with alike, and --accept as the content type",
            WRONG,
        )


def run(clients: Clients, asked: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Start the job and describe it once it is complete.

    When it fails, takes longer than `timeout` seconds or is interrupted, nothing of it goes on. Raises `PipelineError`.
    """
    name = asked["TransformJobName"]
    clients.client("sagemaker").create_transform_job(**asked)
    ended = False
    try:
        described = _wait(clients, name, timeout)
        ended = True
    finally:
        if not ended:
            _try_to_stop(clients, name)
    if described["TransformJobStatus"] == "Completed":
        return described
    words = logs.tail(clients.client("logs"), logs.Asked(logs.JOBS, f"{name}/"), LAST_WORDS)
    for line in sorted(words, key=lambda line: line.startswith("data-log:")):  # which says why comes last
        say(f"  {line}")
    reason = described.get("FailureReason", "no reason given")
    raise PipelineError(
        f"transform job {name} is {described['TransformJobStatus']}: {reason}",
        f"see the end of the log above, all of it: python -m pipeline logs --job {name} --since 1d; where a body or "
        "an answer was too large, give a lower --max-payload",
    )


def stop(clients: Clients, name: str) -> None:
    """Stop a job. One that has ended meanwhile is no error."""
    from botocore.exceptions import ClientError

    client = clients.client("sagemaker")
    try:
        client.stop_transform_job(TransformJobName=name)
        say(f"stopping {name}")
    except ClientError:
        if client.describe_transform_job(TransformJobName=name)["TransformJobStatus"] not in ENDED:
            raise


def _try_to_stop(clients: Clients, name: str) -> None:
    """Stop a job, and only say so when that fails: the first error is the one to raise."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        stop(clients, name)
    except (BotoCoreError, ClientError) as error:
        say(f"could not stop {name}: {explain(error)}; see aws sagemaker stop-transform-job")


def _wait(clients: Clients, name: str, timeout: float) -> dict[str, Any]:
    began, told, shown = time.monotonic(), 0.0, ""
    while True:
        described: dict[str, Any] = clients.client("sagemaker").describe_transform_job(TransformJobName=name)
        status, passed = described["TransformJobStatus"], time.monotonic() - began
        if sys.stderr.isatty():
            print(f"\r{name}: {status} ({passed:.0f} s) ", end="\n" if status in ENDED else "", file=sys.stderr)
        elif status != shown or passed - told > REMINDER:
            say(f"{name}: {status} ({passed:.0f} s)")
            shown, told = status, passed
        if status in ENDED:
            return described
        if passed > timeout:
            raise PipelineError(
                f"transform job {name} is still {status} after {timeout:.0f} s", "give a longer --timeout", TIMEOUT
            )
        clients.pause(POLL)
