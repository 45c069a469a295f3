"""The contract of models that came without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.adopt.boosters import Given, Shape
from pipeline.adopt.told import Told
from serving.contract import Column, ColumnType, Contract, Task
from serving.training import BadJob


def fitting_features(made: Sequence[str], given: Given, shape: Shape, *, positional: bool) -> tuple[str, ...]:
    """The features' names, those of the booster being the same. `made`: what is to come in; empty if nobody says.

    Raises `BadJob` naming the first that differs.
    """
    names = given.names or tuple(f"f{index}" for index in range(shape.features))
    if not made:
        return names
    if len(made) != shape.features:
        raise BadJob(f"{given.file}: expected a booster of {len(made)} features, got one of {shape.features}")
    if given.names:
        _refuse_another_order(given, made)
    if given.names and not positional:
        for number, (ours, theirs) in enumerate(zip(made, names, strict=True), 1):
            if ours != theirs:
                raise BadJob(_differing(given.file, number, ours, theirs))
    return tuple(made)


def _refuse_another_order(given: Given, made: Sequence[str]) -> None:
    """The same names in another order are wrong answers, whatever is said of positions."""
    for plain in (str, _without_prefix):
        ours, theirs = [plain(name) for name in made], [plain(name) for name in given.names]
        if ours != theirs and sorted(ours) == sorted(theirs):
            number = next(index for index, name in enumerate(ours) if name != theirs[index])
            raise BadJob(
                f"{given.file}: expected feature {number + 1} to be {made[number]}, got {given.names[number]}: the "
                "booster has the same features in another order, and would answer wrongly; train it on them in the "
                "order of the transformer or of --contract"
            )


def _without_prefix(name: str) -> str:
    return name.partition("__")[2] or name


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
        return (known,) if known else ()
    if given.classes and not shape.classes:
        raise BadJob(
            f"{given.file}: expected a classifier of binary:logistic or multi:softprob, got one of {shape.objective}"
        )
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
    for what in ("columns", "features"):
        wanted, got = getattr(told.whole, what), getattr(made, what)
        if wanted != got:
            raise BadJob(f"--contract: expected the {what} that the models have, got others in {told.name}'s contract")
    return replace(told.whole, report={})
