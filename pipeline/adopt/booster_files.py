"""What XGBoost makes of the bytes of a file, and what the file is where it makes nothing of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xgboost
from xgboost.core import XGBoostError

from serving.training import BadJob


def loaded(path: Path, content: bytes) -> Any:  # noqa: ANN401
    """The booster of a file of `save_model`. Raises `BadJob`."""
    expected = f"{path}: expected a model that XGBoost {xgboost.__version__} reads, JSON or UBJSON; got"
    if not content:
        raise BadJob(f"{expected} an empty file")
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
    return booster
