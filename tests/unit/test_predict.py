"""`python -m local_test predict`, and what needs Docker before it needs it."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local_test import images
from local_test.__main__ import main
from local_test.container import Container, Unreachable
from local_test.opt_ml import prepare
from local_test.state import ChainError
from local_test.terminal import printable
from tests.scripted_container import ScriptedContainer, answer
from tests.servers import wait_until


def predict(server: ScriptedContainer, file: Path, *options: str) -> int:
    return main(["predict", str(file), "--url", f"http://127.0.0.1:{server.port}", *options])


@pytest.mark.parametrize("body", [b"[9.5]", b"[9.5]\n", b"\x93NUMPY"])
def test_an_answer_is_printed_with_one_line_end(
    body: bytes, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "rows.csv").write_bytes(b"1\n")

    with ScriptedContainer(answer(body)) as server:
        code = predict(server, tmp_path / "rows.csv")

    assert (code, capfdbinary.readouterr().out) == (0, body.rstrip(b"\n") + b"\n")


@pytest.mark.parametrize(
    ("name", "options", "path", "media", "accept"),
    [
        ("rows.csv", [], "/invocations", "text/csv", "application/json"),
        ("rows.jsonl", [], "/invocations", "application/jsonlines", "application/json"),
        ("rows.npy", ["--accept", "text/csv"], "/invocations", "application/x-npy", "text/csv"),
        ("rows.json", ["--endpoint", "e"], "/endpoints/e/invocations", "application/json", "application/json"),
        ("rows.txt", ["--content-type", "a/b"], "/invocations", "a/b", "application/json"),
        ("rows.csv", ["--header", "absent"], "/invocations", "text/csv; header=absent", "application/json"),
        ("rows.csv", ["--content-type", "a/b"], "/invocations", "a/b", "application/json"),
    ],
)
def test_a_file_is_sent_with_its_type(
    name: str, options: list[str], path: str, media: str, accept: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"1\n")

    with ScriptedContainer() as server:
        predict(server, tmp_path / name, *options)

    (asked,) = server.asked
    assert (asked.method, asked.path, asked.body) == ("POST", path, b"1\n")
    assert (asked.headers["content-type"], asked.headers["accept"]) == (media, accept)


def test_the_router_of_the_chain_is_asked_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.csv").write_bytes(b"1\n")

    with ScriptedContainer() as server:
        monkeypatch.setenv("ROUTER_PORT", str(server.port))
        code = main(["predict", str(tmp_path / "rows.csv")])

    assert (code, len(server.asked)) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["rows.txt"], 2, "expected a file that ends in .csv, .json, .jsonl, .npy, or --content-type\n"),
        (["none.csv"], 2, "none.csv: No such file or directory\n"),
        (["rows.csv", "--url", "ftp://a/"], 2, "--url: expected http://HOST:PORT, got ftp://a\n"),
        (
            ["rows.csv", "--url", "http://127.0.0.1:9/"],
            1,
            "no answer from http://127.0.0.1:9/invocations ([Errno 111] Connection refused): start the chain with "
            "`make up`\n",
        ),
    ],
)
def test_what_cannot_be_sent_is_said(
    arguments: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name in ("rows.csv", "rows.txt"):
        (tmp_path / name).write_bytes(b"1\n")

    assert main(["predict", *arguments]) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("status", "error_type", "body", "said"),
    [
        (413, "", b'{"code": "payload_too_large", "message": "m"}', "413 payload_too_large: m"),
        (400, "ValidationError", b'{"Message": "m"}', "400 ValidationError: m"),
        (400, "", b'{"Message": "m"}', "400 refused: m"),
        (400, "", b"{}", "400 refused: {}"),
        (500, "", b"[" * 100_000, "500: " + "[" * 100_000),
        (
            424,
            "ModelError",
            b'{"ErrorCode": "C", "Message": "m", "OriginalStatusCode": 400, "OriginalMessage": "o", '
            b'"LogStreamArn": "l"}',
            "424 C: m\nthe container answered 400: o\nits log: l",
        ),
        (
            424,
            "ModelError",
            b'{"Message": "m", "OriginalStatusCode": 400, "OriginalMessage": "{\\"code\\": \\"bad_header\\"}"}',
            '424 ModelError: m\nthe container answered 400: {"code": "bad_header"}\nits log: None\n'
            "say --header present or --header absent",
        ),
        (500, "", b"\xff\x1b", "500: \ufffd\\x1b"),
    ],
)
def test_a_refusal_is_printed_whole(
    status: int, error_type: str, body: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_bytes(b"1\n")
    headers = {"x-amzn-ErrorType": error_type} if error_type else {}

    with ScriptedContainer(answer(body, "application/json", status, **headers)) as server:
        code = predict(server, tmp_path / "rows.csv")

    assert (code, capsys.readouterr().err) == (1, f"{said}\n")


@pytest.mark.parametrize(("text", "shown"), [("a b", "a b"), ("a\n", "a\\n"), ("\x1b[2J€", "\\x1b[2J€"), ("", "")])
def test_only_what_can_be_seen_reaches_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve_local", "i", "--tree", "t"], "there is no model directory {}/t/model: name one with --model, or run"),
        (["serve_local", "i", "--model", "m"], "there is no model directory {}/m: "),
        (["train_local", "i", "--tree", "t", "--channel", "train"], "expected NAME=VALUE, got train"),
        (["train_local", "i", "--tree", "t", "--hyperparameter", "a"], "expected NAME=VALUE, got a"),
        (
            ["train_local", "i", "--tree", "t", "--channel", "train=none"],
            "channel train: there is no file or directory none",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_images_are_not_started_for_what_cannot_work(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\ntouch started\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    assert main(arguments) == 1
    assert capsys.readouterr().err.startswith(said.format(tmp_path))
    assert not (tmp_path / "started").exists()


def test_a_tree_is_made_anew_for_each_job(tmp_path: Path) -> None:
    prepare(tmp_path, {}, {"a": "1"})
    for name in ("input/data", "output/data", "model"):
        (tmp_path / name / "old").touch()
    prepare(tmp_path, {}, {})

    assert list(tmp_path.rglob("old")) == []
    assert sorted(path.name for path in (tmp_path / "input/config").iterdir()) == [
        "hyperparameters.json",
        "inputdataconfig.json",
        "resourceconfig.json",
    ]
    resources = json.loads((tmp_path / "input/config/resourceconfig.json").read_text())
    assert resources == {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
    with pytest.raises(ChainError, match="there is no file or directory"):
        prepare(tmp_path, {"train": "none"}, {})


@pytest.mark.parametrize(
    ("host", "said"), [("127.0.0.1", "connection refused"), ("255.255.255.255", "no connection: ")]
)
def test_a_container_that_cannot_be_reached_says_why(host: str, said: str) -> None:
    with pytest.raises(Unreachable, match=said) as unreachable:
        Container("c", host, 9).ping(1e9)

    assert unreachable.value.status == 503


def test_an_answer_is_waited_for_longer_than_the_endpoint_itself_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_bytes(b"1\n")
    seen: list[tuple[str, float]] = []

    def opened(request: urllib.request.Request, timeout: float) -> None:
        seen.append((request.full_url, timeout))
        raise TimeoutError("timed out")

    monkeypatch.setattr(urllib.request, "urlopen", opened)
    monkeypatch.delenv("ROUTER_PORT", raising=False)

    assert main(["predict", str(tmp_path / "rows.csv")]) == 1
    assert seen == [("http://127.0.0.1:8080/invocations", 70)]
    assert "(timed out): start the chain with `make up`" in capsys.readouterr().err


DOCKER = """#!/bin/sh
printf '%s\\n' "$*" >> "$HERE/asked"
case "$1 $CODE" in
    "run wait") while [ ! -e "$HERE/go" ]; do sleep 0.01; done; exit 5 ;;
    stop*) : > "$HERE/go" ;;
    run*) exit "$CODE" ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker that writes down what it is asked; its `run` ends with CODE, or waits until there is a file `go`."""
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setenv("CODE", "wait")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("code", "failure", "said"),
    [
        (0, "", "Completed: the model is in {}/t/model\n"),
        (3, "x" * 1025, f"Failed with exit code 3: {'x' * 1024}\n"),
        (4, "", "Failed with exit code 4: no reason given\n"),
    ],
)
def test_an_image_is_trained_as_sagemaker_does(
    code: int, failure: str, said: str, docker: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("CODE", str(code))
    prepared = images.opt_ml.prepare

    def prepare_and_fail(*given: Any) -> None:
        prepared(*given)
        if failure:
            (docker / "t" / "output" / "failure").write_text(failure)

    monkeypatch.setattr(images.opt_ml, "prepare", prepare_and_fail)
    given = ["--env", "A=b=c", "--hyperparameter", "rounds=5", "--hyperparameter", "label=rings"]

    assert main(["train_local", "i", "--tree", "t", *given]) == code

    printed = capsys.readouterr()
    assert (printed.err if code else printed.out) == said.format(docker)
    assert (docker / "asked").read_text() == (
        f"run --rm --user {os.getuid()}:{os.getgid()} -v {docker}/t:/opt/ml --env TRAINING_JOB_NAME=local "
        "--env TRAINING_JOB_ARN=arn:aws:sagemaker:us-east-1:123456789012:training-job/local --env A=b=c i train\n"
    )
    config = docker / "t/input/config/hyperparameters.json"
    assert json.loads(config.read_text()) == {"rounds": "5", "label": "rings"}


def test_an_image_is_served_as_sagemaker_does_until_it_ends(
    docker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(images.chain, "ping", lambda _port: (docker / "go").touch() or "")

    assert main(["serve_local", "i", "--model", "m", "--env", "A=b"]) == 5

    asked = re.sub(r"local-[0-9a-f]{8} ", "local-ID ", (docker / "asked").read_text())
    assert asked == (
        f"run --rm --name serve-local-ID -p 127.0.0.1:8080:8080 -v {docker}/m:/opt/ml/model:ro --env A=b i serve\n"
    )
    assert capsys.readouterr().err == (
        "i is ready. Try, and stop it with Ctrl-C:\n"
        "  curl http://127.0.0.1:8080/invocations -H 'Content-Type: text/csv' --data-binary @FILE\n"
    )


def test_at_ctrl_c_a_served_image_has_30_seconds_to_stop(
    docker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_port: int) -> str:
        wait_until(lambda: (docker / "asked").exists() and (docker / "asked").read_text(), "docker to be asked")
        raise KeyboardInterrupt

    monkeypatch.setattr(images.chain, "ping", interrupted)

    assert main(["serve_local", "i", "--model", "m", "--port", "81"]) == 1  # as its exit code is not 0

    run, stop = (docker / "asked").read_text().splitlines()
    assert "-p 127.0.0.1:81:8080 " in run
    assert stop == f"stop --time 30 {run.split()[3]}"
    assert capsys.readouterr().err == ""


def test_an_image_that_is_not_healthy_after_60_seconds_is_said_to_be(
    docker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def ping(_port: int) -> str:
        if now[0] >= 60:
            (docker / "go").touch()
        return "wait"

    monkeypatch.setattr(images, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(images.chain, "ping", ping)

    assert main(["serve_local", "i", "--model", "m"]) == 5
    assert capsys.readouterr().err == "/ping is not 200 after 60 s: wait\n"
