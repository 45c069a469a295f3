"""What XGBoost makes of the bytes of a file, and what the file is where it makes nothing of them."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xgboost
from xgboost.core import XGBoostError

from pipeline.adopt import ubjson
from predictor.forest import Malformed
from predictor.structure import check_fields
from serving.errors import cut
from serving.training import BadJob


def loaded(path: Path, content: bytes) -> Any:  # noqa: ANN401
    """The booster of a file of `save_model`. Raises `BadJob`."""
    expected = f"{path}: expected a model that XGBoost {xgboost.__version__} reads, JSON or UBJSON; got"
    if not content:
        raise BadJob(f"{expected} an empty file")
    if content.startswith(codecs.BOM_UTF8):
        raise BadJob(f"{expected} a byte order mark before it: save the file as UTF-8 without one")
    if content.lstrip().startswith(b"["):
        raise BadJob(f"{expected} a list, as dump_model writes it, which nothing reads: save_model('model.json')")
    if not content.startswith(b"{"):  # of some other bytes XGBoost ends the process
        raise BadJob(
            f"{expected} other bytes: damaged, or no XGBoost model. If it is in the binary format that XGBoost 3.1 "
            "gave up, load it with XGBoost 3.0 or older and save_model('model.json')"
        )
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(content))
    except XGBoostError as error:  # its own words are of its source: map::at, std::bad_alloc
        if b'"generic_param"' in content[:1000]:
            raise BadJob(f"{expected} settings, as save_config writes them: save_model('model.json')") from error
        raise BadJob(f"{expected} one that is damaged, or no XGBoost model") from error
    _refuse_unread(path, content)
    return booster


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """Look at the bytes of each Booster that is unpickled meanwhile, as XGBoost is given them. Raises `BadJob`."""
    original = xgboost.Booster.__setstate__

    def look_first(self: xgboost.Booster, state: dict[str, Any]) -> None:
        if state.get("handle") is not None:
            _refuse_unread(path, bytes(state["handle"]))
        original(self, state)

    xgboost.Booster.__setstate__ = look_first  # type: ignore[method-assign]
    try:
        yield
    finally:
        xgboost.Booster.__setstate__ = original  # type: ignore[method-assign]


def _refuse_unread(path: Path, content: bytes) -> None:
    """What the installed XGBoost would pass over, its writer makes something of. Raises `BadJob`."""
    version = "of an unknown version"
    try:
        document = json.loads(content) if content[1:].lstrip().startswith(b'"') else ubjson.decode(content)
        model = document.get("Model", document)
        version = "of XGBoost " + ".".join(map(str, model["version"]))
        check_fields(model)
    except Malformed as error:
        raise BadJob(
            f"{path}: {error}; the file is {cut(version)}, and its answers would be others here: train it with "
            f"XGBoost {xgboost.__version__}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadJob(f"{path}: expected a model as XGBoost writes it, got another: {cut(error, 200)}") from error
