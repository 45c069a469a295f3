"""The check of a directory and its `serve` command: one that keeps every rule, and one broken rule at a time."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_test.__main__ import main
from local_test.check import calls, request_rules
from local_test.check.command import EXAMINED
from local_test.check.rules import RULES
from tests.conftest import ROOT
from tests.servers import free_ports

CHECKED = ROOT / "tests" / "checked"
DOCKERFILE = (CHECKED / "Dockerfile").read_text(encoding="utf-8")
DOCUMENT = (ROOT / "docs" / "image_check.md").read_text(encoding="utf-8")
ITS_8080 = {"default-port"}  # which somebody else may have here; tested with images
NEEDS_DOCKER = {"architecture", "nothing-in-opt-ml", "manifest", "read-only-model", "other-user", "read-only-root"}
BROKEN = {
    "serve": "it ended with exit code 1: no way to start",
    "one-port": "also listens on",
    "neighbours": "Address already in use",
    "ping-means-ready": "without a model /ping is 200",
    "logs": "nothing was written",
    "ping": "the body is not empty: 200: pong",
    "answer": "500: no model",
    "answer-type": "Content-Type: text/html",
    "content-type-parameters": "Content-Type: text/csv; charset=utf-8 is answered with 415",
    "accept": "Accept: */* is answered with 406",
    "platform-headers": "is answered with 400: unknown header",
    "errors": "a body of no type at all is answered with 200",
    "unknown-type": "200: ",
    "empty-body": "500: empty",
    "payload-limit": "a body of 6 MiB: 413",
    "execution-parameters": "MaxPayloadInMB: expected a whole number from 0 to 100, got 500",
    "ping-under-load": "requests of 1 MiB",
    "sigterm": "the request that was under way was lost",
}
WRITTEN = {
    "bind-to-port-label": (DOCKERFILE.replace("LABEL", "# LABEL"), "not there"),
    "exec-form": (DOCKERFILE + "ENTRYPOINT serve\n", "ENTRYPOINT is a shell's: /bin/sh -c serve"),
    "user": (DOCKERFILE + "USER 10001\n", "USER 10001"),
}
MILD = {
    "ping-means-ready",
    "logs",
    "ping",
    "unknown-type",
    "empty-body",
    "user",
}  # warnings, for there are images that are right so


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copytree(CHECKED, tmp_path / "program")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model").write_text("1")
    (tmp_path / "rows.csv").write_text("1,2\n3,4.5\n")
    return tmp_path


Check = Callable[..., str]


@pytest.fixture
def check(directory: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Examine the directory, with arguments and the exit code that is expected; what was printed."""

    def run(*arguments: str, code: int) -> str:
        model, payload = directory / "model", directory / "rows.csv"
        own = ["--model", str(model), "--payload", str(payload), "--port", str(free_ports(7)[0])]
        serve = ["check", str(directory / "program"), "--serve", f"{sys.executable} serve"]
        ended = main([*serve, *own, *arguments])
        printed = capsys.readouterr()
        assert ended == code, printed.out + printed.err
        return printed.out

    return run


def findings(check: Check, *arguments: str, code: int) -> dict[str, dict[str, Any]]:
    whole = json.loads(check("--json", *arguments, code=code))
    return {one["name"]: one for one in whole["findings"]}


def test_every_rule_is_broken_by_some_test() -> None:
    assert set(BROKEN) | set(WRITTEN) | NEEDS_DOCKER | ITS_8080 == set(RULES) == set(EXAMINED)


