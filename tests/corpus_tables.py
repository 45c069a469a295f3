"""The cases of the corpus about abalone, written for tables of other shapes.

The tables have abalone's rows with some columns changed, so a case is translated byte by byte: its good cells, its
names and its label become the table's, and what is odd in it stays. Each translation owes what the case owes, or what
a rule below says that this table owes instead. Nothing here asks the product. What cannot be translated has a reason.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from featurizer.schema import Schema
from pipeline.data import load_rows, load_schema
from pipeline.train import train
from serving.contract import Column, ColumnType, LabelPlace, Task
from tests.corpus_cases import Case
from tests.corpus_format import load_corpus

GROUPS = ("csv", "json", "lines", "features")
LONGEST = 1 << 14  # bytes of a body: longer ones are about abalone's own sizes
MEASURES = ("length", "diameter", "height", "whole_weight", "shucked_weight", "viscera_weight", "shell_weight")
NAMES = ("sex", *MEASURES)
LABEL = "rings"
GOOD = ("M", "0.455", "0.365", "0.095", "0.514", "0.2245", "0.101", "0.15")
ABALONES = ",0,0,1"  # how a row of its features ends: a male one
CODES = {"M": "0.5", "F": "1.5", "I": "2.5"}  # of the sexes, where the table has numbers alone
QUICK = {"repeats": 1, "folds": 2, "rounds": 12, "grid": {"max_depth": [3], "eta": [0.3]}}
NUMBERS = ("not_a_number", "non_finite", "json_type", "field_too_long")


@dataclass(frozen=True)
class Table:
    """A table made of abalone's. `sex` and `measures`: what its first column and the others are.

    `features`: how a row of features ends.
    """

    name: str
    about: str
    sex: ColumnType = ColumnType.CATEGORICAL
    measures: ColumnType = ColumnType.NUMERIC
    names: tuple[str, ...] = NAMES
    task: Task = Task.REGRESSION
    labelled_rows: LabelPlace = LabelPlace.NONE
    first: bool = False  # the label is the first column
    features: str = ABALONES
    change: Callable[[pd.DataFrame], pd.DataFrame] = field(default=lambda frame: frame)

    @property
    def one(self) -> bool:
        return len(self.names) == 1

    @property
    def schema(self) -> Schema:
        inputs = tuple(
            Column(name, self.sex if at == 0 and not self.one else self.measures) for at, name in enumerate(self.names)
        )
        label = (Column(LABEL, ColumnType.LABEL),)
        columns = label + inputs if self.first else inputs + label
        return Schema(self.name, self.task, columns, 0.2, search=QUICK, labelled_rows=self.labelled_rows)

    def train(self, out: Path) -> Path:
        frame = load_rows(load_schema("abalone"), None).head(400).astype({"rings": int})
        frame = self.change(frame.assign(rings=frame["rings"].clip(1, 20)))
        if not self.one:
            frame = frame.rename(columns=dict(zip(NAMES, self.names, strict=True)))
        train(self.schema, frame, out, 7)
        return out


def _coded(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(sex=[float(CODES[sex]) for sex in frame["sex"]])


def _coarse(frame: pd.DataFrame) -> pd.DataFrame:
    """Measures as few texts, the good row's among them."""
    rounded = {name: [good if value < float(good) else "0.9" for value in frame[name]] for name, good in
               zip(MEASURES, GOOD[1:], strict=True)}  # fmt: skip
    return frame.assign(**rounded)


