"""The files of the corpus, read strictly: tests/corpus/README.md has the format.

An unknown key or a value of the wrong type is an error, so that no expectation is misspelled into nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.corpus_cases import GROUPS, LEVELS, OF_ANSWERS, OF_REFUSALS, Case, Part, Request, Rule

CORPUS = Path(__file__).resolve().parent / "corpus"
STAGES = {"featurizer": ("featurizer",), "predictor": ("predictor",), "both": ("featurizer", "predictor")}

_DEFAULTS = {"contract": str, "stage": str, "content_type": str}
_FILE = _DEFAULTS | {"rule": list}
_RULE = {"id": str, "why": str, "test": str, "case": list}
_TEXT_OR_PARTS = (str, list)
_REQUEST = {
    "method": str, "path": str, "content_type": _TEXT_OR_PARTS, "accept": _TEXT_OR_PARTS, "headers": dict,
    "body": str, "body_hex": str, "body_parts": list, "raw": list, "ends": bool,
}  # fmt: skip
_PART = {"text": str, "encoding": str, "hex": str, "parts": list, "times": int}
_ANSWER = {
    "status": int, "code": str, "row": int, "column": str, "says": list, "silent": list, "headers": dict,
    "content_type": str, "rows": int, "same_as": str, "body": str, "ends_with_one_newline": bool, "responses": int,
    "cpu_seconds": (int, float), "memory_mb": int,
}  # fmt: skip
_OVERRIDE = _ANSWER | {"why": str}
_CASE = {
    "id": str, "name": str, "about": str, "why": str, "contract": str, "stage": str, "env": dict, "levels": list,
    "request": dict, "answer": dict, "alone": str, **dict.fromkeys(LEVELS, dict),
}  # fmt: skip


@cache
def load_rules() -> tuple[Rule, ...]:
    """Every rule of the corpus, file by file. Raises `ValueError` for what is not in the format."""
    files = {path.name for path in CORPUS.iterdir()}
    expected = {"README.md", *(f"{group}.toml" for group in GROUPS)}
    if files != expected:
        raise ValueError(f"{CORPUS}: expected {sorted(expected)}, got {sorted(files)}")
    rules = [
        rule for group in GROUPS for rule in read_rules((CORPUS / f"{group}.toml").read_text(encoding="utf-8"), group)
    ]
    _refuse_twice([rule.id for rule in rules] + [id for rule in rules for id in rule.other_ids], "the corpus")
    return tuple(rules)


def load_corpus() -> list[Case]:
    """Every case of the corpus, by group and rule."""
    return [case for rule in load_rules() for case in rule.cases]


def read_rules(text: str, group: str) -> list[Rule]:
    """The rules of one file. Raises `ValueError` naming the rule or the case that is not in the format."""
    table = tomllib.loads(text)
    _check_keys(f"{group}.toml", table, _FILE)
    defaults = {key: value for key, value in table.items() if key in _DEFAULTS}
    rules = [_rule(rule, group, defaults) for rule in table["rule"]]
    _refuse_twice([case.name for rule in rules for case in rule.cases], f"{group}.toml")
    return rules


def _rule(table: Mapping[str, Any], group: str, defaults: Mapping[str, Any]) -> Rule:
    where = f"{group}.toml: {table.get('id', 'a rule without id')}"
    _check_keys(where, table, _RULE)
    if not table.get("id") or not table.get("why"):
        raise ValueError(f"{where}: expected an id and a why")
    if not table.get("case") and not table.get("test"):
        raise ValueError(f"{where}: expected a case or a test")
    cases = []
    for case in table.get("case", []):
        try:
            cases.append(_case(case, group, defaults, table))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{where}: case {case.get('name')}: {error!r}") from error
    return Rule(table["id"], group, table["why"], tuple(cases), table.get("test", ""))


def _case(table: Mapping[str, Any], group: str, defaults: Mapping[str, Any], rule: Mapping[str, Any]) -> Case:
    _check_keys("the case", table, _CASE)
    overrides = {level: _answer(level, table[level], _OVERRIDE) for level in LEVELS if level in table}
    for level, override in overrides.items():
        if not override.get("why"):
            raise ValueError(f"{level}: expected a why")
    _check_texts("env", table.get("env", {}))
    settled = {**defaults, **table}
    only = tuple(table.get("levels", LEVELS))
    if strangers := set(only) - set(LEVELS):
        raise ValueError(f"levels: expected some of {', '.join(LEVELS)}, got {sorted(strangers)}")
    for key in ("name", "about"):
        if not table[key]:
            raise ValueError(f"expected a text as {key}")
    case = Case(
        group=group,
        rule=rule["id"],
        name=f"{table.get('id', rule['id'])}-{table['name']}",
        about=table["about"],
        why=table.get("why", rule["why"]),
        contract=settled["contract"],
        stages=STAGES[settled["stage"]],
        env=table.get("env", {}),
        request=_request(table["request"], defaults.get("content_type")),
        answer=_answer("answer", table["answer"], _ANSWER),
        overrides=overrides,
        only=only,
        alone=table.get("alone", ""),
    )
    _check_answers(case)
    return case


def _answer(where: str, table: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    _check_keys(where, table, known)
    headers = {name: _text(value) for name, value in table.get("headers", {}).items()}
    return {**table, "headers": headers} if "headers" in table else table


def _check_answers(case: Case) -> None:
    lapsed = OF_ANSWERS if case.answer["status"] >= 400 else OF_REFUSALS
    if strangers := case.answer.keys() & set(lapsed):
        raise ValueError(f"answer: {sorted(strangers)} cannot be of status {case.answer['status']}")
    for level in LEVELS:
        expected = case.expected(level)
        if not all(isinstance(text, str) and text for text in (*expected.says, *expected.silent)):
            raise ValueError("says, silent: expected texts")
        _check_texts("headers", expected.headers)


def _request(table: Mapping[str, Any], content_type: str | None) -> Request:
    _check_keys("request", table, _REQUEST)
    if "raw" in table:
        if table.keys() - {"raw", "ends"}:
            raise ValueError("request: expected nothing but `ends` beside `raw`")
        return Request(parts=_parts(table["raw"]), raw=True, ends=table.get("ends", False))
    if "ends" in table:
        raise ValueError("request: expected `ends` beside `raw` only")
    named = {"Content-Type": table.get("content_type", content_type), "Accept": table.get("accept")}
    headers = {name: value for name, value in named.items() if value is not None} | table.get("headers", {})
    return Request(
        table.get("method", "POST"), table.get("path", "/invocations"),
        {name: _text(value) for name, value in headers.items()}, _body(table),
    )  # fmt: skip


def _text(value: str | list[Mapping[str, Any]]) -> str:
    """A header's value, which may be written as parts when it is long."""
    return value if isinstance(value, str) else b"".join(piece * times for piece, times in _parts(value)).decode()


