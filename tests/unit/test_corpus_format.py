"""The corpus is a list of rules that can be read, and the tests and documents that name a rule name one of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.corpus_cases import GROUPS
from tests.corpus_format import load_corpus, load_rules, read_rules

ROOT = Path(__file__).resolve().parents[2]
GOOD = """
contract = "abalone"
stage = "featurizer"

[[rule]]
id = "C1"
why = "A reason."

[[rule.case]]
name = "one-row"
about = "one row"
request.body = "M,1"
answer.status = 200
router.status = 400
router.why = "a reason"

[[rule.case]]
id = "X1"
name = "another-row"
about = "another row"
contract = "penguins"
stage = "both"
why = "A reason of its own."
request.headers.Accept = [{ text = "a", times = 3 }, { hex = "2f" }]
request.body_parts = [{ parts = [{ text = "ä", encoding = "utf-16-le" }], times = 2 }]
answer.status = 200

[[rule]]
id = "C2"
why = "A reason."
test = "test_something"
"""
GROUP_OF = {"H": "http", "M": "media", "C": "csv", "J": "json", "L": "lines", "P": "features"}
ID = re.compile(r"\b[HMCJLPXF][1-9][0-9]*\b")
# where rules are named: a parameter's id, a comment behind code, a pair of brackets in a sentence
NAMED = {
    "tests": re.compile(r'\bid=f?"[^"]*"|  # .*'),
    "docs": re.compile(r"\((?:[HMCJLPXF][0-9]+(?:, )?)+\)|`tests/corpus/\w+\.toml` \([^)]*\)"),
}


def test_a_case_has_its_rules_reason_and_the_files_defaults_unless_it_has_its_own() -> None:
    first, second = (case for rule in read_rules(GOOD, "csv") for case in rule.cases)

    assert (str(first), first.rule, first.why, first.contract) == ("csv/C1-one-row", "C1", "A reason.", "abalone")
    assert (first.stages, first.expected("nginx").status, first.expected("router").status) == (
        ("featurizer",),
        200,
        400,
    )
    assert (str(second), second.rule, second.why) == ("csv/X1-another-row", "C1", "A reason of its own.")
    assert (second.contract, second.stages) == ("penguins", ("featurizer", "predictor"))
    assert (second.request.headers, second.request.body) == ({"Accept": "aaa/"}, b"\xe4\0\xe4\0")


@pytest.mark.parametrize(
    ("written", "instead", "says"),
    [
        ('contract = "abalone"', 'contrat = "abalone"', "csv.toml: unknown key 'contrat'"),
        ('contract = "abalone"', "", "KeyError('contract')"),
        ('id = "C1"', "", "a rule without id: expected an id and a why"),
        ('id = "C2"\nwhy = "A reason."', 'id = "C2"', "C2: expected an id and a why"),
        ('test = "test_something"', "", "C2: expected a case or a test"),
        ('test = "test_something"', 'tests = "test_something"', "C2: unknown key 'tests'"),
        ("answer.status = 200\n", "", "C1: case one-row: KeyError('answer')"),
        ("answer.status = 200\n", "answer.state = 200\n", "unknown key 'state'"),
        ("answer.status = 200\n", 'answer.status = "200"\n', "status has the wrong type"),
        ("answer.status = 200\n", "answer.status = true\n", "status has the wrong type"),
        ("answer.status = 200\n", 'answer.status = 200\nanswer.code = "x"\n', "['code'] cannot be of status 200"),
        ("answer.status = 200\n", "answer.status = 400\nanswer.rows = 1\n", "['rows'] cannot be of status 400"),
        ("answer.status = 200\n", "answer.status = 200\nanswer.silent = [1]\n", "expected texts"),
        ("answer.status = 200\n", "answer.status = 200\nanswer.headers.Allow = 1\n", "TypeError"),
        ('router.why = "a reason"', "", "router: expected a why"),
        ('name = "one-row"', 'name = "one-row"\ncolour = "red"', "unknown key 'colour'"),
        ('name = "one-row"', 'name = ""', "expected a text as name"),
        ('name = "one-row"', 'name = "one-row"\nlevels = ["wire"]', "expected some of application"),
        ('name = "one-row"', 'name = "one-row"\nstage = "third"', "KeyError('third')"),
        ('name = "one-row"', 'name = "one-row"\nenv.PORT = 1', "env: expected texts"),
        ('id = "X1"\nname = "another-row"', 'name = "one-row"', "expected each name once, got C1-one-row twice"),
        ('request.body = "M,1"', 'request.body = "M,1"\nrequest.body_hex = "4d"', "expected one of body"),
        ('request.body = "M,1"', 'request.body = "M,1"\nrequest.ends = true', "expected `ends` beside `raw` only"),
        ('request.body = "M,1"', 'request.body = "M,1"\nrequest.raw = []', "expected nothing but `ends` beside `raw`"),
        ("times = 3 }", "time = 3 }", "unknown key 'time'"),
        ('{ hex = "2f" }', '{ hex = "2f", text = "/" }', "expected one of text, hex and parts"),
        ('{ hex = "2f" }', '{ hex = "2f", encoding = "utf-8" }', "expected one of text, hex and parts"),
    ],
)
def test_a_file_that_is_not_in_the_format_is_refused(written: str, instead: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        read_rules(GOOD.replace(written, instead, 1), "csv")


def test_every_reason_is_a_sentence_of_its_own() -> None:
    rules = load_rules()
    reasons = [(rule.id, rule.why) for rule in rules]
    reasons += [(case.name, case.why) for rule in rules for case in rule.cases if case.why != rule.why]

    assert len(reasons) > 200
    assert [name for name, why in reasons if not re.fullmatch(r"\S.{20,400}\.", why)] == []


def test_the_test_that_holds_a_rule_is_there() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    tests = {name for text in texts for name in re.findall(r"^def (test_\w+)\(", text, re.MULTILINE)}
    held = {rule.test for rule in load_rules() if rule.test}

    assert len(held) > 5
    assert held - tests == set()


def test_every_rule_is_among_its_like() -> None:
    """A letter belongs to one file; X and F are findings, which belong to the rule that they broke."""
    assert [rule.id for rule in load_rules() if GROUP_OF.get(rule.id[0], rule.group) != rule.group] == []
    assert {rule.group for rule in load_rules()} == set(GROUPS)


@pytest.mark.parametrize("kind", NAMED)
def test_a_rule_that_is_named_is_in_the_corpus(kind: str) -> None:
    known = {rule.id for rule in load_rules()} | {case.id for case in load_corpus()}
    paths = (ROOT / "docs").glob("*.md") if kind == "docs" else (ROOT / "tests").rglob("*.py")
    named = {
        (path.name, name)
        for path in paths
        for place in NAMED[kind].findall(path.read_text(encoding="utf-8"))
        for name in ID.findall(place)
    }

    assert len(named) > 15
    assert [(file, name) for file, name in sorted(named) if name not in known] == []