def _classes(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(rings=["15" if ring > 11 else "10" if ring > 9 else "2" if ring > 7 else "0"
                               for ring in frame["rings"]])  # fmt: skip


def _holes(frame: pd.DataFrame) -> pd.DataFrame:
    holed = frame.copy()
    for at, name in enumerate(NAMES):
        holed.loc[frame.index % 17 == at, name] = None
    return holed


TABLES = {
    table.name: table
    for table in (
        Table("numbers", "numbers alone", ColumnType.NUMERIC, names=("width", *MEASURES), features=",0.5",
              change=_coded),
        Table("column", "one column", names=("length",), features=""),
        Table("digits", "columns called 0, 1, ...", ColumnType.NUMERIC, names=tuple("01234567"), features=",0.5",
              change=_coded),
        Table("words", "categories alone", measures=ColumnType.CATEGORICAL, features="", change=_coarse),
        Table("first", "the label first", labelled_rows=LabelPlace.FIRST, first=True),
        Table("classes", "classes that are numbers", task=Task.MULTICLASS, labelled_rows=LabelPlace.LAST,
              change=_classes),
        Table("holes", "cells that may be missing", features=",0,0,1,0", change=_holes),
    )
}  # fmt: skip


_TEXT = "text in the first column, where abalone has text in every row"
_CELLS = "about cells or names that the table has not"
_NUMBERS = "about numbers, which the table has not"
_LABEL = "about a label that is a number"
_SPELT = "about names that it spells otherwise"
# What no rule below sees: the reason why a case says nothing about a table, or nothing more than others.
SAY_NOTHING: Mapping[str, Mapping[str, str]] = {
    "numbers": dict.fromkeys(
        ["X17-excel-semicolons-and-decimal-commas", "C71-index-first-and-asked", "J8-by-name", "J25-by-name",
         "J25-in-row-2", "L3-number-as-category"], _TEXT) | dict.fromkeys(
        ["X36-header-savetxt", "X50-header-present-and-none", "P4-all-empty-between", "P8-header-of-other-names",
         "P21-order"], _CELLS),
    "column": dict.fromkeys(
        ["C14-header-of-other-names", "X33-header-capitals", "X36-header-savetxt", "X69-header-trailing-space",
         "X10-pandas-column-numbers", "X50-header-present-and-none", "X51-header-present-capitals", "C26-all-empty",
         "C26-all-empty-between", "X20-excel-empty-rows", "J26-object-in-one-row", "J27-all-null", "J27-between",
         "J27-one-row-of-null", "P4-empty-cell", "P8-space"], _CELLS),
    "digits": dict.fromkeys(
        ["X17-excel-semicolons-and-decimal-commas", "C71-index-first-and-asked", "J8-by-name", "J25-by-name",
         "J25-in-row-2", "L3-number-as-category"], _TEXT) | dict.fromkeys(
        ["X10-pandas-column-numbers", "X35-header-spaces", "C14-header-absent", "X39-header-twice-present",
         "X41-header-last"],
        "a row of names, which is a row of numbers here") | dict.fromkeys(
        ["X50-header-present-and-none", "P4-all-empty-between", "P8-header-of-other-names", "P21-order"], _CELLS)
        | dict.fromkeys(["J1-escaped-name", "J6-escaped", "J20-unknown-space"], _SPELT),
    "words": dict.fromkeys(
        ["C31-1e308", "C31-after-header", "C31-in-row-2", "C31-minus-1e308", "F4-npy-beyond-float32", "J5-1e308",
         "J5-1e308-in-row-2", "L3-1e308", "J28-5000-decimals", "J29-decimal-commas", "J29-exponent-missing",
         "J29-leading-zero", "J29-no-decimals", "C44-17-digits", "C44-savetxt", "X73-numpy-savetxt",
         "X112-space-after-commas", "X113-trailing-spaces", "X114-trailing-tab-crlf", "C50-quoted-number-with-spaces",
         "X232-numbers-of-many-forms",
         "C44-all-digits-of-a-double"], _NUMBERS) | dict.fromkeys(
        ["J15-csv-in-a-string", "J15-twice-encoded", "J17-features-string", "J17-instances-csv",
         "J17-instances-of-strings", "J17-sagemaker-request", "J22-list-then-string", "L3-csv-in-quotes"],
        "text within quotes, whose numbers would be quoted"),
    "first": dict.fromkeys(
        ["X34-header-of-uci", "C20-quoted-empty-label", "J7-in-the-label", "X209-comma-in-category",
         "J26-list-in-label"], "a label that cannot be moved by its commas"),
    "classes": dict.fromkeys(
        ["C17-label-two-rows", "C18-label-of-text", "C18-label-quoted", "C71-index-first-and-asked",
         "J7-in-the-label", "J20-label-text-in-list", "J26-list-in-label"], _LABEL)
        | {"X236-output-label": "about an output that a regression has not"},
    "holes": dict.fromkeys(
        ["P5-in-row-2", "P8-text-in-row-2", "P4-all-empty-between", "P8-header-of-other-names", "P21-order"], _CELLS),
}  # fmt: skip


_UNLABELLED = dict.fromkeys(["J7-in-the-label", "X272-nan-in-label"], "about a label that this table's rows have not")


class Untranslated(Exception):
    """Why a case says nothing about a table."""


def cases() -> list[Case]:
    """Abalone's cases about rows."""
    return [
        case
        for case in load_corpus()
        if case.group in GROUPS and case.contract == "abalone" and not case.env and not case.request.raw
        if case.request.size <= LONGEST and "application" in case.levels
    ]


def translated(case: Case, table: Table, stage: str) -> Case:
    """The case as the table has it, at a stage. Raises `Untranslated`."""
    unlabelled = _UNLABELLED if table.labelled_rows is LabelPlace.NONE else {}
    if reason := {**SAY_NOTHING[table.name], **unlabelled}.get(case.name):
        raise Untranslated(reason)
    media = case.request.headers.get("Content-Type", "").lower()
    if stage == "predictor":
        write = _features_writer(table)
    elif "json" in media:
        write = _json_writer(table)
    else:
        write = _csv_writer(replace(table, labelled_rows=LabelPlace.NONE) if "label" in media else table)
    text = case.request.body.decode("latin-1")
    body = write(text)
    answer = {key: value for key, value in case.answer.items() if key not in ("says", "cpu_seconds", "memory_mb")}
    if "column" in answer:
        answer["column"] = _column(answer["column"], table, stage)
    if "same_as" in answer:
        same = _features_writer(table) if stage == "predictor" else _csv_writer(table)
        answer["same_as"] = same(str(answer["same_as"]))
    request = replace(case.request, parts=((body.encode("latin-1"), 1),))
    if table.one and answer.get("code") == "column_count":
        raise Untranslated("about more or fewer columns than abalone has")
    owed = answer if stage == "predictor" else _owed(text, body, media, answer, table)
    if table.one and re.search(r"\n\r?\n$", body) and "csv" in media and owed["status"] == 200:
        owed = _refusal("blank_row", len(body.strip().splitlines()) + (0 if _has_names(text) else 1))
    return replace(case, contract=table.name, stages=(stage,), request=request, answer=owed)


# --- what a table owes instead


def _owed(text: str, body: str, media: str, answer: dict[str, Any], table: Table) -> dict[str, Any]:
    """`text` is abalone's body, `body` the table's."""
    first = _first_row(text, media)
    named = set(first) >= set(NAMES) if "csv" in media else False
    stated = "header=" in media
    labelled = len(first) == len(NAMES) + 1 and not named and "label" not in media
    if labelled and table.labelled_rows is LabelPlace.NONE and not _refused_before_its_width(answer):
        return _refusal("column_count", 1)  # nothing says that these rows have a label
    if table.name == "digits" and "csv" in media and not stated:
        if named and len(first) == len(NAMES) and answer.get("code") != "nul_byte":
            return _refusal("bad_header", 1)  # its names are numbers, as its values are
        if answer.get("code") in ("unknown_column", "duplicate_column", "missing_column"):
            raise Untranslated("a header some of whose cells are no names could be data")
    if table.sex is ColumnType.NUMERIC and answer.get("code") in NUMBERS:
        for row in _bodies_rows(body, media):
            if row and not _is_number(row[0]):
                raise Untranslated("text in the first column, where abalone has text in every row")
    if table.measures is ColumnType.CATEGORICAL and answer.get("code") in NUMBERS:
        raise Untranslated("about numbers, which the table has not")
    return answer


def _refused_before_its_width(answer: Mapping[str, Any]) -> bool:
    """What is wrong with the text itself is found before its columns are counted."""
    found = ("bad_encoding", "nul_byte", "json_syntax", "csv_syntax", "blank_row", "duplicate_key", "json_shape",
             "field_too_long", "bad_header")  # fmt: skip
    return answer.get("code") in found or answer["status"] not in (200, 400)


def _bodies_rows(body: str, media: str) -> list[Sequence[Any]]:
    if "json" in media:
        return [
            list(row.values()) if isinstance(row, dict) else row for row in _rows(body) if isinstance(row, dict | list)
        ]
    return [line.replace(";", ",").split(",") for line in body.split("\n")]


def _is_number(cell: object) -> bool:
    if isinstance(cell, str):
        return bool(re.fullmatch(r'"?[-+0-9.eE]*"?\r?', cell)) or cell == "NA"
    return cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool))


