"""`docker compose up` from a clean clone: it trains, comes up healthy, and answers every client alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import numpy as np
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from numpy.typing import NDArray

from pipeline.demo import in_process
from tests.conftest import ROOT
from tests.docker.conftest import Container, ask, docker
from tests.servers import free_ports

pytestmark = pytest.mark.docker

SDK = """
import sys
from sagemaker.deserializers import JSONDeserializer
from sagemaker.predictor import Predictor
from sagemaker.serializers import IdentitySerializer
from sagemaker.session import Session
predictor = Predictor("abalone", Session(default_bucket="any"), IdentitySerializer("text/csv"), JSONDeserializer())
print(predictor.predict(sys.stdin.buffer.read())["result"])
"""


# Docker's own name server, 127.0.0.11, listens there too.
LISTENING = """
import pathlib
tables = [pathlib.Path("/proc/net", name).read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
lines = [line.split() for table in tables for line in table if "0B00007F:" not in line]
print(sorted({int(fields[1].rpartition(":")[2], 16) for fields in lines if fields[3] == "0A"}))
"""


@dataclass(frozen=True)
class Chain:
    """The running chain of a clone, under a project name and ports of its own."""

    checkout: Path
    project: str
    ports: dict[str, str]

    @property
    def env(self) -> dict[str, str]:
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
        url = f"http://127.0.0.1:{self.ports['ROUTER_PORT']}"
        quiet = {"SAGEMAKER_SUPPRESS_V2_WARNING": "1", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url}
        return os.environ | self.ports | keys | quiet

    def compose(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["docker", "compose", "--project-name", self.project, *arguments]
        return subprocess.run(command, cwd=self.checkout, env=self.env, capture_output=True, text=True, check=False)

    def left(self) -> str:
        """The ids of this project's containers, networks and volumes."""
        chosen = ("--quiet", "--filter", f"label=com.docker.compose.project={self.project}")
        return "".join(docker(*kind, *chosen) for kind in (("ps", "--all"), ("network", "ls"), ("volume", "ls")))

    def client(self):
        config = Config(signature_version=UNSIGNED)
        url = self.env["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"]
        return boto3.client("sagemaker-runtime", endpoint_url=url, region_name="us-east-1", config=config)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    checkout = tmp_path_factory.mktemp("compose") / "clone"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["mkdir", "-p", checkout], check=True)
    archive = subprocess.run(  # as they are now, committed or not
        ["tar", "-c", "--null", "-T", "-"], cwd=ROOT, input=listed, check=True, capture_output=True
    )
    subprocess.run(["tar", "-x"], cwd=checkout, input=archive.stdout, check=True)
    (checkout / "artifacts").chmod(0o700)  # as under umask 077
    if os.getuid() == 0:  # a developer is not root, who the containers run as
        os.chown(checkout / "artifacts", 12345, 12345)
    names = ("ROUTER_PORT", "FEATURIZER_PORT", "PREDICTOR_PORT")
    ports = dict(zip(names, map(str, free_ports(3)), strict=True))
    running = Chain(checkout, f"serial-inference-test-{uuid.uuid4().hex[:8]}", ports)
    up = running.compose("up", "--build", "--wait")
    try:
        assert up.returncode == 0, up.stderr + running.compose("logs").stdout
        yield running
    finally:
        running.compose("down", "--volumes", "--rmi", "local")
        assert running.left() == ""
        assert docker("image", "ls", "--quiet", f"{running.project}-*") == ""


@pytest.fixture(scope="module")
def rows(chain: Chain) -> bytes:
    """The held-out rows with their header, as the one-shot service wrote them."""
    return (chain.checkout / "artifacts" / "test.csv").read_bytes()


@pytest.fixture(scope="module")
def expected(chain: Chain, rows: bytes) -> NDArray[np.float32]:
    return in_process(chain.checkout / "artifacts", rows.decode())


def same(answered: object, expected: NDArray[np.float32]) -> bool:
    return np.asarray(answered, dtype=np.float32).tobytes() == expected.tobytes()


def test_boto3_gets_the_models_own_predictions(chain: Chain, rows: bytes, expected: NDArray[np.float32]) -> None:
    answer = chain.client().invoke_endpoint(EndpointName="abalone", ContentType="text/csv", Body=rows)

    assert len(expected) == 418
    assert same(json.loads(answer["Body"].read())["result"], expected)


def test_the_sdks_predictor_gets_them_too(chain: Chain, rows: bytes, expected: NDArray[np.float32]) -> None:
    done = subprocess.run([sys.executable, "-c", SDK], input=rows, env=chain.env, capture_output=True, check=False)

    assert done.returncode == 0, done.stderr.decode()
    assert same(json.loads(done.stdout.splitlines()[-1]), expected)


def test_the_aws_cli_gets_them_too(chain: Chain, expected: NDArray[np.float32], tmp_path: Path) -> None:
    body = f"fileb://{chain.checkout / 'artifacts' / 'test.csv'}"
    command = [
        Path(sys.executable).with_name("aws"),
        "sagemaker-runtime",
        "invoke-endpoint",
        "--endpoint-name",
        "abalone",
    ]
    command += ["--content-type", "text/csv", "--body", body, tmp_path / "out.json"]
    subprocess.run(command, env=chain.env, check=True, capture_output=True)

    assert same(json.loads((tmp_path / "out.json").read_bytes())["result"], expected)


def test_plain_http_gets_them_too(chain: Chain, rows: bytes, expected: NDArray[np.float32]) -> None:
    port = int(chain.ports["ROUTER_PORT"])
    status, body = ask(port, "POST", "/invocations", rows, {"Content-Type": "text/csv", "Accept": "text/csv"})

    assert status == 200
    assert same([float(line) for line in body.splitlines()], expected)


