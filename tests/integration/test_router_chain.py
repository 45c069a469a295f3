"""`python -m local_test chain` with real artifacts and real processes: healthy when it returns, gone when told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from local_test.chain import down
from local_test.state import State
from tests.conftest import ROOT
from tests.servers import free_ports, in_background, started, wait_until

PAYLOADS = ROOT / "local_test" / "payloads"


@dataclass
class Chain:
    """The command line with ports and a state directory of its own."""

    state: Path
    artifacts: Path
    ports: dict[str, str]

    def __call__(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(verb, *arguments), **self.options(), cwd=ROOT, capture_output=True, check=False
        )

    def command(self, verb: str, *arguments: str) -> list[str]:
        trained = ["--artifacts", str(self.artifacts)] if verb in ("up", "run") else []
        return [sys.executable, "-m", "local_test", "chain", verb, "--state", str(self.state), *trained, *arguments]

    def options(self) -> dict:
        return {"env": os.environ | self.ports | {"MODEL_SERVER_WORKERS": "1"}, "text": True}

    def predict(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "local_test", "predict", *arguments]
        return subprocess.run(command, **self.options(), cwd=ROOT, capture_output=True, check=False)

    def pids(self) -> dict[str, int]:
        state = json.loads((self.state / "chain.json").read_text())
        return {process["name"]: process["pid"] for process in state["processes"]}

    def listening(self) -> list[str]:
        found = []
        for variable, port in self.ports.items():
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                    found.append(variable)
        return found


def make_chain(directory: Path, artifacts: Path) -> Chain:
    ports = map(str, free_ports(3))
    return Chain(
        directory, artifacts, dict(zip(("ROUTER_PORT", "FEATURIZER_PORT", "PREDICTOR_PORT"), ports, strict=True))
    )


@pytest.fixture
def chain(artifacts: Path, tmp_path: Path) -> Iterator[Chain]:
    """A chain that a test may start."""
    chain = make_chain(tmp_path / "state", artifacts)
    yield chain
    down(State(chain.state))
    assert chain.listening() == []


@pytest.fixture(scope="module")
def shared(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain that runs, and leaves nothing behind."""
    chain = make_chain(tmp_path_factory.mktemp("chain") / "state", artifacts)
    up = chain("up")
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        assert f"endpoint abalone on http://127.0.0.1:{chain.ports['ROUTER_PORT']}" in up.stdout
        yield chain
    finally:
        stopped = chain("down")
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "The chain is stopped.\n", "")
    assert chain.listening() == []
    assert chain("down").stdout == "The chain was not running.\n"


def test_a_chain_that_is_up_answers_each_payload_alike(shared: Chain) -> None:
    answers = [shared.predict(str(PAYLOADS / name)) for name in ("rows.csv", "rows_with_header.csv", "rows.json")]

    assert [len(json.loads(answer.stdout)["result"]) for answer in answers] == [5, 5, 5]
    assert len({answer.stdout for answer in answers}) == 1


def test_a_second_up_finds_the_chain_and_refuses_another(shared: Chain) -> None:
    again = shared("up")
    elsewhere = replace(shared, ports={**shared.ports, "ROUTER_PORT": "1"})("up")

    assert (again.returncode, "already running" in again.stdout) == (0, True)
    assert (elsewhere.returncode, elsewhere.stderr.count("another chain runs already: endpoint abalone")) == (1, 1)
    assert shared("status").returncode == 0


def test_run_uses_a_chain_that_is_up_and_leaves_it_running(shared: Chain) -> None:
    script = "import os; print(os.environ['AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME'], os.environ['ENDPOINT_NAME']); exit(7)"

    done = shared("run", "--", sys.executable, "-c", script)
    missing = shared("run", "--", "no-such-program")

    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines()[-1] == f"http://127.0.0.1:{shared.ports['ROUTER_PORT']} abalone"
    assert (missing.returncode, missing.stderr) == (127, "there is no program no-such-program\n")
    assert shared("status").returncode == 0


def test_the_predictor_alone_answers_its_payloads_as_the_chain_does(shared: Chain) -> None:
    predictor = ["--url", f"http://127.0.0.1:{shared.ports['PREDICTOR_PORT']}"]

    whole = json.loads(shared.predict(str(PAYLOADS / "rows.csv")).stdout)
    for name in ("features.csv", "features.npy"):
        assert json.loads(shared.predict(str(PAYLOADS / name), *predictor).stdout) == whole


def test_a_refusal_is_printed_in_full_and_exits_with_1(shared: Chain, tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("M,0.4\n")

    done = shared.predict(str(tmp_path / "short.csv"), "--endpoint", "abalone")

    assert done.returncode == 1
    assert done.stderr.startswith("424 CLIENT_ERROR_FROM_MODEL: Received client error (400) from featurizer")
    assert "the container answered 400" in done.stderr
    unknown = shared.predict(str(tmp_path / "short.csv"), "--endpoint", "other")
    assert unknown.stderr == "400 ValidationError: Endpoint other of account 123456789012 not found.\n"


def test_logs_show_the_last_lines_of_the_programs_that_are_named(shared: Chain) -> None:
    done = shared("logs", "router", "--lines", "1")
    wrong = shared("logs", "nobody")

    assert json.loads(done.stdout)["stage"] == "local_test"
    assert (wrong.returncode, wrong.stderr) == (2, "expected featurizer, predictor, router, got nobody\n")


def test_run_stops_the_chain_and_the_command_when_it_is_interrupted(chain: Chain) -> None:
    script = "import os, time; print('begun', os.getpid(), flush=True); time.sleep(60)"
    run = in_background(chain.command("run", "--", sys.executable, "-c", script))
    with started(run, **chain.options(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        begun = next(line for line in running.stdout if line.startswith("begun"))
        running.send_signal(signal.SIGTERM)
        code = running.wait(45)

    assert code == 130
    assert not Path("/proc", begun.split()[1]).exists()
    assert chain.listening() == []


def test_up_stops_what_it_started_when_it_is_interrupted(chain: Chain) -> None:
    with started(in_background(chain.command("up")), **chain.options(), stdout=subprocess.PIPE) as running:
        wait_until((chain.state / "chain.json").exists, "the first process")
        running.send_signal(signal.SIGINT)
        code = running.wait(45)

    assert code == 130
    assert chain("status").stdout.startswith("The chain is not running.")
    assert chain.listening() == []


def test_up_replaces_a_chain_that_lost_a_process_and_down_ends_what_a_killed_supervisor_left(chain: Chain) -> None:
    chain("up")
    os.kill(chain.pids()["predictor"], signal.SIGKILL)
    assert chain("status").returncode == 1

    assert chain("up").returncode == 0
    assert chain.predict(str(PAYLOADS / "rows.csv")).returncode == 0
    os.kill(chain.pids()["featurizer"], signal.SIGKILL)
    chain("down")

    assert chain.listening() == []


def test_a_stage_that_cannot_start_is_shown_with_its_log_and_stops_the_others(chain: Chain, tmp_path: Path) -> None:
    damaged = tmp_path / "artifacts"
    shutil.copytree(chain.artifacts, damaged)
    (damaged / "predictor" / "model" / "manifest.json").write_text("{}")
    chain.artifacts = damaged

    done = chain("up")

    assert done.returncode == 1
    assert done.stderr.startswith("predictor ended while starting. The end of its log")
    assert "manifest.json" in done.stderr, done.stderr
    assert chain.listening() == []
