"""A whole life of an endpoint on the control plane, with the project's own commands and AWS's own clients."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from botocore.config import Config

from pipeline.cli import main
from pipeline.demo import in_process
from tests.conftest import ROOT
from tests.servers import free_ports

ENDPOINT = "rehearsal"
ROWS = 40
CALLERS = 4
PAUSE = 0.02  # seconds between a caller's requests


def with_header(artifacts: Path) -> tuple[str, list[str]]:
    header, *rows = (artifacts / "test.csv").read_text(encoding="utf-8").splitlines()
    return header, rows[:ROWS]


@dataclass
class Owner:
    """Somebody with a checkout, artifacts, and an account that is this machine.

    `inside`: the pipeline's verbs run in this process, which imports the SDK once for all of them.
    """

    host: str
    directory: Path
    env: dict[str, str] = field(default_factory=dict)
    inside: bool = False

    def runs(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done

    def pipeline(self, verb: str, *arguments: str | Path) -> str:
        given = [verb, "--endpoint", ENDPOINT, *(str(one) for one in arguments)]
        if not self.inside:
            return self.runs(sys.executable, "-m", "pipeline", *given).stdout
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert main(given, self.env) == 0, given
        return printed.getvalue()

    def local(self, *arguments: str) -> str:
        return self.runs(sys.executable, "-m", "local_test", *arguments, "--state", self.directory / "plane").stdout

    def client(self, service: str) -> Any:
        # No second try: an answer that was lost is seen.
        config = Config(retries={"total_max_attempts": 1}, read_timeout=70)
        return boto3.client(
            service,
            endpoint_url=self.env["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106 - any will do
            config=config,
        )

    def invoke(self, client: Any, body: str) -> list[float]:
        """The predictions, one float32 for each row."""
        answer = client.invoke_endpoint(EndpointName=ENDPOINT, ContentType="text/csv", Body=body.encode())
        return [float(np.float32(value)) for value in json.loads(answer["Body"].read())["result"]]


@contextlib.contextmanager
def owner(host: str, directory: Path) -> Iterator[Owner]:
    """An owner whose control plane runs, and is ended whatever happens."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAGEMAKER_"))}
    found = Owner(host, directory, kept | {"MODEL_SERVER_WORKERS": "1"})
    port = free_ports(1)[0]
    try:
        found.local("up", "--port", str(port), "--host", host)
        found.env |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
        }
        yield found
    finally:
        found.local("down")


def predictions(artifacts: Path, header: str, rows: list[str]) -> list[float]:
    return [float(value) for value in in_process(artifacts, "\n".join([header, *rows]) + "\n")]


def role(who: Owner) -> str:
    trust = (ROOT / "docs" / "iam" / "execution-role-trust.json").read_text(encoding="utf-8")
    made = who.client("iam").create_role(RoleName="serial-inference-execution", AssumeRolePolicyDocument=trust)
    return str(made["Role"]["Arn"])


def call_in_every_way(who: Owner, header: str, rows: list[str], expected: list[float]) -> None:
    """The pipeline's own verb, boto3, the SDK's Predictor and the AWS CLI: the same answers to the bit."""
    body = "\n".join([header, *rows]) + "\n"
    sent = who.directory / "rows.csv"
    sent.write_text(body, encoding="utf-8")

    assert who.invoke(who.client("sagemaker-runtime"), body) == expected

    who.pipeline("invoke", sent, "--output", who.directory / "answers.csv", "--rows-per-request", "7")
    answered = (who.directory / "answers.csv").read_text(encoding="utf-8").split()
    assert [float(np.float32(line)) for line in answered] == expected

    cli = Path(sys.executable).with_name("aws")
    answer = who.directory / "answer.json"
    who.runs(
        *(cli, "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", ENDPOINT, "--content-type", "text/csv"),
        *("--body", f"fileb://{sent}", answer),
    )
    assert [float(np.float32(value)) for value in json.loads(answer.read_text())["result"]] == expected

    sdk = """
import json, sys
import boto3, sagemaker
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer
from sagemaker.deserializers import JSONDeserializer
session = sagemaker.Session(boto3.Session(), default_bucket="any")
predictor = Predictor(sys.argv[1], session, serializer=CSVSerializer(), deserializer=JSONDeserializer())
print(json.dumps(predictor.predict(open(sys.argv[2]).read())["result"]))
"""
    printed = who.runs(sys.executable, "-W", "ignore", "-c", sdk, ENDPOINT, sent).stdout.splitlines()[-1]
    assert [float(np.float32(value)) for value in json.loads(printed)] == expected


def batch(who: Owner, rows: list[str], expected: list[float]) -> None:
    """Batch Transform answers as the endpoint does; the verb itself compares a sample."""
    source = who.directory / "batch.csv"
    source.write_text("\n".join(rows) + "\n", encoding="utf-8")
    out = who.directory / "batch"
    who.pipeline("batch", source, "--output", out, "--compare", "5")
    (written,) = out.rglob("*.out")
    assert [float(np.float32(line)) for line in written.read_text(encoding="utf-8").split()] == expected