def _body(table: Mapping[str, Any]) -> tuple[Part, ...]:
    if len(table.keys() & {"body", "body_hex", "body_parts"}) > 1:
        raise ValueError("request: expected one of body, body_hex and body_parts")
    if "body_parts" in table:
        return _parts(table["body_parts"])
    return tuple(_parts([{kind: table[key]} for key, kind in (("body", "text"), ("body_hex", "hex")) if key in table]))


def _parts(parts: Sequence[Mapping[str, Any]]) -> tuple[Part, ...]:
    return tuple((_piece(part), part.get("times", 1)) for part in parts)


def _piece(part: Mapping[str, Any]) -> bytes:
    """The bytes of a part, once: a text, hexadecimal digits, or parts within it."""
    _check_keys("a part", part, _PART)
    if len(part.keys() & {"text", "hex", "parts"}) != 1 or ("encoding" in part and "text" not in part):
        raise ValueError(f"a part: expected one of text, hex and parts, got {part}")
    if "parts" in part:
        return b"".join(piece * times for piece, times in _parts(part["parts"]))
    return bytes.fromhex(part["hex"]) if "hex" in part else part["text"].encode(part.get("encoding", "utf-8"))


def _check_keys(where: str, table: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for key, value in table.items():
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}")
        if not isinstance(value, known[key]) or (isinstance(value, bool) and known[key] is not bool):
            raise ValueError(f"{where}: {key} has the wrong type: {value!r}")


def _check_texts(where: str, table: Mapping[str, Any]) -> None:
    if not all(isinstance(value, str) for value in table.values()):
        raise ValueError(f"{where}: expected texts, got {table}")


def _refuse_twice(names: Sequence[str], where: str) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{where}: expected each name once, got {', '.join(twice)} twice")
