"""Fit the featurizer and write its artifact; also what its image does as a SageMaker training job."""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib.numpy_pickle import NumpyPickler
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from featurizer.compile import NotCovered, compile_transformer
from featurizer.fitted import FittedTransform
from featurizer.model import ENGINE, PREPROCESS
from featurizer.program import FILE as COMPILED
from featurizer.proof import prove
from featurizer.records import Records
from featurizer.schema import (
    BadDataset,
    Schema,
    labels,
    read_as_missing,
    read_rows,
    read_schema,
    read_task,
    typed_frame,
)
from featurizer.transform import Transform
from serving.artifact import write_manifest
from serving.contract import FILE, Column, ColumnType, Contract, Task
from serving.memory import usable_memory
from serving.training import BadJob, TrainingJob

HYPERPARAMETERS = ("schema", "label", "task", "categorical", "name", "seed")
COPIES = 4  # of the features, at the most, while they are made, proved and trained on
PACKAGES = ("joblib", "numpy", "pandas", "scikit-learn")


@dataclass(frozen=True)
class Fitted:
    """A fitted transformer, its serialized forms, and what it makes of the training rows (rows x features).

    `compiled` is empty where the compiled transform does not cover the transformer.
    """

    transformer: ColumnTransformer
    preprocess: bytes
    compiled: str
    contract: Contract
    features: NDArray[np.float64]
    target: NDArray[np.float64]


def make_transformer(schema: Schema) -> ColumnTransformer:
    """Numeric columns: median, then standard scale. Categorical ones: a category of their own for missing, one-hot."""
    names = {kind: [c.name for c in schema.inputs if c.type is kind] for kind in ColumnType}
    numeric = Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())])
    categorical = Pipeline(
        [
            ("impute", SimpleImputer(strategy="constant", fill_value="missing")),
            ("encode", OneHotEncoder(handle_unknown="ignore", sparse_output=False)),
        ]
    )
    steps = [("numeric", numeric, ColumnType.NUMERIC), ("categorical", categorical, ColumnType.CATEGORICAL)]
    used = [(name, step, names[kind]) for name, step, kind in steps if names[kind]]
    return ColumnTransformer(used, verbose_feature_names_out=False)


def fit(schema: Schema, raw: pd.DataFrame, run: Mapping[str, Any], classes: tuple[str, ...] = ()) -> Fitted:
    """Fit on raw rows with their label. `run`: what else identifies this training run. Raises `BadDataset`.

    `classes`: those of a classification, where these rows may not show all of them.
    """
    frame = typed_frame(raw, schema)
    for name in frame.columns[frame.isna().all()]:
        raise BadDataset(f"data, column {name}: expected a value in at least one training row, got none")
    target, classes = labels(raw, schema, classes)
    _check_size(frame, schema)
    transformer = make_transformer(schema)
    features = np.asarray(transformer.fit_transform(frame), dtype=np.float64)
    preprocess = dump(transformer)
    training = {
        **run,
        **({"search": dict(schema.search)} if schema.search else {}),  # the predictor's job sees no schema
        "rows": len(frame),
        "data_sha256": fingerprint(frame, target),
        "transform_sha256": hashlib.sha256(preprocess).hexdigest(),
        "versions": {package: version(package) for package in PACKAGES},
    }
    columns = tuple(_seen(column, frame, target, classes) for column in schema.columns)
    contract = Contract(
        schema.name, schema.task, columns, _feature_names(transformer), training, labelled_rows=schema.labelled_rows
    )
    compiled, told = compiled_text(transformer, contract, frame)
    contract = replace(contract, report=transform_report(compiled, told))
    return Fitted(transformer, preprocess, compiled, contract, features, target)


def _check_size(frame: pd.DataFrame, schema: Schema) -> None:
    """Each category is a feature: refuse what would not fit into memory. Raises `BadDataset`."""
    widths = {c.name: frame[c.name].nunique() + 1 if c.type is ColumnType.CATEGORICAL else 1 for c in schema.inputs}
    held = len(frame) * sum(widths.values()) * 8 * COPIES
    if held > usable_memory():
        widest = max(widths, key=lambda name: widths[name])
        raise BadDataset(
            f"data: expected features that fit into memory, got {len(frame):,} rows of {sum(widths.values()):,} "
            f"features, {held / 2**30:,.0f} GiB with their copies; {widths[widest]:,} of them are of column {widest}: "
            "leave it out, join its rare categories, or give fewer rows"
        )


def compiled_text(transformer: ColumnTransformer, contract: Contract, frame: pd.DataFrame) -> tuple[str, str]:
    """`transform.json`, once it has proved itself on the rows of `frame`, or nothing; and what to say of it."""
    try:
        text = compile_transformer(transformer, contract)
        fitted = FittedTransform(transformer, contract.whole)
        compared = prove(Transform.from_json(text), fitted, _records(frame, contract))
    except NotCovered as reason:
        return "", f"not compiled: {reason}"
    return text, f"compiled; equal to scikit-learn's to the bit in {compared} rows"