def update_under_load(who: Owner, new: Path, header: str, rows: list[str], old: list[float], *options: str) -> int:
    """Replace the release while callers call. Returns how many answers were checked; none may be lost or mixed."""
    fresh = predictions(new, header, rows)
    assert fresh != old
    body = "\n".join([header, *rows]) + "\n"
    with callers(CALLERS, who, body, (old, fresh)) as counts:
        who.pipeline("deploy", "--update", "--artifacts", new, *options)
    assert who.invoke(who.client("sagemaker-runtime"), body) == fresh
    return sum(counts)


@contextlib.contextmanager
def callers(many: int, who: Owner, body: str, known: tuple[list[float], ...]) -> Iterator[list[int]]:
    """So many who call all the time, and of whom each gets only answers that are known. Gives what each has got."""
    done, wrong, counts = threading.Event(), [], [0] * many

    def call(number: int) -> None:
        client = who.client("sagemaker-runtime")
        while not done.is_set():
            try:
                if (got := who.invoke(client, body)) not in known:
                    wrong.append(f"neither release answers {got[:3]}")
            except Exception as error:  # noqa: BLE001 - whatever a caller sees is a lost request
                wrong.append(repr(error))
            counts[number] += 1
            done.wait(PAUSE)  # the machine must have time for the update, too

    threads = [threading.Thread(target=call, args=[number]) for number in range(many)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert min(counts) > 0


def left(who: Owner) -> dict[str, list[str]]:
    """All that the account still has of an endpoint's life."""
    sagemaker, s3 = who.client("sagemaker"), who.client("s3")
    buckets = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    objects = [found["Key"] for name in buckets for found in s3.list_objects_v2(Bucket=name).get("Contents", [])]
    repositories = who.client("ecr").describe_repositories()["repositories"]
    targets = who.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")
    return {
        "endpoints": [one["EndpointName"] for one in sagemaker.list_endpoints()["Endpoints"]],
        "configs": [one["EndpointConfigName"] for one in sagemaker.list_endpoint_configs()["EndpointConfigs"]],
        "models": [one["ModelName"] for one in sagemaker.list_models()["Models"]],
        "scaling": [one["ResourceId"] for one in targets["ScalableTargets"]],
        "objects": objects,
        "repositories": [one["repositoryName"] for one in repositories],
    }


def life(who: Owner, first: Path, second: Path, given: list[str]) -> int:
    """Deploy, call, batch, scale, update under load, delete. Returns the answers checked during the update."""
    header, rows = with_header(first)
    expected = predictions(first, header, rows)

    who.pipeline("deploy", "--artifacts", first, *given)
    call_in_every_way(who, header, rows, expected)
    assert ENDPOINT in who.pipeline("status")
    batch(who, rows, expected)
    who.pipeline("autoscale", "--min", "1", "--max", "2", "--target", "3000")
    assert left(who)["scaling"] == [f"endpoint/{ENDPOINT}/variant/AllTraffic"]
    checked = update_under_load(who, second, header, rows, expected, *given)
    held = left(who)
    assert [len(held[kind]) for kind in ("endpoints", "configs", "models")] == [1, 1, 1]

    who.pipeline("delete", "--artifacts", "--yes")
    who.pipeline("delete", "--artifacts", "--images", "--yes")
    assert not any(left(who).values()), left(who)
    return checked


def single_life(who: Owner, artifacts: Path, given: list[str]) -> int:
    """Deploy one container, put two in its place and it in theirs while it is called, delete it with its images.

    Both give the same answers, so the caller gets them all the time. Returns how many answers were checked.
    """
    header, rows = with_header(artifacts)
    body, expected = "\n".join([header, *rows]) + "\n", predictions(artifacts, header, rows)

    deploy_single(who, artifacts, given)
    batch(who, rows, expected)
    with callers(1, who, body, (expected,)) as counts:
        who.pipeline("deploy", "--update", "--no-single", "--artifacts", artifacts, *given)
        assert hosted(who) == ["featurizer", "predictor"]
        who.pipeline("deploy", "--update", "--single", "--artifacts", artifacts, *given)
        assert hosted(who) == ["pipeline"]
    delete_all(who)
    return sum(counts)


def deploy_single(who: Owner, artifacts: Path, given: list[str]) -> None:
    """One container serves, answers as the libraries do, and is seen by the verbs that see two."""
    header, rows = with_header(artifacts)

    who.pipeline("deploy", "--single", "--artifacts", artifacts, *given)

    answered = who.invoke(who.client("sagemaker-runtime"), "\n".join([header, *rows]) + "\n")
    assert answered == predictions(artifacts, header, rows)
    assert list(json.loads(who.pipeline("status", "--json"))["images"]) == ["primary"]
    logged = who.pipeline("logs", "--since", "1h", "--container", "primary", "--json").splitlines()
    assert {json.loads(line)["stream"] for line in logged} == {"AllTraffic/local"}


def delete_all(who: Owner) -> None:
    """Whatever was made goes, and with it the images and their repositories."""
    who.pipeline("delete", "--artifacts", "--images", "--yes")

    assert not any(left(who).values()), left(who)


def hosted(who: Owner) -> list[str]:
    """The repositories of the images that the endpoint runs, in their order."""
    [variant] = who.client("sagemaker").describe_endpoint(EndpointName=ENDPOINT)["ProductionVariants"]
    return [one["SpecifiedImage"].partition("@")[0].rpartition("/")[2] for one in variant["DeployedImages"]]
