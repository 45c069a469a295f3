"""AWS's own clients against the router as it is served: boto3, the SageMaker SDK's Predictor, the AWS CLI."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import boto3
import botocore.client
import botocore.exceptions
import pytest

from tests.scripted_container import ScriptedContainer, answer
from tests.servers import running

RUNTIME = "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"


@dataclass
class Served:
    """A router process between this test and two scripted containers."""

    url: str
    featurizer: ScriptedContainer
    predictor: ScriptedContainer

    @property
    def env(self) -> dict[str, str]:
        return {
            RUNTIME: self.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


@contextlib.contextmanager
def serve(worker_class: str, **settings: str) -> Iterator[Served]:
    with ScriptedContainer() as featurizer, ScriptedContainer() as predictor:
        own = {
            "CONTAINERS": f"featurizer=http://127.0.0.1:{featurizer.port},predictor=http://127.0.0.1:{predictor.port}",
            "MODEL_SERVER_NGINX": "off",
            "MODEL_SERVER_WORKERS": "1",
            "MODEL_SERVER_WORKER_CLASS": worker_class,
        }
        with running("local_test", own | settings) as server:
            yield Served(f"http://127.0.0.1:{server.port}", featurizer, predictor)
            gc.collect()  # caught exceptions hold connections, which gevent's worker waits for
            assert server.stop() == 0


@pytest.fixture(scope="module", params=["gthread", "gevent"])
def process(request) -> Iterator[Served]:
    with serve(request.param) as served:
        yield served


@pytest.fixture
def served(process: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    process.featurizer.reply = answer(b"0.5\n", "text/csv")
    process.predictor.reply = answer(b'{"result":[9.5]}', "application/json", X_Amzn_SageMaker_Custom_Attributes="seen")
    for name, value in process.env.items():
        monkeypatch.setenv(name, value)
    return process


@pytest.fixture
def runtime(served: Served) -> Iterator[botocore.client.BaseClient]:  # noqa: ARG001 - its environment
    client = boto3.client("sagemaker-runtime")
    yield client
    client.close()


def test_boto3_gets_the_answer_and_its_headers(runtime):
    response = runtime.invoke_endpoint(
        EndpointName="abalone", Body=b"M\n", ContentType="text/csv", Accept="application/json", CustomAttributes="a=b"
    )

    assert json.loads(response["Body"].read()) == {"result": [9.5]}
    assert response["ContentType"] == "application/json"
    assert response["InvokedProductionVariant"] == "AllTraffic"
    assert response["CustomAttributes"] == "seen"
    assert response["ResponseMetadata"]["RequestId"] == response["ResponseMetadata"]["HTTPHeaders"]["x-request-id"]
    assert response["ResponseMetadata"]["RetryAttempts"] == 0


def test_boto3_without_a_content_type_sends_none(runtime, served):
    runtime.invoke_endpoint(EndpointName="abalone", Body=b"M\n")

    assert "content-type" not in served.featurizer.asked[-1].headers


def test_boto3_raises_a_model_error_with_the_containers_status_and_message(runtime, served):
    served.featurizer.reply = answer(b'{"code": "bad_payload"}', "application/json", 400)
    before = len(served.featurizer.asked)

    with pytest.raises(runtime.exceptions.ModelError) as raised:
        runtime.invoke_endpoint(EndpointName="abalone", Body=b"M\n")

    response = raised.value.response
    assert response["Error"]["Code"] == "ModelError"
    assert "(400) from featurizer" in response["Error"]["Message"]
    assert (response["OriginalStatusCode"], response["OriginalMessage"]) == (400, '{"code": "bad_payload"}')
    assert response["LogStreamArn"].endswith("AllTraffic/local/featurizer")
    assert len(served.featurizer.asked) == before + 1


@pytest.mark.parametrize("worker_class", ["gthread", "gevent"])
def test_boto3_raises_a_model_error_when_a_container_is_too_slow(worker_class, monkeypatch):
    told = threading.Event()
    with serve(worker_class, INVOCATION_TIMEOUT="10") as slow:
        slow.featurizer.reply = answer(b"0.5\n", "text/csv")
        slow.predictor.reply = lambda *_: told.wait(60)
        for name, value in slow.env.items():
            monkeypatch.setenv(name, value)
        with contextlib.closing(boto3.client("sagemaker-runtime")) as runtime:
            with pytest.raises(runtime.exceptions.ModelError) as raised:
                runtime.invoke_endpoint(EndpointName="abalone", Body=b"M\n")
            told.set()
        status, message = raised.value.response["OriginalStatusCode"], str(raised.value)
        del raised  # it holds the connection, which gevent's worker waits for

    assert status == 0
    assert "timed out while waiting for a response from container predictor" in message


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        ({"EndpointName": "other"}, 400, "Endpoint other of account"),
        ({"EndpointName": "abalone", "TargetContainerHostname": "predictor"}, 400, "Direct mode"),
        ({"EndpointName": "abalone", "ContentType": "x" * 1025}, 400, "Content-Type failed to satisfy constraint"),
        ({"EndpointName": "abalone", "Body": b"x" * 6_291_457}, 413, "at most 6291456 bytes, got 6291457"),
        ({"EndpointName": "abalone", "Body": b"x" * 30_000_000}, 413, "at most 6291456 bytes, got 30000000"),
    ],
)
def test_boto3_raises_a_validation_error(runtime, arguments, status, reason):
    with pytest.raises(botocore.exceptions.ClientError) as raised:
        runtime.invoke_endpoint(**{"Body": b"M\n"} | arguments)

    response = raised.value.response
    assert response["Error"]["Code"] == "ValidationError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert reason in response["Error"]["Message"]


ONE_SERVER = pytest.mark.parametrize("process", ["gthread"], indirect=True)  # the client starts for long


@ONE_SERVER
def test_the_predictor_of_the_sagemaker_sdk_gets_the_answer(served):
    script = """
