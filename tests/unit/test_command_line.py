"""The command line: the codes that it ends with, and what it says of its verbs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline import cli, demo
from pipeline.cli import main
from serving.training import BadJob
from tests.servers import ROOT


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (BadJob("no such option"), 2, "pipeline: no such option\n"),
        (KeyboardInterrupt(), 130, "pipeline: interrupted\n"),
    ],
)
def test_the_command_line_ends_with_a_code_and_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, message: str
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(demo, "_demo", fail)

    assert main(["demo"]) == code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("program", ["pipeline", "local_test", "serving"])
def test_a_python_without_the_packages_is_told_in_one_line(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", program, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"{program}: expected Python 3.11 or newer with the locked packages, got Python 3.")
    assert done.stderr.endswith(f"run `make setup`, then `.venv/bin/python -m {program}`\n")


def test_only_the_verbs_of_aws_have_its_exit_codes_and_each_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (*cli.HERE, *cli.ON_SAGEMAKER):
        with pytest.raises(SystemExit) as ended:
            main([verb, "--help"])

        assert ended.value.code == 0
        assert ("4 timeout" in capsys.readouterr().out) == (verb in cli.ON_SAGEMAKER), verb


def test_an_unknown_verb_is_answered_with_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["launch"], []):
        with pytest.raises(SystemExit) as ended:
            main(arguments)

        output = capsys.readouterr().err
        assert ended.value.code == 2
        assert "VERB" in output


def test_help_tells_of_all_verbs_and_of_the_examples_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for arguments in (["--help"], ["demo", "--help"]):
        with pytest.raises(SystemExit):
            main(arguments)
        told.append(capsys.readouterr().out)

    assert told[0].startswith("usage: python -m pipeline [-h] VERB ...\n")
    assert "Train a serial inference pipeline, ship it to SageMaker and operate it there." in told[0]
    assert told[0].endswith("\npython -m pipeline VERB --help shows examples\n")
    for verb in (*cli.HERE, *cli.ON_SAGEMAKER):
        assert f"\n    {verb}" in told[0]
    assert demo.HELP in told[1]
    assert told[1].endswith(demo.EXAMPLES)  # line by line
