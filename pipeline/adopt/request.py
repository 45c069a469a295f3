"""What is asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serving.contract import Contract


@dataclass(frozen=True)
class Request:
    """What a user gives: files, and what they do not say."""

    predictor: Path | None = None
    featurizer: Path | None = None
    pipeline: Path | None = None
    contract: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)  # one of `told.KINDS` for each
    sample: Path | None = None
    name: str = ""
    classes: tuple[str, ...] = ()
    trees: str = ""
    allow_pickle: bool = False
    positional: bool = False
    missing_categories: bool = False  # what serving takes as a missing value may be a category of the model
    dense: bool = False  # the booster learned from a dense matrix, whatever the transformer gives


@dataclass(frozen=True)
class Made:
    """The artifacts' contract, and what there is to say of them."""

    contract: Contract
    stages: tuple[str, ...]
    told: tuple[str, ...]
