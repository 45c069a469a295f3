"""Raw rows of a data set: from the package that holds or fetches them, or from a user's file."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from featurizer.schema import BadDataset, Schema, read_rows, read_schema

if TYPE_CHECKING:
    import pandas as pd

DATASETS = Path(__file__).with_name("datasets")


def known_datasets() -> list[str]:
    return sorted(path.stem for path in DATASETS.glob("*.toml"))


def load_schema(dataset: str, file: Path | None = None) -> Schema:
    """The schema of a named data set, or of a file. Raises `BadDataset`."""
    path = file or DATASETS / f"{dataset}.toml"
    if not path.is_file():
        raise BadDataset(f"expected a schema file or one of {', '.join(known_datasets())}, got {file or dataset}")
    try:
        return read_schema(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, BadDataset) as error:
        raise BadDataset(f"{path}: {error}") from error


def load_rows(schema: Schema, file: Path | None = None) -> pd.DataFrame:
    """All rows with their label: of a CSV file with a header, else from the schema's source. Raises `BadDataset`."""
    if file:
        return read_rows([file])
    if "loader" not in schema.source:
        raise BadDataset(f"data set {schema.name} has no loader: {_by_file(schema)}")
    module, _, function = str(schema.source["loader"]).partition(":")
    try:
        load = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadDataset(f"schema {schema.name}: expected a loader module:function to import; {error}") from error
    try:
        loaded: pd.DataFrame = load(**schema.source.get("arguments", {}))
    except OSError as error:
        raise BadDataset(f"data set {schema.name} cannot be fetched here ({error}): {_by_file(schema)}") from error
    # A loader may have read 0.421 as 0.42100000000000004: pandas' fast parser is not exact.
    return loaded.round(schema.source["decimals"]) if "decimals" in schema.source else loaded


def _by_file(schema: Schema) -> str:
    """What to do without a loader or without the network."""
    header = ",".join(column.name for column in schema.columns)
    origin = f"; it is {schema.source['file']}" if "file" in schema.source else ""
    given = "--data FILE.csv (make and compose: DATA=FILE.csv)"
    return f"give its rows with {given}, a file with the header {header}{origin}"
