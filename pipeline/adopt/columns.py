"""The raw columns of a fitted transformer, from what its steps learned of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

from featurizer.fitted import REFUSALS
from featurizer.records import EXACT
from serving.contract import Column, ColumnType
from serving.training import BadJob

Sight = tuple[int, Any]  # a column's place among those that a step was fitted on, and the step
# Fitted attributes that hold a number for each column.
NUMBERS = ("mean_", "center_", "data_min_", "data_max_", "statistics_")


@dataclass(frozen=True)
class Derived:
    """A column, and numbers around which its values lie.

    `certain`: some step tells its type. `own`: the first step of the user's own that takes it, and to which it matters
    what pandas made of the column; empty once that is decided. `told`: its type stands in `--contract`.
    `filled`: texts that an imputer puts in, and no raw row need have.
    """

    column: Column
    around: tuple[float, ...] = ()
    certain: bool = False
    own: str = ""
    told: bool = False
    filled: tuple[str, ...] = ()


@dataclass
class _Seen:
    texts: set[str] = field(default_factory=set)
    is_text: bool = False
    is_number: bool = False
    own: str = ""
    filled: set[str] = field(default_factory=set)  # what an imputer puts in, and no raw row need have
    around: set[float] = field(default_factory=set)


def input_names(transformer: Any) -> tuple[str, ...]:  # noqa: ANN401
    """The columns it was fitted on; x0, x1, ... where it saw no names, as scikit-learn calls them then.

    None where it does not tell how many there were.
    """
    if (names := getattr(transformer, "feature_names_in_", None)) is not None:
        return tuple(map(str, names))
    return tuple(f"x{index}" for index in range(getattr(transformer, "n_features_in_", 0)))


def is_own(step: Any) -> bool:  # noqa: ANN401
    """Whether a step is a function or a class of somebody's own, which may do anything to columns.

    A function of one number that takes whole numbers as it takes others is none.
    """
    if step is None or isinstance(step, str):
        return False
    if type(step) is FunctionTransformer and step.func is not None:
        return not (isinstance(step.func, np.ufunc) and "d->d" in step.func.types) or step.func is np.reciprocal
    if not type(step).__module__.startswith("sklearn."):
        return True
    return type(step).__module__.startswith("sklearn.feature_extraction.") and not hasattr(step, "vocabulary_")


def takes_frames(transformer: Any) -> bool:  # noqa: ANN401
    """Whether it was fitted on a frame. A class of somebody's own need not remember, and gets one."""
    first = transformer
    while isinstance(first, Pipeline):
        first = first.steps[0][1]
    return hasattr(transformer, "feature_names_in_") or not type(first).__module__.startswith("sklearn.")


def derive(transformer: Any, names: Sequence[str]) -> tuple[Derived, ...]:  # noqa: ANN401
    """The columns that the transformer uses, in their order. Raises `BadJob` where a type cannot be told."""
    steps = list(first_steps(transformer, list(range(len(names)))))
    return tuple(
        _derived(name, [sight for place, sight in steps if place == index])
        for index, name in enumerate(names)
        if any(place == index for place, _ in steps)
    )


def first_steps(transformer: Any, columns: Sequence[int | None]) -> Iterator[tuple[int, Sight]]:  # noqa: ANN401
    """Each column with every step that sees it as it came, or imputed. Columns that are dropped do not appear.

    `columns`: what the step gets, None for what others have made.
    """
    if isinstance(transformer, FrozenEstimator):
        yield from first_steps(transformer.estimator, columns)
    elif is_own(transformer):
        left = _left_alone(transformer).values()
        for index, column in enumerate(columns):
            if column is not None:
                yield column, (index, "passthrough" if index in left else transformer)
    elif isinstance(transformer, ColumnTransformer):
        for label, fitted, _ in transformer.transformers_:
            if isinstance(fitted, str) and fitted == "drop":
                continue
            # scikit-learn's own reading of all the ways to select columns
            places = transformer._transformer_to_input_indices[label]
            yield from first_steps(fitted, [columns[place] for place in places])
    elif isinstance(transformer, FeatureUnion):
        for _, fitted in transformer.transformer_list:
            if not (isinstance(fitted, str) and fitted == "drop"):
                yield from first_steps(fitted, columns)
    elif isinstance(transformer, Pipeline):
        imputed = False  # and float64 from there on, whatever came
        for _, step in transformer.steps:
            if imputed and is_own(step):
                return
            yield from first_steps(step, columns)
            columns = _after(step, columns)
            if not columns:
                return
            imputed |= getattr(step, "strategy", "") in ("mean", "median")
    else:
        yield from ((column, (index, transformer)) for index, column in enumerate(columns) if column is not None)


