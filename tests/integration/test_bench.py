"""The benchmark measures what it says, and refuses wrong answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from serving.nginx import find_nginx
from tests.servers import wait_until
from tools.bench import hosts
from tools.bench.__main__ import main
from tools.bench.check import WrongAnswer, check
from tools.bench.contenders import FLOOR, OURS, SINGLE, STAGES, Contender, Setting, inherited
from tools.bench.load import Source, on_chain, on_container
from tools.bench.processes import Container, Payload
from tools.bench.results import MIB
from tools.bench.truth import Truth

ROOT = Path(__file__).resolve().parents[2]
ROW = Payload(b"M,0.5\n", "text/csv", "text/csv")
needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")


class Half(BaseHTTPRequestHandler):
    """Answers 200 and 500 in turn."""

    protocol_version = "HTTP/1.1"
    count = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        Half.count += 1
        self.send_response(200 if Half.count % 2 else 500)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def half() -> Iterator[Container]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Half) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Container("half", server.server_address[1], [], Path())
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def setting(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    scratch = tmp_path_factory.mktemp("b")
    nginx = find_nginx(os.defpath)
    assert nginx, "nginx is not installed"
    return Setting(Truth.load(artifacts), nginx, 1, inherited(os.environ), {}, scratch)


def ask(contender: Contender, setting: Setting) -> None:
    with contender.start(setting, STAGES[0]) as featurizer, contender.start(setting, STAGES[1]) as predictor:
        check(contender, (featurizer, predictor), setting.truth, (10, 1000))


@needs_wrk
def test_a_tiny_benchmark_measures_every_contender(artifacts: Path, tmp_path: Path) -> None:
    tiny = ["--rounds", "1", "--seconds", "0.2", "--rows", "10", "--workers", "1", "--no-memory"]
    written = [
        "--artifacts",
        str(artifacts),
        "--json",
        str(tmp_path / "bench.json"),
        "--picture",
        str(tmp_path / "bench.svg"),
    ]

    done = subprocess.run(
        [sys.executable, "-m", "tools.bench", *tiny, *written],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "bench.json").read_text())
    measured = {result["contender"] for result in document["results"] if result["metric"] == "rows_per_second"}
    assert {"floor", "sample", "ours", "in-process"} <= measured
    assert {result["part"] for result in document["results"]} == {"featurizer", "predictor", "chain", "single"}
    assert all(result["median"] > 0 for result in document["results"])
    assert document["targets"]
    assert all("met" in target or "PSS" in target["target"] for target in document["targets"])
    assert all(target["target"] in done.stdout for target in document["targets"])
    assert (tmp_path / "bench.svg").read_text().startswith("<?xml")


def test_our_containers_answer_as_the_libraries_do(setting: Setting) -> None:
    ask(OURS, setting)
    with OURS.start(setting, SINGLE) as single:
        check(OURS, [single], setting.truth, (10, 1000))


def test_a_container_weighs_what_all_its_processes_weigh(setting: Setting) -> None:
    with FLOOR.start(setting, "featurizer") as one, FLOOR.start(replace(setting, workers=3), "featurizer") as three:
        lighter, heavier = one.weight(), three.weight()

    assert 10 * MIB < lighter < heavier < 500 * MIB


def test_a_contender_that_answers_wrongly_is_refused(setting: Setting) -> None:
    impostor = replace(FLOOR, constant=False)  # right for the first row, and says the same of all others

    with pytest.raises(WrongAnswer, match="expected the features"):
        ask(impostor, setting)


@needs_wrk
def test_a_wrong_answer_fails_the_command(artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    impostor = replace(FLOOR, name="ours", constant=False)
    arguments = ["--rounds", "1", "--seconds", "0.2", "--no-memory", "--artifacts", str(artifacts)]

    assert main(arguments, (impostor,)) == 1

    assert "wrong answer: ours featurizer" in capsys.readouterr().err


@needs_wrk
def test_every_answer_but_200_is_counted(half: Container, tmp_path: Path) -> None:
    source = Source.write(tmp_path / "body", ROW)
    load = wait_until(lambda: (some := on_container(half, source, 1, 0.5)).requests > 3 and some, "some answers")

    assert abs(load.errors - load.requests / 2) <= 1
    assert load.errors > 0


@needs_wrk
def test_every_answer_but_200_of_the_first_container_is_counted(half: Container, tmp_path: Path) -> None:
    load = on_chain(half, half, Source.write(tmp_path / "body", ROW), "text/csv", 1, 0.2)

    assert load.errors > 0


def test_without_wrk_the_command_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert main([]) == 2

    assert "apt-get install wrk" in capsys.readouterr().err


def test_without_docker_the_hosts_are_not_measured_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert hosts.main([]) == 2

    assert "there is no docker on PATH" in capsys.readouterr().err


def test_the_table_of_hosts_shows_medians_and_how_far_the_runs_lie_apart() -> None:
    measured = {hosts.COLD: [3.0, 1.0, 1.5], "1 row, ms": [2.04, 2.06, 9.0], "1,000 rows, ms": [5.0, 5.0, 5.0]}

    rows = hosts.table({"single container": measured}).splitlines()

    assert rows[0] == "| host | cold start, s | 1 row, ms | 1,000 rows, ms |"
    assert rows[2] == "| single container | 1.50 (1.00-3.00) | 2.1 (2.0-9.0) | 5.0 (5.0-5.0) |"


def test_a_host_that_answers_wrongly_is_refused(artifacts: Path) -> None:
    truth = Truth.load(artifacts)

    with pytest.raises(WrongAnswer, match="single container: expected the predictions of 2 rows"):
        hosts.check("single container", lambda _: b'{"result":[1.0,2.0]}', truth, 2)
    with pytest.raises(WrongAnswer, match="refused"):
        hosts.check("single container", lambda _: b'{"code":"refused"}', truth, 2)
