"""`train --keep`: whether the artifacts that are there are those that were asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featurizer.schema import Schema, labels, typed_frame
from featurizer.train import fingerprint
from pipeline.artifacts import STAGES, verify_both
from serving.contract import Contract
from serving.errors import BadArtifact

if TYPE_CHECKING:
    import pandas as pd


def sound(out: Path) -> bool:
    """Whether both artifacts are there, undamaged and of one training run."""
    try:
        verify_both(out)
        return all((out / stage / "model.tar.gz").exists() for stage in STAGES)
    except (BadArtifact, FileNotFoundError):
        return False


def other(contract: Contract, schema: Schema | None, raw: pd.DataFrame | None, seed: int | None) -> str:
    """What was asked for that these artifacts are not; empty when they are it. Raises `BadDataset`.

    `raw`: the rows of a file that is of the schema. What was not asked for is None, and may be anything.
    """
    if schema and contract.dataset != schema.name:
        return f"of {schema.name}"
    if schema and contract.labelled_rows != schema.labelled_rows:
        return f"with labelled_rows {schema.labelled_rows}"
    trained_with = contract.training.get("seed")
    if seed is not None and seed != trained_with:
        return f"with seed {seed}"
    if schema and raw is not None:
        classes = contract.label.categories if contract.label else ()
        if (contract.training.get("data_sha256"), classes) != _trained_on(schema, raw, trained_with):
            return "of the rows of --data"
    return ""


def _trained_on(schema: Schema, raw: pd.DataFrame, seed: object) -> tuple[str, tuple[str, ...]]:
    """The fingerprint of the rows that a training with this seed learns from, and the names of all rows' classes."""
    from sklearn.model_selection import train_test_split

    classes = labels(raw, schema)[1]
    rows, _ = train_test_split(raw, random_state=seed, test_size=schema.test_size)
    return fingerprint(typed_frame(rows, schema), labels(rows, schema, classes)[0]), classes