def test_the_runtime_api_over_plain_http_gets_them_too(
    chain: Chain, rows: bytes, expected: NDArray[np.float32]
) -> None:
    """With rows as a client has them: neither header nor label."""
    bare = b"\n".join(row.rpartition(b",")[0] for row in rows.splitlines()[1:])
    port, path = int(chain.ports["ROUTER_PORT"]), "/endpoints/abalone/invocations"
    status, body = ask(port, "POST", path, bare, {"Content-Type": "text/csv", "Accept": "application/json"})

    assert status == 200
    assert same(json.loads(body)["result"], expected)


def test_one_row_at_a_time_gives_the_same(chain: Chain, rows: bytes, expected: NDArray[np.float32]) -> None:
    port = int(chain.ports["ROUTER_PORT"])
    answers = [ask(port, "POST", "/invocations", row, {"Content-Type": "text/csv"}) for row in rows.splitlines()[1:]]

    assert {status for status, _ in answers} == {200}
    assert same([json.loads(body)["result"][0] for _, body in answers], expected)


def test_the_stages_speak_npy_with_one_another(chain: Chain, rows: bytes) -> None:
    _, features = ask(int(chain.ports["FEATURIZER_PORT"]), "POST", "/invocations", rows, {"Content-Type": "text/csv"})
    chain.client().invoke_endpoint(EndpointName="abalone", ContentType="text/csv", InferenceId="the-hop", Body=rows)
    logged = Container(chain.compose("ps", "--quiet", "predictor").stdout.strip()).logs()
    (line,) = [line for line in map(json.loads, logged.splitlines()) if line.get("request_id") == "the-hop"]

    assert features[:6] == b"\x93NUMPY"
    assert (line["status"], line["bytes_in"]) == (200, len(features))


def test_each_container_answers_on_its_own_port(chain: Chain, rows: bytes, expected: NDArray[np.float32]) -> None:
    first, second = int(chain.ports["FEATURIZER_PORT"]), int(chain.ports["PREDICTOR_PORT"])
    status, features = ask(first, "POST", "/invocations", rows, {"Content-Type": "text/csv"})

    assert (status, features[:6]) == (200, b"\x93NUMPY")
    status, body = ask(second, "POST", "/invocations", features, {"Content-Type": "application/x-npy"})
    assert status == 200
    assert same(json.loads(body)["result"], expected)


def test_a_refusal_reaches_boto3_as_a_model_error(chain: Chain) -> None:
    with pytest.raises(ClientError) as caught:
        chain.client().invoke_endpoint(EndpointName="abalone", ContentType="text/csv", Body=b"M,short,1,1,1,1,1,1")

    answer = caught.value.response
    original = json.loads(answer["OriginalMessage"])
    assert (answer["Error"]["Code"], answer["OriginalStatusCode"]) == ("ModelError", 400)
    assert (original["row"], original["column"]) == (1, "length")
    assert "from featurizer" in answer["Error"]["Message"]


def test_the_stages_share_a_network_and_read_their_models_only(chain: Chain) -> None:
    ids = {stage: chain.compose("ps", "--quiet", stage).stdout.strip() for stage in ("featurizer", "predictor")}
    found = {stage: json.loads(docker("inspect", name))[0] for stage, name in ids.items()}

    assert found["predictor"]["HostConfig"]["NetworkMode"] == f"container:{ids['featurizer']}"
    for stage in found.values():
        (mount,) = [mount for mount in stage["Mounts"] if mount["Destination"] == "/opt/ml/model"]
        assert mount["RW"] is False
    listening = docker("exec", ids["predictor"], "python", "-c", LISTENING)
    assert listening.strip() == "[8081, 8082]"


@pytest.mark.parametrize("service", ["featurizer", "predictor", "router"])
def test_a_service_has_no_right_and_is_reached_from_this_machine_only(chain: Chain, service: str) -> None:
    found = json.loads(docker("inspect", chain.compose("ps", "--quiet", service).stdout.strip()))[0]
    host, bindings = found["HostConfig"], found["HostConfig"]["PortBindings"] or {}

    assert found["Config"]["User"] == "10001:10001"
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["CapAdd"]) == (True, ["ALL"], None)
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert list(host["Tmpfs"]) == ["/tmp"]  # noqa: S108 - the container's own
    assert 0 < host["PidsLimit"] <= 1024
    assert 0 < host["Memory"] <= 2 * 1024**3
    assert {binding["HostIp"] for bound in bindings.values() for binding in bound} <= {"127.0.0.1"}


def test_what_it_trained_belongs_to_the_owner_of_the_directory_and_the_containers_read_it(chain: Chain) -> None:
    directory = chain.checkout / "artifacts"

    assert directory.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_uid for path in directory.rglob("*")} == {directory.stat().st_uid}


def test_down_leaves_nothing_and_a_second_up_trains_nothing(chain: Chain) -> None:
    """The last: it stops what the others ask."""
    files = sorted((chain.checkout / "artifacts").rglob("*.*"))
    before = [path.stat().st_mtime_ns for path in files]
    down = chain.compose("down")
    left = chain.left()
    again = chain.compose("up", "--wait")

    assert down.returncode == 0, down.stderr
    assert left == ""
    assert again.returncode == 0, again.stderr
    assert "keeping the abalone artifacts" in chain.compose("logs", "train").stdout
    assert [path.stat().st_mtime_ns for path in files] == before
