"""The raw side: a transformer with the columns that it takes, and rows to compare it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from featurizer.fitted import REFUSALS
from pipeline.adopt import precision, rows
from pipeline.adopt.columns import Derived, derive, first_steps, input_names, takes_frames
from pipeline.adopt.request import Request
from pipeline.adopt.told import KINDS, Told, with_kinds, with_types
from pipeline.adopt.transformers import as_column_transformer, feature_names, original_rows, transformed
from serving.contract import ColumnType
from serving.tables import read_table
from serving.training import BadJob


@dataclass(frozen=True)
class Transform:
    """A transformer as it was given, its columns, and rows of them that it takes.

    `untold`: numeric columns of which it does not show whether they were of 64 bits. `needed`: those without which it
    refuses a row.
    """

    file: Path
    original: Any
    names: tuple[str, ...]
    columns: tuple[Derived, ...]
    frame: pd.DataFrame
    untold: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()

    @cached_property
    def made(self) -> Any:  # noqa: ANN401 - an array or a sparse matrix
        return self.of(self.frame)

    def of(self, frame: pd.DataFrame) -> Any:  # noqa: ANN401
        return transformed(self.original, original_rows(self.original, self.names, frame))

    @cached_property
    def served(self) -> Any:  # noqa: ANN401
        return as_column_transformer(self.original, self.names, self.frame)

    @cached_property
    def features(self) -> tuple[str, ...]:
        return feature_names(self.file, self.served)


def read_raw(request: Request, original: Any, told: Told | None) -> Transform:  # noqa: ANN401
    file = request.pipeline or request.featurizer or Path()
    names = _names(file, original, told, request)
    columns, frame = _rows(with_types(derive(original, names), names, told), request)
    _refuse_undecided(file, columns)
    made = Transform(file, original, names, columns, frame, _untold(file, original, names, columns))
    taken = rows.accepted(made.of, frame)
    if taken.empty or (not request.sample and taken.isna().all().any()):  # nor some in which all is missing
        why = _why_refused(made, frame[:1])
        raise BadJob(f"{file}: expected rows that it transforms, got none: {why}; give some that it does with --sample")
    return replace(made, frame=taken.reset_index(drop=True), needed=rows.needed(made.of, frame, taken))


def _names(file: Path, original: Any, told: Told | None, request: Request) -> tuple[str, ...]:  # noqa: ANN401
    """The columns that it was fitted on. Raises `BadJob` where nobody says."""
    names = input_names(original)
    if hasattr(original, "feature_names_in_") or (names and not told and not takes_frames(original)):
        return names
    given = tuple(column.name for column in told.inputs) if told else tuple(request.columns)
    if told and names and len(given) != len(names):
        raise BadJob(f"--contract: expected {len(names)} columns besides the label, got {len(given)}")
    if not given and request.sample:
        given = read_table([request.sample]).names
    if not given or len(given) != (len(names) or len(given)):
        raise BadJob(
            f"{file}: expected the names of all {len(names) or ''} columns in the order of fitting, which its first "
            "step has not remembered (feature_names_in_): give them with --columns NAME=TYPE,NAME=TYPE, each TYPE "
            f"{', '.join(KINDS)}, or with --contract FILE; got {', '.join(given) or 'none'}"
        )
    return given


def _rows(columns: Sequence[Derived], request: Request) -> tuple[tuple[Derived, ...], pd.DataFrame]:
    """The columns, of which rows may decide some, and rows of them."""
    columns = with_kinds(columns, request.columns)
    if not request.sample:
        return columns, rows.raw_rows(columns)
    anything = [one.column.name for one in columns if one.own and not (one.certain or one.told)]
    frame = rows.sample(request.sample, [one.column for one in columns], anything)
    floats = {name: "float64" for name, kind in request.columns.items() if kind == "numeric"}
    frame = frame.astype(floats)
    return tuple(rows.seen(one, frame[one.column.name]) for one in columns), frame


def _refuse_undecided(file: Path, columns: Sequence[Derived]) -> None:
    if open_ := [one for one in columns if one.own and not one.told]:
        steps = ", ".join(dict.fromkeys(one.own for one in open_))
        named = ", ".join(one.column.name for one in open_)
        each = ",".join(f"{one.column.name}=TYPE" for one in open_)
        raise BadJob(
            f"{file}: expected to be told what columns {named} are, which {steps} takes and nothing here knows: give "
            f"--sample FILE.csv, rows as the model gets them, or --columns {each}, TYPE being integer, numeric (with a "
            "fraction, or with missing values) or categorical"
        )


def _why_refused(made: Transform, row: pd.DataFrame) -> str:
    try:
        made.of(row)
    except REFUSALS as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return "some are taken together only"


def _untold(file: Path, original: Any, names: Sequence[str], columns: Sequence[Derived]) -> tuple[str, ...]:  # noqa: ANN401
    numeric = {derived.column.name for derived in columns if derived.column.type is ColumnType.NUMERIC}
    steps = [(place, sight) for place, sight in first_steps(original, range(len(names))) if names[place] in numeric]
    return precision.untold(file, names, steps)
