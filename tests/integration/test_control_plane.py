"""`python -m local_test up`, and endpoints that it really hosts, as processes of this checkout."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from featurizer.model import Featurizer
from local_test.control_plane.command import exports
from local_test.control_plane.plane import Plane
from local_test.control_plane.process_host import ProcessHost
from local_test.control_plane.store import Store
from local_test.process import Process
from local_test.state import State
from pipeline.demo import in_process
from serving.payload import Payload
from tests.conftest import ROOT
from tests.servers import free_ports, in_background, started, wait_until

ROLE = "arn:aws:iam::123456789012:role/any"
ROWS = (ROOT / "local_test" / "payloads" / "rows.csv").read_bytes()
STAGES = ("featurizer", "predictor")


@dataclass(frozen=True)
class Command:
    """The command line with a state directory of its own."""

    state: Path

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "local_test", *arguments, "--state", str(self.state)],
            cwd=ROOT,
            env=os.environ | {"MODEL_SERVER_WORKERS": "1"} | env,
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
        )

    def up(self, *arguments: str, **env: str) -> Account:
        """Start, on a free port."""
        done = self.run("up", "--port", "0", "--host", "processes", *arguments, **env)
        assert done.returncode == 0, done.stderr
        return Account(self.server().port)

    def down(self) -> subprocess.CompletedProcess[str]:
        done = self.run("down")
        assert done.returncode == 0, done.stderr
        return done

    def server(self) -> Process:
        _, (process,) = State(self.state).load()
        return process

    def processes(self) -> list[Process]:
        """All that it started, dead or alive."""
        return [process for file in self.state.rglob("chain.json") for process in State(file.parent).load()[1]]


@dataclass(frozen=True)
class Account:
    """What a user of AWS sees."""

    port: int

    def client(self, service: str) -> Any:
        plane = Plane(f"http://127.0.0.1:{self.port}", "eu-west-1", Path(), ProcessHost({}), Store(""))
        return plane.client(service)

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True
        return False

    def upload(self, artifacts: Path) -> None:
        s3 = self.client("s3")
        s3.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        for stage in STAGES:
            s3.put_object(Bucket="models", Key=stage, Body=(artifacts / stage / "model.tar.gz").read_bytes())

    def make_model(self, name: str, *models: str, **images: str) -> None:
        """A model of the first stage or of both, and an endpoint config of the same name. `models`: whose artifacts."""
        definitions = [
            {
                "ContainerHostname": stage,
                "Image": images.get(stage, f"any/serial-inference/{stage}:test"),
                "ModelDataUrl": f"s3://models/{model}",
            }
            for stage, model in zip(STAGES, models, strict=False)
        ]
        containers = {"Containers": definitions} if len(models) > 1 else {"PrimaryContainer": definitions[0]}
        sagemaker = self.client("sagemaker")
        sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, **containers)
        variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.xlarge"}
        variants = [{**variant, "InitialInstanceCount": 2}]
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)

    def make_endpoint(self, name: str, config: str) -> dict[str, Any]:
        self.client("sagemaker").create_endpoint(EndpointName=name, EndpointConfigName=config)
        return self.settled(name)

    def settled(self, name: str) -> dict[str, Any]:
        """The endpoint once nothing is under way."""
        client = self.client("sagemaker")

        def look() -> Any:
            found = client.describe_endpoint(EndpointName=name)
            return found if found["EndpointStatus"] in ("InService", "Failed") else None

        return wait_until(look, f"{name} to settle", 90)

    def invoke(self, name: str) -> bytes:
        answer = self.client("sagemaker-runtime").invoke_endpoint(EndpointName=name, ContentType="text/csv", Body=ROWS)
        return answer["Body"].read()

    def delete(self, name: str) -> None:
        client = self.client("sagemaker")
        client.delete_endpoint(EndpointName=name)
        names = lambda: [one["EndpointName"] for one in client.list_endpoints()["Endpoints"]]  # noqa: E731
        wait_until(lambda: name not in names(), f"{name} to be gone")


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path / "state")
    yield command
    command.run("down")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    command = Command(tmp_path_factory.mktemp("shared"))
    command.up()
    yield command
    processes = command.processes()
    done = command.down()
    assert done.stdout == "The control plane is stopped.\n"
    assert processes
    assert not any(process.is_alive() for process in processes)


@pytest.fixture(scope="module")
def account(shared: Command, artifacts: Path) -> Account:
    """A control plane with models and their endpoint configs.

    `pipeline` has both stages, `first` and `second` the featurizer alone, which starts sooner, and the other two have
    a container that cannot start.
    """
    account = Account(shared.server().port)
    account.upload(artifacts)
    account.make_model("pipeline", *STAGES)
    account.make_model("broken-pipeline", "featurizer", "featurizer")
    account.make_model("first", "featurizer")
    account.make_model("second", "featurizer")
    account.make_model("broken", "predictor")
    return account


@pytest.fixture(scope="module")
def features(artifacts: Path) -> bytes:
    """The answer of the first stage to the rows."""
    return Featurizer.load(artifacts / "featurizer" / "model")(Payload(ROWS, "text/csv")).body


@contextlib.contextmanager
def load(account: Account, name: str) -> Iterator[list[bytes | Exception]]:
    """Three clients that never stop asking; what they were answered."""
    answers: list[bytes | Exception] = []
    done = threading.Event()
    client = account.client("sagemaker-runtime")

    def ask() -> None:
        while not done.is_set():
            try:
                answer = client.invoke_endpoint(EndpointName=name, ContentType="text/csv", Body=ROWS)
                answers.append(answer["Body"].read())
            except client.exceptions.ClientError as error:
                answers.append(error)

    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask) for _ in range(3)]
        try:
            yield answers
        finally:
            done.set()
        for one in asked:
            one.result()


def test_an_endpoint_answers_as_the_stages_do_and_leaves_no_process(
    account: Account, shared: Command, artifacts: Path
) -> None:
    expected = [float(value) for value in in_process(artifacts, ROWS.decode()).ravel()]
    made = account.make_endpoint("answers", "pipeline")
    answer = json.loads(account.invoke("answers"))["result"]
    processes = [process for process in shared.processes() if process.name in STAGES]
    account.delete("answers")

    assert made["EndpointStatus"] == "InService"
    assert [len(variant["DeployedImages"]) for variant in made["ProductionVariants"]] == [2]
    assert answer == pytest.approx(expected, rel=1e-6)
    assert len(processes) == 2
    assert not any(process.is_alive() for process in processes)
    assert not (shared.state / "data" / "endpoints" / "answers").exists()
    with pytest.raises(account.client("sagemaker-runtime").exceptions.ClientError, match=r"answers .*not found"):
        account.invoke("answers")


@pytest.mark.parametrize(
    "routing",
    [
        {"Type": "CANARY", "WaitIntervalInSeconds": 1, "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 30}},
        pytest.param({"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}, marks=pytest.mark.long),
        pytest.param(
            {"Type": "LINEAR", "WaitIntervalInSeconds": 0, "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 50}},
            marks=pytest.mark.long,
        ),
    ],
    ids=lambda routing: routing["Type"],
)
def test_an_update_under_load_loses_no_request(account: Account, shared: Command, routing: dict[str, Any]) -> None:
    account.make_endpoint("updated", "first")
    client = account.client("sagemaker")
    before = {process.pid for process in shared.processes() if process.name == "primary"}
    with load(account, "updated") as answers:
        policy = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}
        client.update_endpoint(EndpointName="updated", EndpointConfigName="second", DeploymentConfig=policy)
        during = client.describe_endpoint(EndpointName="updated")
        after = account.settled("updated")
    left = [process for process in shared.processes() if process.name == "primary"]
    account.delete("updated")

    assert (during["EndpointStatus"], during["EndpointConfigName"]) == ("Updating", "first")
    assert during["PendingDeploymentSummary"]["EndpointConfigName"] == "second"
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", "second")
    assert "PendingDeploymentSummary" not in after
    assert len(answers) > 20
    assert [answer for answer in set(answers) if not isinstance(answer, bytes)] == []
    assert len(left) == len(before) == 1
    assert before.isdisjoint(process.pid for process in left)


def test_a_model_that_does_not_start_fails_the_endpoint_and_says_which_container(account: Account) -> None:
    made = account.make_endpoint("failing", "broken-pipeline")
    account.delete("failing")

    assert made["EndpointStatus"] == "Failed"
    assert made["FailureReason"].startswith(
        "The predictor for production variant AllTraffic did not pass the ping health check. Please check CloudWatch"
    )


def test_an_update_that_does_not_come_up_leaves_the_old_containers_serving(account: Account, features: bytes) -> None:
    account.make_endpoint("kept", "first")
    account.client("sagemaker").update_endpoint(EndpointName="kept", EndpointConfigName="broken")
    after = account.settled("kept")
    answer = account.invoke("kept")
    account.delete("kept")

    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", "first")
    assert "did not pass the ping health check" in after["FailureReason"]
    assert answer == features


def test_an_alarm_rolls_an_update_back_once_it_goes_off(account: Account, features: bytes) -> None:
    account.make_endpoint("alarmed", "first")
    sagemaker = account.client("sagemaker")
    cloudwatch = account.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="errors",
        MetricName="Invocation5XXErrors",
        Namespace="AWS/SageMaker",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    routing = {"Type": "CANARY", "WaitIntervalInSeconds": 60, "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 10}}
    policy = {
        "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing},
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
    }
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="OK", StateReason="a test")
    sagemaker.update_endpoint(EndpointName="alarmed", EndpointConfigName="second", DeploymentConfig=policy)
    status = lambda: sagemaker.describe_endpoint(EndpointName="alarmed")["EndpointStatus"]  # noqa: E731
    wait_until(lambda: status() == "Updating", "the update to begin")
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
    after = account.settled("alarmed")
    answer = account.invoke("alarmed")
    account.delete("alarmed")

    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", "first")
    assert "alarms are in ALARM state: errors" in after["FailureReason"]
    assert answer == features


def test_containers_that_die_are_started_anew(account: Account, shared: Command) -> None:
    account.make_endpoint("dying", "first")
    (before,) = [process for process in shared.processes() if process.name == "primary"]
    before.kill()

    wait_until(lambda: before.pid not in {process.pid for process in shared.processes()}, "another container")
    runtime = account.client("sagemaker-runtime")

    def answers() -> bool:
        with contextlib.suppress(runtime.exceptions.ModelError):
            return bool(account.invoke("dying"))
        return False

    wait_until(answers, "an answer", 90)
    status = account.settled("dying")["EndpointStatus"]
    account.delete("dying")

    assert status == "InService"


def test_many_endpoints_come_up_at_once_and_hundred_requests_are_answered(account: Account, features: bytes) -> None:
    names = ["one", "two"]
    client = account.client("sagemaker")
    for name in names:
        client.create_endpoint(EndpointName=name, EndpointConfigName="first")
    for name in names:
        assert account.settled(name)["EndpointStatus"] == "InService"
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(account.invoke, names * 50))
    for name in names:
        account.delete(name)

    assert set(answers) == {features}


def test_a_port_in_use_is_refused_with_the_next_step(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command.run("up", "--port", str(port))

    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use" in done.stderr
    assert "--port" in done.stderr


def test_up_prints_what_makes_aws_clients_find_it(command: Command) -> None:
    done = command.run("up", "--port", "0", "--host", "processes", AWS_PROFILE="missing")

    port = command.server().port
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"The control plane runs on http://127.0.0.1:{port} and hosts models in processes of this checkout. To use it:",
        *(f"  export {name}={value}" for name, value in exports(port).items()),
    ]


def test_sigterm_ends_a_control_plane_with_all_endpoints(command: Command, artifacts: Path) -> None:
    account = command.up()
    account.upload(artifacts)
    account.make_model("first", "featurizer")
    account.make_endpoint("left", "first")
    processes = command.processes()

    command.server().terminate()
    wait_until(lambda: not command.server().is_alive(), "the server to be gone")

    assert len(processes) == 2
    assert [process.name for process in processes if process.is_alive()] == []
    assert command.down().stdout == "The control plane was not running.\n"
    assert not (command.state / "data").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_ends_a_server_and_what_no_endpoint_has_yet(number: int, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    serve = [sys.executable, "-m", "local_test.control_plane", "--host", "processes", "--port", str(port)]
    (tmp_path / "endpoints/e/i").mkdir(parents=True)
    starting = Process.start("featurizer", ("sleep", "600"), os.environ, 0, tmp_path / "log")
    State(tmp_path / "endpoints/e/i").save("e", [starting])
    account = Account(port)

    with contextlib.ExitStack() as stack:
        stack.callback(starting.kill)
        server = stack.enter_context(started(in_background([*serve, "--directory", tmp_path])))
        wait_until(account.answers, "the server to answer")
        server.send_signal(number)
        code = server.wait(60)
        left = starting.is_alive()

    assert (code, left) == (0, False)


def test_an_interrupted_up_leaves_no_server(command: Command) -> None:
    up = [sys.executable, "-m", "local_test", "up", "--port", "0", "--host", "processes", "--state", command.state]

    with started(in_background(up), stdout=subprocess.DEVNULL) as process:
        wait_until((command.state / "chain.json").exists, "the server to be started")
        server = command.server()
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)

    assert code == 130
    assert not server.is_alive()
    assert not (command.state / "chain.json").exists()