def _after(step: Any, columns: Sequence[int | None]) -> Sequence[int | None]:  # noqa: ANN401
    """The columns that the next step sees as they came, perhaps imputed, each in its place."""
    if step is None or isinstance(step, str):
        return columns
    if is_own(step):
        left = _left_alone(step)
        return [columns[left[name]] if name in left else None for name in step.get_feature_names_out()] if left else ()
    if isinstance(step, FunctionTransformer):
        return columns
    statistics = getattr(step, "statistics_", ())
    whole = len(statistics) == len(columns) and not any(value != value for value in statistics)
    return columns if whole and not getattr(step, "add_indicator", False) else ()


def _left_alone(step: Any) -> dict[str, int]:  # noqa: ANN401
    """What an encoder of category_encoders, feature_engine or the like passes on, and the places where it came.

    Those name the columns that they change, in `cols` or `variables_`.
    """
    named = getattr(step, "variables_", None) or getattr(step, "cols", None)
    if not isinstance(named, list) or not hasattr(step, "feature_names_in_"):
        return {}
    try:
        made = {*map(str, step.get_feature_names_out())}
    except REFUSALS:
        return {}
    return {str(n): at for at, n in enumerate(step.feature_names_in_) if n not in named and str(n) in made}


def _derived(name: str, sights: Sequence[Sight]) -> Derived:
    seen = _Seen()
    for index, step in sights:
        _look(name, index, step, seen)
    if seen.is_text and seen.is_number:
        raise BadJob(
            f"column {name}: expected numbers or categories, got one that some steps take as the one and some as the "
            "other"
        )
    if seen.is_text:
        known = tuple(sorted(seen.texts - seen.filled))
        return Derived(Column(name, ColumnType.CATEGORICAL, known), certain=True, filled=tuple(sorted(seen.filled)))
    return Derived(Column(name, ColumnType.NUMERIC), tuple(sorted(seen.around)), seen.is_number, seen.own)


def _look(name: str, index: int, step: Any, seen: _Seen) -> None:  # noqa: ANN401
    """Add what one step knows of a column."""
    if is_own(step):
        function = getattr(step, "func", None)
        seen.own = seen.own or getattr(function, "__name__", type(step).__name__)
    elif hasattr(step, "vocabulary_"):  # of the words of texts
        seen.is_text = True
    elif hasattr(step, "categories_"):
        _look_at_categories(name, step.categories_[index], seen)
    elif isinstance(value := _entry(step, "statistics_", index), str):
        seen.is_text = True
        if getattr(step, "strategy", "") == "constant":
            seen.filled.add(value)
    else:
        numbers = [_entry(step, attribute, index) for attribute in NUMBERS]
        known = {float(one) for one in numbers if _is_number(one)}
        seen.is_number |= bool(known)
        seen.around |= known


def _look_at_categories(name: str, categories: Any, seen: _Seen) -> None:  # noqa: ANN401
    if any(value is None for value in categories):  # which no encoder takes for NaN
        raise BadJob(
            f"column {name}: expected missing values to be NaN, as in serving, got None among its categories: fit on "
            "rows that have NaN, with fillna(float('nan'))"
        )
    present = [value for value in categories if value == value]
    if all(isinstance(value, str) for value in present):
        seen.is_text = True
        seen.texts |= set(map(str, present))
    elif all(_is_number(value) for value in present):
        _refuse_inexact(name, categories, present)
        seen.is_number = True
        seen.around |= set(map(float, present))
    else:
        kinds = ", ".join(sorted({type(value).__name__ for value in present}))
        raise BadJob(
            f"column {name}: expected categories that are all text or all numbers, got {kinds}: convert the column "
            "before fitting, with astype(str), or with astype(int) what is true or false"
        )


def _refuse_inexact(name: str, categories: Any, present: Sequence[Any]) -> None:  # noqa: ANN401
    """Raises `BadJob` for numbers that a float64 does not tell apart, or which scikit-learn does not compare with."""
    if categories.dtype == object:
        raise BadJob(
            f"column {name}: expected categories of text, or numbers in a column of numbers; got numbers in a column "
            "of objects: fit on astype('float64') of it, or on astype(str)"
        )
    if categories.dtype.kind in "iu" and (far := [value for value in present if not -EXACT < value < EXACT]):
        raise BadJob(
            f"column {name}: expected whole numbers within 2**53, above which float64, in which serving reads numbers, "
            f"does not tell them apart; got {far[0]}: fit on astype(str) of it"
        )


def _entry(step: Any, attribute: str, index: int) -> Any:  # noqa: ANN401
    values = getattr(step, attribute, None)
    return values[index] if isinstance(values, np.ndarray) and index < len(values) else None


def _is_number(value: object) -> bool:
    return isinstance(value, Real | np.number) and not isinstance(value, bool | np.bool_) and value == value
