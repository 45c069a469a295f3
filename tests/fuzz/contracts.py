"""Random contracts with small models of their own, and random bodies for them: good rows that are then damaged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pandas as pd

from featurizer import train as featurizer
from featurizer.schema import BadDataset, Schema
from predictor import search
from predictor import train as predictor
from serving.contract import MISSING, Column, ColumnType, LabelPlace, Task
from serving.payload import CSV, JSON, JSONLINES
from tests.fuzz.frames import Label, Table, missing_words

SEARCH = {"repeats": 1, "folds": 2, "rounds": 4, "grid": {"max_depth": [3], "eta": [0.5]}}
ROWS = 60
WORDS = ["age", "width", "kind", "city", "colour", "rooms", "price", "weight", "sex", "area", "depth", "grade", "note"]
ODD = ["NA", "a b", "é", "a,b", 'q"x', "1", "None", " sp", "Age", "x;y", "true", "#n", "instances", "features", "0.5",
       "nan", "-1", "rings", "x=1", "\U0001f41a", "header", "kind_F", "id", "index", "1e5", "sep=", "'"]  # fmt: skip
CATEGORIES = ["F", "M", "I", "red", "blue", "NA", "1", "a,b", 'say "x"', "None", "nan", "0", "é", " a", "a ", "a",
              "A", "true", "1.0", "-", "?", "missing", "NULL", "n/a", "x;y", "x\ty", "''", "kind", "0.5"]  # fmt: skip
OWN_WORDS = ["?", "-", "none", "NA", "null", "unknown", " "]
CLASSES = ["yes", "no", "maybe", "a,b", "Yes", "0.5", "true"]
NUMBERS = ["-0", "-0", "-0", "-0.0",
           "+1", ".5", "5.", "1e3", "1E-2", " 2.5", "3 ", "\t1", "007", "1e-400", "5e-324", "1" * 30, "-.5e+1",
           "0.1000000000000000055511151231257827", "9007199254740993", "1,5", "1_0", "0x1", "inf", "1e400", "50%",
           "\uff11", "1 0", "--1", "1e", "1e30", "3.5e38", "True", "9" * 65, "2.2250738585072011e-308",
           "0.30000000000000004", "8.41470984807896506"]  # fmt: skip
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_QUOTED = re.compile(r'[",\r\n]')


@dataclass(frozen=True)
class Trained:
    """A random contract whose models are trained, with the good cells that its bodies are made of."""

    schema: Schema
    table: Table
    rows: list[list[str]]  # of inputs
    labels: list[str]
    artifacts: Path

    @property
    def drawn(self) -> tuple[Table, list[list[str]], list[str]]:
        """What bodies are drawn from."""
        return self.table, self.rows, self.labels


def trained(chance: Random, out: Path) -> Trained:
    """A contract that training takes: now and then two names make one feature, or no cell of a column is there."""
    while True:
        schema, columns = _schema(chance), {}
        for column in schema.inputs:
            columns[column.name] = _cells(column, chance)
        columns[schema.label] = labels = _labels(schema.task, chance)
        frame = pd.DataFrame({column.name: columns[column.name] for column in schema.columns}, dtype=object)
        try:
            fitted = featurizer.fit(schema, frame, {"seed": 7})
        except BadDataset:
            continue
        learned = search.learn(fitted.features, fitted.target, fitted.contract, 7)
        models = [out / stage / "model" for stage in ("featurizer", "predictor")]
        for model in models:
            model.mkdir(parents=True)
        featurizer.write(fitted, models[0])
        predictor.write(learned.booster, predictor.with_versions(fitted.contract), models[1])
        rows = [list(row) for row in zip(*(columns[column.name] for column in schema.inputs), strict=True)]
        known = [
            replace(column, categories=tuple({*columns[column.name]} - missing_words(column)))
            for column in schema.inputs
        ]
        table = Table(tuple(known), Label.of(schema, labels), schema.labelled_rows)
        return Trained(schema, table, rows, labels, out)


def _schema(chance: Random) -> Schema:
    count = chance.choice([1, 1, 2, 3, 4, 5, 6, 8, 10, 12])
    numbered = list(map(str, range(count)))
    names = chance.choice(
        [chance.sample(WORDS, count), chance.sample(WORDS, count), numbered, chance.sample(WORDS + ODD * 2, count)]
    )
    if len(set(names)) < count:
        names = chance.sample(ODD, count)
    kinds = chance.choice([["numeric"], ["categorical"], ["numeric", "categorical"]])
    inputs = [_column(name, ColumnType(chance.choice(kinds)), chance) for name in names]
    spare = [name for name in ("rings", "label", "y", "12", "target of it") if name not in names]
    inputs.insert(chance.choice([0, count, count // 2]), Column(chance.choice(spare), ColumnType.LABEL))
    place = chance.choice(list(LabelPlace))
    return Schema("random", Task(chance.choice(list(Task))), tuple(inputs), search=SEARCH, labelled_rows=place)


def _column(name: str, kind: ColumnType, chance: Random) -> Column:
    own = kind is ColumnType.CATEGORICAL and chance.random() < 0.3
    return Column(name, kind, missing=tuple(chance.sample(OWN_WORDS, chance.randint(0, 2))) if own else None)


def _cells(column: Column, chance: Random) -> list[str]:
    known = [*chance.sample(CATEGORIES, chance.randint(2, 6)), *([column.name] if chance.random() < 0.3 else [])]
    spelt = chance.choice(["whole", "short", "long", "few", "wide", "signs"])
    holes = chance.choice([0, 0, 0.1])
    words = sorted(missing_words(column))
    if spelt == "signs" and column.type is ColumnType.NUMERIC:  # of mean 0, which shows the sign of a zero
        return chance.sample(["-1", "1", "-0"] * (ROWS // 3), ROWS)
    found = [chance.choice(known) if column.type is ColumnType.CATEGORICAL else _number(spelt, chance)
             for _ in range(ROWS)]  # fmt: skip
    return [chance.choice(words) if chance.random() < holes else cell for cell in found]


def _number(spelt: str, chance: Random) -> str:
    if spelt == "whole":
        return str(chance.randint(-3, 30))
    if spelt == "few":
        return chance.choice(["0", "1"])
    number = chance.gauss(1, 2)
    return (
        f"{number:.3f}" if spelt == "short" else repr(number if spelt == "long" else number * 10 ** chance.gauss(0, 5))
    )


def _labels(task: Task, chance: Random) -> list[str]:
    if task is Task.REGRESSION:
        whole = chance.random() < 0.5
        return [str(chance.randint(1, 20)) if whole else f"{chance.uniform(0, 20):.2f}" for _ in range(ROWS)]
    count = 2 if task is Task.BINARY else chance.randint(3, 4)
    classes = chance.choice(
        [chance.sample(CLASSES, count), list(map(str, range(count))), ["2", "10", "1", "0"][:count]]
    )
    return [classes[at % count] for at in chance.sample(range(ROWS), ROWS)]


# --- bodies


@dataclass
class Draft:
    """A body before it is written. `blank`: where blank lines stand; `header` None: the rows have no names."""

    table: Table
    pool: list[list[str]]
    labels: list[str]
    rows: list[list[str]]
    media: str = CSV
    header: list[str] | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    separator: str = ","
    quote: str = "as needed"
    end: str = "\n"
    start: str = ""
    final: str = "\n"
    blank: list[int] = field(default_factory=list)
    trailing: str = ""
    strings: bool = False  # JSON has its numbers in quotes

    def write(self) -> bytes:
        if self.media == CSV:
            lines = [self._line(row) + self.trailing for row in [self.header, *self.rows] if row is not None]
            for at in self.blank:
                lines.insert(at if at >= 0 else len(lines) + 1 + at, "")
            return (self.start + self.end.join(lines) + self.final.replace("\n", self.end)).encode()
        rows = list(map(self._json, self.rows))
        if self.quote == "all":
            rows = [f'{{"features": {row}}}' for row in rows]
        if self.media == JSONLINES:
            for at in self.blank:
                rows.insert(at if at >= 0 else len(rows) + 1 + at, "")
            return (self.start + self.end.join(rows) + self.final.replace("\n", self.end)).encode()
        text = rows[0] if len(rows) == 1 and not self.final else f"[{', '.join(rows)}]"
        return (self.start + (f'{{"instances": {text}}}' if self.end == "\r\n" else text)).encode()

    def _line(self, row: Sequence[str]) -> str:
        if self.quote == "none":
            return self.separator.join(row)
        cells = ['"' + cell.replace('"', '""') + '"' if self.quote == "all" or _QUOTED.search(cell)
                 or (cell == "" and len(row) == 1) else cell for cell in row]  # fmt: skip
        return self.separator.join(cells)

    def _json(self, row: Sequence[str]) -> str:
        names = self.header or self._names(len(row))
        texts = {column.name for column in self.table.inputs if column.type is ColumnType.CATEGORICAL}
        cells = [
            _value(cell, name in texts, self.strings)
            for name, cell in zip([*names, *[""] * len(row)], row, strict=False)
        ]
        if self.header is None:
            return f"[{', '.join(cells)}]"
        pairs = (f"{json.dumps(name)}: {cell}" for name, cell in zip(names, cells, strict=False))
        return f"{{{', '.join(pairs)}}}"

    def _names(self, width: int) -> list[str]:
        names = [column.name for column in self.table.inputs]
        if width == len(names) or self.table.label is None:
            return names
        name = self.table.label.name
        first = self.parameters.get("label", self.table.place) == "first"
        return [name, *names] if first else [*names, name]


def _value(cell: str, text: bool, strings: bool) -> str:
    if not text and cell in ("NaN", "True"):
        return {"NaN": "NaN", "True": "true"}[cell]  # as json.dumps writes them
    if cell == "" or (not text and cell in MISSING):
        return "null"
    if text or strings or not re.fullmatch(r"\s*[+-]?[0-9.]+([eE][+-]?[0-9]+)?\s*", cell, re.ASCII):
        return json.dumps(cell, ensure_ascii=len(cell) % 2 == 0)
    if _JSON_NUMBER.fullmatch(cell):
        return cell
    try:
        return repr(float(cell)).replace("inf", "1e999")
    except ValueError:
        return json.dumps(cell)


def body(chance: Random, table: Table, pool: list[list[str]], labels: list[str]) -> tuple[str, Draft]:
    """What was done to good rows, by the first of its names, and the body."""
    rows = [list(chance.choice(pool)) for _ in range(chance.choice([1, 1, 2, 3, 5, 9]))]
    draft = Draft(table, pool, labels, rows, chance.choice([CSV, CSV, CSV, CSV, JSON, JSONLINES]))
    if chance.random() < 0.4:
        draft.header = [column.name for column in table.inputs]
    kinds = chance.sample(sorted(DAMAGES), chance.choice([0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3]))
    for kind in kinds:
        DAMAGES[kind](draft, chance)
    return (kinds or ["good rows"])[0], draft


def _some_row(draft: Draft, chance: Random) -> list[str]:
    return chance.choice(draft.rows) if draft.rows else []


def _every(draft: Draft) -> list[list[str]]:
    """All rows, the header among them."""
    return [*([draft.header] if draft.header is not None else []), *draft.rows]


def _spot(row: Sequence[str], chance: Random) -> int:
    return chance.randrange(len(row)) if row else 0


def _set(draft: Draft, chance: Random, cell: str, kind: ColumnType | None = None) -> None:
    """Write a cell somewhere, in a column of that kind if there is one."""
    row = _some_row(draft, chance)
    spots = [at for at, column in enumerate(draft.table.inputs) if kind in (None, column.type) and at < len(row)]
    if row:
        row[chance.choice(spots) if spots else _spot(row, chance)] = cell


def _drop_cell(draft: Draft, chance: Random) -> None:
    row = _some_row(draft, chance)
    del row[_spot(row, chance) : _spot(row, chance) + 1]


def _add_cell(draft: Draft, chance: Random) -> None:
    row, cell = _some_row(draft, chance), chance.choice(["", "1", "F", "0.5", "x"])
    row.insert(chance.choice([0, len(row), _spot(row, chance)]), cell)


def _double_cell(draft: Draft, chance: Random) -> None:
    row = _some_row(draft, chance)
    if row:
        at = _spot(row, chance)
        row.insert(at, row[at])


def _swap_cells(draft: Draft, chance: Random) -> None:
    row = _some_row(draft, chance)
    if row:
        one, other = _spot(row, chance), _spot(row, chance)
        row[one], row[other] = row[other], row[one]


def _swap_columns(draft: Draft, chance: Random) -> None:
    width = min(map(len, draft.rows), default=0)
    if width:
        one, other = chance.randrange(width), chance.randrange(width)
        for row in draft.rows if chance.random() < 0.5 else _every(draft):
            if max(one, other) < len(row):
                row[one], row[other] = row[other], row[one]


def _reorder(draft: Draft, chance: Random) -> None:
    """Columns in another order, with their names."""
    draft.header = [column.name for column in draft.table.inputs]
    order = chance.sample(range(len(draft.header)), len(draft.header))
    if all(len(row) == len(order) for row in draft.rows):
        draft.header = [draft.header[at] for at in order]
        draft.rows = [[row[at] for at in order] for row in draft.rows]


def _index_first(draft: Draft, chance: Random) -> None:
    for number, row in enumerate(draft.rows):
        row.insert(0, str(number))
    if draft.header is not None:
        draft.header.insert(0, chance.choice(["", "index", "Unnamed: 0"]))
    elif chance.random() < 0.3:
        draft.header = list(map(str, range(len(draft.rows[0]))))


def _label(draft: Draft, chance: Random, *, first: bool) -> None:
    bad = chance.random() < 0.2
    for row in draft.rows:
        cell = chance.choice(["", "NA", "999", "-1", "0.5", "1.0", "x"]) if bad else chance.choice(draft.labels)
        row.insert(0 if first else len(row), cell)
    if draft.header is not None and draft.table.label:
        draft.header.insert(0 if first else len(draft.header), draft.table.label.name)
    if chance.random() < 0.5:
        name, value = chance.choice([("label", "first" if first else "last"), ("label_size", "1")])
        draft.parameters[name] = value


def _parameter(draft: Draft, chance: Random) -> None:
    name, values = chance.choice(
        [("header", ["present", "absent", "Present", "yes"]), ("header", ["present", "absent"]),
         ("label", ["first", "last", "none", "x"]), ("label_size", ["0", "1", "2"]), ("charset", ["utf-8", "latin-1"])]
    )  # fmt: skip
    draft.parameters[name] = chance.choice(values)


def _honest_header(draft: Draft, _chance: Random) -> None:
    draft.parameters["header"] = "absent" if draft.header is None else "present"


def _header_one_wrong(draft: Draft, chance: Random) -> None:
    draft.header = [column.name for column in draft.table.inputs]
    at = _spot(draft.header, chance)
    old = draft.header[at]
    draft.header[at] = chance.choice([old.upper(), old + " ", "", "other", chance.choice(draft.header), old.title()])


def _header_partly(draft: Draft, chance: Random) -> None:
    """The first names wrong, or some."""
    names = [column.name for column in draft.table.inputs]
    wrong = chance.choice([range(3), range(len(names) // 2), chance.sample(range(len(names)), len(names) // 3)])
    draft.header = [chance.choice([f"x{at}", ""]) if at in wrong else name for at, name in enumerate(names)]


def _header_other(draft: Draft, chance: Random) -> None:
    width = len(draft.table.inputs)
    numbers, words = list(map(str, range(width))), [f"c{at}" for at in range(width)]
    upper = [column.name.upper() for column in draft.table.inputs]
    draft.header = chance.choice([numbers, words, upper, upper])


def _header_shifted(draft: Draft, chance: Random) -> None:
    names = [column.name for column in draft.table.inputs]
    draft.header = chance.choice(
        [names[1:] + names[:1], names[1:], ["", *names[:-1]], [*names, names[0]], names + names]
    )


def _header_later(draft: Draft, chance: Random) -> None:
    """The names as a row below the first."""
    draft.rows.insert(chance.randint(1, len(draft.rows)), [column.name for column in draft.table.inputs])


def _decimal_commas(draft: Draft, chance: Random) -> None:
    rows = draft.rows if chance.random() < 0.5 else [_some_row(draft, chance)]
    for row in rows:
        row[:] = [cell.replace(".", ",") if re.fullmatch(r"-?[0-9]+\.[0-9]+", cell) else cell for cell in row]
    draft.quote = chance.choice(["none", "none", "as needed"])


def _semicolons(draft: Draft, chance: Random) -> None:
    draft.separator = chance.choice([";", "\t", "|", ", "])


def _stray_quote(draft: Draft, chance: Random) -> None:
    _set(draft, chance, chance.choice(['"', 'a"b', '"a', '"a"b', '""', '"F"', '"1"']))
    draft.quote = "none"


def _spaces(draft: Draft, chance: Random) -> None:
    row = chance.choice(_every(draft)) if draft.rows else []
    for at in range(len(row)):
        if chance.random() < 0.5:
            row[at] = chance.choice([" {}", "{} ", "\t{}", " {} "]).format(row[at])


def _other_rows_cell(draft: Draft, chance: Random) -> None:
    row = _some_row(draft, chance)
    if row:
        row[_spot(row, chance)] = chance.choice(chance.choice(draft.pool))


def _doubled_row(draft: Draft, chance: Random) -> None:
    draft.rows += [list(_some_row(draft, chance)) for _ in range(chance.choice([1, 2, 40, 400]))]


def _row_of(cell: str) -> Callable[[Draft, Random], None]:
    def damage(draft: Draft, chance: Random) -> None:
        place = chance.choice([0, len(draft.rows), chance.randint(0, len(draft.rows))])
        draft.rows.insert(place, [cell] * len(draft.table.inputs))

    return damage


def _setting(**values: object) -> Callable[[Draft, Random], None]:
    def damage(draft: Draft, _chance: Random) -> None:
        for name, value in values.items():
            setattr(draft, name, value)

    return damage


def _cell_of(cells: Sequence[str], kind: ColumnType | None) -> Callable[[Draft, Random], None]:
    return lambda draft, chance: _set(draft, chance, chance.choice(cells), kind)


DAMAGES: dict[str, Callable[[Draft, Random], None]] = {
    "a cell dropped": _drop_cell,
    "a cell added": _add_cell,
    "a cell doubled": _double_cell,
    "cells swapped": _swap_cells,
    "columns swapped": _swap_columns,
    "columns reordered by name": _reorder,
    "index first": _index_first,
    "label first": lambda draft, chance: _label(draft, chance, first=True),
    "label last": lambda draft, chance: _label(draft, chance, first=False),
    "a parameter": _parameter,
    "header said": _honest_header,
    "header with a wrong name": _header_one_wrong,
    "header with wrong names": _header_partly,
    "header of other names": _header_other,
    "header shifted": _header_shifted,
    "header below": _header_later,
    "decimal commas": _decimal_commas,
    "other separators": _semicolons,
    "all in quotes": _setting(quote="all"),
    "stray quotes": _stray_quote,
    "blank at the start": _setting(blank=[0]),
    "blank in the middle": _setting(blank=[1]),
    "blank at the end": _setting(blank=[-1]),
    "blanks at the end": _setting(blank=[-1, -1]),
    "CRLF": _setting(end="\r\n"),
    "byte order mark": _setting(start="\ufeff"),
    "no newline at the end": _setting(final=""),
    "trailing comma": _setting(trailing=","),
    "spaces": _spaces,
    "a number written oddly": _cell_of(NUMBERS, ColumnType.NUMERIC),
    "a missing word in a number": _cell_of(sorted(MISSING), ColumnType.NUMERIC),
    "a missing word in a category": _cell_of([*sorted(MISSING), *OWN_WORDS], ColumnType.CATEGORICAL),
    "an unknown category": _cell_of(["new", "f", "F ", "1", "\u00a0", "x" * 1025, "é"], ColumnType.CATEGORICAL),
    "another row's cell": _other_rows_cell,
    "rows doubled": _doubled_row,
    "a row of nothing": _row_of(""),
    "a row of NA": _row_of("NA"),
    "a row of spaces": _row_of(" "),
    "numbers in quotes": _setting(strings=True, quote="all"),
}
