"""The proof that a compiled transform is scikit-learn's: what differs in one row of any of its comparisons is found."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from featurizer import proof
from featurizer.compile import NotCovered
from featurizer.proof import ALONE, STRANGERS, TOGETHER, edge_rows, prove
from featurizer.records import Records

COUNT = 30
RANDOM = np.random.default_rng(6)
ROWS = Records(
    ("size",), ("kind",), np.where(np.arange(COUNT) % 9, RANDOM.normal(size=COUNT), np.nan)[:, np.newaxis],
    ([None if row % 7 == 0 else "ab"[row % 2] for row in range(COUNT)],),
)  # fmt: skip
(EDGES,) = edge_rows(ROWS, 1 << 30)


def transform(records: Records) -> Any:
    """What both give but for the differences."""
    return np.column_stack([np.nan_to_num(records.numbers), [text == "a" for text in records.texts[0]]])


def off(where: Callable[[Records], Any]) -> Callable[[Records], Any]:
    """The same, a bit off in some rows."""

    def changed(records: Records) -> Any:
        features = transform(records)
        features[where(records), 0] = np.nextafter(features, -1 - features)[where(records), 0]
        return features

    return changed


def refusing(where: Callable[[Records], Any]) -> Callable[[Records], Any]:
    def refuse(records: Records) -> Any:
        if np.any(where(records)):
            raise ValueError
        return transform(records)

    return refuse


def infinite(where: Callable[[Records], Any]) -> Callable[[Records], Any]:
    def changed(records: Records) -> Any:
        features = transform(records)
        features[where(records), 1] = np.inf
        return features

    return changed


def number(value: float) -> Callable[[Records], Any]:
    return lambda records: records.numbers[:, 0] == value


def text(value: str | None) -> Callable[[Records], Any]:
    return lambda records: np.array([one == value for one in records.texts[0]], dtype=bool)


ROW: dict[str, Callable[[Records], Any]] = {
    "a row that was learned": number(ROWS.numbers[4, 0]),
    "the last row": number(ROWS.numbers[-1, 0]),
    "a missing number": lambda records: np.isnan(records.numbers[:, 0]),
    "a number beside a known one": number(float(np.nextafter(np.nanmin(ROWS.numbers), np.inf))),
    "an extreme number": number(-1.7976931348623157e308),
    "a missing category": text(None),
    "an unseen category": text("a stranger"),
}
BATCH: dict[str, Callable[[Records], Any]] = {
    "a row alone": lambda records: np.full(len(records), len(records) == 1),
    "rows in chunks": lambda records: np.full(len(records), len(records) == TOGETHER),
    "all rows together": lambda records: np.full(len(records), len(records) == COUNT),
    "all edges together": lambda records: np.full(len(records), len(records) == len(EDGES)),
}


def test_the_same_features_are_proved_on_all_rows() -> None:
    chunks = -(-ALONE * TOGETHER // TOGETHER) * TOGETHER

    assert prove(transform, transform, ROWS) == COUNT + len(EDGES) + 2 * ALONE + chunks


@pytest.mark.parametrize(
    ("kind", "change"),
    [*itertools.product(ROW, (off, refusing, infinite)), *itertools.product(BATCH, (off, infinite))],
)
def test_what_only_one_of_both_gives_is_found(kind: str, change: Callable[[Any], Any]) -> None:
    other = change((ROW | BATCH)[kind])

    for compiled, fitted in ((transform, other), (other, transform)):
        with pytest.raises(NotCovered, match=r"other features than scikit-learn's for row \d+ of \{'size': .*'kind': "):
            prove(compiled, fitted, ROWS)


@pytest.mark.parametrize("kind", ROW)
def test_a_row_may_be_refused_before_or_after_its_features_are_made(kind: str) -> None:
    where = ROW[kind]

    assert prove(refusing(where), infinite(where), ROWS) == prove(infinite(where), refusing(where), ROWS) > COUNT


def test_the_row_that_differs_is_shown() -> None:
    other = off(number(ROWS.numbers[4, 0]))

    with pytest.raises(NotCovered) as difference:
        prove(transform, other, ROWS)

    shown = {"size": ROWS.numbers[4, 0], "kind": ROWS.texts[0][4]}
    assert str(difference.value) == f"other features than scikit-learn's for row 4 of {shown}"


def test_edges_are_tried_in_each_column_and_mixed() -> None:
    known = set(np.round(ROWS.numbers[~np.isnan(ROWS.numbers)], 12).tolist())
    numbers, texts = EDGES.numbers[:, 0], EDGES.texts[0]
    third = len(EDGES) // 3

    assert {*STRANGERS, "a", "b", None} == set(texts[third : 2 * third]) == set(texts[2 * third :])
    assert set(texts[:third]) == {"a", "b", None}
    assert {1e300, -1e300, 5e-324} <= set(numbers[:third].tolist()) & set(numbers[2 * third :].tolist())
    assert set(np.round(numbers[third : 2 * third][~np.isnan(numbers[third : 2 * third])], 12).tolist()) <= known


def test_edge_rows_are_the_same_in_blocks() -> None:
    blocks = list(edge_rows(ROWS, 7))

    assert max(map(len, blocks)) == 7
    assert np.concatenate([block.numbers for block in blocks]).tobytes() == EDGES.numbers.tobytes()
    texts = [list(itertools.chain(*(block.texts[at] for block in blocks))) for at in range(len(EDGES.texts))]
    assert texts == list(EDGES.texts)


def test_a_proof_holds_few_rows_of_many_features_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "CELLS", 1000)
    held = []

    def wide(records: Records) -> NDArray[np.float64]:
        held.append(len(records))
        return np.zeros((len(records), 100))

    prove(wide, wide, ROWS)

    assert max(held) == ALONE * TOGETHER < len(EDGES)
