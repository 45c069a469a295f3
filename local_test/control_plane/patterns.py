"""FilterLogEvents with a JSON pattern, which moto does not know: it would find everything."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from local_test.control_plane.behind import ask
from local_test.control_plane.errors import ApiError
from local_test.control_plane.plane import Operation, Plane
from local_test.control_plane.store import Fields

SERVICE, TARGET = "logs", "Logs_20140328"
Matches = Callable[[str], bool]
_TERM = re.compile(r'\s*\$((?:\.[\w-]+)+)\s*(!=|<=|>=|=|<|>)\s*("[^"]*"|[^\s"&|]+)\s*')
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def filter_log_events(plane: Plane, given: Mapping[str, Any]) -> Fields:
    """Judge events by a pattern in braces here; all other patterns are moto's."""
    pattern = str(given.get("filterPattern", "")).strip()
    if not pattern.startswith("{"):
        return ask(plane.region, SERVICE, f"{TARGET}.FilterLogEvents", given)
    matches = compiled(pattern)
    rest = {name: value for name, value in given.items() if name != "filterPattern"}
    found = ask(plane.region, SERVICE, f"{TARGET}.FilterLogEvents", rest)
    return {**found, "events": [event for event in found["events"] if matches(event["message"])]}


def compiled(pattern: str) -> Matches:
    """A pattern of terms `$.name OP value`, all joined by && or all by ||. Raises `ApiError` for any other."""
    inner = pattern.strip()[1:-1] if pattern.strip().endswith("}") else ""
    joint, join = ("||", any) if "||" in inner else ("&&", all)
    terms = [_TERM.fullmatch(part) for part in inner.split(joint)]
    if not all(terms):
        raise ApiError("Invalid filter pattern", "InvalidParameterException")
    asked = [_asked(term[1], term[2], term[3]) for term in terms if term]

    def matches(message: str) -> bool:
        try:
            record = json.loads(message)
        except ValueError:
            return False
        return join(one(record) for one in asked)

    return matches


def _asked(path: str, sign: str, value: str) -> Callable[[object], bool]:
    def holds(record: object) -> bool:
        for name in path[1:].split("."):
            if not isinstance(record, dict) or name not in record:
                return False
            record = record[name]
        if isinstance(record, int | float) and not isinstance(record, bool) and _NUMBER.fullmatch(value):
            return _COMPARE[sign](record, float(value))
        same = isinstance(record, str) and fnmatchcase(record, value.strip('"'))
        return same if sign == "=" else sign == "!=" and not same

    return holds


OPERATIONS: dict[str, Operation] = {"FilterLogEvents": filter_log_events}
