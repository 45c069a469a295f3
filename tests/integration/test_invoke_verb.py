"""`python -m pipeline invoke` through the router: the rows of a file in many requests, all answered or none."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest

from pipeline import demo
from pipeline.cli import main
from pipeline.endpoint.batch_files import Rows
from pipeline.endpoint.comparison import compare
from pipeline.endpoint.errors import PipelineError
from pipeline.endpoint.session import Clients
from tests.scripted_container import Asked, Reply, ScriptedContainer, answer, raw
from tests.servers import ROOT, Server, free_ports, running

BROKEN_OFF = raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: 9\r\n\r\n1\n")


def environment(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }


def router(featurizer: int, predictor: int) -> dict[str, str]:
    return {
        "CONTAINERS": f"featurizer=http://127.0.0.1:{featurizer},predictor=http://127.0.0.1:{predictor}",
        "MODEL_SERVER_NGINX": "off",
        "MODEL_SERVER_WORKERS": "1",
        "MODEL_SERVER_WORKER_CLASS": "gthread",
        "INVOCATION_TIMEOUT": "20",
    }


@pytest.fixture(autouse=True)
def _no_aws_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture(scope="module")
def scripted() -> Iterator[SimpleNamespace]:
    """A router between two containers that answer as a test says; the second one gives back the first one's answer."""
    with (
        ScriptedContainer() as featurizer,
        ScriptedContainer() as predictor,
        running("local_test", router(featurizer.port, predictor.port)) as server,
    ):
        predictor.reply = lambda asked, connection: answer(asked.body)(asked, connection)
        yield SimpleNamespace(featurizer=featurizer, env=environment(f"http://127.0.0.1:{server.port}"))


@pytest.fixture
def invoke(scripted: SimpleNamespace) -> Callable[..., int]:
    scripted.featurizer.reply = first_column
    scripted.featurizer.asked.clear()
    return lambda *arguments: main(["invoke", *map(str, arguments), "--endpoint", "abalone"], scripted.env)


def first_column(asked: Asked, connection: socket.socket) -> None:
    """What each row below the header begins with."""
    rows = asked.body.splitlines()[1 if b"name" in asked.body else 0 :]
    answer(b"".join(row.partition(b",")[0] + b"\n" for row in rows))(asked, connection)


def rows_of(asked: Asked) -> list[bytes]:
    return asked.body.splitlines()


def invocations(scripted: SimpleNamespace) -> list[Asked]:
    return [asked for asked in scripted.featurizer.asked if asked.path == "/invocations"]


def refuse(row: int) -> Reply:
    error = {"code": "not_a_number", "message": "expected a number, got 'x'", "row": row, "column": "length"}
    return answer(json.dumps(error).encode(), "application/json", 400)


@pytest.fixture
def thousand(tmp_path: Path) -> Path:
    file = tmp_path / "rows.csv"
    file.write_text("name,number\n" + "".join(f"row{i},{i}\n" for i in range(1, 1001)))
    return file


def test_many_requests_at_once_give_the_answers_in_the_order_of_the_rows(invoke, scripted, thousand, tmp_path):
    out = tmp_path / "answers.csv"

    assert invoke(thousand, "--rows-per-request", 7, "--concurrency", 8, "--output", out) == 0

    assert out.read_text().splitlines() == [f"row{i}" for i in range(1, 1001)]
    assert len(invocations(scripted)) == 143
    assert {rows_of(asked)[0] for asked in invocations(scripted)} == {b"name,number"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "rows.csv"]


def test_rows_without_a_header_get_none(invoke, scripted, tmp_path, capsysbinary):
    (tmp_path / "rows.csv").write_text("a,1\nb,2\nc,3\n")

    assert invoke(tmp_path / "rows.csv", "--rows-per-request", 2, "--accept", "text/csv") == 0

    assert capsysbinary.readouterr().out == b"a\nb\nc\n"
    assert sorted(asked.body for asked in invocations(scripted)) == [b"a,1\nb,2\n", b"c,3\n"]


def test_what_is_said_of_the_header_reaches_the_container(invoke, scripted, thousand):
    assert invoke(thousand, "--header", "present", "--rows-per-request", 500) == 0

    assert {asked.headers["content-type"] for asked in invocations(scripted)} == {"text/csv; header=present"}


