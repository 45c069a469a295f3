"""What the two stages of one training run agree on. Every name, count and category they need stands here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from serving.errors import BadArtifact

FILE = "contract.json"
SCHEMA_VERSION = 1
# What `pandas.read_csv` takes as missing, so that a row is read in serving as it was in training.
MISSING = frozenset(
    [
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]
)


class Task(StrEnum):
    REGRESSION = "regression"
    BINARY = "binary"
    MULTICLASS = "multiclass"


class ColumnType(StrEnum):
    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    LABEL = "label"


class LabelPlace(StrEnum):
    """Where the label stands in rows that have it and no names."""

    NONE = "none"
    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True)
class Column:
    """A raw column. `categories`: those seen in training, sorted; of a label, its classes.

    `range`: of a label that is a number, the least and the most of the training rows; `whole`: all of them were whole.
    Of another numeric column, `whole`: steps of the user's own get it as int64, as they did in training.
    `missing`: of a categorical column, its own words for a missing cell, besides the empty text; None for `MISSING`.
    """

    name: str
    type: ColumnType
    categories: tuple[str, ...] = ()
    range: tuple[float, ...] = ()
    whole: bool = False
    missing: tuple[str, ...] | None = None

    @cached_property
    def words(self) -> frozenset[str]:
        """The cells that are missing ones."""
        return MISSING if self.missing is None else frozenset(["", *self.missing])

    @cached_property
    def known(self) -> frozenset[str]:
        return frozenset(self.categories)


@dataclass(frozen=True)
class Contract:
    """Raw columns in their order (the label among them), engineered features in theirs, and the training run.

    `labelled_rows`: where rows without names may have their label, besides rows without it. `missing_features`: what is
    missing or unknown in a row may be missing in its features, which both models are known to take.
    `training` holds what identifies the run (data fingerprint, rows, seed, library versions); `report` what was
    measured of it (metrics, parameters tried) and is no part of the hash: it is known only after the featurizer
    is written.
    """

    dataset: str
    task: Task
    columns: tuple[Column, ...]
    features: tuple[str, ...]
    training: Mapping[str, Any]
    report: Mapping[str, Any] = field(default_factory=dict)
    labelled_rows: LabelPlace = LabelPlace.NONE
    missing_features: bool = False

    @cached_property
    def inputs(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.type is not ColumnType.LABEL)

    @cached_property
    def label(self) -> Column | None:
        return next((column for column in self.columns if column.type is ColumnType.LABEL), None)

    @cached_property
    def whole(self) -> tuple[str, ...]:
        """The columns that are of whole numbers."""
        return tuple(column.name for column in self.inputs if column.whole)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all but the report: equal exactly for the two artifacts of one training run."""
        return hashlib.sha256(_canonical(self._identity())).hexdigest()

    def _identity(self) -> dict[str, Any]:
        optional: dict[str, Any] = {}  # what contracts of before have not keeps their hashes
        if self.labelled_rows is not LabelPlace.NONE:
            optional["labelled_rows"] = self.labelled_rows.value
        if self.missing_features:
            optional["missing_features"] = True
        return {
            "schema_version": SCHEMA_VERSION,
            "dataset": self.dataset,
            "task": self.task.value,
            "columns": [_column_as_dict(column) for column in self.columns],
            **optional,
            "features": list(self.features),
            "training": dict(self.training),
        }

    def to_json(self) -> str:
        whole = self._identity() | {"hash": self.hash, "report": dict(self.report)}
        return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Contract:
        """Read a contract. Raises `BadArtifact` when a field is missing or the hash is not that of the fields."""
        try:
            raw = json.loads(text)
            if raw["schema_version"] != SCHEMA_VERSION:
                raise BadArtifact(f"{FILE}: expected schema_version {SCHEMA_VERSION}, got {raw['schema_version']}")
            contract = cls(
                dataset=raw["dataset"],
                task=Task(raw["task"]),
                columns=tuple(map(_column, _items(raw["columns"]))),
                features=_items(raw["features"]),
                training=raw["training"],
                report=raw["report"],
                labelled_rows=LabelPlace(raw.get("labelled_rows", LabelPlace.NONE)),
                missing_features=raw.get("missing_features", False),
            )
            claimed, found = raw["hash"], contract.hash
            _check_types(contract)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise BadArtifact(f"{FILE} is not a contract: {error!r}") from error
        if claimed != found:
            raise BadArtifact(f"{FILE}: its hash is {claimed}, that of its fields is {found}")
        return contract

    @classmethod
    def load(cls, model_dir: Path) -> Contract:
        """Read `contract.json` of a model directory."""
        return cls.from_json((model_dir / FILE).read_text(encoding="utf-8"))


def _items(value: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """The items of a list. Raises `TypeError` for what Python would iterate over too: a text, an object."""
    if not isinstance(value, list):
        raise TypeError(f"expected a list, got {value!r}")
    return tuple(value)


def _check_types(contract: Contract) -> None:
    """What is text is text, and what has names is an object. Raises `TypeError` and `ValueError`."""
    texts = [contract.dataset, *contract.features]
    for column in contract.columns:
        texts += [column.name, *column.categories, *(column.missing or ())]
        if column.whole and column.type is ColumnType.CATEGORICAL:
            raise TypeError(f"expected whole numbers in a numeric column, got {column.name}")
        if column.missing is not None and column.type is not ColumnType.CATEGORICAL:
            raise TypeError(f"expected words for a missing cell in a categorical column, got {column.name}")
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise TypeError(f"expected text, got {wrong[0]!r}")
    for names in (contract.features, [column.name for column in contract.columns]):
        if len(set(names)) < len(names):
            raise ValueError("expected different names of columns, and of features")
    if not isinstance(contract.missing_features, bool):
        raise TypeError(f"expected missing_features as true or false, got {contract.missing_features!r}")
    versions = dict(contract.training).get("versions", {})
    for part in (contract.training, contract.report, versions):
        if not isinstance(part, dict):
            raise TypeError(f"expected an object, got {part!r}")
    _canonical(contract.report)  # JSON has no infinity, but Python reads 1e999 as one


def _column(raw: Mapping[str, Any]) -> Column:
    limits, whole = _items(raw.get("range", [])), raw.get("whole", False)
    if not all(type(limit) in (int, float) for limit in limits) or len(limits) not in (0, 2) or type(whole) is not bool:
        raise TypeError(f"expected a range of two numbers, and whole as true or false; got {limits!r}, {whole!r}")
    missing = _items(raw["missing"]) if "missing" in raw else None
    return Column(raw["name"], ColumnType(raw["type"]), _items(raw.get("categories", [])), limits, whole, missing)


def _column_as_dict(column: Column) -> dict[str, Any]:
    known: dict[str, Any] = {"categories": list(column.categories)} if column.categories else {}
    if column.range:
        known |= {"range": list(column.range), "whole": column.whole}
    elif column.whole:
        known["whole"] = True
    if column.missing is not None:
        known["missing"] = list(column.missing)
    return {"name": column.name, "type": column.type.value} | known


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