def test_what_keeps_every_rule_passes_even_when_warnings_count(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    # A program in Python answers a ping late when the machine does much else, too.
    monkeypatch.setattr(calls.ping, "__defaults__", (60,))
    monkeypatch.setattr(request_rules, "SLOWEST_PING", 60.0)

    found = findings(check, "--strict", "--skip", "default-port", code=0)

    skipped = {name for name, one in found.items() if one["verdict"] == "skipped"}
    assert skipped == NEEDS_DOCKER
    assert {one["verdict"] for one in found.values()} == {"ok", "skipped"}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_found_and_named(check: Check, rule: str) -> None:
    mild = rule in MILD

    found = findings(check, "--env", f"BREAK={rule}", "--only", rule, code=0 if mild else 1)

    assert list(found) == [rule]
    assert found[rule]["verdict"] == ("warning" if mild else "failed")
    assert BROKEN[rule] in found[rule]["seen"]


@pytest.mark.parametrize("rule", WRITTEN)
def test_what_a_dockerfile_gets_wrong_is_found_without_docker(check: Check, directory: Path, rule: str) -> None:
    text, seen = WRITTEN[rule]
    (directory / "program" / "Dockerfile").write_text(text)

    found = findings(check, "--only", rule, code=0 if rule in MILD else 1)

    assert found[rule]["verdict"] == ("warning" if rule in MILD else "failed")
    assert seen in found[rule]["seen"]


MORE = {
    "an id in each answer is no broken rule": ("uuid", "content-type-parameters", "ok", "the answers differ each time"),
    "who listens on loopback only is reached by nobody": ("loopback", "serve", "failed", "of the loopback only"),
    "a refusal of what is large is one, whatever its status": (
        "limit-400",
        "payload-limit",
        "failed",
        "400: too large",
    ),
    "junk in an answer is made visible": ("junk", "answer", "failed", "500"),
}


@pytest.mark.parametrize("fact", MORE)
def test_an_odd_server_is_judged_rightly(check: Check, fact: str) -> None:
    broken, rule, verdict, seen = MORE[fact]

    found = findings(check, "--env", f"BREAK={broken}", "--only", rule, code=1 if verdict == "failed" else 0)

    assert found[rule]["verdict"] == verdict
    assert seen in found[rule]["seen"]


def test_what_does_not_start_is_told_once(check: Check) -> None:
    shown = check("--env", "BREAK=serve", "--only", "serve", "ping", "sigterm", code=1)

    assert shown.count("no way to start") == 1
    assert shown.count("it does not start: see serve") == 2


def test_a_finding_says_what_happens_how_to_mend_it_and_where_the_rule_stands(check: Check) -> None:
    shown = check("--env", "BREAK=answer-type", "--only", "answer", "answer-type", code=1)

    for text in ("FAILED   answer-type", "SageMaker  in a pipeline", "mend  set Content-Type", "source  https://docs."):
        assert text in shown
    assert shown.endswith("1 ok, 1 failed\n")


def test_without_a_payload_it_says_what_it_could_not_examine(check: Check, directory: Path) -> None:
    (directory / "rows.csv").write_text("")

    found = findings(check, "--only", "answer", "errors", code=0)

    assert (found["answer"]["verdict"], found["errors"]["verdict"]) == ("skipped", "ok")
    assert "--payload FILE" in found["answer"]["seen"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing", "--serve", "serve"], "nothing: expected a directory for --serve"),
        (["program", "--serve", "serve", "--model", "nothing"], "--model nothing: expected a directory"),
        (["program", "--serve", "serve", "--payload", "nothing.csv"], "nothing.csv: No such file or directory"),
        (["program", "--serve", "serve", "--payload", "rows.txt"], "rows.txt: expected a file that ends in .csv"),
        (["program", "--serve", "serve", "--env", "NAME"], "--env: expected NAME=VALUE, got NAME"),
        (["image"], "docker is not on PATH; without it: python -m local_test check DIRECTORY --serve COMMAND"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_unusable_arguments_are_refused_in_a_line(
    arguments: list[str],
    said: str,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(directory)
    monkeypatch.setenv("PATH", "")

    code = main(["check", *arguments])

    printed = capsys.readouterr()
    assert (code, printed.out) == (1, "")
    assert printed.err.startswith(said)
    assert printed.err.count("\n") == 1


def test_the_document_lists_every_rule() -> None:
    listed = re.findall(r"^\| `([\w-]+)` \| (.+) \| \[where\]\((\S+)\) \|$", DOCUMENT, re.MULTILINE)

    assert listed == [(rule.name, rule.title, rule.source) for rule in RULES.values()]


@pytest.mark.long
def test_the_documents_example_prints_what_it_shows(artifacts: Path) -> None:
    command, *shown = re.findall(r"```console\n\$ (.*?)```", DOCUMENT, re.DOTALL)[0].splitlines()
    command = command.replace("artifacts/", f"{artifacts}/").replace("python ", f"{sys.executable} ")
    command += f" --port {free_ports(7)[0]} --skip default-port"  # which others may listen on here

    done = subprocess.run(shlex.split(command), cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = {" ".join(line.split()[:2]) for line in done.stdout.splitlines()}
    assert {" ".join(line.split()) for line in shown} <= verdicts
