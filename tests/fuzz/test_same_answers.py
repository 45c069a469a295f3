"""Random rows: every way to send them and to ask for the answer gives what the libraries give, bit for bit.

Hypothesis draws a few cells for each column and makes the rows of them, so that one example is thousands of rows and a
failing one shrinks to a row of plain cells.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from featurizer.model import Featurizer
from predictor.model import Predictor
from serving.contract import MISSING, ColumnType
from serving.payload import CSV, JSON, JSONLINES, NPY, Payload, Stage, run_serially
from tests.fuzz.conftest import SEED, Budget
from tests.fuzz.oracle import Oracle
from tests.servers import Server
from tests.unit.test_parity import matrix, vector

FORMATS = (CSV, JSON, JSONLINES, NPY)
EXAMPLES = 10  # between two looks at the clock
LEAST_ROWS, ROWS_OF_A_LONG_RUN, LONG = 10_000, 100_000, 15.0
FEW = 60  # rows
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NEEDS_QUOTES = re.compile(r'[",]')

Table = list[list[str]]  # rows of cells as text


# --- rows


def number_texts(largest: float) -> st.SearchStrategy[str]:
    """Numbers, in any spelling that pandas takes."""
    floats = st.floats(-largest, largest, allow_subnormal=True)
    usual = st.floats(0, 1.5).map(lambda x: f"{x:.4g}")
    return st.one_of(
        usual,
        floats.map(repr),
        floats.map(lambda x: f"{x:.16e}"),
        st.decimals(-10, 10, places=20).map(str),
        st.integers(-(10**30), 10**30).map(str),
        st.tuples(st.sampled_from(["", " ", "\t", "  "]), usual, st.sampled_from(["", " ", "\t"])).map("".join),
        st.sampled_from(["0", "-0", "-0.0", "+0.5", ".5", "5.", "00.5", "5E-1", "1e-400", "4.9e-324", "1e5", "-.5e+1"]),
        st.sampled_from(sorted(MISSING)),
    )


def category_texts(known: Sequence[str]) -> st.SearchStrategy[str]:
    letters = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff")
    return st.one_of(
        st.sampled_from(known),
        st.sampled_from(
            ["", "NA", "1", "1.0", "True", " M", "M ", "m", '"', '""', ",", '"M"', "M,F", "#", "\x85\u2028"]
        ),
        st.text(letters, max_size=12),
    )


@st.composite
def tables(draw: st.DrawFn, columns: Sequence[st.SearchStrategy[str]]) -> Table:
    """Rows of a few cells for each column; now and then more rows than one block of text holds."""
    cells = [draw(st.lists(column, min_size=1, max_size=12)) for column in columns]
    count = draw(st.one_of(st.integers(1, 40), st.integers(1, 700), st.integers(1, 9000)))
    chance = Random(draw(st.integers(0, 2**32)))
    return [[chance.choice(column) for column in cells] for _ in range(count)]


# --- ways to send them


def plain(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if _NEEDS_QUOTES.search(cell) else cell


def as_csv(table: Table, end: str = "\n") -> str:
    return "".join(",".join(map(plain, row)) + end for row in table)


def in_quotes(table: Table) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(table)
    return buffer.getvalue()


@dataclass(frozen=True)
class Ways:
    """Every way to send a table whose columns have these names; those in `texts` hold text."""

    names: Sequence[str]
    texts: frozenset[str]
    label: str | None

    def of(self, table: Table, chance: Random) -> dict[str, Payload]:
        labelled = [[*row, "9"] for row in table]  # that is not named, so it must be one that training could have had
        named = [[*row, chance.choice(["9", "x", "NA"])] for row in table]
        order = chance.sample(range(len(self.names)), len(self.names))
        shuffled = [[row[i] for i in order] for row in table]
        names = [self.names[i] for i in order]
        lists = [self._values(row) for row in table]
        objects = [self._record(row, order) for row in table]
        bodies = {
            "CSV": (CSV, as_csv(table)),
            "CSV, no final newline": (CSV, as_csv(table).rstrip("\n")),
            "CSV, CRLF, BOM": (CSV, "\ufeff" + as_csv(table, "\r\n")),
            "CSV in quotes": (f"{CSV}; header=absent", in_quotes(table)),
            "CSV, shuffled columns": (CSV, as_csv([names, *shuffled])),
            "CSV, shuffled columns, said": (f"{CSV};header=present", in_quotes([names, *shuffled])),
            "JSON lists": (JSON, f"[{','.join(lists)}]"),
            "JSON objects": (JSON, f"[ {', '.join(objects)} ]"),
            "instances of lists": (JSON, f'{{"instances":[{",".join(lists)}]}}'),
            "instances of objects": (JSON, f'{{"instances":[{",".join(objects)}]}}'),
            "instances of features": (JSON, f'{{"instances":[{",".join(map(_wrapped, lists))}]}}'),
            "JSON Lines of lists": (JSONLINES, "\n".join(lists)),
            "JSON Lines of objects": (JSONLINES, "\r\n".join(objects) + "\r\n"),
            "JSON Lines of features": (JSONLINES, "\n".join(map(_wrapped, lists)) + "\n"),
        }
        if self.label:
            bodies["CSV with the label"] = (CSV, as_csv(labelled))
            bodies["CSV with the label first"] = (
                f"{CSV}; label=first",
                as_csv([[row[-1], *row[:-1]] for row in labelled]),
            )
            bodies["CSV with a header and the label"] = (CSV, as_csv([[*self.names, self.label], *named]))
            bodies["JSON lists with the label"] = (JSON, f"[{','.join(row[:-1] + ',9]' for row in lists)}]")
        if len(table) == 1:
            bodies |= {"one list": (JSON, lists[0]), "one object": (JSON, objects[0])}
        return {kind: Payload(body.encode(), media) for kind, (media, body) in bodies.items()}

    def _values(self, row: Sequence[str]) -> str:
        return f"[{','.join(map(self._json, self.names, row))}]"

    def _record(self, row: Sequence[str], order: Sequence[int]) -> str:
        pairs = (f"{json.dumps(self.names[i])}: {self._json(self.names[i], row[i])}" for i in order)
        return f"{{{', '.join(pairs)}}}"

    def _json(self, name: str, cell: str) -> str:
        if name in self.texts:
            return "null" if cell == "" else json.dumps(cell, ensure_ascii=len(cell) % 2 == 0)
        if cell in MISSING:
            return "null"
        # its own digits where JSON has them
        return cell if _JSON_NUMBER.fullmatch(cell) else repr(float(cell))


def _wrapped(row: str) -> str:
    return f'{{"features":{row}}}'


def cut(table: Table, chance: Random) -> list[Table]:
    """The table in pieces of consecutive rows."""
    ends = sorted({*chance.choices(range(1, len(table) + 1), k=4), len(table)})
    return [table[start:end] for start, end in zip([0, *ends], ends, strict=False)]


# --- the run


def explore(budget: Budget, columns: Sequence[st.SearchStrategy[str]], holds: Callable[[Table, Random], None]) -> None:
    """Look for a table for which it does not hold, until the time is over and rows enough were compared."""
    rows = examples = 0

    def counted(table: Table, chance: int) -> None:
        nonlocal rows, examples
        rows, examples = rows + len(table), examples + 1
        holds(table, Random(chance))

    quiet = settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate, Phase.shrink],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    least = ROWS_OF_A_LONG_RUN if budget.seconds >= LONG else LEAST_ROWS
    while budget.lasts() or rows < least:
        run = given(tables(columns), st.integers(0, 2**32))(counted)
        seed(budget.random.getrandbits(64))(quiet(run))()
    budget.say(f"{rows} rows in {examples} tables")


def same(got: NDArray[Any], owed: NDArray[Any], what: str) -> None:
    __tracebackhide__ = True
    if got.tobytes() == owed.tobytes():
        return
    assert got.shape == owed.shape, f"FUZZ_SEED={SEED}: {what}: {got.shape}, the libraries give {owed.shape}"
    row = next(row for row in range(len(owed)) if got[row].tobytes() != owed[row].tobytes())
    raise AssertionError(f"FUZZ_SEED={SEED}: {what}, row {row + 1}: {got[row]!r}, the libraries give {owed[row]!r}")


def check_ways(
    stage: Stage, read: Callable[[Payload], NDArray[Any]], ways: dict[str, Payload], owed: NDArray[Any], chance: Random
) -> None:
    """Every way to send a few rows, and some ways to send many."""
    kinds = list(ways) if len(owed) <= FEW else chance.sample(list(ways), 3)
    for kind in kinds:
        same(read(stage(ways[kind])), owed, kind)


def check_pieces(
    stage: Stage, read: Callable[[Payload], NDArray[Any]], table: Table, owed: NDArray[Any], chance: Random
) -> None:
    """In pieces, and in another order."""
    pieces = [read(stage(Payload(as_csv(piece).encode(), CSV))) for piece in cut(table, chance)]
    same(np.concatenate(pieces), owed, "in pieces")
    order = chance.sample(range(len(table)), len(table))
    same(read(stage(Payload(as_csv([table[i] for i in order]).encode(), CSV))), owed[order], "shuffled")


@pytest.fixture(scope="module")
def oracle(artifacts: Path) -> Oracle:
    return Oracle(artifacts)


def raw_columns(oracle: Oracle, largest: float) -> list[st.SearchStrategy[str]]:
    return [
        category_texts(column.categories) if column.type is ColumnType.CATEGORICAL else number_texts(largest)
        for column in oracle.contract.inputs
    ]


def ways_of_records(oracle: Oracle) -> Ways:
    texts = frozenset(column.name for column in oracle.contract.inputs if column.type is ColumnType.CATEGORICAL)
    label = oracle.contract.label
    return Ways([column.name for column in oracle.contract.inputs], texts, label.name if label else None)


def test_random_records_get_the_features_of_scikit_learn(artifacts: Path, oracle: Oracle, budget: Budget) -> None:
    featurize = Featurizer.load(artifacts / "featurizer" / "model")
    ways = ways_of_records(oracle)

    def holds(table: Table, chance: Random) -> None:
        body = as_csv(table).encode()
        owed = oracle.answer("featurizer", body, CSV, "absent")
        assert len(owed) == len(table)
        check_ways(featurize, matrix, ways.of(table, chance), owed, chance)
        for media in FORMATS:
            exact = owed.astype(np.float32) if media == NPY else owed
            same(matrix(featurize(Payload(body, CSV, media))), exact, f"answered in {media}")
        check_pieces(featurize, matrix, table, owed, chance)

    explore(budget, raw_columns(oracle, 1e30), holds)


def test_random_features_get_the_predictions_of_xgboost(artifacts: Path, oracle: Oracle, budget: Budget) -> None:
    predict = Predictor.load(artifacts / "predictor" / "model")
    ways = Ways(list(oracle.contract.features), frozenset(), None)
    splits = sorted(map(float, oracle.booster.trees_to_dataframe()["Split"].dropna()))
    # at a split of a tree, and beside it
    nearby = [
        x for s in splits for x in (s, *(np.nextafter(np.float32(s), np.float32(to)) for to in (-math.inf, math.inf)))
    ]
    cells = st.one_of(st.sampled_from(nearby).map(lambda x: repr(float(x))), number_texts(3e38))

    def holds(table: Table, chance: Random) -> None:
        body = as_csv(table).encode()
        owed = oracle.answer("predictor", body, CSV, "absent")
        assert len(owed) == len(table)
        check_ways(predict, vector, ways.of(table, chance) | arrays(table), owed, chance)
        for media in FORMATS:
            same(vector(predict(Payload(body, CSV, media))), owed, f"answered in {media}")
        check_pieces(predict, vector, table, owed, chance)

    explore(budget, [cells] * len(oracle.contract.features), holds)


def arrays(table: Table) -> dict[str, Payload]:
    """The table as NumPy saves it, in the types that hold its numbers exactly."""
    doubles = np.array([["nan" if cell in MISSING else cell for cell in row] for row in table], dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        singles = doubles.astype(np.float32)
    made = {
        "NPY float64": doubles,
        "NPY float32": singles,
        "NPY in Fortran's order": np.asfortranarray(doubles),
        "NPY big-endian": doubles.astype(">f8"),
        "NPY of a strided array": np.repeat(singles, 2, axis=0)[::2],
    }
    bodies = {kind: _saved(array) for kind, array in made.items()}
    bodies["NPY, not aligned"] = _not_aligned(bodies["NPY float32"])
    if len(table) == 1:
        bodies["NPY of one dimension"] = _saved(doubles[0])
    return {kind: Payload(body, NPY) for kind, body in bodies.items()}


def _saved(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _not_aligned(body: bytes) -> bytes:
    """The same with a header of odd length."""
    end = 10 + int.from_bytes(body[8:10], "little")
    return body[:8] + (end - 9).to_bytes(2, "little") + body[10 : end - 1] + b" \n" + body[end:]


def test_random_records_get_the_same_from_the_single_container(oracle: Oracle, budget: Budget, single: Server) -> None:
    ways = ways_of_records(oracle)

    def stage(payload: Payload) -> Payload:
        answer = single.invoke(payload.body, payload.content_type, Accept=payload.accept or "*/*")
        assert answer.status == 200, answer.body
        return Payload(answer.body, answer.content_type)

    def holds(table: Table, chance: Random) -> None:
        body = as_csv(table).encode()
        owed = oracle.answer("pipeline", body, CSV, "absent")
        check_ways(stage, vector, ways.of(table, chance), owed, chance)
        for media in FORMATS:
            same(vector(stage(Payload(body, CSV, media))), owed, f"answered in {media}")

    explore(budget, raw_columns(oracle, 1e30), holds)


def test_random_records_get_the_predictions_of_both_libraries(artifacts: Path, oracle: Oracle, budget: Budget) -> None:
    predict = Predictor.load(artifacts / "predictor" / "model")
    hops = [Featurizer.load(artifacts / "featurizer" / "model", default_accept=media) for media in FORMATS]

    def holds(table: Table, chance: Random) -> None:
        body = as_csv(table).encode()
        owed = oracle.predictions(oracle.answer("featurizer", body, CSV, "absent"))
        for hop, featurize in zip(FORMATS, hops, strict=True):
            media = chance.choice(FORMATS)
            got = vector(run_serially([featurize, predict], Payload(body, CSV, media)))
            same(got, owed, f"by way of {hop}, answered in {media}")

    explore(budget, raw_columns(oracle, 1e30), holds)
