"""docs/deploy.md: its rehearsal prints what it shows, its recipe works, and its other commands exist."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

from local_test.__main__ import parser as local_parser
from tests.servers import free_ports

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "deploy.md"
PORT = "4566"
FOR_ALL = {"query", "output", "region", "profile"}  # options of the AWS CLI that every command has
AWS_TAKES_LONGER = ('"Delay": 10', '"Delay": 1')
SETTING_UP = 2  # console blocks that come first: the control plane, the role and the images


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def commands(block: str) -> list[tuple[str, list[str]]]:
    """Each command of a console block, with the output that the document shows below it."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


@dataclass
class Reader:
    """Somebody who types the document's commands into one shell, in a checkout of his own."""

    checkout: Path
    port: str
    env: dict[str, str] = field(default_factory=dict)

    def types(self, command: str, shown: list[str]) -> None:
        command = command.replace(f":{PORT}", f":{self.port}")
        if command.startswith("export "):
            for pair in command.split()[1:]:
                name, _, value = pair.partition("=")
                self.env[name] = value.replace("$PATH", self.env["PATH"])
            return
        if command.startswith("python -m local_test up"):
            command += f" --port {self.port}"
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.checkout,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, f"{command}\n{printed}"
        for line in shown:
            assert line.replace(f":{PORT}", f":{self.port}") in printed, command

    def follows(self, some: list[str]) -> None:
        for block in some:
            for command, shown in commands(block):
                self.types(command, shown)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> Iterator[Reader]:
    """A reader for whom the control plane runs, with the role and the images."""
    copy = tmp_path_factory.mktemp("deploy") / "checkout"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines():
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    shutil.copytree(artifacts, copy / "artifacts", dirs_exist_ok=True)
    (copy / ".venv").symlink_to(ROOT / ".venv")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAGEMAKER_"))}
    made = Reader(copy, str(free_ports(1)[0]), clean | {"MODEL_SERVER_WORKERS": "1"})
    try:
        made.follows(blocks("console")[:SETTING_UP])
        yield made
        made.follows(blocks("console")[-1:])
    finally:
        subprocess.run([".venv/bin/python", "-m", "local_test", "down"], cwd=copy, env=clean, check=True)


@pytest.mark.timeout(900)
def test_the_rehearsal_prints_what_the_document_shows(reader: Reader) -> None:
    rehearsal = blocks("console")[SETTING_UP:-1]

    assert sum(len(shown) for block in rehearsal for _, shown in commands(block)) > 5
    reader.follows(rehearsal)


@pytest.mark.timeout(900)
def test_the_recipe_prints_the_predictions_that_it_shows(reader: Reader) -> None:
    (recipe,) = blocks("python")
    expected = re.search(r"# ([0-9.]+) and four more", recipe)

    done = subprocess.run(
        [ROOT / ".venv/bin/python", "-c", recipe.replace(*AWS_TAKES_LONGER)],
        cwd=reader.checkout,
        env=reader.env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert expected is not None
    assert done.stdout.split()[0] == expected[1]
    assert len(done.stdout.split()) == 5


def shell() -> str:
    """All that is for a real account, one command a line."""
    return "\n".join(blocks("sh")).replace("\\\n", " ")


def words(program: str) -> list[list[str]]:
    """The arguments of each call of a program; what a $(...) stands around ends with it."""
    return [shlex.split(found) for found in re.findall(rf"{re.escape(program)}\b ?([^)\n]*)", shell())]


def test_the_document_names_every_verb_and_only_options_that_they_have() -> None:
    called = words("python -m pipeline")
    for verb, *given in called:
        folder = "pipeline" if verb in ("train", "demo") else "pipeline.endpoint"
        module = importlib.import_module(f"{folder}.{verb.replace('-', '_')}")
        parser = argparse.ArgumentParser(exit_on_error=False)
        module.add_arguments(parser)
        parser.parse_args(given)

    from pipeline.cli import ON_SAGEMAKER

    assert set(ON_SAGEMAKER) - {verb for verb, *_ in called} == set()


def test_the_documents_commands_of_the_local_parts_exist() -> None:
    called = [
        line.partition("local_test ")[2]
        for line in DOCUMENT.read_text().splitlines()
        if "$ python -m local_test" in line
    ]

    assert len(called) == 4
    for command in called:
        local_parser().parse_args(shlex.split(command))


def test_the_documents_options_of_build_and_push_exist() -> None:
    helped = subprocess.run([ROOT / "build_and_push.sh", "--help"], capture_output=True, text=True, check=True).stdout
    called = words("./build_and_push.sh")

    assert called
    assert all(word in helped for given in called for word in given)


def test_the_documents_commands_of_the_aws_cli_exist() -> None:
    session = botocore.session.get_session()
    # `aws s3` has commands of its own
    called = [call for call in words("aws") if call and call[0] in session.get_available_services() and call[0] != "s3"]

    assert len(called) > 5
    for service, operation, *given in called:
        model = session.get_service_model(service)
        (name,) = (one for one in model.operation_names if xform_name(one, "-") == operation)
        shape = model.operation_model(name).input_shape
        known = {xform_name(member, "-") for member in shape.members} if shape else set()
        options = {word[2:] for word in given if word.startswith("--")}
        assert options - known - FOR_ALL == set(), operation


def test_every_policy_is_in_a_documents_table() -> None:
    both = DOCUMENT.read_text() + DOCUMENT.with_name("hosting.md").read_text()

    linked = set(re.findall(r"\(iam/([a-z-]+\.json)\)", both))

    assert linked == {path.name for path in (ROOT / "docs" / "iam").glob("*.json")}


def test_the_document_says_by_when_version_2_of_the_sdk_is_left_and_where() -> None:
    text = DOCUMENT.read_text()

    assert "2027-07-06" in text
    assert "`pipeline/endpoint/model.py`" in text
    assert (ROOT / "pipeline" / "endpoint" / "model.py").exists()