def test_standard_input_is_read_as_it_comes(invoke, monkeypatch, capsysbinary):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a,1\nb,2\n")))

    assert invoke("-", "--content-type", "text/csv", "--rows-per-request", 1) == 0

    assert capsysbinary.readouterr().out == b"a\nb\n"


def test_a_refusal_names_the_row_of_the_file_and_writes_nothing(invoke, scripted, thousand, tmp_path, capsys):
    def reply(asked: Asked, connection: socket.socket) -> None:
        at = rows_of(asked).index(b"row503,503") if b"row503," in asked.body else 0
        (refuse(at) if at else first_column)(asked, connection)

    scripted.featurizer.reply = reply

    assert invoke(thousand, "--rows-per-request", 100, "--output", tmp_path / "out.csv") == 1

    said = capsys.readouterr().err
    assert f"featurizer answered 400 to row 503 of {thousand}, column length: expected a number, got 'x'" in said
    assert list(tmp_path.iterdir()) == [thousand]


def test_a_refused_request_is_not_asked_again(invoke, scripted, thousand, capsysbinary):
    scripted.featurizer.reply = refuse(1)

    assert invoke(thousand) == 1

    assert len(invocations(scripted)) == 1
    assert capsysbinary.readouterr().out == b""


@pytest.mark.parametrize("reply", [answer(b"busy", status=503), answer(b"bad gateway", status=502), BROKEN_OFF])
def test_what_fails_in_passing_is_asked_again(invoke, scripted, thousand, tmp_path, capsys, reply):
    once = threading.Lock()

    def first_fails(asked: Asked, connection: socket.socket) -> None:
        (reply if once.acquire(blocking=False) else first_column)(asked, connection)

    scripted.featurizer.reply = first_fails

    assert invoke(thousand, "--output", tmp_path / "out.csv", "--json") == 0

    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows"], summary["requests"], summary["retries"]) == (1000, 1, 1)
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["max"]


def test_a_container_that_stays_away_ends_it(invoke, scripted, thousand, capsys):
    scripted.featurizer.reply = answer(b"busy", status=503)

    assert invoke(thousand, "--retries", 1) == 1

    assert len(invocations(scripted)) == 2
    assert f"featurizer answered 503 to rows 1 to 1000 of {thousand}: busy" in capsys.readouterr().err


def test_a_failure_of_the_containers_own_is_not_asked_again(invoke, scripted, thousand, capsys):
    error = {"code": "internal_error", "message": "our fault", "request_id": "abc"}
    scripted.featurizer.reply = answer(json.dumps(error).encode(), "application/json", 500)

    assert invoke(thousand) == 1

    assert len(invocations(scripted)) == 1
    assert "logs --container featurizer --request-id abc" in capsys.readouterr().err


def test_a_missing_answer_is_noticed(invoke, scripted, thousand, capsys):
    scripted.featurizer.reply = answer(b"1\n")

    assert invoke(thousand, "--rows-per-request", 500) == 1

    assert "the endpoint gave 1 answers to rows 1 to 500" in capsys.readouterr().err