def _has_names(text: str) -> bool:
    return set(_first_row(text, "text/csv")) >= set(NAMES)


def _refusal(code: str, row: int) -> dict[str, Any]:
    return {"status": 400, "code": code, "row": row}


def _column(name: str, table: Table, stage: str) -> str:
    if stage == "predictor" or name not in NAMES:
        return _feature(name, table) if stage == "predictor" else name
    if table.one and name != "length":
        raise Untranslated("about a column that the table has not")
    return "length" if table.one else table.names[NAMES.index(name)]


def _feature(name: str, table: Table) -> str:
    if name in MEASURES and table.one and name != "length":
        raise Untranslated("about a feature that the table has not")
    if name.startswith("sex_") and table.sex is ColumnType.NUMERIC:
        raise Untranslated("about a feature that the table has not")
    if name in MEASURES and not table.one and table.sex is ColumnType.NUMERIC:
        return table.names[MEASURES.index(name)]  # features stand in the order of the columns, the first of them too
    return name


# --- how a body is written


def _csv_writer(table: Table) -> Callable[[str], str]:
    if table.one:
        return _one_cell

    def write(text: str) -> str:
        moved = replace(table, labelled_rows=LabelPlace.NONE) if _has_names(text) else table  # names tell the label
        return "\n".join(_csv_line(line, moved) for line in _renamed(text, table).split("\n"))

    return write


