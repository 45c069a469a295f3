"""The raw side: a transformer with the columns that it takes, and rows to compare it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.adopt import precision, rows
from pipeline.adopt.columns import Derived, derive, first_steps, input_names
from pipeline.adopt.request import Request
from pipeline.adopt.told import Told, with_types
from pipeline.adopt.transformers import as_column_transformer, feature_names, original_rows, transformed
from serving.contract import ColumnType
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
    names = input_names(original)
    if told and not hasattr(original, "feature_names_in_"):
        names = tuple(column.name for column in told.inputs)
        if len(names) != original.n_features_in_:
            raise BadJob(f"--contract: expected {original.n_features_in_} columns besides the label, got {len(names)}")
    columns = with_types(derive(original, names), names, told)
    plain = [derived.column for derived in columns]
    frame = rows.sample(request.sample, plain) if request.sample else rows.raw_rows(columns)
    made = Transform(file, original, names, columns, frame, _untold(file, original, names, columns))
    taken = rows.accepted(made.of, frame)
    if taken.empty:
        raise BadJob(f"{file}: expected rows that it transforms, got none{_untyped(columns)}; give some with --sample")
    return replace(made, frame=taken.reset_index(drop=True), needed=rows.needed(made.of, frame, taken))


def _untyped(columns: Sequence[Derived]) -> str:
    guessed = ", ".join(derived.column.name for derived in columns if derived.guessed)
    return f": they were of numbers, and --contract FILE may say that these are of text, {guessed}" if guessed else ""


def _untold(file: Path, original: Any, names: Sequence[str], columns: Sequence[Derived]) -> tuple[str, ...]:  # noqa: ANN401
    numeric = {derived.column.name for derived in columns if derived.column.type is ColumnType.NUMERIC}
    steps = [(place, sight) for place, sight in first_steps(original, range(len(names))) if names[place] in numeric]
    return precision.untold(file, names, steps)
