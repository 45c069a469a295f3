"""The compiled transform against scikit-learn: the same features to the bit, the same rows refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

from featurizer.compile import NotCovered, compile_transformer
from featurizer.fitted import FittedTransform
from featurizer.program import FUNCTIONS
from featurizer.proof import _outcomes, edge_rows, prove
from featurizer.records import Records
from featurizer.transform import Transform
from serving.contract import Column, ColumnType, Contract, Task
from serving.errors import BadArtifact

NUMERIC = ("a", "b", "c")
CATEGORICAL = ("kind", "place")
ALL = 1 << 30  # rows of a block
ROWS = 120


def training_rows(seed: int) -> Records:
    """Positive and negative, repeated and missing numbers; categories of which some are rare."""
    random = np.random.default_rng(seed)
    columns = [random.normal(3, 2, ROWS), random.integers(-2, 6, ROWS) / 2, np.exp(random.normal(0, 3, ROWS))]
    numbers = np.column_stack(columns)
    numbers[random.random(numbers.shape) < 0.1] = np.nan
    kinds = random.choice(["x", "y", "z", "rare", "rarer"], ROWS, p=[0.5, 0.3, 0.14, 0.04, 0.02]).tolist()
    places = [None if random.random() < 0.1 else str(random.integers(0, 9)) for _ in range(ROWS)]
    kinds[:5] = ["x", "y", "z", "rare", "rarer"]
    return Records(NUMERIC, CATEGORICAL, numbers, (kinds, places))


def contract_of(transformer: ColumnTransformer) -> Contract:
    columns = [Column(name, ColumnType.NUMERIC) for name in NUMERIC]
    columns += [Column(name, ColumnType.CATEGORICAL) for name in CATEGORICAL]
    return Contract("t", Task.REGRESSION, tuple(columns), tuple(transformer.get_feature_names_out()), {})


def compiled(transformer: ColumnTransformer) -> Transform:
    return Transform.from_json(compile_transformer(transformer, contract_of(transformer)))


def fitted(parts: list[tuple[str, Any, Any]], rows: Records, **options: Any) -> ColumnTransformer:
    return ColumnTransformer(parts, **options).fit(pd.DataFrame(rows.columns()))


imputers = st.one_of(
    st.builds(
        SimpleImputer, strategy=st.sampled_from(["mean", "median", "most_frequent"]), add_indicator=st.booleans()
    ),
    st.builds(SimpleImputer, strategy=st.just("constant"), fill_value=st.sampled_from([0.0, -1.5, 1e9])),
)
scalers = st.one_of(
    st.builds(StandardScaler, with_mean=st.booleans(), with_std=st.booleans()),
    st.builds(MinMaxScaler, feature_range=st.sampled_from([(0, 1), (-1, 3)]), clip=st.booleans()),
    st.builds(RobustScaler, with_centering=st.booleans(), with_scaling=st.booleans()),
    st.builds(MaxAbsScaler),
)
functions = st.builds(
    FunctionTransformer, st.sampled_from([None, np.log1p, np.sqrt, np.square, np.abs, np.cbrt, np.expm1, np.tanh]),
    feature_names_out=st.just("one-to-one"),
)  # fmt: skip
bins = st.builds(
    KBinsDiscretizer, n_bins=st.integers(2, 6), encode=st.sampled_from(["ordinal", "onehot", "onehot-dense"]),
    strategy=st.sampled_from(["uniform", "quantile"]), quantile_method=st.just("averaged_inverted_cdf"),
)  # fmt: skip
one_hot = st.one_of(
    st.builds(
        OneHotEncoder, handle_unknown=st.sampled_from(["ignore", "error"]),
        drop=st.sampled_from([None, "first", "if_binary"]), sparse_output=st.booleans(),
    ),
    st.builds(
        OneHotEncoder, handle_unknown=st.sampled_from(["infrequent_if_exist", "ignore", "error"]),
        drop=st.sampled_from([None, "first"]), min_frequency=st.sampled_from([None, 2, 8, 0.2]),
        max_categories=st.sampled_from([None, 2, 4]), sparse_output=st.booleans(),
    ),
)  # fmt: skip
ordinal = st.one_of(
    st.builds(OrdinalEncoder),
    st.builds(
        OrdinalEncoder, handle_unknown=st.just("use_encoded_value"), unknown_value=st.sampled_from([-1, 99, np.nan]),
        encoded_missing_value=st.sampled_from([-2, np.nan]), min_frequency=st.sampled_from([None, 8]),
    ),
)  # fmt: skip
text_imputers = st.one_of(
    st.builds(SimpleImputer, strategy=st.just("constant"), fill_value=st.sampled_from(["missing", "x", "7"])),
    st.builds(SimpleImputer, strategy=st.just("most_frequent")),
)


@st.composite
def numeric_steps(draw: st.DrawFn) -> Any:
    steps = draw(st.lists(st.one_of(imputers, scalers, functions), max_size=3))
    if draw(st.booleans()):
        last = draw(st.one_of(bins, one_hot, ordinal))
        needs_all = isinstance(last, KBinsDiscretizer)
        steps = [*steps, *([SimpleImputer(strategy="median")] if needs_all else []), last]
        # scikit-learn scales sparse features by the inverse of the scale: other bits
        if not (getattr(last, "sparse_output", False) or getattr(last, "encode", "") == "onehot"):
            steps += draw(st.lists(scalers, max_size=1))
    return nested(steps, draw(st.booleans()))


@st.composite
def text_steps(draw: st.DrawFn) -> Any:
    steps = [*draw(st.lists(text_imputers, max_size=1)), draw(st.one_of(one_hot, ordinal))]
    return nested(steps, draw(st.booleans()))


def nested(steps: list[Any], within: bool) -> Any:
    if not steps:
        return "passthrough"
    if len(steps) == 1 and not within:
        return steps[0]
    pipeline = Pipeline([(f"step{index}", step) for index, step in enumerate(steps)])
    return Pipeline([("within", pipeline)]) if within else pipeline


@st.composite
def transformers(draw: st.DrawFn) -> tuple[list[tuple[str, Any, Any]], dict[str, Any]]:
    """Parts with their columns, selected in any of the ways there are, and the options of a ColumnTransformer."""
    numeric = draw(st.lists(st.sampled_from(NUMERIC), min_size=1, max_size=3, unique=True))
    text = draw(st.lists(st.sampled_from(CATEGORICAL), max_size=2, unique=True))
    others = [name for name in NUMERIC if name not in numeric]
    steps = draw(numeric_steps())
    if "func=" in repr(steps):
        # columns back to front are a view of a DataFrame, and there numpy's functions have other bits for one row
        numeric = sorted(numeric)
    selected: Any = numeric
    if draw(st.booleans()):
        selected = [(*NUMERIC, *CATEGORICAL).index(name) for name in numeric]
    parts: list[tuple[str, Any, Any]] = [("numbers", steps, selected)]
    if text:
        parts.append(("texts", draw(text_steps()), text))
    if others:
        parts.append(("others", draw(st.one_of(numeric_steps(), st.sampled_from(["passthrough", "drop"]))), others))
    weights = draw(st.sampled_from([None, {"numbers": 2.5}, {"texts": 0.1}, {"numbers": 0.0}]))
    return draw(st.permutations(parts)), {"transformer_weights": weights, "remainder": "drop"}


def filled(step: Any, **options: Any) -> Pipeline:
    return Pipeline([("fill", SimpleImputer(**(options or {"strategy": "median"}))), ("step", step)])


RARE = [{}, {"min_frequency": 8}, {"max_categories": 3}]
ONE_HOT: list[Any] = [
    OneHotEncoder(handle_unknown=unknown, drop=drop, **rare)
    for unknown, drops in (("ignore", (None, "first", "if_binary")), ("infrequent_if_exist", (None, "first")))
    for drop in drops
    for rare in RARE
]
ORDINAL: list[Any] = [
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=unknown, encoded_missing_value=missing, **rare)
    for unknown, missing in ((-1, -2), (99, 77))
    for rare in RARE
]
# The answer to many rows is no number, which would hide what others answer.
TO_NOTHING: list[Any] = [
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=unknown, encoded_missing_value=missing, **rare)
    for unknown, missing in ((-1, np.nan), (np.nan, -2))
    for rare in RARE[:2]
]
STRICT: list[Any] = [
    *(OneHotEncoder(drop=drop, **rare) for drop in (None, "first") for rare in RARE[:2]),
    *(OrdinalEncoder(**rare) for rare in RARE[:2]),
]
# A category that a cell of CSV cannot have: its name stands for a missing one.
NAMED_AS_MISSING: list[Any] = [
    OneHotEncoder(categories=[["nan", "rare", "rarer", "x", "y", "z"]], handle_unknown=unknown)
    for unknown in ("error", "ignore")
]
NUMBERS: list[Any] = [
    *(SimpleImputer(strategy=strategy) for strategy in ("mean", "median", "most_frequent")),
    SimpleImputer(strategy="constant", fill_value=-1.5),
    SimpleImputer(add_indicator=True),
    filled(StandardScaler()),
    filled(StandardScaler(), add_indicator=True),
    *(StandardScaler(with_mean=mean, with_std=std) for mean, std in ((True, True), (True, False), (False, True))),
    *(
        RobustScaler(with_centering=mean, with_scaling=std)
        for mean, std in ((True, True), (True, False), (False, True))
    ),
    *(MinMaxScaler(feature_range=reach, clip=clip) for reach, clip in (((0, 1), False), ((-1, 3), True))),
    MaxAbsScaler(),
    Pipeline([("scale", MinMaxScaler(clip=True)), ("again", StandardScaler())]),
    Pipeline([("same", "passthrough"), ("scale", StandardScaler())]),
    "passthrough",
]
BINS: list[Any] = [
    filled(KBinsDiscretizer(bins, encode=encode, strategy=strategy, quantile_method="averaged_inverted_cdf"))
    for bins, encode, strategy in (
        (2, "ordinal", "quantile"),
        (4, "onehot", "uniform"),
        (3, "onehot-dense", "quantile"),
    )
]
TEXT_FILLED: list[Any] = [
    filled(encoder, strategy=strategy, **fill)
    for encoder in (ONE_HOT[0], ORDINAL[0])
    for strategy, fill in (
        ("constant", {"fill_value": "missing"}),
        ("constant", {"fill_value": "x"}),
        ("most_frequent", {}),
    )
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("steps", "columns", "sparse"),
    [
        pytest.param(NUMBERS, list(NUMERIC), 0.0, id="numbers"),
        pytest.param(BINS, list(NUMERIC), 0.0, id="bins"),
        pytest.param(BINS, list(NUMERIC), 1.0, id="bins, sparse"),
        pytest.param(ONE_HOT + ORDINAL, ["b"], 0.0, id="numbers as categories"),
        pytest.param(ONE_HOT + ORDINAL + TEXT_FILLED, list(CATEGORICAL), 0.0, id="categories"),
        pytest.param(ONE_HOT, ["place", "kind"], 1.0, id="categories, sparse"),
        *(pytest.param([step], list(CATEGORICAL), 0.0, id=f"alone {n}") for n, step in enumerate(STRICT + TO_NOTHING)),
        *(
            pytest.param([step], ["b"], 0.0, id=f"numbers alone {n}")
            for n, step in enumerate((STRICT + TO_NOTHING)[::3])
        ),
        *(pytest.param([step], ["kind"], 0.0, id=f"a name of nothing {n}") for n, step in enumerate(NAMED_AS_MISSING)),
    ],
)
def test_every_option_of_a_step_gives_the_features_of_scikit_learn(
    steps: list[Any], columns: list[str], sparse: float
) -> None:
    rows = training_rows(0)
    weights = {"1": 2.5, "2": 0.0} | ({"3": -1.0} if sparse else {})
    parts = [
        (str(number), clone(step) if step != "passthrough" else step, columns) for number, step in enumerate(steps)
    ]
    transformer = fitted(parts, rows, transformer_weights=weights, sparse_threshold=sparse)

    ours, theirs = compiled(transformer), FittedTransform(transformer)
    compared = [rows[:20], next(edge_rows(rows, ALL))[-60::2]]  # where all columns have an edge value
    with np.errstate(all="ignore"):
        owed = [outcome for some in compared for outcome in _outcomes(theirs, some)]
        assert [outcome for some in compared for outcome in _outcomes(ours, some)] == owed
    assert sum(outcome is not None for outcome in owed) >= 20


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("examples", [3, pytest.param(60, marks=pytest.mark.long)])
def test_what_is_compiled_gives_the_features_of_scikit_learn(examples: int) -> None:
    quiet = settings(
        derandomize=True, max_examples=examples, phases=[Phase.generate], deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    quiet(given(drawn=transformers(), seed=st.integers(0, 3))(compare))()


def compare(drawn: tuple[list[tuple[str, Any, Any]], dict[str, Any]], seed: int) -> None:
    """Fit what was drawn, and compare the compiled transform with it."""
    rows = training_rows(seed)
    try:
        transformer = fitted(drawn[0], rows, **drawn[1])
    except ValueError:
        return  # scikit-learn has none such: a scaler behind an encoder that makes sparse features, an infinite value
    theirs = FittedTransform(transformer)

    ours = compiled(transformer)

    try:
        assert prove(ours, theirs, rows) > 3 * ROWS
    except NotCovered as difference:
        raise AssertionError(f"{drawn[0]}, {drawn[1]}, seed {seed}") from difference


def one_to_one(function: Any, **options: Any) -> FunctionTransformer:
    return FunctionTransformer(function, feature_names_out="one-to-one", **options)


TO_INFINITY = one_to_one(np.reciprocal)
TO_BINS = KBinsDiscretizer(3, encode="ordinal", quantile_method="averaged_inverted_cdf")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("value", "steps"),
    [
        (np.nan, [TO_BINS]),
        (np.nan, [one_to_one(np.log1p, validate=True)]),
        *((0.0, [TO_INFINITY, step]) for step in (StandardScaler(), MinMaxScaler(), RobustScaler(), MaxAbsScaler())),
        *((0.0, [TO_INFINITY, step]) for step in (SimpleImputer(), OrdinalEncoder(), TO_BINS)),
        *((1.7e308, [step, MaxAbsScaler()]) for step in (StandardScaler(with_mean=False), MinMaxScaler())),
        *((1.7e308, [step, MaxAbsScaler()]) for step in (RobustScaler(with_centering=False), MaxAbsScaler())),
    ],
)
def test_a_value_that_a_step_of_scikit_learn_refuses_is_refused(value: float, steps: list[Any]) -> None:
    numbers = np.random.default_rng(0).integers(1, 9, (30, 1)) / 64
    rows = Records(("a",), (), numbers, ())
    transformer = fitted([("numbers", nested(steps, False), ["a"])], rows)
    contract = Contract("t", Task.REGRESSION, (Column("a", ColumnType.NUMERIC),), ("a",), {})
    ours = Transform.from_json(compile_transformer(transformer, contract))

    with np.errstate(all="ignore"):
        for number in (1 / 64, np.nan, value):
            row = replace(rows[:1], numbers=np.array([[number]]))
            assert _outcomes(ours, row) == _outcomes(FittedTransform(transformer), row)
        with pytest.raises(ValueError):  # noqa: PT011 - it tells nothing
            ours(row)


def square(numbers: Any) -> Any:
    """A function that has the name of one of numpy's, and is another."""
    return numbers * 2


