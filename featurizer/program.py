"""What `transform.json` must be for the compiled transform to run it: all of it is checked at the start.

What passes makes of any record as many numbers as it has features, and takes no more memory than those do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from serving.errors import BadArtifact, cut

FILE = "transform.json"
FORMAT = 1
# Of numpy's functions of one number those whose answer does not depend on the numbers around it.
FUNCTIONS = (
    "absolute", "cbrt", "ceil", "exp", "exp2", "expm1", "floor", "log", "log10", "log1p", "log2", "negative",
    "reciprocal", "rint", "sign", "sqrt", "square", "tanh", "trunc",
)  # fmt: skip
_NOT_FINITE = ("nan", "inf", "-inf")  # as text, for JSON has none


def check_program(program: Any) -> None:  # noqa: ANN401
    """Raises `BadArtifact` saying what was expected where."""
    _expect(isinstance(program, dict), "an object", program)
    _expect(program.get("format") == FORMAT, f"format {FORMAT}", program.get("format"))
    names = {kind: _names(program.get(field), field) for kind, field in _FIELD.items()}
    features = _names(program.get("features"), "features")
    parts = program.get("parts")
    _expect(isinstance(parts, list) and bool(parts), "parts", parts)
    made = sum(_part_width(part, names, f"part {number}") for number, part in enumerate(parts))
    _expect(made == len(features), f"parts that make {len(features)} features", made)


_FIELD = {"numeric": "numeric", "text": "categorical"}


def _part_width(part: Any, names: Mapping[str, list[str]], where: str) -> int:  # noqa: ANN401
    """How many features a part makes."""
    _expect(isinstance(part, dict) and part.get("kind") in tuple(names), "a part of kind numeric or text", part, where)
    columns = _names(part.get("columns"), f"{where}, columns")
    _expect(bool(columns) and set(columns) <= set(names[part["kind"]]), "columns of its kind", columns, where)
    width = len(columns)
    if part["kind"] == "text":
        width = _encoded(part.get("encode"), width, (str,), f"{where}, encode")
    steps = part.get("steps")
    _expect(isinstance(steps, list), "steps", steps, where)
    for number, step in enumerate(steps):
        width = _step_width(step, width, f"{where}, step {number}")
    return width


def _step_width(step: Any, width: int, where: str) -> int:  # noqa: ANN401
    """How many columns leave a step that `width` columns enter."""
    _expect(isinstance(step, dict) and step.get("do") in tuple(_STEPS), f"one of {', '.join(_STEPS)}", step, where)
    arguments, check = _STEPS[step["do"]]
    _expect(step.keys() == {"do", *arguments}, f"arguments {', '.join(arguments)}", list(step), where)
    return check(*(step[name] for name in arguments), width, where)


def _impute(values: Any, indicate: Any, width: int, where: str) -> int:  # noqa: ANN401
    _numbers(values, (width,), where)
    _indices(indicate, width, where)
    return width + len(indicate)


def _arithmetic(values: Any, width: int, where: str) -> int:  # noqa: ANN401
    _numbers(values, (width, 1), where)
    return width


def _clip(low: Any, high: Any, width: int, where: str) -> int:  # noqa: ANN401
    _expect(_is_number(low) and _is_number(high) and low <= high, "low and high", (low, high), where)
    return width


def _function(name: Any, width: int, where: str) -> int:  # noqa: ANN401
    _expect(name in FUNCTIONS, f"one of numpy's {', '.join(FUNCTIONS)}", name, where)
    return width


def _refuse(missing: Any, width: int, where: str) -> int:  # noqa: ANN401
    _expect(isinstance(missing, bool), "missing true or false", missing, where)
    return width


def _bins(edges: Any, width: int, where: str) -> int:  # noqa: ANN401
    _expect(isinstance(edges, list) and len(edges) == width, f"edges of {width} columns", edges, where)
    for column in edges:
        _expect(isinstance(column, list), "a list of edges", column, where)
        _numbers(column, (len(column),), where)
    return width


def _encode(columns: Any, width: int, where: str) -> int:  # noqa: ANN401
    return _encoded(columns, width, (int, float), where)


def _encoded(columns: Any, width: int, kinds: tuple[type, ...], where: str) -> int:  # noqa: ANN401
    """How many features encoders of `width` columns make, each of values of these kinds."""
    _expect(isinstance(columns, list) and len(columns) == width, f"encoders of {width} columns", columns, where)
    return sum(_encoder_width(column, kinds, where) for column in columns)


def _encoder_width(column: Any, kinds: tuple[type, ...], where: str) -> int:  # noqa: ANN401
    output = "outputs" if isinstance(column, dict) and "outputs" in column else "width"
    fields = {"values", "codes", "unknown", "missing", output}
    _expect(
        isinstance(column, dict) and column.keys() == fields,
        f"an encoder of {', '.join(sorted(fields))}",
        column,
        where,
    )
    values, codes, made = column["values"], column["codes"], column[output]
    _expect(isinstance(values, list) and all(type(one) in kinds for one in values), "values of its kind", values, where)
    if output == "outputs":
        _expect(isinstance(made, list), "outputs", made, where)
        _numbers(made, (len(made),), where)
        most, width = len(made), 1
    else:
        _expect(type(made) is int and made >= 0, "a width", made, where)
        most, width = made + 1, made  # the last code is that of no feature
    others = [code for code in (column["unknown"], column["missing"]) if code is not None]
    _expect(isinstance(codes, list) and len(codes) == len(values), f"{len(values)} codes", codes, where)
    _indices([*codes, *others], most, where)
    return width


def _names(names: Any, where: str) -> list[str]:  # noqa: ANN401
    fine = isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    _expect(fine, "a list of different names", names, where)
    found: list[str] = names
    return found


def _numbers(values: Any, lengths: tuple[int, ...], where: str) -> None:  # noqa: ANN401
    _expect(isinstance(values, list) and len(values) in lengths, f"{lengths[0]} numbers", values, where)
    for value in values:
        _expect(_is_number(value) or value in _NOT_FINITE, "a number", value, where)


def _is_number(value: Any) -> bool:  # noqa: ANN401
    """Of a whole number JSON may have any digits, numpy 64 bits."""
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _indices(values: Any, most: int, where: str) -> None:  # noqa: ANN401
    fine = isinstance(values, list) and all(type(value) is int and 0 <= value < most for value in values)
    _expect(fine, f"whole numbers below {most}", values, where)


def _expect(fine: bool, expected: str, got: object, where: str = "") -> None:
    if not fine:
        raise BadArtifact(f"{FILE}{where and ', '}{where}: expected {expected}, got {cut(got)}")


_STEPS: Mapping[str, tuple[tuple[str, ...], Callable[..., int]]] = {
    "impute": (("values", "indicate"), _impute),
    **dict.fromkeys(("add", "subtract", "multiply", "divide"), (("values",), _arithmetic)),
    "clip": (("low", "high"), _clip),
    "function": (("name",), _function),
    "refuse": (("missing",), _refuse),
    "bins": (("edges",), _bins),
    "encode": (("columns",), _encode),
}
