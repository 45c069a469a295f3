"""The predictor's artifact, and what its image does as a SageMaker training job."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from predictor.model import MODEL
from predictor.search import learn, learn_given
from serving.artifact import write_manifest
from serving.cells import number_column
from serving.contract import FILE, Column, ColumnType, Contract, Task
from serving.errors import BadPayload, cut
from serving.tables import Table, read_table
from serving.training import BadJob, TrainingJob

# What a training job may set, as XGBoost names it, and the type of its value.
WHOLE = ("max_depth", "max_leaves", "max_bin", "num_round", "num_parallel_tree")
REAL = (
    "eta", "learning_rate", "gamma", "min_split_loss", "min_child_weight", "max_delta_step", "subsample", "lambda",
    "reg_lambda", "alpha", "reg_alpha", "colsample_bytree", "colsample_bylevel", "colsample_bynode",
    "scale_pos_weight", "base_score",
)  # fmt: skip


def with_versions(contract: Contract) -> Contract:
    """The contract with the booster's library in its report."""
    return replace(contract, report={**contract.report, "xgboost": xgboost.__version__})


def write(booster: Any, contract: Contract, model_dir: Path) -> None:  # noqa: ANN401
    """Write the artifact's files into `model_dir`, the booster in XGBoost's own JSON."""
    (model_dir / MODEL).write_bytes(booster.save_raw("json"))  # a full disk is no OSError of save_model
    (model_dir / FILE).write_text(contract.to_json(), encoding="utf-8")
    write_manifest(model_dir)


def train(job: TrainingJob) -> None:
    """Fit on the featurized CSV of channel `train`, with the contract beside it where there is one."""
    job.refuse_unknown((*WHOLE, *REAL, "seed", "label", "task"))
    given = {name: _converted(name, value) for name, value in job.hyperparameters.items() if name in WHOLE + REAL}
    seed = job.whole_number("seed", 42)
    table = read_table(job.training_files())
    contract = _job_contract(job, table)
    features, target = _split(table, contract)
    try:
        if given:
            learned = learn_given(features, target, contract, seed, given)
        else:
            learned = learn(features, target, contract, seed, _print_progress)
    except xgboost.core.XGBoostError as error:  # a parameter out of its range
        raise BadJob(f"XGBoost refuses these hyperparameters or labels: {error}") from error
    report = {**contract.report, "search": learned.report()}
    write(learned.booster, with_versions(replace(contract, report=report)), job.model_dir)


def _job_contract(job: TrainingJob, table: Table) -> Contract:
    """The featurizer's contract; without one, a contract of the header's columns."""
    if found := job.find(FILE):
        return Contract.from_json(found.read_text(encoding="utf-8"))
    label, task = job.hyperparameters.get("label", ""), job.hyperparameters.get("task", "")
    if label not in table.names or task not in list(Task):
        raise BadJob(
            f"expected the featurizer's {FILE} in a channel, or hyperparameters `label` (one of "
            f"{', '.join(table.names)}) and `task` ({', '.join(Task)}); got label {label!r}, task {task!r}"
        )
    classes = () if task == Task.REGRESSION else _class_numbers(_numbers(table, label), label)
    columns = tuple(
        Column(name, ColumnType.LABEL, classes) if name == label else Column(name, ColumnType.NUMERIC)
        for name in table.names
    )
    training = {"data_sha256": hashlib.sha256(repr(table).encode()).hexdigest()}
    return Contract("features", Task(task), columns, tuple(name for name in table.names if name != label), training)


def _class_numbers(target: NDArray[np.float64], label: str) -> tuple[str, ...]:
    found = sorted(set(target.tolist()))
    if found != list(range(len(found))) or len(found) < 2:
        raise BadJob(f"features, column {label}: expected every class number from 0 on, got {found[:5]}")
    return tuple(str(number) for number in range(len(found)))


def _split(table: Table, contract: Contract) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features, rows x features in the contract's order, and the label."""
    label = contract.label.name if contract.label else "label"
    if wrong := sorted({*table.names} ^ {*contract.features, label}):
        raise BadJob(f"features: expected the contract's features and {label}; in only one of both: {', '.join(wrong)}")
    target = _numbers(table, label)
    if np.isnan(target).any():
        raise BadJob(f"features, row {int(np.isnan(target).argmax()) + 1}: expected a label, got none")
    if len(target) < 2:
        raise BadJob(f"features: expected at least 2 rows, got {len(target)}")
    classes = len(contract.label.categories) if contract.label else 0
    if contract.task is not Task.REGRESSION and not np.isin(target, range(classes)).all():
        raise BadJob(f"features, column {label}: expected class numbers from 0 to {classes - 1}")
    return np.column_stack([_numbers(table, name) for name in contract.features]), target


def _numbers(table: Table, name: str) -> NDArray[np.float64]:
    try:
        return number_column(table.columns[table.names.index(name)], name)
    except BadPayload as error:
        raise BadJob(f"features, row {error.row}, column {error.column}: {error.message}") from error


def _converted(name: str, value: str) -> float:
    kind = int if name in WHOLE else float
    try:
        found = kind(value)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        expected = "a whole number" if name in WHOLE else "a finite number"
        raise BadJob(f"hyperparameter {name}: expected {expected}, got {cut(repr(value))}")
    return found


def _print_progress(done: int, of: int) -> None:
    print(f"cross-validation: {done} of {of} candidates", flush=True)