def test_a_lost_connection_ends_with_what_to_do(thousand, capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = environment(f"http://127.0.0.1:{silent.getsockname()[1]}")
    with_nobody_there = ["invoke", str(thousand), "--endpoint", "abalone", "--retries", "1"]

    assert main(with_nobody_there, env) == 1

    assert re.search(r"rows 1 to 1000 of .*: Could not connect.*\n  next: ", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["missing.csv"], 3, "there is no file missing.csv"),
        (["rows.txt"], 2, "cannot tell the type of rows.txt"),
        (["-"], 2, "give --content-type"),
        (["rows.csv", "--output", "no/where"], 2, "--output no/where"),
        (["rows.csv", "--output", "."], 2, "it is a directory"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(invoke, thousand, monkeypatch, capsys, arguments, code, reason):
    monkeypatch.chdir(thousand.parent)

    assert invoke(*arguments) == code

    assert reason in capsys.readouterr().err


def test_an_endpoint_that_is_not_there_is_not_found(scripted, thousand, capsys):
    assert main(["invoke", str(thousand), "--endpoint", "other"], scripted.env) == 3

    assert "there is no endpoint other" in capsys.readouterr().err


def test_a_variant_that_is_not_there_is_not_found_though_its_endpoint_is(invoke, thousand, capsys):
    assert invoke(thousand, "--target-variant", "Nope") == 3

    assert re.search(r"pipeline: Variant Nope .*not found.*\n  next: check --target-variant", capsys.readouterr().err)


@pytest.mark.parametrize("given", ["a\nb", "", "é", "a" * 1025])
def test_attributes_that_no_header_can_have_are_wrong_arguments(invoke, thousand, capsys, given):
    with pytest.raises(SystemExit) as ended:
        invoke(thousand, "--custom-attributes", given)

    assert ended.value.code == 2
    assert "visible ASCII" in capsys.readouterr().err


@pytest.fixture(scope="module")
def real(chain: tuple[Server, Server]) -> Iterator[dict[str, str]]:
    featurizer, predictor = chain
    with running("local_test", router(featurizer.port, predictor.port)) as server:
        yield environment(f"http://127.0.0.1:{server.port}")


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "npy"])
def test_the_real_chain_answers_as_the_models_do(real, artifacts, tmp_path, capsys, suffix):
    out = tmp_path / f"answers.{suffix}"
    command = ["invoke", str(artifacts / "test.csv"), "--output", str(out), "--rows-per-request", "64", "--json"]

    assert main([*command, "--endpoint", "abalone"], real) == 0

    expected = demo.in_process(artifacts, (artifacts / "test.csv").read_text())
    assert np.array_equal(read_answers(out), expected)
    assert json.loads(capsys.readouterr().out)["rows"] == len(expected)


@pytest.mark.parametrize(
    "command",
    [
        ["local_test", "predict", "local_test/payloads/rows.csv"],
        ["pipeline", "demo", "--artifacts", "ARTIFACTS"],
        ["pipeline", "invoke", "local_test/payloads/rows.csv", "--endpoint", "abalone"],
    ],
    ids=lambda command: command[1],
)
def test_no_proxy_stands_before_this_machine(real, artifacts, command):
    dead = dict.fromkeys(
        ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"), f"http://127.0.0.1:{free_ports(1)[0]}"
    )
    url = real["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"]
    own = {"ROUTER_PORT": str(urlsplit(url).port), "AWS_ENDPOINT_URL": url}
    words = [str(artifacts) if word == "ARTIFACTS" else word for word in command]

    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, env=os.environ | real | dead | own,
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")


def read_answers(out: Path) -> np.ndarray:
    if out.suffix == ".npy":
        return np.load(out)
    text = out.read_text()
    found = {
        ".csv": lambda: text.splitlines(),
        ".json": lambda: json.loads(text)["result"],
        ".jsonl": lambda: [json.loads(line)["result"] for line in text.splitlines()],
    }[out.suffix]()
    return np.array(found, dtype=np.float32)


def test_a_bad_row_of_a_real_file_is_named_in_its_numbering(real, artifacts, tmp_path, capsys):
    header, *rows = (artifacts / "test.csv").read_text().splitlines()
    rows[122] = rows[122].replace("0.", "oops", 1)
    (tmp_path / "rows.csv").write_text("\n".join([header, *rows]) + "\n")

    code = main(["invoke", str(tmp_path / "rows.csv"), "--rows-per-request", "50", "--endpoint", "abalone"], real)

    assert code == 1
    assert "featurizer answered 400 to row 123 of" in capsys.readouterr().err


def test_a_batch_answer_that_differs_by_one_digit_is_found_and_named(real, artifacts, tmp_path):
    out = tmp_path / "test.csv.out"
    assert main(["invoke", str(artifacts / "test.csv"), "--accept", "text/csv", "--output", str(out),
                 "--endpoint", "abalone"], real) == 0  # fmt: skip
    clients, rows = Clients("us-east-1", real), Rows.of(artifacts / "test.csv", "text/csv", lines=True)

    assert compare(clients, "abalone", rows, out, "text/csv", 10_000) == []

    answers = out.read_bytes().splitlines()
    answers[4] += b"1"
    out.write_bytes(b"\n".join(answers))
    assert [one.row for one in compare(clients, "abalone", rows, out, "text/csv", 10_000)] == [5]

    out.write_bytes(b"\n".join(answers[:-1]))
    with pytest.raises(PipelineError, match=f"has {len(answers)} rows, .* {len(answers) - 1} answers"):
        compare(clients, "abalone", rows, out, "text/csv", 10)
