"""The contract of models that came without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from featurizer.schema import read_schema
from pipeline.adopt.boosters import Given, Shape
from pipeline.adopt.columns import Derived
from serving.contract import Column, ColumnType, Contract, Task
from serving.errors import BadArtifact
from serving.training import BadJob


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
    """A contract.json, or a schema in TOML. Raises `BadJob`."""
    try:
        text = path.read_text(encoding="utf-8")
        if text.lstrip().startswith("{"):
            contract = Contract.from_json(text)
            return Told(contract.dataset, contract.task, contract.columns, contract)
    except (OSError, UnicodeDecodeError, BadArtifact) as error:
        raise BadJob(f"{path}: {error}") from error
    try:
        schema = read_schema(text)
    except BadJob as error:
        raise BadJob(f"{path}: {error}") from error
    return Told(schema.name, schema.task, schema.columns)


def with_types(derived: Sequence[Derived], told: Told | None) -> tuple[Derived, ...]:
    """The columns as `--contract` has them, with what was found out about them. Raises `BadJob`."""
    if told is None:
        return tuple(derived)
    found = {one.column.name: one for one in derived}
    given = {column.name: column for column in told.inputs}
    if missing := [name for name in found if name not in given]:
        raise BadJob(f"--contract: expected a column {missing[0]}, which the transformer takes; got {', '.join(given)}")
    return tuple(_merged(column, found.get(column.name)) for column in told.inputs)


def _merged(column: Column, found: Derived | None) -> Derived:
    if found is None:
        return Derived(column)
    if column.type is ColumnType.CATEGORICAL and not column.categories:
        column = replace(column, categories=found.column.categories)
    return Derived(column, found.around)


def fitting_features(made: Sequence[str], given: Given, shape: Shape, *, positional: bool) -> tuple[str, ...]:
    """The features' names, those of the booster being the same. `made`: what is to come in; empty if nobody says.

    Raises `BadJob` naming the first that differs.
    """
    names = given.names or tuple(f"f{index}" for index in range(shape.features))
    if not made:
        return names
    if len(made) != shape.features:
        raise BadJob(f"{given.file}: expected a booster of {len(made)} features, got one of {shape.features}")
    if given.names and not positional:
        for number, (ours, theirs) in enumerate(zip(made, names, strict=True), 1):
            if ours != theirs:
                raise BadJob(_differing(given.file, number, ours, theirs))
    return tuple(made)


def _differing(file: Path, number: int, ours: str, theirs: str) -> str:
    prefixed = ours.partition("__")[2] == theirs or theirs.partition("__")[2] == ours
    why = ", which differs only in scikit-learn's prefix" if prefixed else ""
    return (
        f"{file}: expected feature {number} to be {ours}, got {theirs}{why}; if the order is the same and only names "
        "differ, give --positional"
    )


def label_of(
    told: Told | None, given: Given | None, shape: Shape | None, classes: Sequence[str], taken: Sequence[str]
) -> tuple[Column, ...]:
    """The label, where it is known or has classes to name; none of the names in `taken`. Raises `BadJob`."""
    known = next((column for column in told.columns if column.type is ColumnType.LABEL), None) if told else None
    if shape is None or given is None:
        return (replace(known, categories=tuple(classes) or known.categories),) if known else ()
    if told and told.task is not shape.task:
        raise BadJob(f"--contract: expected task {shape.task}, that of a booster of {shape.objective}, got {told.task}")
    named = tuple(classes) or (known.categories if known else ()) or given.classes
    if not named:
        named = tuple(map(str, range(shape.classes)))
    if len(named) != shape.classes or len(set(named)) != len(named):
        expected = f"{shape.classes} different classes" if shape.classes else "none, the booster being a regression's"
        raise BadJob(f"--classes: expected {expected}, got {', '.join(named)}")
    if known:
        return (replace(known, categories=named),)
    name = "label"
    while name in taken:
        name += "_"
    return (Column(name, ColumnType.LABEL, named),) if named else ()


def numbers(names: Sequence[str]) -> tuple[Column, ...]:
    return tuple(Column(name, ColumnType.NUMERIC) for name in names)


def contract_of(
    told: Told | None, name: str, task: Task, columns: Sequence[Column], features: Sequence[str],
    training: Mapping[str, Any],
) -> Contract:  # fmt: skip
    """A contract of these parts, or the whole one that was given, if they fit it. Raises `BadJob`."""
    made = Contract(name or (told.name if told else "own-model"), task, tuple(columns), tuple(features), training)
    if told is None or told.whole is None:
        return made
    if name and name != told.name:
        raise BadJob(f"--name: expected none beside a contract.json, which says {told.name}; got {name}")
    for what in ("task", "columns", "features"):
        wanted, got = getattr(told.whole, what), getattr(made, what)
        if wanted != got:
            raise BadJob(f"--contract: expected the {what} that the models have, got others in {told.name}'s contract")
    return replace(told.whole, report={})
