"""`python -m local_test up`, and endpoints that it really hosts, as processes of this checkout."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local_test.control_plane.command import exports
from local_test.control_plane.plane import Plane
from local_test.control_plane.process_host import ProcessHost
from local_test.control_plane.store import Store
from local_test.process import Process
from local_test.state import State
from pipeline.demo import in_process
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

    def make_model(self, name: str, artifacts: Path, **containers: Mapping[str, Any]) -> None:
        """A model of both stages, and an endpoint config of the same name."""
        s3 = self.client("s3")
        with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        definitions = []
        for stage in STAGES:
            s3.put_object(Bucket="models", Key=f"{name}/{stage}", Body=packed(artifacts / stage / "model"))
            definitions.append(
                {
                    "ContainerHostname": stage,
                    "Image": f"any/serial-inference/{stage}:test",
                    "ModelDataUrl": f"s3://models/{name}/{stage}",
                    **containers.get(stage, {}),
                }
            )
        sagemaker = self.client("sagemaker")
        sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=definitions)
        variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.xlarge"}
        variants = [{**variant, "InitialInstanceCount": 1}]
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


def packed(directory: Path) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        for path in sorted(directory.iterdir()):
            tar.add(path, path.name)
    return whole.getvalue()


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
    """A control plane with the models and endpoint configs `first` and `second`, and one that cannot start."""
    account = Account(shared.server().port)
    for name in ("first", "second"):
        account.make_model(name, artifacts)
    account.make_model("broken", artifacts, predictor={"ModelDataUrl": "s3://models/first/featurizer"})
    return account


@pytest.fixture(scope="module")
def expected(artifacts: Path) -> list[float]:
    return [float(value) for value in in_process(artifacts, ROWS.decode()).ravel()]


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
    account: Account, shared: Command, expected: list[float]
) -> None:
    made = account.make_endpoint("answers", "first")
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
        {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
        {
            "Type": "CANARY",
            "WaitIntervalInSeconds": 1,
            "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 30},
        },
        {
            "Type": "LINEAR",
            "WaitIntervalInSeconds": 0,
            "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        },
    ],
    ids=lambda routing: routing["Type"],
)
def test_an_update_under_load_loses_no_request(account: Account, shared: Command, routing: dict[str, Any]) -> None:
    account.make_endpoint("updated", "first")
    client = account.client("sagemaker")
    before = {process.pid for process in shared.processes() if process.name in STAGES}
    with load(account, "updated") as answers:
        policy = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}
        client.update_endpoint(EndpointName="updated", EndpointConfigName="second", DeploymentConfig=policy)
        during = client.describe_endpoint(EndpointName="updated")
        after = account.settled("updated")
    left = [process for process in shared.processes() if process.name in STAGES]
    account.delete("updated")

    assert (during["EndpointStatus"], during["EndpointConfigName"]) == ("Updating", "first")
    assert during["PendingDeploymentSummary"]["EndpointConfigName"] == "second"
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", "second")
    assert "PendingDeploymentSummary" not in after
    assert len(answers) > 20
    assert [answer for answer in set(answers) if not isinstance(answer, bytes)] == []
    assert len({process.pid for process in left}) == 2
    assert before.isdisjoint(process.pid for process in left)


def test_a_model_that_does_not_start_fails_the_endpoint_and_says_which_container(account: Account) -> None:
    made = account.make_endpoint("failing", "broken")
    account.delete("failing")

    assert made["EndpointStatus"] == "Failed"
    assert made["FailureReason"].startswith(
        "The predictor for production variant AllTraffic did not pass the ping health check. Please check CloudWatch"
    )


def test_an_update_that_does_not_come_up_leaves_the_old_containers_serving(
    account: Account, expected: list[float]
) -> None:
    account.make_endpoint("kept", "first")
    account.client("sagemaker").update_endpoint(EndpointName="kept", EndpointConfigName="broken")
    after = account.settled("kept")
    answer = json.loads(account.invoke("kept"))["result"]
    account.delete("kept")

    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", "first")
    assert "did not pass the ping health check" in after["FailureReason"]
    assert answer == pytest.approx(expected, rel=1e-6)


def test_an_alarm_rolls_an_update_back_once_it_goes_off(account: Account) -> None:
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
    quick = {
        **policy,
        "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {**routing, "WaitIntervalInSeconds": 0}},
    }
    sagemaker.update_endpoint(EndpointName="alarmed", EndpointConfigName="second", DeploymentConfig=quick)
    quiet = account.settled("alarmed")
    sagemaker.update_endpoint(EndpointName="alarmed", EndpointConfigName="first", DeploymentConfig=policy)
    status = lambda: sagemaker.describe_endpoint(EndpointName="alarmed")["EndpointStatus"]  # noqa: E731
    wait_until(lambda: status() == "Updating", "the update to begin")
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
    after = account.settled("alarmed")
    answer = account.invoke("alarmed")
    account.delete("alarmed")

    assert (quiet["EndpointStatus"], quiet["EndpointConfigName"]) == ("InService", "second")
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", "second")
    assert "alarms are in ALARM state: errors" in after["FailureReason"]
    assert answer


def test_containers_that_die_are_started_anew(account: Account, shared: Command) -> None:
    account.make_endpoint("dying", "first")
    before = [process for process in shared.processes() if process.name in STAGES]
    before[1].kill()

    wait_until(lambda: before[0].pid not in {process.pid for process in shared.processes()}, "other containers")
    runtime = account.client("sagemaker-runtime")

    def answers() -> bool:
        with contextlib.suppress(runtime.exceptions.ModelError):
            return bool(account.invoke("dying"))
        return False

    wait_until(answers, "an answer", 90)
    status = account.settled("dying")["EndpointStatus"]
    account.delete("dying")

    assert status == "InService"


def test_many_endpoints_come_up_at_once_and_hundred_requests_are_answered(account: Account) -> None:
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

    assert len(set(answers)) == 1


def test_a_second_up_says_that_it_runs_already(shared: Command) -> None:
    again = shared.run("up", "--port", "0")

    assert again.returncode == 0
    assert f"already runs on http://127.0.0.1:{shared.server().port}" in again.stdout


def test_status_lists_the_endpoints(account: Account, shared: Command) -> None:
    account.make_endpoint("listed", "first")
    listed = shared.run("status")
    account.delete("listed")

    assert listed.returncode == 0
    assert [line.split() for line in listed.stdout.splitlines() if line.startswith("listed")] == [
        ["listed", "InService"]
    ]


def test_a_port_in_use_is_refused_with_the_next_step(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command.run("up", "--port", str(port))

    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use" in done.stderr
    assert "--port" in done.stderr


def test_up_prints_what_makes_aws_clients_find_it(command: Command) -> None:
    done = command.run("up", "--port", "0", "--host", "processes", AWS_PROFILE="missing")

    assert done.returncode == 0
    for name, value in exports(command.server().port).items():
        assert f"export {name}={value}" in done.stdout


def test_sigterm_ends_a_control_plane_with_all_endpoints(command: Command, artifacts: Path) -> None:
    account = command.up()
    account.make_model("first", artifacts)
    account.make_endpoint("left", "first")
    processes = command.processes()

    command.server().terminate()
    wait_until(lambda: not command.server().is_alive(), "the server to be gone")

    assert len(processes) == 3
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
