"""Write the boosters of this directory with the XGBoost that is installed, and its own predictions beside them.

    pip install --target /tmp/x xgboost==3.4.1 && PYTHONPATH=/tmp/x python tests/boosters/make.py tests/boosters

Versions 1.6 to 3.2 run on Python 3.11 and NumPy 1.26, 3.3 and newer on Python 3.12.
"""

import sys
from pathlib import Path

import numpy as np
import xgboost

KINDS = {"trees": {}, "dart": {"booster": "dart", "rate_drop": 0.3}, "dropout": {"rate_drop": 0.3}}


def rows() -> np.ndarray:
    """The rows that are predicted: 200 x 3, float32."""
    return np.random.RandomState(0).normal(size=(200, 3)).astype("float32")


def main(out: Path) -> None:
    data = xgboost.DMatrix(rows(), np.exp(rows()[:, 0]), feature_names=["a", "b", "c"])
    for kind, more in KINDS.items():
        if kind == "dropout" and tuple(map(int, xgboost.__version__.split(".")[:2])) < (3, 3):
            continue  # it was dart alone that had it
        booster = xgboost.train({"max_depth": 2, "nthread": 1, "verbosity": 0, **more}, data, 4)
        name = out / f"{xgboost.__version__}-{kind}"
        for suffix in (".json", ".ubj"):
            booster.save_model(f"{name}{suffix}")
        np.save(f"{name}.npy", booster.predict(xgboost.DMatrix(rows(), feature_names=["a", "b", "c"])))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