def _csv_line(line: str, table: Table) -> str:
    if table.sex is ColumnType.NUMERIC:
        _refuse_other_sexes(re.split(r"[,;|\t]", line.lstrip("\ufeff\xef\xbb\xbf"))[0], line)
        line = re.sub(
            r'^(\xef\xbb\xbf)?("?)([MFI])\2(?=[,;|\t ]|\r?$)', lambda m: f"{m[1] or ''}{m[2]}{CODES[m[3]]}{m[2]}", line
        )
    if table.labelled_rows is LabelPlace.FIRST and line.count(",") == len(NAMES) and '"' not in line:
        rest, _, label = line.rstrip("\r").rpartition(",")
        if label != LABEL and "label" not in line:
            return f"{label},{rest}" + line[len(line.rstrip("\r")) :]
    return line


def _refuse_other_sexes(cell: str, line: str) -> None:
    """A first cell that is neither one of abalone's categories nor a name says something about categories."""
    bare = cell.strip('"\r ')
    if bare in CODES or bare in ("", "0", "NA", "width", "#") or not line.strip() or "," not in line:
        return
    if re.fullmatch(r"[A-Za-z_ #]*", bare) and not set(line.split(",")[1:3]) & set(GOOD):
        return  # a header, whatever its names
    raise Untranslated("about a category where the table has a number")


def _json_writer(table: Table) -> Callable[[str], str]:
    def write(text: str) -> str:
        if table.one:
            return _one_value(text)
        written = _renamed(text, table)
        if table.sex is ColumnType.NUMERIC:
            if (
                re.search(r'\[\s*(?!["\[{])[^\]]', text)
                and '"features"' not in text
                and not re.search(r'"[MFI]"', text)
            ):
                raise Untranslated("about a category where the table has a number")
            written = re.sub(r'"([MFI])"', lambda found: CODES[found[1]], written)
            if any(_texts_of(row) for row in _rows(written)):
                raise Untranslated("about a category where the table has a number")
        if table.measures is ColumnType.CATEGORICAL:
            written = _as_texts(written)
        if table.labelled_rows is LabelPlace.FIRST:
            written = _label_first(written)
        return written

    return write


def _texts_of(row: object) -> bool:
    first = list(row.values())[:1] if isinstance(row, dict) else row[:1] if isinstance(row, list) else []
    return any(isinstance(cell, str | bool) for cell in first)


