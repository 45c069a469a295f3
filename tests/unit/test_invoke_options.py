"""`invoke`: what the options make of the request, and where the answers go."""

from __future__ import annotations

import argparse
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.endpoint import invoke
from pipeline.endpoint.errors import FAILED, NOT_FOUND, WRONG
from tests.aws_api import SAGEMAKER, Aws, refused

WORDS = b"sex,color\nM,red\n"


def params(aws: Aws) -> list[dict[str, Any]]:
    return [one["params"] for one in aws.requests]


@pytest.mark.parametrize(
    ("options", "request_params"),
    [
        ("", {}),
        ("--accept text/csv", {"Accept": "text/csv"}),
        ("--output OUT.csv", {"Accept": "text/csv"}),
        ("--output OUT.jsonl", {"Accept": "application/jsonlines"}),
        ("--output OUT.npy --accept text/csv", {"Accept": "text/csv"}),
        ("--output OUT.txt", {}),
        ("--header present", {"ContentType": "text/csv; header=present"}),
        ("--header absent", {"ContentType": "text/csv; header=absent"}),
        ("--content-type text/csv;header=absent --header present", {"ContentType": "text/csv;header=absent"}),
        ("--content-type application/x-npy --header present", {"ContentType": "application/x-npy"}),
        ("--target-variant Blue", {"TargetVariant": "Blue"}),
        ("--custom-attributes a=b", {"CustomAttributes": "a=b"}),
    ],
)
def test_the_options_choose_what_the_endpoint_is_asked_for(
    run: Any, tmp_path: Path, options: str, request_params: dict[str, str]
) -> None:
    (tmp_path / "rows.csv").write_bytes(WORDS)
    options = options.replace("OUT", f"{tmp_path}/answers")

    _, aws = run(f"invoke ROWS {options}", SAGEMAKER)

    usual = {"EndpointName": "houses", "ContentType": "text/csv", "Accept": "application/json", "Body": "<16 bytes>"}
    assert params(aws) == [{**usual, **request_params}]


@pytest.mark.parametrize(
    ("content_type", "option", "header"),
    [
        ("text/csv", "auto", None),
        ("text/csv", "present", True),
        ("text/csv", "absent", False),
        ("text/csv; header=present", "auto", True),
        ('TEXT/CSV; Header = "absent"; charset=utf-8', "auto", False),
        ("text/csv; header=present", "absent", False),
        ("text/csv; header=maybe", "auto", None),
    ],
)
def test_a_header_is_as_the_option_or_the_content_type_says(
    content_type: str, option: str, header: bool | None
) -> None:
    assert invoke.header_of(content_type, option) is header


def test_rows_are_cut_as_they_are_asked_to_be(run: Any, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    _, aws = run("invoke ROWS --rows-per-request 1", SAGEMAKER)

    assert [one["Body"] for one in params(aws)] == ["<4 bytes>"] * 2
    assert capsysbinary.readouterr().out == b"1\n3\n"


def test_answers_replace_a_file_once_they_are_all_there(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "answers.csv").write_text("old")
    command = f"invoke ROWS --output {tmp_path}/answers.csv --rows-per-request 1"

    assert run(f"{command} --concurrency 1", {"InvokeEndpoint": refused("ValidationError")})[0] == FAILED
    assert (tmp_path / "answers.csv").read_text() == "old"
    assert run(command, SAGEMAKER)[0] == 0

    output = capsys.readouterr()
    assert (tmp_path / "answers.csv").read_text() == "1\n3\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "rows.csv"]
    assert output.out == ""
    assert re.search(
        rf"wrote {tmp_path}/answers\.csv: 2 answers to 2 requests in \d+\.\d s "
        r"\(p50 \d+ ms, p90 \d+ ms, p99 \d+ ms, max \d+ ms; 0 retries\)\n\Z",
        output.err,
    )


@pytest.mark.parametrize("options", ["--json", "--json --output OUT"])
def test_the_summary_is_where_the_answers_are_not(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str
) -> None:
    run(f"invoke ROWS {options}".replace("OUT", f"{tmp_path}/answers.csv"), SAGEMAKER)

    output = capsys.readouterr()
    summary = json.loads(output.out if "OUT" in options else output.err)
    assert {name: summary[name] for name in ("endpoint", "rows", "requests", "retries")} == {
        "endpoint": "houses", "rows": 2, "requests": 1, "retries": 0,
    }  # fmt: skip
    assert (output.err if "OUT" in options else output.out) == ("" if "OUT" in options else "1\n3\n")


def test_a_bar_is_shown_on_a_terminal_and_its_line_is_ended(
    run: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)

    run("invoke ROWS --rows-per-request 1", SAGEMAKER)
    output = capsys.readouterr().err
    assert output.count("\r") == 2
    assert output.endswith("100% 2 rows answered\n")
    run("invoke ROWS", {"InvokeEndpoint": refused("ValidationError")})
    assert capsys.readouterr().err.startswith("pipeline: ")


def test_an_answer_without_a_line_end_gets_one_on_a_terminal_only(
    run: Any, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def printed(body: bytes) -> bytes:
        answer = {"InvokeEndpoint": lambda _: {"Body": io.BytesIO(body), "ContentType": "text/plain"}}
        assert run("invoke ROWS", answer)[0] == 0
        return capsysbinary.readouterr().out

    assert printed(b"x") == b"x"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert [printed(body) for body in (b"x", b"x\n", b"")] == [b"x\n", b"x\n", b""]


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("invoke nowhere.csv", NOT_FOUND, "there is no file nowhere.csv"),
        ("invoke TMP/directory.csv", WRONG, "directory.csv: Is a directory"),
        ("invoke ROWS --output TMP", WRONG, "it is a directory"),
        ("invoke ROWS --output TMP/no/where", WRONG, "No such file or directory"),
    ],
)
def test_files_that_cannot_be_read_or_written_are_named(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, code: int, message: str
) -> None:
    (tmp_path / "directory.csv").mkdir()

    ended, aws = run(command.replace("TMP", str(tmp_path)), SAGEMAKER)

    assert (ended, aws.operations) == (code, [])
    assert message in capsys.readouterr().err


def test_the_type_of_standard_input_must_be_given(run: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"5,6\n")))

    assert run("invoke -", SAGEMAKER)[0] == WRONG
    code, aws = run("invoke - --content-type text/csv --header absent", {"InvokeEndpoint": refused("ValidationError")})

    assert (code, len(aws.requests)) == (FAILED, 1)
    assert "row 1 of standard input: AWS refused InvokeEndpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("read", "right", "wrong"),
    [
        (invoke.positive, {"1": 1, "10": 10}, ["0", "-1", "1.5", "", "x", "\u0663"]),
        (invoke.natural, {"0": 0, "7": 7}, ["-1", "00", "x", ""]),
        (invoke.visible, {"a": "a", "a b": "a b", "a" * 1024: "a" * 1024}, ["", "\n", "\u00e9", "a" * 1025]),
    ],
)
def test_options_take_what_they_can_and_refuse_the_rest(read: Any, right: dict[str, Any], wrong: list[str]) -> None:
    assert {text: read(text) for text in right} == right
    for text in wrong:
        with pytest.raises(argparse.ArgumentTypeError):
            read(text)


def test_of_attributes_that_are_too_long_the_first_80_characters_are_repeated() -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refusal:
        invoke.visible("a" * 1025)

    assert str(refusal.value) == f"expected 1 to 1024 visible ASCII characters, got {'a' * 80!r}"