def transform_report(compiled: str, told: str) -> dict[str, str]:
    """What a contract says of the transform: where nothing is compiled, that the featurizer may unpickle it."""
    return {"transform": told} | ({} if compiled else {ENGINE: "sklearn"})


def _records(frame: pd.DataFrame, contract: Contract) -> Records:
    names = {kind: tuple(c.name for c in contract.inputs if c.type is kind) for kind in ColumnType}
    numeric, categorical = names[ColumnType.NUMERIC], names[ColumnType.CATEGORICAL]
    texts = (frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in categorical)
    return Records(numeric, categorical, frame[list(numeric)].to_numpy(dtype=np.float64), tuple(texts))


def _feature_names(transformer: ColumnTransformer) -> tuple[str, ...]:
    try:
        return tuple(map(str, transformer.get_feature_names_out()))
    except ValueError as error:  # a column `sex_F` beside a column `sex` with a category F
        raise BadDataset(f"data: expected column and category names that make different features; {error}") from error


def write(fitted: Fitted, model_dir: Path) -> None:
    """Write the artifact's files into `model_dir`."""
    (model_dir / PREPROCESS).write_bytes(fitted.preprocess)
    if fitted.compiled:
        (model_dir / COMPILED).write_text(fitted.compiled, encoding="utf-8")
    (model_dir / FILE).write_text(fitted.contract.to_json(), encoding="utf-8")
    write_manifest(model_dir)


def train(job: TrainingJob) -> None:
    """Fit on the CSV files of channel `train`; write the artifact, and the featurized rows for the predictor's job."""
    job.refuse_unknown(HYPERPARAMETERS)
    raw = read_rows(job.training_files())
    schema = _job_schema(job, list(map(str, raw.columns)))
    fitted = fit(schema, raw, {"seed": job.whole_number("seed", 42)})
    for told in read_as_missing(raw, schema):
        print(told)
    write(fitted, job.model_dir)
    job.output_data_dir.mkdir(parents=True, exist_ok=True)
    label = fitted.contract.label
    with (job.output_data_dir / "features.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*fitted.contract.features, label.name if label else "label"])
        writer.writerows(np.column_stack([fitted.features, fitted.target]).tolist())
    (job.output_data_dir / FILE).write_text(fitted.contract.to_json(), encoding="utf-8")


def _job_schema(job: TrainingJob, names: list[str]) -> Schema:
    """From a schema.toml in any channel, else from the hyperparameters."""
    given = job.hyperparameters
    found = job.find("schema.toml")
    if text := found.read_text(encoding="utf-8") if found else given.get("schema", ""):
        return read_schema(text)
    if "label" not in given or "task" not in given:
        raise BadJob(
            "expected schema.toml in a channel, or a hyperparameter `schema` (its text), or hyperparameters `label`, "
            f"`task` ({', '.join(Task)}) and `categorical` (names joined by commas); got {sorted(given) or 'none'}"
        )
    categorical = [name.strip() for name in given.get("categorical", "").split(",") if name.strip()]
    for name in [given["label"], *categorical]:
        if name not in names:
            raise BadDataset(f"data: expected a column {name}, got {', '.join(names)}")
    kinds = dict.fromkeys(categorical, ColumnType.CATEGORICAL) | {given["label"]: ColumnType.LABEL}
    columns = tuple(Column(name, kinds.get(name, ColumnType.NUMERIC)) for name in names)
    return Schema(given.get("name", "data"), read_task(given["task"]), columns)


def _seen(column: Column, frame: pd.DataFrame, target: NDArray[np.float64], classes: tuple[str, ...]) -> Column:
    if column.type is ColumnType.CATEGORICAL:
        return replace(column, categories=tuple(sorted(set(frame[column.name].dropna()))))
    if column.type is not ColumnType.LABEL:
        return column
    if classes:
        return replace(column, categories=classes)
    return replace(column, range=(target.min().item(), target.max().item()), whole=bool((target % 1 == 0).all()))


def fingerprint(frame: pd.DataFrame, target: NDArray[np.float64]) -> str:
    """SHA-256 of the training rows in their order, exact numbers, as CSV."""
    text = frame.assign(label=target).to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()


class _Pickler(NumpyPickler):  # type: ignore[misc] # joblib is untyped
    """joblib's pickler, for which equal strings are one: the bytes do not tell what else the process has done."""

    def save(self, obj: Any) -> None:  # noqa: ANN401
        super().save(sys.intern(obj) if type(obj) is str else obj)


def dump(transformer: ColumnTransformer) -> bytes:
    """As joblib writes it, the same bytes for the same transformer."""
    buffer = io.BytesIO()
    _Pickler(buffer).dump(transformer)
    return buffer.getvalue()
