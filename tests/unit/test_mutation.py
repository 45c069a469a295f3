"""The mutation tool: the faults that it puts in, and its verdicts on tests that notice them and tests that do not."""

from __future__ import annotations

import ast
import json
import signal
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.servers import wait_until
from tests.unit.test_children import gone
from tools.mutation import __main__ as tool
from tools.mutation.mutants import find_checks, find_mutants, is_another_program, without_check

FUNCTION = "def check(x: int) -> None:\n    '''Refuse 0.'''\n    if x == 0:\n        raise ValueError\n    print(x)\n"


def mutated(tmp_path: Path, source: str) -> set[tuple[str, str]]:
    """The kind and the text of every mutant that is another program."""
    (tmp_path / "module.py").write_text(source, encoding="utf-8")
    content = source.encode()
    mutants = [one for one in find_mutants(tmp_path, "module.py") if is_another_program(one, content)]
    return {(one.kind, one.apply(content).decode()) for one in mutants}


@pytest.mark.parametrize(
    ("source", "kind", "texts"),
    [
        ("y = a < b", "comparison", {"y = a <= b", "y = a >= b"}),
        ("y = a >= b", "comparison", {"y = a > b", "y = a < b"}),
        ("y = a == b", "comparison", {"y = a != b"}),
        ("y = a not in b", "comparison", {"y = a in b"}),
        ("y = a is None", "comparison", {"y = a is not None"}),
        ("y = a < b <= c", "comparison", {"y = a <= b <= c", "y = a >= b <= c", "y = a < b < c", "y = a < b > c"}),
        ("y = a and b or c", "and/or", {"y = a or b or c", "y = a and b and c"}),
        ("y = a + b // c", "arithmetic", {"y = a - b // c", "y = a + b * c"}),
        ("y = 'ä' % a | b", "arithmetic", {"y = 'ä' + a | b", "y = 'ä' % a & b"}),
        ("y = not a", "negation", {"y = (a)"}),
        ("y = a if b else c", "condition", {"y = a if (not b) else c"}),
        ("while f():\n    pass", "condition", {"while (not f()):\n    pass"}),
        ("y = 7, True", "constant", {"y = 8, True", "y = 6, True", "y = 7, False"}),
        ("raise ValueError from None", "raise removed", {"pass"}),
        ("f(a)", "call removed", {"pass"}),
        ("a.b = c", "assignment removed", {"pass"}),
        ("a += f(c)", "assignment removed", {"pass"}),
        ("for a in b:\n    break", "loop", {"for a in b:\n    continue"}),
        ("for a in b:\n    continue", "loop", {"for a in b:\n    break"}),
        ("def f(): return a.b", "result lost", {"def f(): return None"}),
        ("try: a\nexcept E: b = 1", "exception not handled", {"try: a\nexcept E: raise"}),
        ("try: a\nexcept E: b = 1", "exception swallowed", {"try: a\nexcept E: pass"}),
        (FUNCTION, "function does nothing", {"def check(x: int) -> None:\n    '''Refuse 0.'''\n    return\n"}),
    ],
)
def test_a_kind_of_fault_is_put_in_wherever_it_can_be(tmp_path: Path, source: str, kind: str, texts: set[str]) -> None:
    assert {text for one, text in mutated(tmp_path, source) if one == kind} == texts


@pytest.mark.parametrize(
    "source",
    [
        "'''Nothing runs this.'''",
        "a: int | None",
        "def f(a: Literal[1]) -> Literal[2]: ...",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    f(1)",
        "@dataclass(frozen=True)\nclass A: pass",
        "a = b",  # without a name's first binding everything fails
        "y = 'text'",
        "def f(): return None",
    ],
)
def test_what_nothing_runs_or_nobody_could_miss_is_left_alone(tmp_path: Path, source: str) -> None:
    assert mutated(tmp_path, source) == set()


def test_a_fault_is_described_in_one_line_with_its_place(tmp_path: Path) -> None:
    source = "\n\ny = (a\n     < b)\n"
    (tmp_path / "module.py").write_text(source)

    first = find_mutants(tmp_path, "module.py")[0]

    assert first.describe(source.encode()) == "module.py:4 comparison: '<' -> '<='"


