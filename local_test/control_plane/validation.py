"""Requests held against the API's own model, which botocore has, and refused in AWS's words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from local_test.control_plane.errors import ApiError

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
    "timestamp": (int, float, str),
}
_JSON = {
    dict: "START_OBJECT",
    list: "START_ARRAY",
    str: "STRING_VALUE",
    bool: "BOOLEAN_VALUE",
    type(None): "NULL_VALUE",
}


# The names of the services' models, by those that clients sign with.
_MODELS = {
    "monitoring": "cloudwatch",
    **{name: name for name in ("sagemaker", "ecr", "logs", "application-autoscaling")},
}
_CODES = dict.fromkeys(("ecr", "logs"), "InvalidParameterException")


def check(operation: str, fields: Any, service: str = "sagemaker") -> None:  # noqa: ANN401 - whatever JSON holds
    """Raise `ApiError` when `fields` breaks the shape of a request. What `service` does not have is let pass."""
    model = _service(_MODELS[service]) if service in _MODELS else None
    if model is None or operation not in model.operation_names:
        return
    shape = model.operation_model(operation).input_shape
    if shape is None:
        return
    if broken := list(_broken(shape, fields, "")):
        head = "1 validation error" if len(broken) == 1 else f"{len(broken)} validation errors"
        raise ApiError(f"{head} detected: {'; '.join(broken)}", _CODES.get(service, "ValidationException"))


@cache
def _service(name: str) -> Any:  # noqa: ANN401
    from botocore.session import Session

    return Session().get_service_model(name)


def _broken(shape: Shape, value: Any, path: str) -> Iterator[str]:  # noqa: ANN401
    """What is wrong with a value and all that is in it."""
    kind = shape.type_name
    expected = _TYPES.get(kind)
    if expected and (not isinstance(value, expected) or (isinstance(value, bool) and kind != "boolean")):
        got = _JSON.get(type(value), "NUMBER_VALUE")
        raise ApiError(f"{got} can not be converted to {kind} at '{path}'", "SerializationException")
    if kind == "timestamp":
        seconds_of(value, path)
    yield from _constraints(shape, value, path)
    if kind == "structure":
        yield from _structure(shape, value, path)
    elif kind == "list":
        for position, item in enumerate(value, 1):
            yield from _broken(shape.member, item, f"{path}.{position}.member")
    elif kind == "map":
        for key, item in value.items():
            yield from _constraints(shape.key, key, path)
            yield from _broken(shape.value, item, f"{path}.{key}.member")


def seconds_of(value: float | str, path: str = "") -> float:
    """A time of a request in seconds since the epoch. Raises `ApiError` for what is none."""
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else float(value)
    except (ValueError, OverflowError) as error:
        shown = str(value)[:_SHOWN]
        raise ApiError(f"{shown} can not be converted to timestamp at '{path}'", "SerializationException") from error


def _structure(shape: Shape, value: Mapping[str, Any], path: str) -> Iterator[str]:
    """Members that are missing, then those that are there. What the model does not know is let pass, as AWS does."""
    for name in shape.required_members:
        if value.get(name) is None:
            yield _failed("null", _member(path, name), "Member must not be null")
    for name, member in shape.members.items():
        if value.get(name) is not None:
            yield from _broken(member, value[name], _member(path, name))


def _constraints(shape: Shape, value: Any, path: str) -> Iterator[str]:  # noqa: ANN401
    rules = shape.metadata
    if allowed := rules.get("enum"):
        if value not in allowed:
            yield _failed(value, path, f"Member must satisfy enum value set: [{', '.join(allowed)}]")
        return
    number = isinstance(value, int | float)
    size, word = (value, "value") if number else (len(value), "length")
    if "min" in rules and size < rules["min"]:
        yield _failed(value, path, f"Member must have {word} greater than or equal to {rules['min']}")
    if "max" in rules and size > rules["max"]:
        yield _failed(value, path, f"Member must have {word} less than or equal to {rules['max']}")
    if "pattern" in rules and isinstance(value, str) and not _matches(rules["pattern"], value):
        yield _failed(value, path, f"Member must satisfy regular expression pattern: {rules['pattern']}")


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.fullmatch(pattern, value) is not None
    except re.error:  # a pattern of another language's regular expressions
        return True


def _failed(value: Any, path: str, rule: str) -> str:  # noqa: ANN401
    shown = "null" if value == "null" else f"'{str(value)[:_SHOWN]}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {rule}"


def _member(path: str, name: str) -> str:
    lowered = name[:1].lower() + name[1:]
    return f"{path}.{lowered}" if path else lowered
