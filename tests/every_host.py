"""The rows that training held out, through every host: what README.md's table says, and how each host is asked.

A host is started once for a data set and asked in every way that it has; hosts as processes are in
tests/integration/test_every_host.py, those in containers in tests/docker/test_every_host.py.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.demo import in_process
from serving.payload import CSV, JSON, JSONLINES, NPY
from tests.conftest import ROOT
from tests.datasets import Golden, read_answers, same
from tests.lambda_api import AS_NPY, SHAPES, Function, unpacked, with_rows
from tests.rehearsal import Owner

STAGES = ("featurizer", "predictor")
PIPELINE, BATCH, SINGLE = "serial pipeline: router and two containers", "Batch Transform", "single container"
LAMBDA, LIBRARIES = f"Lambda, {len(SHAPES)} shapes of events", "scikit-learn and XGBoost in this process"
HOSTS = (PIPELINE, BATCH, SINGLE, LAMBDA, LIBRARIES)
EQUAL = "equal to the bit"
ROLE = "arn:aws:iam::123456789012:role/any"
HEADING = "## The same numbers on every host\n"
NUMBERED = re.compile(r"[^0-9]")

Values = NDArray[np.float32] | list[str]
# For an output, each way to ask the host for it with what it answered.
Answers = Callable[[str], Iterator[tuple[str, Values]]]
# Starts a host for a data set, with a directory of its own; the stack ends what it started.
Host = Callable[[ExitStack, Golden, Path], Answers]
Post = Callable[[bytes, str, str], tuple[bytes, str]]  # body, media type, accepted; body and media type


# --- the table


def table() -> dict[str, dict[str, str]]:
    """README.md's cells: by what stands at the row's head, and then by data set."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    (_, *names), _, *rows = lines
    return {head: dict(zip(names, cells, strict=True)) for head, *cells in rows}


def cells() -> list[tuple[str, str]]:
    """Each host that the table names with each of its data sets; those of a data set together."""
    counted, _compared, *hosts = table()
    return [(host, name) for name in table()[counted] for host in hosts]


def check(host: Host, name: str, known: Golden, directory: Path) -> None:
    """Ask a host for every output in every way that it has; the table's numbers are those of the rows compared."""
    rows, outputs, *_ = table().values()
    assert (int(NUMBERED.sub("", rows[name])), outputs[name]) == (len(known.rows), ", ".join(known.outputs))
    with ExitStack() as stack:
        answers = host(stack, known, directory)
        for output in known.outputs:
            ways = 0
            for way, got in answers(output):
                ways += 1
                assert same(got, known.owed(output)), f"{output}, {way}: {got[:3]}, owed {known.owed(output)[:3]}"
            assert ways > 0


# --- how hosts are asked


def over_http(post: Post, known: Golden, by_default: str) -> Answers:
    """In every format, the output by its name; where it is what the host answers by default also without."""

    def answers(output: str) -> Iterator[tuple[str, Values]]:
        formats = [media for media in (CSV, JSON, JSONLINES, NPY) if (output, media) != ("label", NPY)]
        accepted = [f"{media}; output={output}" for media in formats] + [CSV] * (output == by_default)
        for way, (media, body) in known.bodies.items():
            for accept in accepted:
                answer = read_answers(*post(body.encode(), media, accept), len(known.rows))
                yield f"{way}, accept {accept}", answer

    return answers


def older(post: Post, known: Golden) -> tuple[str, Values]:
    """The older samples' request, which the single container takes too."""
    body = json.dumps({"pred_x_csv": known.bodies["CSV"][1]}).encode()
    return "pred_x_csv", read_answers(*post(body, JSON, "*/*"), len(known.rows))


def of_events(start: Callable[[str], Function], known: Golden) -> Answers:
    """Every shape of event as it was recorded. Most have no word for an output: a function has it as a setting."""

    def answers(output: str) -> Iterator[tuple[str, Values]]:
        function = start(output)
        for shape in SHAPES:
            if (output, shape in AS_NPY) != ("label", True):
                envelope = function.invoke(with_rows(shape, known.lists))
                yield shape, read_answers(*unpacked(envelope), len(known.rows))

    return answers


def of_libraries(_stack: ExitStack, known: Golden, _directory: Path) -> Answers:
    """What `make demo` and other tests compare with: our reader before the libraries, and no server."""

    def answers(output: str) -> Iterator[tuple[str, Values]]:
        scores = in_process(known.artifacts, known.bodies["CSV with header and label"][1])
        yield "in process", answered_from(scores.reshape(len(known.rows), -1), output, known)

    return answers


def answered_from(scores: NDArray[np.float32], output: str, known: Golden) -> Values:
    shares = np.column_stack([1 - scores, scores]) if scores.shape[1] == 1 else scores
    if output == "label":
        return [known.classes[best] for best in shares.argmax(axis=1)]
    return scores if output == "score" else shares


def by_batch(who: Owner, images: Mapping[str, str]) -> Host:
    """Transform jobs of a control plane, one for each output."""

    def host(_stack: ExitStack, known: Golden, _directory: Path) -> Answers:
        s3, name = who.client("s3"), known.contract.dataset.replace("_", "-")
        s3.create_bucket(Bucket=name)
        s3.put_object(Bucket=name, Key="rows/rows.csv", Body=known.bodies["CSV"][1].encode())
        sagemaker = who.client("sagemaker")
        containers = [_container(s3, name, stage, images[stage], known.artifacts) for stage in STAGES]
        sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=containers)

        def answers(output: str) -> Iterator[tuple[str, Values]]:
            job = _job(name, output)
            sagemaker.create_transform_job(**job)
            _wait(sagemaker, job["TransformJobName"])
            written = s3.get_object(Bucket=name, Key=f"{output}/rows.csv.out")["Body"].read()
            yield "text/csv", read_answers(written, CSV, len(known.rows))

        return answers

    return host


def _container(s3: Any, bucket: str, stage: str, image: str, artifacts: Path) -> dict[str, Any]:
    key = f"{stage}/model.tar.gz"
    s3.put_object(Bucket=bucket, Key=key, Body=(artifacts / key).read_bytes())
    environment = {"MODEL_SERVER_WORKERS": "1"}
    if stage == "featurizer":
        environment["SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"] = NPY
    return {
        "ContainerHostname": stage,
        "Image": image,
        "ModelDataUrl": f"s3://{bucket}/{key}",
        "Environment": environment,
    }


def _job(name: str, output: str) -> dict[str, Any]:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{name}/rows/"}}
    accept = CSV if output == "score" else f"{CSV}; output={output}"
    return {
        "TransformJobName": f"{name}-{output}",
        "ModelName": name,
        "TransformInput": {"DataSource": source, "ContentType": CSV, "SplitType": "Line"},
        "TransformOutput": {"S3OutputPath": f"s3://{name}/{output}", "Accept": accept},
        "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
    }


def _wait(sagemaker: Any, job: str) -> None:
    deadline = time.monotonic() + 120
    while (told := sagemaker.describe_transform_job(TransformJobName=job))["TransformJobStatus"] == "InProgress":
        assert time.monotonic() < deadline, told
        time.sleep(0.1)
    assert told["TransformJobStatus"] == "Completed", told
