"""From files of models to artifacts: read, derive, write aside, compare with the libraries, then put in place."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from featurizer import train as featurizer
from pipeline.adopt import contracts, missing
from pipeline.adopt.boosters import Given, Shape, given, read_booster, shape_of, zeros_are_as_missing
from pipeline.adopt.estimators import read_pipeline, read_transformer
from pipeline.adopt.raw import Transform, read_raw
from pipeline.adopt.request import Made, Request
from pipeline.adopt.told import Told, read_told
from pipeline.adopt.transformers import dense
from pipeline.adopt.write import Parts, publish, remove_report, write_and_check
from serving.contract import Contract, Task
from serving.training import BadJob


def adopt(request: Request, out: Path) -> Made:
    """Write `out/STAGE/model` and `out/STAGE/model.tar.gz` for what was given. Raises `BadJob`, and nothing changes."""
    told = read_told(request.contract) if request.contract else None
    whole, original, model = _read(request)
    transform = read_raw(request, original, told) if original is not None else None
    if transform and not request.missing_categories:
        missing.refuse(transform.columns)
    shape = shape_of(model) if model else None
    if transform and model and shape:
        _refuse_sparse(request, transform, shape)
    contract = _contract(request, told, transform, model, shape)
    with tempfile.TemporaryDirectory() as scratch:
        made = write_and_check(Parts(request, contract, transform, model, shape, whole), Path(scratch))
        publish(Path(scratch), out)
    if removed := remove_report(out, made.contract, request.sample):
        return replace(made, told=(*made.told, f"removed, being of a training run: {', '.join(removed)}"))
    return made


def _read(request: Request) -> tuple[Any, Any, Given | None]:
    """The whole Pipeline, the transformer and the booster, as far as they were given."""
    if request.pipeline:
        whole, transformer, model = read_pipeline(request.pipeline)
        return whole, transformer, given(request.pipeline, model, request.trees)
    transformer = read_transformer(request.featurizer) if request.featurizer else None
    if not request.predictor:
        return None, transformer, None
    return None, transformer, read_booster(request.predictor, request.trees, allow_pickle=request.allow_pickle)


def _refuse_sparse(request: Request, transform: Transform, shape: Shape) -> None:
    told_so = request.dense and not request.pipeline  # a Pipeline shows what its model learned from
    if told_so or not hasattr(transform.made, "toarray") or zeros_are_as_missing(shape.trees):
        return
    otherwise = "" if request.pipeline else "; or give --dense, if the booster learned from the dense matrix"
    raise BadJob(
        f"{transform.file}: expected a dense matrix of features, as serving has it; got a sparse one, whose zeros "
        "XGBoost took as missing, and this booster answers those otherwise: fit both again with sparse_threshold=0 in "
        f"the ColumnTransformer, or sparse_output=False in its encoders{otherwise}"
    )


def _contract(
    request: Request, told: Told | None, transform: Transform | None, model: Given | None, shape: Shape | None
) -> Contract:
    features = transform.features if transform else ()
    if not transform and told:
        features = told.whole.features if told.whole else tuple(column.name for column in told.inputs)
    if model and shape:
        features = contracts.fitting_features(features, model, shape, positional=request.positional)
    if transform:
        inputs = tuple(derived.column for derived in transform.columns)
    else:
        inputs = told.inputs if told else contracts.numbers(features)
    taken = [*(column.name for column in inputs), *(transform.names if transform else ())]
    label = contracts.label_of(told, model, shape, request.classes, taken)
    columns = (*inputs, *label)
    if told and label:  # where the label stands among the columns is the given contract's to say
        named = {column.name: column for column in columns}
        columns = tuple(named[column.name] for column in told.columns)
    task = shape.task if shape else told.task if told else Task.REGRESSION
    training = _training(transform, model.served(features) if model else None)
    contract = contracts.contract_of(told, request.name, task, columns, features, training)
    # XGBoost takes NaN as missing, whatever else it was told to
    missing = bool(transform and model and np.isnan(dense(transform.made)).any())
    return replace(contract, missing_features=missing)


def _training(transform: Transform | None, booster: Any) -> dict[str, Any]:  # noqa: ANN401
    """What identifies models of which nobody knows how they were trained: their bytes."""
    versions = {name: version(name) for name in featurizer.PACKAGES} if transform else {}
    found: dict[str, Any] = {"versions": versions} if versions else {}
    if transform:
        found["transform_sha256"] = hashlib.sha256(featurizer.dump(transform.served)).hexdigest()
    if booster is not None:
        found["booster_sha256"] = hashlib.sha256(booster.save_raw("json")).hexdigest()
    return found