def text_pipeline(**options: Any) -> Pipeline:
    return Pipeline([("fill", SimpleImputer(**options)), ("encode", OneHotEncoder())])


@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
@pytest.mark.parametrize(
    ("step", "columns", "reason"),
    [
        (Pipeline([("fill", SimpleImputer()), ("power", PowerTransformer())]), list(NUMERIC), "PowerTransformer"),
        (one_to_one(np.isnan), list(NUMERIC), "isnan"),
        (one_to_one(np.clip, kw_args={"a_min": 0, "a_max": 1}), list(NUMERIC), "FunctionTransformer of 'clip'"),
        (one_to_one(np.round, kw_args={"decimals": 1}), list(NUMERIC), "FunctionTransformer of 'round'"),
        (one_to_one(np.square, kw_args={"dtype": "f4"}), list(NUMERIC), "FunctionTransformer of 'square'"),
        (one_to_one(square), list(NUMERIC), "FunctionTransformer of 'square'"),
        (SimpleImputer(missing_values=-1.0), list(NUMERIC), "missing_values=-1.0"),
        (SimpleImputer(), ["empty", "a"], "a column that had no value in training"),
        ("passthrough", [*NUMERIC, *CATEGORICAL], "in one transformer"),
        ("passthrough", list(CATEGORICAL), "FunctionTransformer of categorical columns"),
        ("drop", list(NUMERIC), "no features"),
        ("passthrough", [], "no features"),
        (CountVectorizer(), "kind", "a column given as 'kind' and not as a list"),
        ("passthrough", slice("a", "b"), "a slice of names"),
        (one_to_one(np.square), ["b", "a"], "a function of columns that are not in the order of the data"),
        ("passthrough", ["a", "stranger"], r"columns \['stranger'\] that the contract does not have"),
        (text_pipeline(strategy="most_frequent", missing_values="x"), ["kind"], "another missing value than NaN"),
        (text_pipeline(strategy="constant", fill_value=5), ["kind"], "SimpleImputer of categories with 5"),
        (text_pipeline(strategy="most_frequent", add_indicator=True), ["kind"], "with an indicator"),
        (OneHotEncoder(categories=[["x", "y", "z", "rare", "rarer", None]]), ["kind"], "None among its categories"),
        (OrdinalEncoder(categories=[[*map(str, range(20_001))]]), ["digit"], "more than 20000 categories"),
    ],
)
def test_what_is_not_known_is_named_and_left_to_scikit_learn(step: Any, columns: Any, reason: str) -> None:
    rows = training_rows(0)
    frame = pd.DataFrame(replace(rows, numbers=np.nan_to_num(rows.numbers)).columns())
    frame = frame.assign(empty=np.nan, stranger=1.0, digit="7")
    transformer = ColumnTransformer([("part", step, columns)]).fit(frame)
    known = {"empty": ColumnType.NUMERIC, "digit": ColumnType.CATEGORICAL}
    contract = contract_of(transformer)
    contract = replace(contract, columns=(*contract.columns, *(Column(*column) for column in known.items())))

    with pytest.raises(NotCovered, match=reason):
        compile_transformer(transformer, contract)


