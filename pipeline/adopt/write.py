"""Write the artifacts aside, load them as the containers do, compare them with the libraries, and put them in place."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurizer import train as featurizer
from featurizer.model import Featurizer
from pipeline.adopt import check, missing, rows
from pipeline.adopt.boosters import Given, Shape
from pipeline.adopt.pickles import foreign_modules, within
from pipeline.adopt.raw import Transform
from pipeline.adopt.request import Made, Request
from pipeline.adopt.transformers import dense, original_rows
from pipeline.artifacts import RUN_FILES
from predictor import train as predictor
from predictor.model import Predictor
from serving import artifact
from serving.contract import Contract, Task
from serving.training import BadJob


@dataclass(frozen=True)
class Parts:
    """What there is to write. `whole`: the Pipeline that a transformer and a booster were taken from."""

    request: Request
    contract: Contract
    transform: Transform | None
    model: Given | None
    shape: Shape | None
    whole: Any = None


def write_and_check(parts: Parts, scratch: Path) -> Made:
    """Write both artifacts, or one, to `scratch`. Raises `BadJob` for what does not answer as the libraries do."""
    contract, compiled, told = parts.contract, "", list[str]()
    if parts.transform:
        frame = parts.transform.frame[[column.name for column in contract.inputs]]
        compiled, how = featurizer.compiled_text(parts.transform.served, contract, frame)
        contract = replace(contract, report=featurizer.transform_report(compiled, how))
    if parts.shape:
        report = {**contract.report, "objective": parts.shape.objective}
        contract = predictor.with_versions(replace(contract, report=report))
    if parts.transform:
        _write_featurizer(parts.transform, compiled, contract, _directory(scratch, "featurizer"))
        featurizing = check.load_featurizer(scratch / "featurizer" / "model")
        told += _check_featurizer(parts.transform, contract, featurizing)
        told += missing.notes(parts.transform, parts.request.sample)
    if parts.model and parts.shape:
        predictor.write(parts.model.served(contract.features), contract, _directory(scratch, "predictor"))
        predicting = check.load_predictor(scratch / "predictor" / "model")
        told += _check_predictor(parts, parts.model, parts.shape, predicting)
    if parts.transform and parts.model:
        told.append(_check_chain(parts, parts.transform, parts.model, (featurizing, predicting)))
    stages = tuple(sorted(path.name for path in scratch.iterdir()))
    for stage in stages:
        artifact.pack(scratch / stage / "model", scratch / stage / "model.tar.gz")
    return Made(contract, stages, tuple(told))


def _directory(scratch: Path, stage: str) -> Path:
    made = scratch / stage / "model"
    made.mkdir(parents=True)
    return made


def _write_featurizer(transform: Transform, compiled: str, contract: Contract, model_dir: Path) -> None:
    preprocess, nothing = featurizer.dump(transform.served), np.empty(0)
    fitted = featurizer.Fitted(transform.served, preprocess, compiled, contract, nothing, nothing)
    featurizer.write(fitted, model_dir)


def _check_featurizer(transform: Transform, contract: Contract, served: Featurizer) -> Iterator[str]:
    frame, features = transform.frame, dense(transform.made)
    check.check_featurizer(served, frame, features)
    how = contract.report["transform"]
    pickled = "; scikit-learn serves it, and the artifact lets its pickle be read"
    yield f"transform: {how}" + ("" if how.startswith("compiled") else pickled)
    yield f"features: equal to scikit-learn's to the bit in {len(frame)} rows"
    passed = set(check.passes_missing_on(frame, features, contract)) - {*transform.needed}
    if contract.missing_features and passed:
        listed = " or ".join(name for name in frame if name in passed)
        yield f"note: a row without {listed} has missing features, which XGBoost takes as it does in the original"
    without = {*transform.needed, *(() if contract.missing_features else passed)}
    if lost := [name for name in frame if name in without]:
        yield f"note: a row without {' or '.join(lost)} is refused, the transformer having no value for a missing one"
    if told := [derived.column.name for derived in transform.columns if derived.own]:
        yield (
            "note: steps of your own get 101 as 101.0 in these columns, which are numeric in --contract: "
            f"{', '.join(told)}; if they were whole numbers in pandas, give --sample, or --columns {told[0]}=integer"
        )
    if transform.untold:
        yield (
            "note: serving computes in 64 bits, and may answer otherwise than a model fitted on float32 or int8, of "
            f"which these show nothing: {', '.join(transform.untold)}"
        )
    if foreign := foreign_modules(transform.served):
        yield f"note: the featurizer's image has no {', '.join(foreign)}: add it to requirements/featurizer.txt"
    if dropped := [name for name in transform.names if name not in frame]:
        yield f"note: columns that the transformer drops are no part of a row: {', '.join(dropped)}"


def _check_predictor(parts: Parts, model: Given, shape: Shape, served: Predictor) -> Iterator[str]:
    features = rows.feature_rows(shape.trees, shape.features)
    if parts.request.sample and not parts.transform:
        read = rows.sample(parts.request.sample, served.interface.reads)
        features = np.ascontiguousarray(read.to_numpy(), dtype=np.float32)
    check.check_predictor(served, features, model.predict(features))
    yield f"predictions: equal to Booster.predict's to the bit in {len(features)} rows"
    if model.rounds:
        yield f"rounds: {model.rounds} of {model.booster.num_boosted_rounds()}, up to the best (--trees all for all)"
    elif model.booster.attr("best_iteration") is not None:
        yield f"rounds: all {model.booster.num_boosted_rounds()}, as Booster.predict (--trees best to stop at the best)"


def _check_chain(parts: Parts, transform: Transform, model: Given, stages: tuple[Featurizer, Predictor]) -> str:
    with np.errstate(over="ignore"):
        features = dense(transform.made).astype(np.float32)
    lacking = transform.frame.isna().any(axis=1).to_numpy() & parts.contract.missing_features
    usable = (np.isfinite(features) | (np.isnan(features) & lacking[:, None])).all(axis=1)
    if not usable.any():
        raise BadJob(f"{transform.file}: expected rows whose features are finite, got none: give some with --sample")
    frame = transform.frame[usable].reset_index(drop=True)
    made = transform.of(frame)
    expected = model.predict(dense(made) if parts.request.dense else made)
    check.check_pipeline(*stages, frame, expected)
    if parts.whole is None or not model.as_its_model:
        return f"both: equal to transform and Booster.predict to the bit in {len(frame)} rows"
    check.check_pipeline(*stages, frame, _whole(parts, transform, frame, expected))
    kind = type(within(parts.whole.steps[-1][1])).__name__
    return f"both: equal to {kind} in the Pipeline to the bit in {len(frame)} rows"


def _whole(parts: Parts, transform: Transform, frame: pd.DataFrame, like: NDArray[Any]) -> NDArray[Any]:
    """What the Pipeline's own `predict` or `predict_proba` says."""
    raw = original_rows(transform.original, transform.names, frame)
    if parts.contract.task is Task.REGRESSION:
        return np.asarray(parts.whole.predict(raw))
    if not hasattr(parts.whole, "predict_proba"):  # an XGBRegressor of binary:logistic predicts the probability
        return np.asarray(parts.whole.predict(raw))
    probabilities = np.asarray(parts.whole.predict_proba(raw))
    return probabilities[:, 1] if like.ndim == 1 else probabilities


def publish(scratch: Path, out: Path) -> None:
    """Put the files in place one by one, as their directories may be mounted. Remove what is stale beside them."""
    for file in sorted(path for path in scratch.rglob("*") if path.is_file()):
        target = out / file.relative_to(scratch)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.new")
        shutil.copyfile(file, beside)
        beside.replace(target)
    for model in scratch.glob("*/model"):
        for old in (out / model.relative_to(scratch)).iterdir():
            if old.is_file() and not (model / old.name).exists():
                old.unlink()


def remove_report(out: Path, contract: Contract, sample: Path | None) -> list[str]:
    """Remove the report, rows and pictures of another training run; returns their names. `sample`: rows to be kept."""
    report = out / "report.txt"
    run = re.search("Training run ([0-9a-f]+)", report.read_text(errors="replace")) if report.is_file() else None
    if run is None or contract.hash.startswith(run[1]):
        return []
    stale = [path for path in (out / name for name in RUN_FILES) if path.is_file()]
    stale = [path for path in stale if not (sample and path.samefile(sample))]
    for path in stale:
        path.unlink()
    return [path.name for path in stale]
