"""From a fitted ColumnTransformer to `transform.json`.

Reads what scikit-learn documents as fitted attributes. What is not known here, or does not prove itself in `proof.py`,
is left to scikit-learn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)

from featurizer.program import FORMAT, FUNCTIONS
from serving.contract import Column, ColumnType, Contract

MOST_CATEGORIES = 20_000

Step = dict[str, Any]


class NotCovered(Exception):
    """What of a transformer the compiled transform does not know."""


def compile_transformer(transformer: ColumnTransformer, contract: Contract) -> str:
    """The text of `transform.json`. Raises `NotCovered` with the reason."""
    numeric = [column.name for column in contract.inputs if column.type is ColumnType.NUMERIC]
    categorical = [column.name for column in contract.inputs if column.type is ColumnType.CATEGORICAL]
    kinds: dict[str, Column] = {column.name: column for column in contract.inputs}
    names = list(transformer.feature_names_in_)
    parts = []
    for label, fitted, selected in transformer.transformers_:
        columns = _columns(selected, names)
        if not columns or (isinstance(fitted, str) and fitted == "drop"):
            continue
        if unknown := set(columns) - kinds.keys():
            raise NotCovered(f"{label}: columns {sorted(unknown)} that the contract does not have")
        found = {kinds[name].type for name in columns}
        if len(found) > 1:
            raise NotCovered(f"{label}: numeric and categorical columns in one transformer")
        steps = [] if isinstance(fitted, str) else list(_flattened(fitted))
        functions = [step for step in steps if isinstance(step, FunctionTransformer) and step.func is not None]
        if functions and columns != sorted(columns, key=names.index):
            # back to front they are a view of the DataFrame, and there numpy's functions have other bits for one row
            raise NotCovered(f"{label}: a function of columns that are not in the order of the data")
        part = _numeric_part(steps) if found == {ColumnType.NUMERIC} else _text_part(steps, len(columns))
        if (weight := (transformer.transformer_weights or {}).get(label)) is not None:
            part["steps"].append({"do": "multiply", "values": [float(weight)]})
        if transformer.sparse_output_:  # a sparse matrix knows no negative zero
            part["steps"].append({"do": "add", "values": [0.0]})
        parts.append({"columns": columns, **part})
    if not parts:
        raise NotCovered("no features")
    inputs = {"numeric": numeric, "categorical": categorical}
    program = {"format": FORMAT, **inputs, "features": list(contract.features), "parts": parts}
    return json.dumps(program, ensure_ascii=False, allow_nan=False) + "\n"


def _columns(selected: Any, names: Sequence[str]) -> list[str]:  # noqa: ANN401
    """The columns of a transformer by name, however they were selected."""
    if isinstance(selected, str):
        raise NotCovered(f"a column given as {selected!r} and not as a list, which makes it a vector")
    if isinstance(selected, slice):
        if isinstance(selected.start, str) or isinstance(selected.stop, str):
            raise NotCovered("columns given as a slice of names")
        return list(names[selected])
    chosen = list(selected)
    if chosen and all(isinstance(one, bool | np.bool_) for one in chosen):
        return [name for name, one in zip(names, chosen, strict=True) if one]
    return [str(one) if isinstance(one, str) else names[int(one)] for one in chosen]


def _flattened(fitted: Any) -> Iterator[Any]:  # noqa: ANN401
    """The steps of nested Pipelines one after the other, and what is frozen."""
    while isinstance(fitted, FrozenEstimator):
        fitted = fitted.estimator
    if isinstance(fitted, Pipeline):
        for _, step in fitted.steps:
            yield from _flattened(step)
    elif fitted is not None and not (isinstance(fitted, str) and fitted == "passthrough"):
        yield fitted


def _numeric_part(steps: Sequence[Any]) -> Step:
    written: list[Step] = []
    finite = True  # as every value of a request is
    for step in steps:
        writer = _WRITERS.get(type(step))
        if writer is None:
            raise NotCovered(f"{type(step).__name__}")
        made, finite = writer(step, finite)
        written += made
    return {"kind": "numeric", "steps": written}


def _text_part(steps: Sequence[Any], columns: int) -> Step:
    """Categorical columns: perhaps imputed, then encoded, and from there on numbers."""
    fill: Sequence[Any] = [None] * columns
    first, *others = [*steps, None]
    if isinstance(first, SimpleImputer):
        if first.add_indicator or not _is_nan(first.missing_values):
            raise NotCovered("SimpleImputer of categories with an indicator, or with another missing value than NaN")
        fill = list(first.statistics_)
        first, *others = others
    if not isinstance(first, OneHotEncoder | OrdinalEncoder):
        raise NotCovered(f"{type(first).__name__ if first is not None else 'passthrough'} of categorical columns")
    encoded = [_with_fill(column, value) for column, value in zip(_encoded(first), fill, strict=True)]
    part = _numeric_part([step for step in others if step is not None])
    return {"kind": "text", "encode": encoded, "steps": part["steps"]}


def _with_fill(column: Step, value: object) -> Step:
    """A missing cell is encoded as what the imputer puts there."""
    if value is None:
        return column
    if _is_nan(value) or not isinstance(value, str):
        raise NotCovered(f"SimpleImputer of categories with {value!r}")
    known = dict(zip(column["values"], column["codes"], strict=True))
    return {**column, "missing": known.get(value, column["unknown"])}


def _impute(step: SimpleImputer, finite: bool) -> tuple[list[Step], bool]:
    if not _is_nan(step.missing_values):
        raise NotCovered(f"SimpleImputer with missing_values={step.missing_values!r}")
    if any(map(_is_nan, step.statistics_)):
        raise NotCovered("SimpleImputer with a column that had no value in training")
    indicated = [int(index) for index in step.indicator_.features_] if step.add_indicator else []
    return [*_refuse(finite), {"do": "impute", "values": _floats(step.statistics_), "indicate": indicated}], True


def _standard(step: StandardScaler, finite: bool) -> tuple[list[Step], bool]:
    made = _refuse(finite)
    if step.with_mean:
        made.append({"do": "subtract", "values": _floats(step.mean_)})
    if step.with_std:
        made.append({"do": "divide", "values": _floats(step.scale_)})
    return made, not (step.with_mean or step.with_std)


def _robust(step: RobustScaler, finite: bool) -> tuple[list[Step], bool]:
    made = _refuse(finite)
    if step.with_centering:
        made.append({"do": "subtract", "values": _floats(step.center_)})
    if step.with_scaling:
        made.append({"do": "divide", "values": _floats(step.scale_)})
    return made, not (step.with_centering or step.with_scaling)


def _min_max(step: MinMaxScaler, finite: bool) -> tuple[list[Step], bool]:
    made = [*_refuse(finite), {"do": "multiply", "values": _floats(step.scale_)}]
    made.append({"do": "add", "values": _floats(step.min_)})
    if step.clip:
        low, high = step.feature_range
        made.append({"do": "clip", "low": float(low), "high": float(high)})
    return made, step.clip


def _max_abs(step: MaxAbsScaler, finite: bool) -> tuple[list[Step], bool]:
    made = [*_refuse(finite), {"do": "divide", "values": _floats(step.scale_)}]
    if getattr(step, "clip", False):
        made.append({"do": "clip", "low": -1.0, "high": 1.0})
    return made, False


def _bins(step: KBinsDiscretizer, _finite: bool) -> tuple[list[Step], bool]:
    made: list[Step] = [{"do": "refuse", "missing": True}]
    made.append({"do": "bins", "edges": [_floats(edges[1:-1]) for edges in step.bin_edges_]})
    if step.encode != "ordinal":
        encoded = [_one_hot([float(one) for one in range(n)], range(n), n, None) for n in map(int, step.n_bins_)]
        made.append({"do": "encode", "columns": encoded})
    return made, True


def _function(step: FunctionTransformer, finite: bool) -> tuple[list[Step], bool]:
    made = [] if not step.validate else [{"do": "refuse", "missing": True}]
    if step.func is None:
        return made, finite
    name = getattr(step.func, "__name__", "")
    if step.kw_args or name not in FUNCTIONS or getattr(np, name) is not step.func:
        raise NotCovered(f"FunctionTransformer of {name or step.func!r}")
    return [*made, {"do": "function", "name": name}], False


def _encoder(step: OneHotEncoder | OrdinalEncoder, finite: bool) -> tuple[list[Step], bool]:
    return [*_refuse(finite), {"do": "encode", "columns": _encoded(step)}], True


def _encoded(step: OneHotEncoder | OrdinalEncoder) -> list[Step]:
    if sum(map(len, step.categories_)) > MOST_CATEGORIES:
        raise NotCovered(f"more than {MOST_CATEGORIES} categories")
    infrequent = getattr(step, "infrequent_categories_", None) or [None] * len(step.categories_)
    if isinstance(step, OneHotEncoder):
        dropped = step.drop_idx_ if step.drop_idx_ is not None else [None] * len(step.categories_)
        return [_one_hot_column(step, *column) for column in zip(step.categories_, infrequent, dropped, strict=True)]
    return [_ordinal_column(step, *column) for column in zip(step.categories_, infrequent, strict=True)]


def _grouped(categories: Any, infrequent: Any) -> tuple[list[Any], list[int], int]:  # noqa: ANN401
    """Categories with their codes, and the number of codes: the infrequent ones share the last."""
    values = [_plain(category) for category in categories]
    rare = {_key(_plain(category)) for category in infrequent} if infrequent is not None else set()
    frequent = [value for value in values if _key(value) not in rare]
    order = {_key(value): code for code, value in enumerate(frequent)}
    return values, [order.get(_key(value), len(frequent)) for value in values], len(frequent) + bool(rare)


def _one_hot_column(step: OneHotEncoder, categories: Any, infrequent: Any, dropped: int | None) -> Step:  # noqa: ANN401
    values, codes, width = _grouped(categories, infrequent)
    other = width - 1 if infrequent is not None and len(infrequent) else None
    gone = None if dropped is None else codes[dropped]
    if gone is not None:
        width -= 1
        after = {code: width if code == gone else code - (code > gone) for code in range(width + 1)}
        codes = [after[code] for code in codes]
        other = after[other] if other is not None else None
    unknown: int | None = None
    if step.handle_unknown != "error":
        unknown = other if other is not None and step.handle_unknown != "ignore" else width
    return _one_hot(values, codes, width, unknown)


def _one_hot(values: Sequence[Any], codes: Sequence[int], width: int, unknown: int | None) -> Step:
    return {**_known(values, codes, unknown), "width": width}


def _ordinal_column(step: OrdinalEncoder, categories: Any, infrequent: Any) -> Step:  # noqa: ANN401
    """A code is an index into the outputs; the last two are those of an unknown and of a missing category."""
    present = [value for value in map(_plain, categories) if not _is_nan(value)]
    values, codes, count = _grouped(present, infrequent)
    outputs = [*map(float, range(count)), np.nan, step.encoded_missing_value]
    unknown = None
    if step.handle_unknown != "error":
        outputs[count], unknown = step.unknown_value, count
    column = _known(values, codes, unknown)
    if len(present) < len(categories):
        column["missing"] = count + 1
    return {**column, "outputs": _floats(outputs)}


def _known(values: Sequence[Any], codes: Sequence[int], unknown: int | None) -> Step:
    """A missing value among the categories is one of them; where there is none, it is an unknown one."""
    if any(value is None for value in values):
        raise NotCovered("an encoder with None among its categories")
    known = [(value, code) for value, code in zip(values, codes, strict=True) if not _is_nan(value)]
    missing = next((code for value, code in zip(values, codes, strict=True) if _is_nan(value)), unknown)
    return {"values": [v for v, _ in known], "codes": [c for _, c in known], "unknown": unknown, "missing": missing}


def _refuse(finite: bool) -> list[Step]:
    """scikit-learn's steps refuse infinite values, which only another step can have made."""
    return [] if finite else [{"do": "refuse", "missing": False}]


def _floats(values: Any) -> list[Any]:  # noqa: ANN401
    """Numbers for JSON, which has no NaN and no infinity."""
    return [float(value) if np.isfinite(value) else str(float(value)) for value in values]


def _plain(value: Any) -> Any:  # noqa: ANN401
    return value.item() if isinstance(value, np.generic) else value


def _key(value: object) -> object:
    return None if _is_nan(value) else value


def _is_nan(value: object) -> bool:
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


_WRITERS: Mapping[type, Callable[[Any, bool], tuple[list[Step], bool]]] = {
    SimpleImputer: _impute,
    StandardScaler: _standard,
    RobustScaler: _robust,
    MinMaxScaler: _min_max,
    MaxAbsScaler: _max_abs,
    KBinsDiscretizer: _bins,
    FunctionTransformer: _function,
    OneHotEncoder: _encoder,
    OrdinalEncoder: _encoder,
}