def test_as_many_as_20000_categories_are_compiled() -> None:
    encoder = OrdinalEncoder(categories=[[*map(str, range(20_000))]])
    transformer = ColumnTransformer([("part", encoder, ["kind"])]).fit(pd.DataFrame({"kind": ["7"]}))

    program = json.loads(compile_transformer(transformer, contract_of(transformer)))

    assert len(program["parts"][0]["encode"][0]["values"]) == 20_000


@pytest.mark.parametrize(
    "columns", [["c", "a"], [2, 0], slice(0, 3), slice(2, None, -2), [True, False, True, False, False]]
)
def test_columns_are_found_however_they_were_selected(columns: Any) -> None:
    rows = training_rows(0)
    transformer = fitted([("part", SimpleImputer(), columns)], rows)

    prove(compiled(transformer), FittedTransform(transformer), rows)


def test_a_transform_that_is_wrong_does_not_prove_itself() -> None:
    rows = training_rows(0)
    parts = [("numbers", Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler())]), list(NUMERIC))]
    transformer = fitted(parts, rows)
    program = json.loads(compile_transformer(transformer, contract_of(transformer)))
    divide = next(step for step in program["parts"][0]["steps"] if step["do"] == "divide")
    divide["values"][1] = float(np.nextafter(divide["values"][1], np.inf))

    with pytest.raises(NotCovered, match="other features than scikit-learn's"):
        prove(Transform.from_json(json.dumps(program)), FittedTransform(transformer), rows)


