"""What `--contract` says of the columns, beside what the transformer knows of them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from featurizer.schema import read_schema
from pipeline.adopt.columns import Derived
from serving.contract import Column, ColumnType, Contract, Task
from serving.errors import BadArtifact
from serving.training import BadJob

KINDS = {"numeric": ColumnType.NUMERIC, "integer": ColumnType.NUMERIC, "categorical": ColumnType.CATEGORICAL}


@dataclass(frozen=True)
class Told:
    """What `--contract` says. `whole`: a contract.json, which is taken over with its hash."""

    name: str
    task: Task
    columns: tuple[Column, ...]
    whole: Contract | None = None

    @property
    def inputs(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.type is not ColumnType.LABEL)


def read_told(path: Path) -> Told:
    """A contract.json, or a schema in TOML whose columns may have `categories`. Raises `BadJob`."""
    try:
        text = path.read_text(encoding="utf-8")
        if text.lstrip().startswith("{"):
            contract = Contract.from_json(text)
            return Told(contract.dataset, contract.task, contract.columns, contract)
    except (OSError, UnicodeDecodeError, BadArtifact) as error:
        raise BadJob(f"{path}: {error}") from error
    try:
        schema = read_schema(text)
        tables = tomllib.loads(text)["columns"]
        columns = tuple(_with_categories(column, table) for column, table in zip(schema.columns, tables, strict=True))
    except BadJob as error:
        raise BadJob(f"{path}: {error}") from error
    return Told(schema.name, schema.task, columns)


def _with_categories(column: Column, table: Mapping[str, Any]) -> Column:
    given = table.get("categories", [])
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise BadJob(f"column {column.name}: expected categories to be a list of texts, got {given!r}")
    if given and column.type is ColumnType.NUMERIC:
        raise BadJob(f"column {column.name}: expected categories of a categorical column or the label, got numeric")
    return replace(column, categories=tuple(given))


def with_types(derived: Sequence[Derived], names: Sequence[str], told: Told | None) -> tuple[Derived, ...]:
    """The columns as `--contract` has them, with what was found out about them. Raises `BadJob`.

    `names`: all that the transformer was fitted on, also those that it drops.
    """
    if told is None:
        return tuple(derived)
    found = {one.column.name: one for one in derived}
    given = {column.name: column for column in told.inputs}
    if missing := [name for name in found if name not in given]:
        raise BadJob(f"--contract: expected a column {missing[0]}, which the transformer takes; got {', '.join(given)}")
    if unknown := [name for name in given if name not in names]:
        raise BadJob(
            f"--contract: expected columns that the transformer was fitted on, {', '.join(names)}; got {unknown[0]}"
        )
    return tuple(_merged(column, found.get(column.name)) for column in told.inputs)


def with_kinds(derived: Sequence[Derived], kinds: Mapping[str, str]) -> tuple[Derived, ...]:
    """The columns as `--columns` has them: a name, and one of `KINDS`. Raises `BadJob`."""
    names = [one.column.name for one in derived]
    if unknown := [name for name in kinds if name not in names]:
        raise BadJob(f"--columns: expected columns that the transformer takes, {', '.join(names)}; got {unknown[0]}")
    return tuple(_of_kind(one, kinds[one.column.name]) if one.column.name in kinds else one for one in derived)


def _of_kind(found: Derived, kind: str) -> Derived:
    wanted = KINDS[kind]
    _refuse_other_type("--columns", found, wanted)
    # known steps take whole numbers as they take others
    column = replace(found.column, type=wanted, whole=kind == "integer" and bool(found.own))
    return replace(found, column=column, own="")


def _refuse_other_type(option: str, found: Derived, wanted: ColumnType) -> None:
    known = found.column
    if found.certain and wanted is not known.type:
        raise BadJob(f"{option}, column {known.name}: expected {known.type}, as it was fitted; got {wanted}")


def _merged(column: Column, found: Derived | None) -> Derived:
    if found is None:
        return Derived(column)
    known = found.column
    _refuse_other_type("--contract", found, column.type)
    if known.categories and column.categories and {*column.categories} - {*found.filled} != {*known.categories}:
        raise BadJob(
            f"--contract, column {column.name}: expected the categories that it was fitted on, "
            f"{', '.join(known.categories)}; got {', '.join(column.categories)}"
        )
    of_numbers = column.type is ColumnType.NUMERIC and not column.whole  # whether of whole ones, a type does not say
    column = replace(column, categories=column.categories or known.categories)
    return replace(found, column=column, own=found.own if of_numbers else "", told=True)
