"""Where a pickle is opened: with scikit-learn as the engine, once the manifest vouches for it; nowhere else."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import joblib
import pytest

from featurizer.model import PREPROCESS, Featurizer
from serving import artifact
from serving.contract import FILE, Contract
from serving.errors import BadArtifact
from tests.conftest import ROOT


class Canary:
    """Sings when somebody unpickles it."""

    def __init__(self, cage: Path) -> None:
        self.cage = cage

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.cage),)


def plain(canary: Canary, path: Path) -> None:
    path.write_bytes(pickle.dumps(canary))


def of_joblib(**options: object) -> Callable[[Canary, Path], None]:
    def write(canary: Canary, path: Path) -> None:
        joblib.dump(canary, path, **options)

    return write


def zipped(canary: Canary, path: Path) -> None:
    path.write_bytes(gzip.compress(zlib.compress(pickle.dumps(canary))))


KINDS = {
    "pickle": plain,
    "joblib": of_joblib(),
    **{f"joblib, {kind}": of_joblib(compress=(kind, 3)) for kind in ("zlib", "gzip", "bz2", "xz", "lzma")},
    "zipped twice": zipped,
}


@pytest.fixture
def model_dir(artifacts: Path, tmp_path: Path) -> Path:
    shutil.copytree(artifacts / "featurizer" / "model", tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ["auto", "compiled", "sklearn"])
@pytest.mark.parametrize("name", [PREPROCESS, "transform.json", FILE, artifact.MANIFEST, "other.joblib", "model.pkl"])
def test_a_pickle_that_the_manifest_does_not_vouch_for_is_never_opened(
    model_dir: Path, tmp_path: Path, kind: str, engine: str, name: str
) -> None:
    KINDS[kind](Canary(tmp_path / "sang"), model_dir / name)

    with pytest.raises(BadArtifact, match=name.replace(".", r"\.")):
        Featurizer.load(model_dir, engine=engine)

    assert not (tmp_path / "sang").exists()


@pytest.mark.parametrize("name", ["transform.json", FILE])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_under_the_name_of_a_json_file_is_never_opened(
    model_dir: Path, tmp_path: Path, kind: str, name: str
) -> None:
    KINDS[kind](Canary(tmp_path / "sang"), model_dir / name)
    artifact.write_manifest(model_dir)

    with pytest.raises(BadArtifact, match=name.replace(".", r"\.")):
        Featurizer.load(model_dir)

    assert not (tmp_path / "sang").exists()


@pytest.mark.parametrize("engine", ["auto", "compiled"])
@pytest.mark.parametrize("kind", KINDS)
def test_beside_a_compiled_transform_even_a_vouched_pickle_is_never_opened(
    model_dir: Path, tmp_path: Path, kind: str, engine: str
) -> None:
    KINDS[kind](Canary(tmp_path / "sang"), model_dir / PREPROCESS)
    artifact.write_manifest(model_dir)

    Featurizer.load(model_dir, engine=engine)

    assert not (tmp_path / "sang").exists()


def test_a_compiled_transform_that_is_broken_is_not_replaced_by_the_pickle(model_dir: Path, tmp_path: Path) -> None:
    plain(Canary(tmp_path / "sang"), model_dir / PREPROCESS)
    (model_dir / "transform.json").write_text("{}")
    artifact.write_manifest(model_dir)

    with pytest.raises(BadArtifact, match=r"transform\.json"):
        Featurizer.load(model_dir)

    assert not (tmp_path / "sang").exists()


def test_the_canary_sings_where_a_pickle_is_opened(model_dir: Path, tmp_path: Path) -> None:
    of_joblib(compress=3)(Canary(tmp_path / "sang"), model_dir / PREPROCESS)
    artifact.write_manifest(model_dir)

    with pytest.raises(BadArtifact, match="expected a ColumnTransformer, got a NoneType"):
        Featurizer.load(model_dir, engine="sklearn")

    assert (tmp_path / "sang").is_dir()


def with_versions(model_dir: Path, **versions: str) -> None:
    contract = json.loads((model_dir / FILE).read_text())
    contract["training"]["versions"] = versions
    made = Contract.from_json(Contract.load(model_dir).to_json())
    changed = Contract(made.dataset, made.task, made.columns, made.features, contract["training"], made.report)
    (model_dir / FILE).write_text(changed.to_json())
    artifact.write_manifest(model_dir)


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"scikit-learn": "0.24.2"}, r"written by scikit-learn 0\.24\.2 and would be read by"),
        ({"scikit-learn": "99.0"}, r"written by scikit-learn 99\.0"),
        ({}, "an unknown version"),
    ],
)
def test_a_pickle_of_another_scikit_learn_is_refused_unopened(
    model_dir: Path, tmp_path: Path, versions: dict[str, str], said: str
) -> None:
    plain(Canary(tmp_path / "sang"), model_dir / PREPROCESS)
    with_versions(model_dir, **versions)

    with pytest.raises(BadArtifact, match=said):
        Featurizer.load(model_dir, engine="sklearn")

    assert not (tmp_path / "sang").exists()


def test_numbers_of_another_numpy_are_served_with_a_warning(model_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    with_versions(model_dir, **{"numpy": "1.19.5", "scikit-learn": "0.24.2"})

    Featurizer.load(model_dir)

    assert "transform.json was proved with numpy 1.19.5" in caplog.text


SERVED = """
import os, sys

found = []
sys.addaudithook(lambda event, arguments: found.append((event, arguments)) if event.startswith("pickle.") else None)
os.environ.update(eval(sys.argv[1]))
import importlib

app = importlib.import_module(os.environ["STAGE"] + ".wsgi").app
client = app.test_client()
statuses = [
    client.get("/ping").status_code,
    client.post("/invocations", data=sys.argv[2], content_type="text/csv").status_code,
    client.post("/invocations", data=b"\\x80\\x04\\x95", content_type="application/x-npy").status_code,
]
heavy = sorted({"sklearn", "pandas", "joblib", "xgboost"} & set(sys.modules))
print(statuses, found, heavy)
"""
RAW, FEATURES = "M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15", "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0,1,0"


@pytest.mark.parametrize(
    ("stage", "model", "row", "statuses"),
    [
        ("featurizer", "featurizer/model", RAW, [200, 200, 415]),
        ("predictor", "predictor/model", FEATURES, [200, 200, 400]),
        ("pipeline", ".", RAW, [200, 200, 415]),
        ("local_test", ".", RAW, [503, 424, 424]),  # no container runs
    ],
)
def test_no_container_opens_a_pickle_to_load_and_to_serve(
    artifacts: Path, stage: str, model: str, row: str, statuses: list[int]
) -> None:
    env = {"STAGE": stage, "SM_MODEL_DIR": str(artifacts / model), "CONTAINERS": "featurizer=http://127.0.0.1:9"}

    ran = subprocess.run(
        [sys.executable, "-c", SERVED, repr(env), row], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert ran.stdout == f"{statuses} [] []\n"
