"""Requests held against the API's own model, which botocore has, and judged in AWS's words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Shape = Any  # botocore is untyped
_SHOWN = 256  # characters of a value that is refused

_TYPES: Mapping[str, tuple[type, ...]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float, str, datetime),
}
_JSON = {
    dict: "START_OBJECT",
    list: "START_ARRAY",
    str: "STRING_VALUE",
    bool: "BOOLEAN_VALUE",
    type(None): "NULL_VALUE",
}


class WrongType(ValueError):
    """A value that is of another type than its member."""


@dataclass(frozen=True)
class Broken:
    """A rule that a value breaks: `rule` goes on after "must". `choices`: all that are allowed, where those are few."""

    place: str
    value: str
    rule: str
    choices: Sequence[str] = ()

    def __str__(self) -> str:
        return f"Value {self.value} at '{self.place}' failed to satisfy constraint: Member must {self.rule}"


def broken(shape: Shape, value: Any, path: str = "") -> Iterator[Broken]:  # noqa: ANN401 - whatever a request holds
    """What is wrong with a value and all that is in it. Raises `WrongType`."""
    kind = shape.type_name
    expected = _TYPES.get(kind)
    if expected and (not isinstance(value, expected) or (isinstance(value, bool) and kind != "boolean")):
        got = _JSON.get(type(value), "NUMBER_VALUE")
        raise WrongType(f"{got} can not be converted to {kind} at '{path}'")
    if kind == "timestamp":
        seconds_of(value, path)
    yield from _constraints(shape, value, path)
    if kind == "structure":
        yield from _structure(shape, value, path)
    elif kind == "list":
        for position, item in enumerate(value, 1):
            yield from broken(shape.member, item, f"{path}.{position}.member")
    elif kind == "map":
        for key, item in value.items():
            yield from _constraints(shape.key, key, path)
            yield from broken(shape.value, item, f"{path}.{key}.member")


def seconds_of(value: float | str | datetime, path: str = "") -> float:
    """A time of a request in seconds since the epoch. Raises `WrongType` for what is none."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        return time.timestamp() if isinstance(time, datetime) else float(time)
    except (ValueError, OverflowError) as error:
        raise WrongType(f"{str(value)[:_SHOWN]} can not be converted to timestamp at '{path}'") from error


def _structure(shape: Shape, value: Mapping[str, Any], path: str) -> Iterator[Broken]:
    """Members that are missing, then those that are there. What the model does not know is let pass, as AWS does."""
    for name in shape.required_members:
        if value.get(name) is None:
            yield Broken(_member(path, name), "null", "not be null")
    for name, member in shape.members.items():
        if value.get(name) is not None:
            yield from broken(member, value[name], _member(path, name))


def _constraints(shape: Shape, value: Any, path: str) -> Iterator[Broken]:  # noqa: ANN401
    rules = shape.metadata
    shown = "null" if value == "null" else f"'{str(value)[:_SHOWN]}'"
    if allowed := rules.get("enum"):
        if value not in allowed:
            yield Broken(path, shown, f"satisfy enum value set: [{', '.join(allowed)}]", allowed)
        return
    if isinstance(value, int | float):
        size, word = value, "value"
    elif hasattr(value, "__len__"):
        size, word = len(value), "length"
    else:  # a time, or a body that is read as it is sent
        return
    if "min" in rules and size < rules["min"]:
        yield Broken(path, shown, f"have {word} greater than or equal to {rules['min']}")
    if "max" in rules and size > rules["max"]:
        yield Broken(path, shown, f"have {word} less than or equal to {rules['max']}")
    if "pattern" in rules and isinstance(value, str) and not _matches(rules["pattern"], value):
        yield Broken(path, shown, f"satisfy regular expression pattern: {rules['pattern']}")


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.fullmatch(pattern, value) is not None
    except re.error:  # a pattern of another language's regular expressions
        return True


def _member(path: str, name: str) -> str:
    lowered = name[:1].lower() + name[1:]
    return f"{path}.{lowered}" if path else lowered
