"""`python -m local_test predict`, and what needs Docker before it needs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from local_test.__main__ import main
from local_test.container import Container, Unreachable
from local_test.opt_ml import prepare
from local_test.state import ChainError
from local_test.terminal import printable
from tests.scripted_container import ScriptedContainer, answer


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