CHECKS = '''
class Reader:
    def check(self) -> None:
        """Look."""
        f()

    def read(self) -> None:
        def refuse_all(a) -> str:
            if a:
                raise ValueError(
                    "ä"
                ) from None
            return a
        f()


def _same(a) -> bool: return a == b
def ensure(a) -> list[int]: return [a]
def refuse(a): return f(a)
def recheck(a) -> None: f(a)
class Host(Protocol):
    def check_image(self) -> None:
        """Look."""
    def verify(self) -> None: ...
'''


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("Reader.check", "        f()\n\n    def read", "        return\n\n    def read"),
        ("Reader.read.refuse_all", 'raise ValueError(\n                    "ä"\n                ) from None', "pass"),
        ("_same", "return a == b", "return True"),
        ("ensure", "return [a]", "return []"),
        ("refuse", "return f(a)", "return None"),
    ],
)
def test_a_check_that_refuses_nothing_goes_on_as_if_all_were_right(
    tmp_path: Path, name: str, old: str, new: str
) -> None:
    (tmp_path / "module.py").write_text(CHECKS, encoding="utf-8")

    mutant = without_check(tmp_path, "module.py", name)

    assert mutant.apply(CHECKS.encode()).decode() == CHECKS.replace(old, new, 1)
    assert list(find_checks(ast.parse(CHECKS))) == [
        "Reader.check",
        "Reader.read.refuse_all",
        "_same",
        "ensure",
        "refuse",
    ]


Mutation = Callable[..., tuple[int, list[str]]]
FILES = {
    "serving/ages.py": """
def is_adult(age):
    return age >= 18

def is_child(age):
    return age < 13

def is_old(age):
    return age > 65
""",
    "serving/names.py": """
def check_name(name) -> None:
    if not name:
        raise ValueError

def refuse_long(name) -> None:
    if len(name) > 9:
        raise ValueError
""",
    "tests/unit/test_ages.py": """
import logging

from serving.ages import is_adult, is_child

def test_18_is_adult():
    logging.error("a line that looks like a test that failed")
    assert is_adult(18) and is_adult(19) and not is_adult(17)

def test_a_child_is_asked_for():
    is_child(3)
""",
    "tests/integration/test_old_age.py": """
from serving import ages

def test_66_is_old():
    assert ages.is_old(66) and not ages.is_old(65) and not ages.is_old(3)
""",
    "tests/unit/test_names.py": """
from serving.names import check_name, refuse_long

def test_a_name_is_a_name():
    check_name("a")

def test_a_long_name_is_refused():
    try:
        refuse_long("a" * 10)
    except ValueError:
        return
    assert False
""",
    "tests/checks.toml": """
["serving/names.py"]
check_name = "tests/unit/test_names.py::test_a_name_is_a_name"
refuse_long = "tests/unit/test_names.py::test_a_long_name_is_refused"
""",
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of its own, which the tool looks at: some of its tests notice a fault, and some do not."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    for function in (tool.nearest_tests, tool._importers, tool._source):
        monkeypatch.setattr(tool, function.__name__, cache(function.__wrapped__))
    # the plugins of this project take a second at each start
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p xdist -p pytest_timeout -p no:cacheprovider")
    return tmp_path


def git(checkout: Path, *arguments: str) -> None:
    nobody = ("-c", "user.name=Nobody", "-c", "user.email=nobody@localhost", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *nobody, *arguments], cwd=checkout, check=True)


def commit(checkout: Path) -> None:
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "Change")


@pytest.fixture
def mutation(checkout: Path, capsys: pytest.CaptureFixture[str]) -> Mutation:  # noqa: ARG001 - which it looks at
    def run(*arguments: str) -> tuple[int, list[str]]:
        code = tool.main(list(arguments))
        return code, capsys.readouterr().out.splitlines()

    return run


