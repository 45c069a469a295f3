"""The rows that `package` compares on: they hold whatever may make a difference, and are always the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.adopt.columns import Derived
from pipeline.adopt.rows import COUNT, accepted, feature_rows, needed, raw_rows, sample
from serving.contract import Column, ColumnType
from serving.training import BadJob

SIZE = Column("size", ColumnType.NUMERIC)
KIND = Column("kind", ColumnType.CATEGORICAL, ("a", "NA", "b"))


def tree(*splits: tuple[int, float]) -> dict[str, list[Any]]:
    """Nodes that split features at thresholds, and one leaf, whose value stands where their thresholds do."""
    return {
        "split_indices": [*(feature for feature, _ in splits), 0],
        "split_conditions": [*(threshold for _, threshold in splits), 77.0],
        "left_children": [*range(1, len(splits) + 1), -1],
    }


def test_features_lie_on_both_sides_of_every_threshold_and_on_it() -> None:
    rows = feature_rows([tree((0, 0.5), (2, -3.25)), tree((0, 1e30), (0, 0.5))], 3)

    assert (rows.shape, rows.dtype, rows.flags.c_contiguous) == ((COUNT, 3), np.float32, True)
    common = {0, -1, 1, 0.5}
    for feature, thresholds in enumerate([(0.5, 1e30), (), (-3.25,)]):
        edges = np.array(thresholds, np.float32)
        beside = {float(np.nextafter(edge, np.float32(side))) for edge in edges for side in (-np.inf, np.inf)}
        values = rows[:, feature]
        assert set(values[~np.isnan(values)].tolist()) == common | set(edges.tolist()) | beside
        assert np.isnan(values[2:]).any()
    assert np.isnan(rows[0]).all()
    assert (rows[1] == 0).all()
    assert feature_rows([tree((0, 0.5))], 1).tobytes() == feature_rows([tree((0, 0.5))], 1).tobytes()


def test_of_many_thresholds_the_least_the_greatest_and_some_between_are_tried() -> None:
    rows = feature_rows([tree(*((0, float(number)) for number in range(2, 1002)))], 1)[:, 0]

    tried = {number for number in rows[~np.isnan(rows)].round().tolist() if number >= 2}
    assert len(tried) > 20
    assert tried <= set(np.linspace(2, 1001, 64).astype(int).tolist())
    assert max(tried) - min(tried) > 900


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    known = Derived(Column("price", ColumnType.NUMERIC), (5.0, 1000.0))
    whole = Derived(Column("rooms", ColumnType.NUMERIC, whole=True), (4.0,))
    return raw_rows([Derived(SIZE), known, Derived(KIND), Derived(Column("text", ColumnType.CATEGORICAL)), whole])


def test_raw_rows_have_known_values_others_around_them_and_missing_ones(raw: pd.DataFrame) -> None:
    assert raw.dtypes.astype(str).to_dict() == {
        "size": "float64",
        "price": "float64",
        "kind": "str",
        "text": "str",
        "rooms": "int64",
    }
    assert len(raw) == COUNT
    for name, around in (("size", {0.0, 1.0, 10.0}), ("price", {5.0, 1000.0})):
        values = set(raw[name].dropna())
        assert around < values
        assert len(values) > COUNT / 4
        assert min(values) > -5
        assert max(values) < 3 * max(around) + 1
    assert set(raw["kind"].dropna()) == {"a", "b"}  # serving takes NA as missing
    assert set(raw["text"].dropna()) == {"a", "b"}


def test_raw_rows_are_whole_at_first_and_miss_a_value_here_and_there(raw: pd.DataFrame) -> None:
    missing = raw.isna()

    assert not missing[: COUNT // 4].any().any()
    for name in raw.columns[:-1]:
        assert 0 < missing[name].sum() < COUNT / 4
    assert (missing.sum(axis=1) == 1).any()
    pd.testing.assert_frame_equal(raw_rows([Derived(SIZE)]), raw_rows([Derived(SIZE)]))


def refusing(*numbers: int) -> Any:
    """A transform of whole columns that refuses some numbers, and missing ones."""

    def transform(rows: pd.DataFrame) -> None:
        if rows["size"].isin(numbers).any() or rows["size"].isna().any():
            raise TypeError

    return transform


@pytest.mark.parametrize("numbers", [(), (0,), (9,), (3, 4, 8), tuple(range(10))])
def test_rows_that_a_transform_refuses_are_left_out_and_the_others_in_their_order(numbers: tuple[int, ...]) -> None:
    rows = pd.DataFrame({"size": np.arange(10.0)})

    assert accepted(refusing(*numbers), rows)["size"].tolist() == [one for one in range(10) if one not in numbers]


def test_what_is_no_refusal_is_not_taken_for_one() -> None:
    def broken(_rows: pd.DataFrame) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        accepted(broken, pd.DataFrame({"size": [1.0, 2.0]}))


def test_a_column_is_needed_where_a_whole_row_is_refused_without_it() -> None:
    rows = pd.DataFrame({"size": [1, 2, np.nan], "rare": [1, 2, np.nan], "other": [1, np.nan, 3]})
    taken = accepted(refusing(), rows)

    assert needed(refusing(), rows, taken) == ("size",)
    assert needed(refusing(), rows, taken[:0]) == ()


def test_a_sample_is_read_as_pandas_reads_it(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("kind,other,size,rooms,code,flat\nNA,x,1e2,1,007,2\na,x,,2,1,\n,x,7,3,2,3\n\n")
    rooms, code = Column("rooms", ColumnType.NUMERIC), Column("code", ColumnType.CATEGORICAL)
    others = [rooms, code, Column("flat", ColumnType.NUMERIC)]

    read = sample(tmp_path / "rows.csv", [SIZE, KIND])
    assert sample(tmp_path / "rows.csv", others).to_numpy().tolist()[0] == [1, "007", 2.0]
    undecided = sample(tmp_path / "rows.csv", others, ["rooms", "code", "flat"])
    assert undecided.dtypes.astype(str).tolist() == ["int64", "int64", "float64"]
    written = sample(tmp_path / "rows.csv", [KIND], as_written=True)

    assert list(read) == ["size", "kind"]
    assert read["size"].tolist()[::2] == [100, 7]
    assert read.isna().to_numpy().tolist() == [[False, True], [True, False], [False, True]]
    assert written["kind"].fillna("-").tolist() == ["NA", "a", "-"]
    with pytest.raises(BadJob, match="expected a column width, got kind, other, size"):
        sample(tmp_path / "rows.csv", [SIZE, Column("width", ColumnType.NUMERIC)])
