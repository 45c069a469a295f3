"""Write what a release leaves to the next ones: `python -m tests.releases.make NAME`, once for each release.

Each folder has small artifacts, rows, and what the code of that release answered them with. What is there is never
written anew.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from featurizer.model import Featurizer
from featurizer.schema import read_schema
from pipeline.artifacts import STAGES
from pipeline.model import Pipeline
from pipeline.train import train
from serving.payload import CSV, JSON, Payload
from serving.settings import Settings

HERE = Path(__file__).parent
ROWS = b"0.5,clay\n-1.25,sand\n,loam\n2,\n0.1,peat\n-0.0,NA\n1e-3,clay\n"
SCHEMA = """
name = "flowers"
task = "{task}"
labelled_rows = "last"
[search]
repeats = 1
folds = 2
rounds = 12
grid = {{ max_depth = [3], eta = [0.3] }}
[[columns]]
name = "height"
type = "numeric"
[[columns]]
name = "soil"
type = "categorical"
missing = ["?"]
[[columns]]
name = "{label}"
type = "label"
"""


def rows() -> pd.DataFrame:
    random, count = np.random.default_rng(5), 80
    heights = random.normal(size=count).round(3).tolist()
    ages = (np.array(heights) * 2 + random.normal(size=count) * 0.1).round(3).tolist()
    return pd.DataFrame(
        {
            "height": ["" if number % 9 == 0 else repr(height) for number, height in enumerate(heights)],
            "soil": [("clay", "sand", "?", "NA")[number % 4] for number in range(count)],
            "age": [repr(age) for age in ages],
            "kind": ["rose" if height > 0.6 else "lily" if height < -0.6 else "aster" for height in heights],
        },
        dtype=object,
    )


def main(name: str) -> None:
    for task, label in (("regression", "age"), ("multiclass", "kind")):
        out = HERE / name / task
        with tempfile.TemporaryDirectory() as scratch:
            train(read_schema(SCHEMA.format(task=task, label=label)), rows(), Path(scratch), 7)
            for stage in STAGES:
                shutil.copytree(Path(scratch) / stage / "model", out / stage / "model")
        featurizer, single = Featurizer.load(out / "featurizer/model"), Pipeline.load(Settings(model_dir=out))
        (out / "rows.csv").write_bytes(ROWS)
        (out / "features.csv").write_bytes(featurizer(Payload(ROWS, CSV, CSV)).body)
        (out / "answers.json").write_bytes(single(Payload(ROWS, CSV, JSON)).body)


if __name__ == "__main__":
    main(sys.argv[1])