def test_an_unknown_revision_is_refused(mutation: Mutation, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        mutation("--since", "none")

    assert ended.value.code == 2
    assert "--since: expected a revision that git knows, got none" in capsys.readouterr().err


def test_the_same_seed_draws_the_same_faults_and_another_seed_others(mutation: Mutation) -> None:
    drawn = [mutation("--list", "--count", "5", "--seed", seed)[1] for seed in ("a", "a", "b")]

    assert len({line.partition(" ")[0] for line in drawn[0]}) == len(drawn[0]) == 5  # of each line one
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_nearest_tests_are_asked_first(checkout: Path) -> None:
    """A module that nobody imports by name may be one of those that another imports dynamically."""
    files = {
        "serving/loader.py": "import importlib\nload = importlib.import_module('serving.verbs')\n",
        "serving/verbs.py": "from serving import ages\n",
        "tests/unit/test_loader.py": "from serving import loader\n",
        "tests/unit/test_all_ages.py": "import serving.loader\nimport serving.names\n",
        "tests/unit/test_other.py": "import other\n",
        "tests/unit/test_verbs.py": "import tests.unit.test_loader\n",
    }
    for name, text in files.items():
        (checkout / name).write_text(text)

    nearest = {
        name: [Path(test).stem for test in tool.nearest_tests(f"serving/{name}.py")] for name in ("ages", "verbs")
    }

    assert nearest == {
        "ages": ["test_ages", "test_all_ages", "test_loader", "test_verbs"],
        "verbs": ["test_verbs", "test_all_ages", "test_loader"],
    }
    assert tool.nearest_tests("serving/absent.py") == ["tests/unit"]


def test_only_lines_that_changed_since_a_revision_are_drawn(checkout: Path, mutation: Mutation) -> None:
    ages = checkout / "serving" / "ages.py"
    ages.write_text(ages.read_text().replace("13", "12"))
    (checkout / "tools").mkdir()
    (checkout / "tools" / "new.py").write_text("f(a)\n")
    commit(checkout)

    _, lines = mutation("--list", "--since", "HEAD~1", "--paths", "serving", "tools")
    _, none = mutation("--list", "--since", "HEAD")

    assert sorted(line.partition(" ")[0] for line in lines) == ["serving/ages.py:6", "tools/new.py:1"]
    assert none == ["there is nothing to mutate"]


def test_faults_that_near_tests_notice_all_tests_or_none_are_told_apart(checkout: Path, mutation: Mutation) -> None:
    verdicts = checkout / "verdicts.json"

    code, lines = mutation("--paths", "serving/ages.py", "--jobs", "1", "--json", str(verdicts), "--least", "70")

    assert {one["mutant"]["line"]: one["killed_by"] for one in json.loads(verdicts.read_text())} == {
        3: "tests/unit/test_ages.py::test_18_is_adult",
        6: "",
        9: "tests/integration/test_old_age.py::test_66_is_old",
    }
    assert code == 1
    assert lines[:2] == ["no more than 3 of these lines can hold a fault", "first all tests without a fault"]
    assert "seed 1: the tests notice 2 of 3: 66.7 %" in lines
    assert lines[-1].startswith("lives: serving/ages.py:6 ")


def test_given_tests_are_asked_instead_of_the_nearest(mutation: Mutation) -> None:
    options = ("--paths", "serving/ages.py", "--jobs", "1", "--near-only", "--seed", "1")

    _, lines = mutation(*options, "--tests", "tests/integration/test_old_age.py")

    alive = {line.split()[1] for line in lines if line.startswith("lives: ")}
    assert alive == {"serving/ages.py:3", "serving/ages.py:6"}
    assert "seed 1: the tests notice 1 of 3: 33.3 %" in lines


def test_a_check_without_which_its_test_passes_lives(mutation: Mutation) -> None:
    code, lines = mutation("--checks", "--jobs", "1", "--least", "50")

    assert code == 0
    assert "checks: the tests notice 1 of 2: 50.0 %" in lines
    assert lines[-1].startswith("lives: serving/names.py:2 check_name refuses nothing")


def test_tests_that_fail_without_a_fault_judge_nothing(checkout: Path, mutation: Mutation) -> None:
    (checkout / "tests" / "unit" / "test_ages.py").write_text(
        "import serving.ages\n\ndef test_wrong():\n    assert 0\n"
    )

    with pytest.raises(SystemExit, match=r"without a mutant tests/unit/test_ages\.py::test_wrong fails"):
        mutation("--paths", "serving/ages.py", "--jobs", "1", "--near-only")


@pytest.mark.parametrize("deaf", [False, True])
def test_an_interrupt_ends_the_tests_that_run_and_their_servers(
    checkout: Path, mutation: Mutation, deaf: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests stop their servers, or where they do not listen, the tool does."""
    monkeypatch.setattr(tool, "GRACE", 1 if deaf else 600)
    hanging = """
import os, pathlib, pytest, signal, subprocess, time
from serving.ages import is_adult

@pytest.fixture
def server():
    server = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield server.pid
    server.kill()
    server.wait()

def test_18_is_adult(server):
    if not is_adult(18) or is_adult(17):
        signal.signal(signal.SIGINT, HANDLER)
        pathlib.Path("PIDS").write_text(f"{os.getpid()} {server}")
        os.kill(os.getppid(), signal.SIGUSR1)
        time.sleep(600)
""".replace("PIDS", str(checkout / "pids")).replace(
        "HANDLER", "signal.SIG_IGN" if deaf else "signal.default_int_handler"
    )
    (checkout / "tests" / "unit" / "test_ages.py").write_text(hanging)
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            mutation("--paths", "serving/ages.py", "--jobs", "1", "--near-only")
    finally:
        signal.signal(signal.SIGUSR1, before)

    for pid in (checkout / "pids").read_text().split():
        wait_until(lambda pid=pid: gone(int(pid)), "it to end")