from sagemaker.deserializers import JSONDeserializer
from sagemaker.predictor import Predictor
from sagemaker.serializers import CSVSerializer
predictor = Predictor("abalone", serializer=CSVSerializer(), deserializer=JSONDeserializer())
print(predictor.predict([["M", 0.4]]))
"""
    env = os.environ | {"SAGEMAKER_SUPPRESS_V2_WARNING": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)

    assert done.stdout.splitlines()[-1:] == ["{'result': [9.5]}"], done.stderr
    asked = served.featurizer.asked[-1]
    assert (asked.body, asked.headers["content-type"]) == (b"M,0.4", "text/csv")
    assert served.predictor.asked[-1].headers["accept"] == "application/json"


def aws(body: Path, out: Path, endpoint: str = "abalone") -> subprocess.CompletedProcess[str]:
    command = [
        *(sys.executable, "-m", "awscli", "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", endpoint),
        *("--content-type", "text/csv", "--accept", "application/json", "--body", f"fileb://{body}", str(out)),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@ONE_SERVER
@pytest.mark.usefixtures("served")
def test_the_aws_cli_writes_the_answer_to_a_file(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"M,0.4\n")

    done = aws(tmp_path / "rows.csv", tmp_path / "out.json")

    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out.json").read_text()) == {"result": [9.5]}
    assert json.loads(done.stdout)["InvokedProductionVariant"] == "AllTraffic"


@ONE_SERVER
def test_the_aws_cli_prints_the_message_of_a_model_error(served, tmp_path):
    served.featurizer.reply = answer(b"bad row", status=400)
    (tmp_path / "rows.csv").write_bytes(b"M,0.4\n")

    done = aws(tmp_path / "rows.csv", tmp_path / "out.json")

    assert done.returncode != 0
    assert "(ModelError)" in done.stderr
    assert 'client error (400) from featurizer with message "bad row"' in done.stderr


def test_many_clients_at_once_each_get_their_own_answer(runtime, served):
    served.featurizer.reply = served.predictor.reply = lambda asked, connection: answer(asked.body)(asked, connection)

    def ask(number: int) -> bool:
        body = b"%d\n" % number
        return bool(runtime.invoke_endpoint(EndpointName="abalone", Body=body)["Body"].read() == body)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(200)))


def test_a_plain_client_that_sends_too_much_is_told_so_too(served):
    request = urllib.request.Request(f"{served.url}/invocations", b"1\n" * 3_600_000, {"Content-Type": "text/csv"})

    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    with caught.value as refusal:
        assert refusal.code == 413
        assert b"at most 6291456 bytes" in refusal.read()