def _rows(text: str) -> list[Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        lines = text.split("\n")
        try:
            document = [json.loads(line) for line in lines if line.strip()]
        except (ValueError, RecursionError):
            return []
    if isinstance(document, dict):
        document = document.get("instances", [document])
    rows = document if isinstance(document, list) else []
    rows = [row.get("features", row) if isinstance(row, dict) else row for row in rows]
    return [document] if rows and not any(isinstance(row, list | dict) for row in rows) else rows


def _as_texts(text: str) -> str:
    """Numbers as texts, where JSON has them as values."""
    return re.sub(r'(?<![\w".+-])(-?[0-9][0-9.eE+-]*)(?=\s*[,\]}\n]|\s*$)', r'"\1"', text)


def _label_first(text: str) -> str:
    """Move the ninth value of lists to the front."""

    def move(found: re.Match[str]) -> str:
        cells = found[1].split(",")
        return f"[{','.join([cells[-1], *cells[:-1]])}]" if len(cells) == len(NAMES) + 1 else found[0]

    return re.sub(r"\[([^\[\]{}]*)\]", move, text)


def _features_writer(table: Table) -> Callable[[str], str]:
    if table.measures is ColumnType.CATEGORICAL:
        return _refuse_features
    if table.one:
        return _one_feature

    def write(text: str) -> str:
        if table.features == ABALONES:
            return _renamed(text, table)
        if "\x93NUMPY" in text:
            raise Untranslated("NPY, whose header says how many features there are")
        if "sex_" in text:
            raise Untranslated("about features by name that the table has not")
        if ABALONES not in text:
            raise Untranslated("its rows are not abalone's good ones")
        return _renamed(text.replace(ABALONES, table.features), table)

    return write


def _refuse_features(_text: str) -> str:
    raise Untranslated("features are numbers whatever the columns are")


def _renamed(text: str, table: Table) -> str:
    if table.names == NAMES:
        return text
    pairs = dict(zip(NAMES, table.names, strict=True))
    return re.sub(rf"\b({'|'.join(NAMES)})\b", lambda found: pairs[found[1]], text)


_OTHERS = r",0\.365,0\.095,0\.514,0\.2245,0\.101,0\.15"
_OTHER_FEATURES = r",-0\.4,-1\.1,-0\.6,-0\.6,-0\.7,-0\.6,0,0,1"


def _one_cell(text: str) -> str:
    if '"' in text:
        raise Untranslated("quotes around cells that the table has not")
    written = re.sub(r"(?m)^(\xef\xbb\xbf)?[MFI],([^,\r\n]*)" + _OTHERS, r"\1\2", text)
    written = written.replace(",".join(NAMES), "length")
    if not written.strip("\r\n ,") and text.strip("\r\n ,"):
        raise Untranslated("a row of nothing is a blank line here")
    return _nothing_left(written)


def _one_feature(text: str) -> str:
    if "\x93NUMPY" in text:
        raise Untranslated("NPY, whose header says how many features there are")
    written = re.sub(r"(?<=[\[\n])([^,\[\]\n]*)" + _OTHER_FEATURES, r"\1", "\n" + text)[1:]
    return _nothing_left(written, "," if "[" not in text and "{" not in text else r"\d,\s*[^\[\s]")


def _one_value(text: str) -> str:
    written = re.sub(r'"[MFI]",([^,\[\]]*)' + _OTHERS, r"\1", text)
    return _nothing_left(written)


def _nothing_left(written: str, more: str = "diameter") -> str:
    if re.search(rf"0\.365|0\.095|0\.514|-1\.1|diameter|\b[MFI]\b|sex|{more}", written):
        raise Untranslated("about cells that the table has not")
    return written


def _first_row(text: str, media: str) -> Sequence[Any]:
    """The cells of the first record, where it is one."""
    if "json" in media:
        rows = _rows(text)
        return rows[0] if rows and isinstance(rows[0], list) else []
    line = text.removeprefix("\xef\xbb\xbf").split("\n")[0].rstrip("\r")
    try:
        return next(csv.reader(io.StringIO(line)), [])
    except csv.Error:
        return []
