"""Fitted estimators of scikit-learn in pickles, or what to do with one that is something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xgboost
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from pipeline.adopt.pickles import MAIN, foreign_modules, unpickled, within
from serving.training import BadJob


def read_transformer(path: Path) -> Any:  # noqa: ANN401
    """A fitted transformer of a pickle. Raises `BadJob`."""
    found = unpickled(path)
    if _is_whole(found):
        raise BadJob(f"{path}: expected a transformer, got a Pipeline that ends in a model: give it with --pipeline")
    return _checked(path, found)


def read_pipeline(path: Path) -> tuple[Any, Any, Any]:
    """A fitted Pipeline of transformers and, last, an XGBModel: the whole, the transformer and the model."""
    found = unpickled(path)
    model = within(found.steps[-1][1] if isinstance(found, Pipeline) else found)
    if not (_is_whole(found) and isinstance(model, xgboost.XGBModel)):
        got = f"{type(model).__name__} in its place{_instead(model)}"
        raise BadJob(f"{path}: expected a Pipeline of transformers and then an XGBModel, got {got}")
    before = _without_passthrough(found[:-1])
    if before is None:
        raise BadJob(f"{path}: expected a step that transforms before the model, got none{_instead(model)}")
    return found, _checked(path, before), model


def _is_whole(found: Any) -> bool:  # noqa: ANN401
    return isinstance(found, Pipeline) and hasattr(found.steps[-1][1], "predict")


def _instead(found: Any) -> str:  # noqa: ANN401
    """What to give in place of an estimator that is no transformer and no Pipeline with an XGBModel."""
    if isinstance(found, xgboost.XGBModel | xgboost.Booster):
        return (
            ": its rows are the features themselves; save it with save_model('model.json'), give that with --predictor"
        )
    if isinstance(found, BaseSearchCV):
        return ", which has kept no best_estimator_: fit it with refit=True"
    if isinstance(found, TransformedTargetRegressor):
        return (
            ": it cannot be served, as the containers do not transform answers back; fit a Pipeline to the transformed "
            "target, and transform its answers back where they are used"
        )
    return ""


def _checked(path: Path, given: Any) -> Any:  # noqa: ANN401
    if not hasattr(given, "transform") or not hasattr(given, "get_params"):
        kind = f"{type(given).__module__}.{type(given).__name__}"
        raise BadJob(f"{path}: expected a scikit-learn transformer, got {kind}{_instead(given)}")
    found = _without_passthrough(given)
    if found is None:
        raise BadJob(f"{path}: expected a step that transforms, got none: give the booster alone, with --predictor")
    try:
        check_is_fitted(found)
    except NotFittedError as error:
        raise BadJob(f"{path}: expected a fitted {type(found).__name__}, got one that is not: {error}") from error
    if "__main__" in foreign_modules(found):
        raise BadJob(f"{path}: {MAIN}")
    return found


def _without_passthrough(found: Any) -> Any:  # noqa: ANN401
    """The same without a Pipeline's steps that do nothing, which do not know their columns; None if none is left."""
    if not isinstance(found, Pipeline):
        return found
    steps = [(label, step) for label, step in found.steps if step is not None and not isinstance(step, str)]
    if not steps:
        return None
    (label, first), *others = steps
    first = _without_passthrough(first)
    if first is None:
        return _without_passthrough(Pipeline(others)) if others else None
    return found if first is found.steps[0][1] else Pipeline([(label, first), *others])