def test_edge_rows_hold_every_kind_of_edge() -> None:
    (rows,) = edge_rows(training_rows(0), ALL)

    for column in rows.numbers.T:
        assert {0.0, 5e-324, 1e300} <= set(column.tolist())
        assert np.isnan(column).any()
        assert (np.signbit(column) & (column == 0)).any()
    for texts in rows.texts:
        assert {None, "", "a stranger", "NA" if "NA" in texts else "nan"} <= set(texts)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_numpy_has_the_same_bits_wherever_its_numbers_stand(name: str) -> None:
    function = getattr(np, name)
    numbers = np.exp(np.random.default_rng(1).normal(0, 1, (257, 5)))

    whole = function(numbers)

    assert np.array_equal(whole, np.concatenate([function(numbers[i : i + 1]) for i in range(len(numbers))]))
    assert np.array_equal(whole, np.column_stack([function(np.ascontiguousarray(column)) for column in numbers.T]))


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"format": 2}', '{"format": 1, "numeric": [], "categorical": [], "parts": [{}]}',
        '{"format":1,"numeric":["a"],"categorical":[],"parts":[{"kind":"numeric","columns":["b"],"steps":[]}]}',
        '{"format":1,"numeric":["a"],"categorical":[],"parts":[{"kind":"numeric","columns":["a"],"steps":[{"do":"exec"}]}]}',
        '{"format":1,"numeric":["a"],"categorical":[],'
        '"parts":[{"kind":"numeric","columns":["a"],"steps":[{"do":"function","name":"load"}]}]}',
    ],
)  # fmt: skip
def test_a_transform_that_cannot_be_read_is_a_bad_artifact(text: str) -> None:
    with pytest.raises(BadArtifact):
        Transform.from_json(text)
