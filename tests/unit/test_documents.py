"""What the documents promise is there."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_test.__main__ import parser as local_parser
from local_test.recording import record
from pipeline.cli import parser as pipeline_parser
from serving.errors import code_of
from tests.corpus_format import load_corpus

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r'"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|PORT|STAGE)"')
CODE = re.compile(r"[a-z]+(?:_[a-z]+)*")
UNUSED = {"bad_payload"}  # a class has it; every refusal of that class has a code of its own
ENTRY_POINTS = ["serving/settings.py", "local_test/config.py", "local_test/plan.py"]


def variables() -> set[str]:
    return {name for file in ENTRY_POINTS for name in VARIABLE.findall((ROOT / file).read_text())}


def test_every_setting_stands_in_the_operations_table() -> None:
    documented = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (ROOT / "docs" / "operations.md").read_text()))

    assert len(variables()) > 15
    assert variables() - documented == set()


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_linked_file_exists(document: str) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / document).read_text())

    assert [link for link in links if not ((ROOT / document).parent / link).exists()] == []


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = "".join((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
    shown = set(re.findall(r"(?:^|`|\$ )make ([a-z][a-z-]*)", texts, re.MULTILINE))

    assert shown
    assert shown - targets == set()


def table_of_errors() -> dict[str, int]:
    """Code and status of each row of the table in docs/payloads.md."""
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \| \S", (ROOT / "docs" / "payloads.md").read_text(), re.MULTILINE)
    assert len(rows) == len({code for _, code in rows})
    return {code: int(status) for status, code in rows}


def codes_in_the_code() -> set[str]:
    """What the containers' sources have as the code of an error."""
    sources = [path for folder in ("serving", "featurizer", "predictor") for path in (ROOT / folder).rglob("*.py")]
    found = {
        constant.value
        for path in sources
        for value in code_values(ast.parse(path.read_text()))
        for constant in ast.walk(value)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str) and CODE.fullmatch(constant.value)
    }
    return found | set(re.findall(r'"code": "(\w+)"', (ROOT / "serving" / "nginx.conf.template").read_text()))


def code_values(tree: ast.AST) -> Iterator[ast.AST]:
    """What is passed, assigned or written as `code`, and the second argument of `serving.cells._wrong`."""
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="code", value=value):
                yield value
            case ast.Call(func=ast.Name(id="_wrong"), args=[_, value, *_]):
                yield value
            case ast.Assign(targets=[ast.Name(id="code")], value=value):
                yield value
            case ast.Assign(targets=[ast.Tuple(elts=[_, ast.Name(id="code")])], value=value):
                yield value
            case ast.Dict(keys=keys, values=values):
                pairs = [(ast.unparse(key), value) for key, value in zip(keys, values, strict=True) if key]
                yield from (value for key, value in pairs if key == "'code'" and isinstance(value, ast.Constant))


def test_the_table_of_errors_has_the_codes_of_the_code_and_no_other() -> None:
    documented, written = table_of_errors(), codes_in_the_code()

    assert len(written) > 30
    assert written - documented.keys() == UNUSED
    # the others are those of a status that the server, not we, refused with
    assert [code for code in documented.keys() - written if code != code_of(documented[code])] == []


def test_the_table_of_errors_has_the_codes_and_statuses_of_the_corpus() -> None:
    documented = table_of_errors()
    owed = {
        (answer.code, answer.status)
        for case in load_corpus()
        for level in case.levels
        if level != "router"  # which says all of it as the runtime's API does
        for answer in [case.expected(level)]
        if answer.code
    }

    assert len(owed) > 25
    assert {(code, status) for code, status in owed if documented.get(code) != status} == set()


def test_the_readmes_commands_stand_in_documents_whose_commands_are_tested() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    tested = ("deploy.md", "hosting.md", "own_model.md", "image_check.md")
    walks = "\n".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in tested)

    lines = [line for block in blocks for line in block.splitlines()]

    assert len(lines) >= 10
    assert [line for line in lines if line not in walks] == []


def test_what_the_documents_record_leaves_the_checkout_clean() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")] + [record.EXAMPLES]
    names = set(re.findall(r"local_test record ([\w./]+)", "\n".join(texts)))
    done = subprocess.run(
        ["git", "check-ignore", *sorted(names)], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert names
    assert set(done.stdout.split()) == names


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = {"pipeline": pipeline_parser, "local_test": local_parser}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_of_ours_that_a_document_shows_has_such_arguments(
    document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL):
        for program, given in re.findall(r"python -m (pipeline|local_test) ([^\n|&;>)]*)", block):
            if "VERB" in given or "--help" in given:
                continue
            PROGRAMS[program]().parse_args(shlex.split(given))  # SystemExit, and a message, for what is not there

    assert capsys.readouterr().err == ""
