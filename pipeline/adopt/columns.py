"""The raw columns of a fitted transformer, from what its steps learned of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

from serving.contract import Column, ColumnType
from serving.training import BadJob

EXACT = 2**53  # above it a float64 does not hold every whole number
Sight = tuple[int, Any]  # a column's place among those that a step was fitted on, and the step
# Fitted attributes that hold a number for each column.
NUMBERS = ("mean_", "center_", "data_min_", "data_max_", "statistics_")


@dataclass(frozen=True)
class Derived:
    """A column, and numbers around which its values lie.

    `certain`: some step tells its type; `guessed`: none does, and one might take text. `filled`: texts that an imputer
    puts in, and no raw row need have.
    """

    column: Column
    around: tuple[float, ...] = ()
    certain: bool = False
    guessed: bool = False
    filled: tuple[str, ...] = ()


@dataclass
class _Seen:
    texts: set[str] = field(default_factory=set)
    is_text: bool = False
    is_number: bool = False
    filled: set[str] = field(default_factory=set)  # what an imputer puts in, and no raw row need have
    around: set[float] = field(default_factory=set)


def input_names(transformer: Any) -> tuple[str, ...]:  # noqa: ANN401
    """The columns it was fitted on; x0, x1, ... where it saw no names, as scikit-learn calls them then."""
    if (names := getattr(transformer, "feature_names_in_", None)) is not None:
        return tuple(map(str, names))
    return tuple(f"x{index}" for index in range(transformer.n_features_in_))


def derive(transformer: Any, names: Sequence[str]) -> tuple[Derived, ...]:  # noqa: ANN401
    """The columns that the transformer uses, in their order. Raises `BadJob` where a type cannot be told."""
    steps = list(first_steps(transformer, list(range(len(names)))))
    return tuple(
        _derived(name, [sight for place, sight in steps if place == index])
        for index, name in enumerate(names)
        if any(place == index for place, _ in steps)
    )


def first_steps(transformer: Any, columns: Sequence[int]) -> Iterator[tuple[int, Sight]]:  # noqa: ANN401
    """Each column with every step that sees it as it came, or imputed. Columns that are dropped do not appear."""
    if isinstance(transformer, ColumnTransformer):
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
        for _, step in transformer.steps:
            yield from first_steps(step, columns)
            if not _keeps_columns(step, len(columns)):
                return
    else:
        yield from ((column, (index, transformer)) for index, column in enumerate(columns))


def _keeps_columns(step: Any, count: int) -> bool:  # noqa: ANN401
    """Whether the next step sees the same columns, perhaps imputed."""
    if step is None or isinstance(step, str | FunctionTransformer):
        return True
    statistics = getattr(step, "statistics_", ())
    whole = len(statistics) == count and not any(value != value for value in statistics)
    return whole and not getattr(step, "add_indicator", False)


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
    guessed = not seen.is_number and any(_may_take_text(step) for _, step in sights)
    return Derived(Column(name, ColumnType.NUMERIC), tuple(sorted(seen.around)), seen.is_number, guessed)


def _may_take_text(step: Any) -> bool:  # noqa: ANN401
    """Whether a step that has learned nothing of a column may be one of texts."""
    if step is None or isinstance(step, str):
        return False
    if isinstance(step, FunctionTransformer):
        return step.func is not None and not isinstance(step.func, np.ufunc)
    module = type(step).__module__
    return module.startswith("sklearn.feature_extraction.") or not module.startswith("sklearn.")


def _look(name: str, index: int, step: Any, seen: _Seen) -> None:  # noqa: ANN401
    """Add what one step knows of a column."""
    if hasattr(step, "vocabulary_"):  # of the words of texts
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
