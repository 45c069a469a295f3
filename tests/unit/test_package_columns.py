"""The columns of a transformer, by what its steps learned of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler

from pipeline.adopt.columns import EXACT, Derived, derive, input_names
from serving.contract import Column, ColumnType
from serving.training import BadJob

FRAME = pd.DataFrame(
    {
        "size": [1.0, 2.0, np.nan, 5.0],
        "age": [3.0, 4.0, 5.0, 6.0],
        "kind": pd.Series(["b", "a", np.nan, "b"], dtype=object),
        "rooms": [2, 1, 2, 1],
    }
)


def named(value: Any) -> Any:
    return value


class Own(StandardScaler):
    """Scikit-learn's, and yet somebody's own."""


def number(name: str, *around: float, certain: bool = True, own: str = "") -> Derived:
    return Derived(Column(name, ColumnType.NUMERIC), around, certain, own)


def text(name: str, *known: str, filled: tuple[str, ...] = ()) -> Derived:
    return Derived(Column(name, ColumnType.CATEGORICAL, known), certain=True, filled=filled)


def columns(*parts: tuple[Any, Any], **options: Any) -> ColumnTransformer:
    return ColumnTransformer([(f"part{index}", *part) for index, part in enumerate(parts)], **options)


FILLED = SimpleImputer(strategy="constant", fill_value="none")
ONE_TO_ONE = {"feature_names_out": "one-to-one"}

CASES: dict[str, tuple[Any, list[str], list[Derived]]] = {
    "scaled": (StandardScaler(), ["age"], [number("age", 4.5)]),
    "between": (MinMaxScaler(), ["age", "rooms"], [number("age", 3, 6), number("rooms", 1, 2)]),
    "imputed": (SimpleImputer(), ["size", "age"], [number("size", 8 / 3), number("age", 4.5)]),
    "imputed and scaled": (
        make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
        ["size"],
        [number("size", 2, 2.5)],
    ),
    # behind an indicator, and behind what drops a column, the places are others
    "indicated": (
        make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()),
        ["age", "size"],
        [number("age", 4.5), number("size", 8 / 3)],
    ),
    "categories": (OneHotEncoder(), ["kind"], [text("kind", "a", "b")]),
    "numbers as categories": (OrdinalEncoder(), ["rooms"], [number("rooms", 1, 2)]),
    "numbers with NaN as categories": (OrdinalEncoder(), ["size"], [number("size", 1, 2, 5)]),
    "most frequent text": (
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
        ["kind"],
        [text("kind", "a", "b")],
    ),
    "filled text": (make_pipeline(FILLED, OneHotEncoder()), ["kind"], [text("kind", "a", "b", filled=("none",))]),
    "only filled": (FILLED, ["kind"], [text("kind", filled=("none",))]),
    "passed on": (columns(("passthrough", ["age"])), ["size", "age"], [number("age", certain=False)]),
    "dropped": (columns(("drop", ["age"]), (StandardScaler(), ["size"])), ["size", "age"], [number("size", 8 / 3)]),
    "the rest passed on": (
        columns((OneHotEncoder(), ["kind"]), remainder="passthrough"),
        ["age", "kind"],
        [number("age", certain=False), text("kind", "a", "b")],
    ),
    "by place": (
        columns((StandardScaler(), [1]), (OneHotEncoder(), [2])),
        ["size", "age", "kind"],
        [number("age", 4.5), text("kind", "a", "b")],
    ),
    "two steps of a column": (
        columns((StandardScaler(), ["age"]), (MinMaxScaler(), ["age"])),
        ["age"],
        [number("age", 3, 4.5, 6)],
    ),
    "a union": (
        FeatureUnion([("one", StandardScaler()), ("two", "drop"), ("three", "passthrough")]),
        ["age"],
        [number("age", 4.5)],
    ),
    "a ufunc": (FunctionTransformer(np.log1p, **ONE_TO_ONE), ["age"], [number("age", certain=False)]),
    "a ufunc and a scaler": (
        make_pipeline(FunctionTransformer(np.negative, **ONE_TO_ONE), StandardScaler()),
        ["age"],
        [number("age", -4.5)],
    ),
    "no function": (FunctionTransformer(**ONE_TO_ONE), ["age"], [number("age", certain=False)]),
    "a function": (FunctionTransformer(named, **ONE_TO_ONE), ["age"], [number("age", certain=False, own="named")]),
    # after it nothing is known
    "a function and a scaler": (
        make_pipeline(FunctionTransformer(named, **ONE_TO_ONE), StandardScaler()),
        ["age"],
        [number("age", certain=False, own="named")],
    ),
    "a function that others made": (
        FunctionTransformer(np.frompyfunc(named, 1, 1), **ONE_TO_ONE),
        ["age"],
        [number("age", certain=False, own="named (vectorized)")],
    ),
    "a function beside a scaler": (
        columns((FunctionTransformer(named, **ONE_TO_ONE), ["age"]), (StandardScaler(), ["age"])),
        ["age"],
        [number("age", 4.5, own="named")],
    ),
    "a function after imputing": (
        make_pipeline(SimpleImputer(strategy="most_frequent"), FunctionTransformer(named, **ONE_TO_ONE)),
        ["age"],
        [number("age", 3.0, own="named")],
    ),
    "a function after imputing a mean, of float64": (
        make_pipeline(SimpleImputer(), FunctionTransformer(named, **ONE_TO_ONE), StandardScaler()),
        ["size"],
        [number("size", 8 / 3)],
    ),
    "a class": (make_pipeline(Own(), OneHotEncoder()), ["rooms"], [number("rooms", certain=False, own="Own")]),
    "frozen": (FrozenEstimator(StandardScaler()), ["age"], [number("age", 4.5)]),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_column_is_what_the_steps_learned_of_it(kind: str) -> None:
    transformer, names, expected = CASES[kind]
    getattr(transformer, "estimator", transformer).fit(FRAME[names])

    found = derive(transformer, names)

    assert [one.column for one in found] == [one.column for one in expected]
    for one, owed in zip(found, expected, strict=True):
        assert one.around == pytest.approx(owed.around)
        assert (one.certain, one.own, one.filled) == (owed.certain, owed.own, owed.filled)


def test_words_of_texts_are_of_text() -> None:
    transformer = columns((CountVectorizer(), "kind")).fit(
        FRAME.fillna({"kind": "c"}).replace({"kind": {"a": "some words"}})
    )

    assert derive(transformer, list(FRAME)) == (text("kind"),)


def test_words_that_are_hashed_tell_nothing() -> None:
    transformer = columns((HashingVectorizer(), "kind")).fit(FRAME.fillna({"kind": "c"}))

    assert derive(transformer, list(FRAME)) == (number("kind", certain=False, own="HashingVectorizer"),)


def test_an_array_has_numbered_columns_and_a_frame_its_own() -> None:
    assert input_names(StandardScaler().fit(FRAME[["age", "size"]])) == ("age", "size")
    assert input_names(StandardScaler().fit(FRAME[["age", "size"]].to_numpy())) == ("x0", "x1")


def encoded(values: Any) -> Callable[[], Any]:
    return lambda: OneHotEncoder().fit(pd.DataFrame({"one": values}))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (encoded(pd.Series(["a", None], dtype=object)), "expected missing values to be NaN, as in serving, got None"),
        (
            encoded(pd.Series([1, 2], dtype=object)),
            "expected categories of text, or numbers in a column of numbers; got numbers in a column of objects",
        ),
        (encoded([True, False]), "expected categories that are all text or all numbers, got bool"),
        (encoded([EXACT, 1]), "expected whole numbers within 2.*got 9007199254740992"),
        (encoded([-EXACT, 1]), "expected whole numbers within 2.*got -9007199254740992"),
    ],
)
def test_a_column_of_no_one_type_is_refused(make: Callable[[], Any], reason: str) -> None:
    with pytest.raises(BadJob, match=f"^column one: {reason}"):
        derive(make(), ["one"])


def test_the_greatest_numbers_that_serving_tells_apart_are_taken() -> None:
    (found,) = derive(encoded([EXACT - 1, 1 - EXACT])(), ["one"])

    assert found.around == (1 - EXACT, EXACT - 1)


def test_a_column_that_is_a_number_here_and_a_text_there_is_refused() -> None:
    scaler, encoder = StandardScaler().fit(FRAME[["age"]]), OneHotEncoder().fit(FRAME[["kind"]])
    both = FeatureUnion([("scale", scaler), ("encode", encoder)])

    with pytest.raises(
        BadJob, match="column age: expected numbers or categories, got one that some steps take as the one"
    ):
        derive(both, ["age"])
