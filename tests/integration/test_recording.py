"""`record` and `replay` on running endpoints: a proxy's recording, sent files, and two training runs that differ."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
from botocore.exceptions import ClientError

from pipeline.demo import in_process
from tests.conftest import ROOT
from tests.servers import Server, free_ports, in_background, running, started, wait_until

ROWS = 40


@pytest.fixture(scope="module")
def before(artifacts: Path) -> Iterator[Server]:
    with running("pipeline", {"SM_MODEL_DIR": str(artifacts), "MODEL_SERVER_WORKERS": "1"}) as server:
        yield server


@pytest.fixture(scope="module")
def after(retrained: Path) -> Iterator[Server]:
    with running("pipeline", {"SM_MODEL_DIR": str(retrained), "MODEL_SERVER_WORKERS": "1"}) as server:
        yield server


def local_test(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "local_test", *map(str, arguments)]
    done = subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def rows(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty held-out rows below their header."""
    file = tmp_path_factory.mktemp("rows") / "rows.csv"
    lines = (artifacts / "test.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[: ROWS + 1]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def recording(before: Server, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The forty rows, four in a request, and a request that is refused."""
    directory = tmp_path_factory.mktemp("recording")
    file = directory / "before.jsonl"
    bad = directory / "bad.csv"
    bad.write_text("M,short,0.455,0.16,1.1035,0.421,0.3015,0.325\n", encoding="utf-8")
    local_test("record", directory / "good.jsonl", rows, "--url", url(before), "--lines", "4", "--header")
    local_test("record", directory / "refused.jsonl", bad, "--url", url(before))
    good = (directory / "good.jsonl").read_text(encoding="utf-8")
    refused = (directory / "refused.jsonl").read_text(encoding="utf-8")
    file.write_text(good + refused.split("\n", 1)[1], encoding="utf-8")
    return file


def test_a_recording_replayed_against_the_same_model_shows_no_difference(before: Server, recording: Path) -> None:
    done = local_test("replay", recording, "--url", url(before), "--tolerance", "0", "--json")

    found = json.loads(done.stdout)
    assert (found["requests"], found["rows"], found["differences"]) == (11, ROWS, [])
    assert found["largest_difference"] == 0
    assert set(found["ms_before"]) == set(found["ms_after"]) == {"p50", "p90", "p99"}


def test_a_replay_between_two_training_runs_shows_every_difference(
    after: Server, recording: Path, artifacts: Path, retrained: Path, rows: Path
) -> None:
    text = rows.read_text(encoding="utf-8")
    old, new = (in_process(model, text).astype(np.float64) for model in (artifacts, retrained))
    apart = np.abs(new - old)
    beyond = int((apart > 0.25 * np.maximum(1, np.abs(old))).sum())

    done = local_test("replay", recording, "--url", url(after), "--tolerance", "0", "--json", code=1)
    some = local_test(
        "replay", recording, "--url", url(after), "--tolerance", "0.25", "--json", code=1 if beyond else 0
    )

    found = json.loads(done.stdout)
    assert found["different_rows"] == int((apart > 0).sum()) > ROWS / 2
    assert found["largest_difference"] == pytest.approx(apart.max(), rel=1e-5)
    assert json.loads(some.stdout)["different_rows"] == beyond
    first = found["differences"][0]
    assert (first["request"], first["row"]) == (1, 1)
    assert first["by"] == pytest.approx(new[0] - old[0], rel=1e-4)


def test_what_people_read_names_the_rows_and_counts_the_rest(after: Server, recording: Path) -> None:
    done = local_test("replay", recording, "--url", url(after), "--show", "2", code=1)

    lines = done.stdout.splitlines()
    assert lines[0].startswith("request 1 (")
    assert "row 1: " in lines[0]
    assert " -> " in lines[0]
    assert "more: --show 0, or --json" in lines[2]
    assert "11 requests to" in lines[3]
    assert [line[:3] for line in lines[5:]] == ["p50", "p90", "p99"]


def test_a_refusal_that_became_an_answer_is_a_difference(before: Server, recording: Path, tmp_path: Path) -> None:
    lines = recording.read_text(encoding="utf-8").splitlines()
    refused = json.loads(lines[-1])
    refused["request"]["body"] = refused["request"]["body"].replace("short", "0.605")
    file = tmp_path / "edited.jsonl"
    file.write_text("\n".join([lines[0], json.dumps(refused)]) + "\n", encoding="utf-8")

    done = local_test("replay", file, "--url", url(before), code=1)

    assert "400 not_a_number row 1 column length -> 200" in done.stdout


def test_a_recording_is_never_written_over_and_only_its_owner_reads_it(
    before: Server, recording: Path, rows: Path
) -> None:
    own = recording.with_name("good.jsonl")

    done = local_test("record", own, rows, "--url", url(before), code=1)

    assert "is there already" in done.stderr
    assert stat.S_IMODE(own.stat().st_mode) == 0o600


def test_nothing_to_compare_is_said_with_its_own_exit_code(recording: Path, tmp_path: Path) -> None:
    (closed,) = free_ports(1)
    other = tmp_path / "other.jsonl"
    other.write_text('{"captureData": {}}\n', encoding="utf-8")

    silent = local_test("replay", recording, "--url", f"http://127.0.0.1:{closed}", code=2)
    foreign = local_test("replay", other, "--url", f"http://127.0.0.1:{closed}", code=2)

    assert "nothing could be compared: no answer from" in silent.stderr
    assert "expected a recording" in foreign.stderr


def test_a_recording_that_was_cut_off_is_compared_up_to_there(before: Server, recording: Path, tmp_path: Path) -> None:
    whole = recording.read_bytes()
    cut, bad = tmp_path / "cut.jsonl", tmp_path / "bad.jsonl"
    cut.write_bytes(whole[:-40])
    bad.write_bytes(whole + b"{}\n")

    shorter = local_test("replay", cut, "--url", url(before), "--tolerance", "0")
    damaged = local_test("replay", bad, "--url", url(before), "--tolerance", "0", code=2)

    assert "line 12: cut off, and left out" in shorter.stderr
    assert "10 requests to" in shorter.stdout
    assert "line 13: expected a request with its answer" in damaged.stderr
    assert "11 requests to" in damaged.stdout


def test_a_full_disk_keeps_whole_lines_and_no_client_without_an_answer(before: Server, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    file = tmp_path / "full.jsonl"
    record = [sys.executable, "-m", "local_test", "record", file, "--url", url(before), "--listen", str(port)]
    limited = ["bash", "-c", 'ulimit -f 2; exec "$@"', "bash", *record]  # blocks of 1,024 bytes
    row = b"M,0.605,0.455,0.16,1.1035,0.421,0.3015,0.325\n" * 8
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", row, {"Content-Type": "text/csv"})
    answers = 0
    with started(limited, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: pings(f"http://127.0.0.1:{port}"), "the recorder answers")
        with contextlib.suppress(OSError):  # it ends once it can record no more
            for _ in range(20):
                with urllib.request.urlopen(request, timeout=60) as response:
                    answers += len(json.loads(response.read())["result"]) == 8
        _, said = process.communicate(timeout=60)

    lines = file.read_text(encoding="utf-8").splitlines()
    recorded = len(lines) - 1
    assert process.returncode == 1
    assert f"File too large; {recorded} requests are recorded in it" in said
    assert answers > recorded >= 1
    assert all(json.loads(line) for line in lines)


def test_a_recorder_that_cannot_begin_leaves_no_file(before: Server, tmp_path: Path) -> None:
    file = tmp_path / "none.jsonl"

    taken = local_test("record", file, "--url", url(before), "--listen", str(before.port), code=1)
    nowhere = local_test("record", tmp_path / "no/file.jsonl", "--url", url(before), "--limit", "1", code=1)
    wrong = local_test("record", file, "--url", "http://127.0.0.1:99999", code=1)

    assert "Address already in use" in taken.stderr
    assert "no/file.jsonl: No such file or directory" in nowhere.stderr
    assert "expected http://HOST:PORT" in wrong.stderr
    assert not file.exists()


def pings(address: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/ping", timeout=5):
        return True
    return False


@contextlib.contextmanager
def recorder(target: str, file: Path, number: int = signal.SIGINT) -> Iterator[str]:
    """A recording proxy in the background, and the signal that ends it; its address."""
    (port,) = free_ports(1)
    record = [sys.executable, "-m", "local_test", "record", file, "--url", target, "--listen", str(port)]
    address = f"http://127.0.0.1:{port}"
    with started(in_background(record), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_until(lambda: pings(address), "the recorder answers")
        yield address
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Recorded" in said


def test_clients_of_every_kind_are_recorded_and_get_the_endpoints_own_answers(
    before: Server, tmp_path: Path, artifacts: Path
) -> None:
    file = tmp_path / "proxied.jsonl"
    row = b"M,0.605,0.455,0.16,1.1035,0.421,0.3015,0.325"
    header = (artifacts / "test.csv").read_text(encoding="utf-8").partition("\n")[0].rpartition(",")[0]

    with recorder(url(before), file) as address:
        session = boto3.Session("any", "any", region_name="us-east-1")
        runtime = session.client("sagemaker-runtime", endpoint_url=address)
        with contextlib.closing(runtime):
            answer = runtime.invoke_endpoint(EndpointName="any", ContentType="text/csv", Body=row)
            said = answer["Body"].read()
            npy = runtime.invoke_endpoint(
                EndpointName="any", ContentType="text/csv", Accept="application/x-npy", Body=row
            )["Body"].read()
            with pytest.raises(ClientError):
                runtime.invoke_endpoint(EndpointName="any", ContentType="text/csv", Body=b"M,1\n")
        request = urllib.request.Request(f"{address}/invocations", row, {"Content-Type": "text/csv"})
        with urllib.request.urlopen(request, timeout=60) as response:
            plain = response.read()
        request.add_header("Origin", "http://elsewhere.example")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=60)

    expected = in_process(artifacts, f"{header}\n{row.decode()}\n")
    assert np.asarray(json.loads(said)["result"], np.float32).tobytes() == expected.tobytes() == npy[-4:]
    assert plain == said
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()[1:]]
    assert [line["answer"]["status"] for line in lines] == [200, 200, 400, 200]
    assert lines[0]["request"]["body"].encode() == row
    assert "body_base64" in lines[1]["answer"]
    local_test("replay", file, "--url", url(before), "--tolerance", "0")


def test_captured_requests_are_replayed(before: Server, after: Server, recording: Path, tmp_path: Path) -> None:
    first = json.loads(recording.read_text(encoding="utf-8").splitlines()[1])
    sides = {
        "endpointInput": {"observedContentType": "text/csv", "mode": "INPUT", "encoding": "CSV",
                          "data": first["request"]["body"]},
        "endpointOutput": {"observedContentType": "application/json", "mode": "OUTPUT", "encoding": "JSON",
                           "data": first["answer"]["body"]},
    }  # fmt: skip
    (tmp_path / "captured/2026").mkdir(parents=True)
    line = {"captureData": sides, "eventMetadata": {"eventId": "one"}, "eventVersion": "0"}
    (tmp_path / "captured/2026/a.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    file = tmp_path / "capture.jsonl"

    local_test("record", file, "--capture", tmp_path / "captured")
    same = local_test("replay", file, "--url", url(before), "--tolerance", "0")
    other = local_test("replay", file, "--url", url(after), "--tolerance", "0", code=1)

    assert "no change in latency to show" in same.stdout
    assert "(one): row 1: " in other.stdout


def test_an_endpoint_is_replayed_by_its_name_through_the_sdks_client(
    before: Server, recording: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with recorder(url(before), tmp_path / "again.jsonl", signal.SIGTERM) as address:
        for name, value in {
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": address,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_CONFIG_FILE": os.devnull,
        }.items():
            monkeypatch.setenv(name, value)

        good = recording.with_name("good.jsonl")
        done = local_test("replay", good, "--endpoint", "any", "--region", "us-east-1", "--clients", "4", "--json")

    assert json.loads(done.stdout)["differences"] == []
    assert json.loads(done.stdout)["requests"] == 10
