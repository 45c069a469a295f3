"""Objects that somebody else pickled. Reading one runs code of whoever wrote it."""

from __future__ import annotations

import lzma
import pickle
import sys
import tarfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import sklearn
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.frozen import FrozenEstimator
from xgboost.core import XGBoostError

from pipeline.adopt.booster_files import watched
from serving.training import BadJob

# How a pickle begins, and what joblib may have compressed one with.
PICKLE = b"\x80"
BEGINNINGS = (PICKLE, b"\x78", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x5d\x00", b"\x04\x22\x4d\x18")
UNREADABLE = (
    *(pickle.UnpicklingError, EOFError, OSError, ValueError, TypeError, KeyError, IndexError, ImportError),
    *(AttributeError, zlib.error, lzma.LZMAError, XGBoostError),
)
MAIN = (
    "expected classes and functions of a package, got one of __main__, which is a notebook or a script: put it in a "
    "package of its own, import it from there, fit and save again"
)
IN_THE_IMAGE = frozenset(["sklearn", "numpy", "scipy", "pandas", "joblib", "builtins"])


def read_bytes(path: Path) -> bytes:
    """The bytes of a file. Raises `BadJob`, also for an archive that has to be unpacked first."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadJob(f"{path}: {error.strerror}") from error
    if tarfile.is_tarfile(path):
        raise BadJob(
            f"{path}: expected the model's own file, got an archive: unpack it with tar and give what is in it"
        )
    return content


def unpickled(path: Path) -> Any:  # noqa: ANN401
    """The object that joblib or pickle wrote. Raises `BadJob`, also for one of another scikit-learn version."""
    content = read_bytes(path)
    try:
        with warnings.catch_warnings(), watched(path):
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", InconsistentVersionWarning)
            return within(joblib.load(path))
    except InconsistentVersionWarning as other:
        raise BadJob(
            f"{path}: expected {other.estimator_name} of scikit-learn {sklearn.__version__}, which the images have; "
            f"got one of {other.original_sklearn_version}: fit and save it with {sklearn.__version__}"
        ) from other
    except UNREADABLE as error:
        raise BadJob(f"{path}: {_why_unreadable(content, error)}") from error


def within(found: Any) -> Any:  # noqa: ANN401
    """The estimator that answers where another one only holds it."""
    if isinstance(found, FrozenEstimator):
        return within(found.estimator)
    return within(found.best_estimator_) if hasattr(found, "best_estimator_") else found


def _why_unreadable(content: bytes, error: Exception) -> str:
    spec = sys.modules["__main__"].__spec__
    if isinstance(error, AttributeError) and f"<module '{spec.name if spec else '__main__'}'" in str(error):
        return MAIN
    if content.startswith(b"{"):
        return "is not a pickle; begins like a model of save_model: give it with --predictor"
    if not content.startswith(BEGINNINGS):
        return f"expected a file of joblib.dump or pickle.dump, got {'other bytes' if content else 'an empty file'}"
    reason = str(error).partition("\n")[0]
    return f"expected a file of joblib.dump or pickle.dump that can be read here; {type(error).__name__}: {reason}"


def foreign_modules(transformer: Any) -> list[str]:  # noqa: ANN401
    """Packages of a transformer's steps and functions that the featurizer's image does not have."""
    return sorted({name.partition(".")[0] for name in _modules(transformer)} - IN_THE_IMAGE)


def _modules(estimator: Any) -> Iterator[str]:  # noqa: ANN401
    estimator = within(estimator)
    yield type(estimator).__module__
    for value in estimator.get_params(deep=True).values():
        if isinstance(value, FrozenEstimator):  # which does not tell what it holds
            yield from _modules(value)
        elif hasattr(value, "get_params") and not isinstance(value, type):
            yield type(value).__module__
        elif callable(value) and getattr(value, "__module__", None):
            yield value.__module__
