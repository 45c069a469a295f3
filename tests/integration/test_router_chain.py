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

from tests.conftest import ROOT
from tests.servers import in_background, started, wait_until

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


@pytest.fixture
def chain(artifacts: Path, tmp_path: Path) -> Iterator[Chain]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [str(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    names = ("ROUTER_PORT", "FEATURIZER_PORT", "PREDICTOR_PORT")
    made = Chain(tmp_path / "state", artifacts, dict(zip(names, ports, strict=True)))
    yield made
    made("down")
    assert made.listening() == []


def test_up_returns_when_the_chain_answers_and_down_leaves_nothing(chain):
    up = chain("up")

    assert up.returncode == 0, up.stdout + up.stderr
    assert f"endpoint abalone on http://127.0.0.1:{chain.ports['ROUTER_PORT']}" in up.stdout
    answers = [chain.predict(str(PAYLOADS / name)) for name in ("rows.csv", "rows_with_header.csv", "rows.json")]
    assert [len(json.loads(answer.stdout)["result"]) for answer in answers] == [5, 5, 5]
    assert len({answer.stdout for answer in answers}) == 1
    assert "already running" in chain("up").stdout
    elsewhere = replace(chain, ports={**chain.ports, "ROUTER_PORT": "1"})("up")
    assert (elsewhere.returncode, elsewhere.stderr.count("another chain runs already: endpoint abalone")) == (1, 1)
    assert chain("status").returncode == 0
    down = chain("down")
    assert (down.returncode, down.stdout, down.stderr) == (0, "The chain is stopped.\n", "")
    assert chain.listening() == []
    assert chain("down").stdout == "The chain was not running.\n"
    assert chain("status").returncode == 1


def test_the_predictor_alone_answers_its_payloads_as_the_chain_does(chain):
    chain("up")
    predictor = ["--url", f"http://127.0.0.1:{chain.ports['PREDICTOR_PORT']}"]

    whole = json.loads(chain.predict(str(PAYLOADS / "rows.csv")).stdout)
    for name in ("features.csv", "features.npy"):
        assert json.loads(chain.predict(str(PAYLOADS / name), *predictor).stdout) == whole


def test_a_refusal_is_printed_in_full_and_exits_with_1(chain, tmp_path):
    chain("up")
    (tmp_path / "short.csv").write_text("M,0.4\n")

    done = chain.predict(str(tmp_path / "short.csv"), "--endpoint", "abalone")

    assert done.returncode == 1
    assert done.stderr.startswith("424 CLIENT_ERROR_FROM_MODEL: Received client error (400) from featurizer")
    assert "the container answered 400" in done.stderr
    unknown = chain.predict(str(tmp_path / "short.csv"), "--endpoint", "other")
    assert unknown.stderr == "400 ValidationError: Endpoint other of account 123456789012 not found.\n"


def test_run_sets_the_endpoint_exits_with_the_commands_code_and_stops_the_chain(chain):
    script = "import os; print(os.environ['AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME'], os.environ['ENDPOINT_NAME']); exit(7)"

    done = chain("run", "--", sys.executable, "-c", script)

    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines()[-1] == f"http://127.0.0.1:{chain.ports['ROUTER_PORT']} abalone"
    assert chain.listening() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_stops_the_chain_and_the_command_when_it_is_interrupted(chain, number):
    script = "import os, time; print('begun', os.getpid(), flush=True); time.sleep(60)"
    run = in_background(chain.command("run", "--", sys.executable, "-c", script))
    with started(run, **chain.options(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        begun = next(line for line in running.stdout if line.startswith("begun"))
        running.send_signal(number)
        code = running.wait(45)

    assert code == 130
    assert not Path("/proc", begun.split()[1]).exists()
    assert chain.listening() == []


def test_up_stops_what_it_started_when_it_is_interrupted(chain):
    with started(in_background(chain.command("up")), **chain.options(), stdout=subprocess.PIPE) as running:
        wait_until((chain.state / "chain.json").exists, "the first process")
        running.send_signal(signal.SIGINT)
        code = running.wait(45)

    assert code == 130
    assert chain("status").stdout.startswith("The chain is not running.")
    assert chain.listening() == []


def test_down_ends_what_a_killed_supervisor_left(chain):
    chain("up")
    os.kill(chain.pids()["featurizer"], signal.SIGKILL)
    assert chain("status").returncode == 1

    chain("down")

    assert chain.listening() == []


def test_up_replaces_a_chain_that_lost_a_process(chain):
    chain("up")
    os.kill(chain.pids()["predictor"], signal.SIGKILL)

    assert chain("up").returncode == 0
    assert chain.predict(str(PAYLOADS / "rows.csv")).returncode == 0


def test_down_leaves_a_process_alone_that_got_the_id_of_one_of_ours(chain):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True) as stranger:
        chain.state.mkdir()
        entry = {"name": "router", "pid": stranger.pid, "started": "1", "port": 1}
        (chain.state / "chain.json").write_text(json.dumps({"endpoint": "abalone", "processes": [entry]}))

        assert chain("down").stdout == "The chain was not running.\n"
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("variable", ["ROUTER_PORT", "FEATURIZER_PORT", "PREDICTOR_PORT"])
def test_a_port_in_use_is_named_with_its_variable(chain, variable):
    with socket.create_server(("127.0.0.1", int(chain.ports[variable]))):
        done = chain("up")

    assert done.returncode == 1
    assert f"port {chain.ports[variable]} of 127.0.0.1 is in use" in done.stderr
    assert variable in done.stderr


def test_a_stage_that_cannot_start_is_shown_with_its_log_and_stops_the_others(chain, tmp_path):
    damaged = tmp_path / "artifacts"
    shutil.copytree(chain.artifacts, damaged)
    (damaged / "predictor" / "model" / "manifest.json").write_text("{}")
    chain.artifacts = damaged

    done = chain("up")

    assert done.returncode == 1
    assert done.stderr.startswith("predictor ended while starting. The end of its log")
    assert "manifest.json" in done.stderr
    assert chain.listening() == []


def test_without_artifacts_up_says_how_to_make_them(chain, tmp_path):
    chain.artifacts = tmp_path / "nothing"

    done = chain("up")

    assert done.returncode == 1
    assert done.stderr == f"there is no model in {tmp_path}/nothing/featurizer/model: run `python -m pipeline train`\n"
