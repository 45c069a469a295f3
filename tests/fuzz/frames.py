"""The frame that pandas makes of a body with a contract's types, and the few rules by which a container differs.

Nothing here asks the serving code. A rule is a method called `rule_...`; docs/payloads.md has each of them. What
pandas or the rules do not read as a table of these columns is `Uncountable`: a container must refuse it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas._libs.parsers import STR_NA_VALUES

from featurizer.schema import Schema
from serving.contract import Column, ColumnType, LabelPlace, Task
from serving.payload import CSV, JSON
from tests.fuzz.oracle import Uncountable
from tests.unit.test_parity import read_exactly


@dataclass(frozen=True)
class Label:
    """What the label of a training row was: one of the classes, or a number of a range, whole or not."""

    name: str
    classes: frozenset[str]
    least: float = 0.0
    most: float = 0.0
    whole: bool = False

    @classmethod
    def of(cls, schema: Schema, labels: Sequence[str]) -> Label:
        if schema.task is not Task.REGRESSION:
            return cls(schema.label, frozenset(labels))
        numbers = list(map(float, labels))
        return cls(schema.label, frozenset(), min(numbers), max(numbers), all(map(float.is_integer, numbers)))

    def has(self, cell: object) -> bool:
        if self.classes:
            return cell in self.classes
        return isinstance(cell, float) and self.least <= cell <= self.most and (cell.is_integer() or not self.whole)


def missing_words(column: Column) -> set[str]:
    return set(STR_NA_VALUES) if column.missing is None else {"", *column.missing}


class Number(str):
    """A number of a JSON document, as it is written."""


@dataclass(frozen=True)
class Table:
    """The columns of a body. Without `label`, it is one of features."""

    inputs: tuple[Column, ...]
    label: Label | None = None
    place: LabelPlace = LabelPlace.NONE

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.inputs]

    def frame(self, body: bytes, media: str, parameters: Mapping[str, str]) -> pd.DataFrame:
        """The inputs, in their order. Raises `Uncountable`."""
        if parameters.get("charset", "utf-8") != "utf-8":
            raise Uncountable("another charset")
        try:
            text = body.decode("utf-8-sig")
            frame = self._csv(text, parameters) if media == CSV else self._json(text, media, parameters)
        except (ValueError, csv.Error) as error:  # of pandas too
            raise Uncountable(str(error)) from error
        numbers = frame[[column.name for column in self.inputs if column.type is ColumnType.NUMERIC]]
        if np.isinf(numbers.to_numpy(np.float64)).any():
            raise Uncountable("an infinite number")
        return frame[self.names]

    def _csv(self, text: str, parameters: Mapping[str, str]) -> pd.DataFrame:
        text = self.rule_newlines_at_the_end(text)
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))  # of which pandas would fill up short ones
        if not rows or [] in rows or any("\n" in cell for row in rows for cell in row):
            raise Uncountable("a blank row, or none, or a line break in a cell")
        named = self.rule_header(rows[0], parameters)
        widths = set(map(len, rows))
        if len(widths) > 1 or len(rows) == named:
            raise Uncountable("rows of several widths, or none")
        columns = self._named(rows[0]) if named else self.rule_label(widths.pop(), parameters)
        frame = read_exactly(
            io.BytesIO(text.encode()), header=None, names=columns, index_col=False, skiprows=int(named),
            skip_blank_lines=False, dtype=self._types(columns, named), keep_default_na=False,
            na_values=dict.fromkeys(columns, STR_NA_VALUES) | self.rule_own_words(),
        )  # fmt: skip
        if len(frame) != len(rows) - named:
            raise Uncountable("other rows than lines")
        return self._checked(frame, named=named)

    def _json(self, text: str, media: str, parameters: Mapping[str, str]) -> pd.DataFrame:
        """As docs/payloads.md has it: there is no table in pandas' sense before the names are known."""
        lines = [text] if media == JSON else re.sub(r"(\r?\n)+\Z", "", text).split("\n")
        documents = [_document(line) for line in lines]
        if media == JSON:
            (document,) = documents
            if isinstance(document, dict) and "instances" in document and len(document) == 1:
                documents = document["instances"]
            elif isinstance(document, list) and any(isinstance(row, list | dict) for row in document):
                documents = document
        if not isinstance(documents, list) or not documents:
            raise Uncountable("no rows")
        wrapped = {isinstance(row, dict) and row.keys() == {"features"} and isinstance(row["features"], list)
                   for row in documents}  # fmt: skip
        rows = [row["features"] for row in documents] if wrapped == {True} else documents
        if len(wrapped) > 1 or set(map(type, rows)) not in ({list}, {dict}):
            raise Uncountable("rows of several shapes")
        if named := isinstance(rows[0], dict):
            for row in rows:
                self._named(list(row))
            columns = self.names
        else:
            columns = self.rule_label(len(rows[0]), parameters)
        if not named and {len(row) for row in rows} != {len(columns)}:
            raise Uncountable("rows of several widths")
        kinds = self._types(columns, named)
        cells = {name: [row[name] if named else row[at] for row in rows] for at, name in enumerate(columns)}
        texts = {column.name for column in self.inputs if column.type is ColumnType.CATEGORICAL}
        frame = {name: pd.Series([self._cell(cell, name, texts) for cell in found], dtype=kinds.get(name, object))
                 for name, found in cells.items()}  # fmt: skip
        return self._checked(pd.DataFrame(frame), named=named)

    def _cell(self, cell: object, name: str, texts: set[str]) -> object:
        if name in texts:
            if cell is not None and type(cell) is not str:
                raise Uncountable(f"{cell!r} is no category")
            return np.nan if cell is None or cell in self.rule_own_words().get(name, STR_NA_VALUES) else cell
        if self.label and name == self.label.name and self.label.classes:
            return str(cell) if isinstance(cell, str) else None
        if cell is not None and type(cell) is not Number:
            raise Uncountable(f"{cell!r} is no number")
        return np.nan if cell is None else float(cell)

    def _named(self, names: list[str]) -> list[str]:
        """Each column once, in any order, and the label where there is one."""
        label = {self.label.name} if self.label else set()
        if len(set(names)) < len(names) or not set(self.names) <= set(names) <= {*self.names, *label}:
            raise Uncountable("other names than the columns'")
        return names

    def _types(self, columns: Sequence[str], named: bool) -> dict[str, Any]:
        numbers = {column.name for column in self.inputs if column.type is ColumnType.NUMERIC}
        if self.label and not self.label.classes and not named:
            numbers.add(self.label.name)
        return {name: np.float64 if name in numbers else object for name in columns}

    def _checked(self, frame: pd.DataFrame, *, named: bool) -> pd.DataFrame:
        if self.label and not named and self.label.name in frame:
            self.rule_plausible_label(self.label, frame[self.label.name])
        return frame

    # --- the rules

    def rule_newlines_at_the_end(self, text: str) -> str:
        """They are ignored, where pandas has rows of missing values. Of one column only the last row's own is."""
        return re.sub(r"(\r?\n)+\Z", "\n", text) if len(self.inputs) > 1 else text

    def rule_header(self, first: Sequence[str], parameters: Mapping[str, str]) -> bool:
        """Whether the first row is a header: as the request says, else where it has most of the names.

        Where it has them and could be data as well, the request must say; a header that lacks one is refused later.
        """
        said = parameters.get("header", "").lower()
        if said not in ("", "present", "absent"):
            raise Uncountable("header says nothing")
        found = len(set(first) & set(self.names))
        if said or (found < len(self.inputs) and 2 * found <= len(first)):
            return said == "present"
        if not self._could_be_data(first, parameters):
            return True
        if found == len(self.inputs):
            raise Uncountable("a header, or data")
        return False

    def rule_label(self, width: int, parameters: Mapping[str, str]) -> list[str]:
        """The columns of rows without names: one more than the inputs is the label, where request or contract say."""
        said = {LabelPlace(parameters["label"])} if "label" in parameters else set()
        if "label_size" in parameters:
            said.add(LabelPlace({"0": "none", "1": "first"}.get(parameters["label_size"], "no place")))
        if len(said) > 1 or (not self.label and said - {LabelPlace.NONE}):
            raise Uncountable("two places for the label, or one in features")
        place = next(iter(said), self.place)
        if width == len(self.names) and (not said or place is LabelPlace.NONE):
            return self.names
        if width != len(self.names) + 1 or place is LabelPlace.NONE or not self.label:
            raise Uncountable("another number of columns")
        return [self.label.name, *self.names] if place is LabelPlace.FIRST else [*self.names, self.label.name]

    def rule_plausible_label(self, label: Label, cells: pd.Series[Any]) -> None:
        """A label of rows without names must be one that training could have had."""
        if not all(map(label.has, cells.tolist())):
            raise Uncountable("a label that training could not have had")

    def rule_own_words(self) -> dict[str, set[str]]:
        """The words that mean missing in a category instead of pandas' own, where the schema has some."""
        return {column.name: missing_words(column) for column in self.inputs if column.missing is not None}

    def _could_be_data(self, row: Sequence[str], parameters: Mapping[str, str]) -> bool:
        """Whether these cells are a row, of categories that training has seen."""
        try:
            columns = self.rule_label(len(row), parameters)
        except (Uncountable, ValueError):
            return False
        known = {column.name: {*column.categories, *missing_words(column)} for column in self.inputs
                 if column.type is ColumnType.CATEGORICAL}  # fmt: skip
        if self.label and self.label.classes:
            known[self.label.name] = {*self.label.classes, *STR_NA_VALUES}
        return all(cell in known[name] if name in known else _is_number(cell)
                   for name, cell in zip(columns, row, strict=True))  # fmt: skip


def _is_number(cell: str) -> bool:
    if cell in STR_NA_VALUES:
        return True
    try:
        return np.isfinite(float(cell)).item() or "inf" not in cell.lower()
    except ValueError:
        return False


def _document(text: str) -> Any:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) < len(pairs):
            raise Uncountable("a name twice")
        return dict(pairs)

    def constant(name: str) -> None:
        raise Uncountable(f"{name} is no JSON")

    return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=constant, object_pairs_hook=once)
