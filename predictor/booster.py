"""XGBoost through its C interface (c_api.h), for prediction alone.

The Python package's own call spends twice the C call's time on finding out what it was given, and importing it brings
scipy. The library that it installs is used as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.settings import usable_cpus

ROWS_PER_THREAD = 512  # fewer are not worth a thread

_CONFIG = json.dumps(
    {
        "type": 0, "training": False, "iteration_begin": 0, "iteration_end": 0, "missing": float("nan"),
        "strict_shape": False, "cache_id": 0, "nthread": 1,
    }
).encode()  # fmt: skip
# Of the others XGBoost predicts in place not at all (gblinear) or with other bits than `Booster.predict` (dart).
IN_PLACE = "gbtree"


class BoosterError(ValueError):
    """What XGBoost refuses, in its words."""


class Booster:
    """A trained booster that predicts in place on a float32 matrix. Safe to use in several threads."""

    def __init__(self, model: bytes) -> None:
        """Read a model in one of XGBoost's own formats; of a stranger's, what `structure.checked` has passed.

        Raises `BoosterError`.
        """
        self._library = _library()
        self._handle = ctypes.c_void_p()
        if not model.startswith(b"{"):  # of other bytes XGBoost crashes
            raise BoosterError("expected a model in XGBoost's JSON or UBJSON")
        self._call("XGBoosterCreate", None, ctypes.c_uint64(0), ctypes.byref(self._handle))
        # One thread: the workers share the cores, and OpenMP teams of many workers would fight for them.
        self._call("XGBoosterSetParam", self._handle, b"nthread", b"1")
        self._call("XGBoosterLoadModelFromBuffer", self._handle, model, ctypes.c_uint64(len(model)))
        self.threads = usable_cpus()
        self._local = threading.local()
        self._in_place = self._kind() == IN_PLACE

    def __del__(self) -> None:
        if self._handle:
            self._library.XGBoosterFree(self._handle)

    @property
    def feature_names(self) -> tuple[str, ...]:
        count, names = ctypes.c_uint64(), ctypes.POINTER(ctypes.c_char_p)()
        self._call(
            "XGBoosterGetStrFeatureInfo", self._handle, b"feature_name", ctypes.byref(count), ctypes.byref(names)
        )
        return tuple(names[index].decode() for index in range(count.value))

    @property
    def feature_count(self) -> int:
        count = ctypes.c_uint64()
        self._call("XGBoosterGetNumFeature", self._handle, ctypes.byref(count))
        return count.value

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predictions of `Booster.predict`, to the bit: one a row, or rows x classes. NaN is missing.

        `features`: rows x features, C order, at least one row. Many rows are shared out among the container's cores.
        """
        parts = min(self.threads, len(features) // ROWS_PER_THREAD)
        if parts < 2 or not self._in_place:
            return self._predict_rows(features)
        return np.concatenate(list(self._pool.map(self._predict_rows, np.array_split(features, parts))))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        """Made with the first large body: threads do not outlive a fork."""
        return ThreadPoolExecutor(self.threads, "predict")

    def _predict_rows(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        rows, width = features.shape
        matrix = b'{"data":[%d,true],"shape":[%d,%d],"typestr":"<f4","version":3}' % (features.ctypes.data, rows, width)
        shape, made = ctypes.POINTER(ctypes.c_uint64)(), ctypes.POINTER(ctypes.c_float)()
        dimensions = ctypes.c_uint64()
        answer = ctypes.byref(shape), ctypes.byref(dimensions), ctypes.byref(made)
        if self._in_place:
            _checked(
                self._library,
                self._library.XGBoosterPredictFromDense(self._handle, matrix, _CONFIG, self._proxy(), *answer),
            )
        else:
            with self._copied(matrix) as copy:
                self._call("XGBoosterPredictFromDMatrix", self._handle, copy, _CONFIG, *answer)
        sizes = shape[: dimensions.value]
        count = 1
        for size in sizes:
            count *= size
        # the library keeps the answer only until this thread's next call
        return np.frombuffer(ctypes.string_at(made, 4 * count), np.float32).reshape(sizes)

    @contextlib.contextmanager
    def _copied(self, matrix: bytes) -> Iterator[ctypes.c_void_p]:
        copy = ctypes.c_void_p()
        self._call("XGDMatrixCreateFromDense", matrix, _CONFIG, ctypes.byref(copy))
        try:
            yield copy
        finally:
            self._call("XGDMatrixFree", copy)

    def _kind(self) -> str:
        """`gbtree`, `dart` or `gblinear`."""
        length, text = ctypes.c_uint64(), ctypes.c_char_p()
        self._call("XGBoosterSaveJsonConfig", self._handle, ctypes.byref(length), ctypes.byref(text))
        return str(json.loads(text.value or b"")["learner"]["gradient_booster"]["name"])

    def _proxy(self) -> ctypes.c_void_p:
        if not hasattr(self._local, "proxy"):
            self._local.proxy = _Proxy(self._library)
        handle: ctypes.c_void_p = self._local.proxy.handle
        return handle

    def _call(self, function: str, *arguments: Any) -> None:  # noqa: ANN401
        _checked(self._library, getattr(self._library, function)(*arguments))


class _Proxy:
    """What the library wraps around each matrix, one a thread.

    Without one it makes its own in every call, and looks anew how many CPUs the container has, in the cgroup's files.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.handle = ctypes.c_void_p()
        _checked(library, library.XGProxyDMatrixCreate(ctypes.byref(self.handle)))

    def __del__(self) -> None:
        self.library.XGDMatrixFree(self.handle)


def _checked(library: ctypes.CDLL, code: int) -> None:
    if code:
        raise BoosterError(library.XGBGetLastError().decode(errors="replace").partition("\n")[0])


def version() -> tuple[int, int, int]:
    """Of the XGBoost that is installed."""
    numbers = [ctypes.c_int() for _ in range(3)]
    _library().XGBoostVersion(*map(ctypes.byref, numbers))
    return numbers[0].value, numbers[1].value, numbers[2].value


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(_path()))
    library.XGBGetLastError.restype = ctypes.c_char_p
    library.XGBSetGlobalConfig(b'{"verbosity": 0}')
    return library


def _path() -> Path:
    """The shared library that the package brings, found without importing the package."""
    spec = importlib.util.find_spec("xgboost")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("xgboost is not installed")
    name = {"darwin": "libxgboost.dylib", "win32": "xgboost.dll"}.get(sys.platform, "libxgboost.so")
    return Path(spec.submodule_search_locations[0]) / "lib" / name
