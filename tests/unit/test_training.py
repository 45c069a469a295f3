"""`train` as SageMaker runs it, on a directory tree like /opt/ml."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import xgboost

from featurizer.model import Featurizer
from predictor.model import MODEL, Predictor
from serving import artifact, training
from serving.contract import Column, ColumnType, Contract, Task
from serving.payload import Payload, run_serially
from tests.servers import started, wait_until

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = """
name = "shells"
task = "regression"
[[columns]]
name = "sex"
type = "categorical"
[[columns]]
name = "length"
type = "numeric"
[[columns]]
name = "rings"
type = "label"
"""
SIMPLE = {"label": "rings", "task": "regression", "categorical": "sex"}
QUICK = {"max_depth": "2", "num_round": "3"}


def raw_rows(first: int, last: int) -> str:
    return "".join(f"{'MFI'[i % 3]},{'' if i % 7 == 0 else i / 64},{i % 5 + 1}\n" for i in range(first, last))


@pytest.fixture
def opt_ml(tmp_path: Path) -> Path:
    """A job of the featurizer that can succeed: two files of raw rows, hyperparameters in place of a schema."""
    give(tmp_path, "input/data/train/b.csv", "sex,length,rings\n" + raw_rows(20, 40))
    give(tmp_path, "input/data/train/a.csv", "sex,length,rings\n" + raw_rows(0, 20))
    configure(tmp_path, SIMPLE)
    return tmp_path


def give(base: Path, name: str, text: str) -> None:
    (base / name).parent.mkdir(parents=True, exist_ok=True)
    (base / name).write_text(text)


def configure(base: Path, hyperparameters: object) -> None:
    give(base, "input/config/hyperparameters.json", json.dumps(hyperparameters))


def predictor_job(featurizer: Path, base: Path, hyperparameters: dict[str, str]) -> Path:
    """A job of the predictor whose channel is what the featurizer's job put out."""
    for name in ("features.csv", "contract.json"):
        give(base, f"input/data/train/{name}", (featurizer / "output/data" / name).read_text())
    configure(base, hyperparameters)
    return base


def failure(base: Path) -> str:
    return (base / "output/failure").read_text()


def test_the_two_jobs_chained_make_artifacts_of_one_training_run(opt_ml, tmp_path_factory):
    (opt_ml / "output/data").mkdir(parents=True)  # as SageMaker has it
    assert training.main("featurizer", opt_ml) == 0
    job = predictor_job(opt_ml, tmp_path_factory.mktemp("ml"), QUICK)
    assert training.main("predictor", job) == 0

    stages = [Featurizer.load(opt_ml / "model"), Predictor.load(job / "model")]
    answer = run_serially(stages, Payload(b"M,0.25\nF,\n", "text/csv", "application/json"))

    assert len(json.loads(answer.body)["result"]) == 2
    assert Contract.load(opt_ml / "model").hash == Contract.load(job / "model").hash
    assert not (opt_ml / "output/failure").exists()


def test_a_featurizer_job_reads_all_files_of_the_channel_in_the_order_of_their_names(opt_ml):
    training.main("featurizer", opt_ml)

    lines = (opt_ml / "output/data/features.csv").read_text().splitlines()

    assert lines[0] == "length,sex_F,sex_I,sex_M,rings"
    assert [float(line.split(",")[-1]) for line in lines[1:]] == [i % 5 + 1 for i in range(40)]


def test_a_featurizer_job_puts_out_the_features_that_it_will_serve(opt_ml):
    training.main("featurizer", opt_ml)
    served = Featurizer.load(opt_ml / "model")(Payload(raw_rows(0, 40).encode(), "text/csv; label=last", "text/csv"))

    lines = (opt_ml / "output/data/features.csv").read_text().splitlines()[1:]

    told = [[float(cell) for cell in line.split(",")][:-1] for line in lines]
    assert told == [[float(cell) for cell in line.split(",")] for line in served.body.decode().splitlines()]


@pytest.mark.parametrize("way", ["file", "file beside the rows", "text", "hyperparameters"])
def test_a_schema_may_come_in_a_channel_or_a_hyperparameter(opt_ml, way):
    if way.startswith("file"):
        give(opt_ml, f"input/data/{'schema' if way == 'file' else 'train'}/schema.toml", SCHEMA)
    configure(opt_ml, {"file": {}, "text": {"schema": SCHEMA}, "hyperparameters": SIMPLE}.get(way, {}))

    assert training.main("featurizer", opt_ml) == 0
    assert Contract.load(opt_ml / "model").features == ("length", "sex_F", "sex_I", "sex_M")


def test_the_channel_may_be_called_training(opt_ml):
    (opt_ml / "input/data/train").rename(opt_ml / "input/data/training")

    assert training.main("featurizer", opt_ml) == 0


@pytest.mark.parametrize(
    ("hyperparameters", "reason"),
    [
        ({}, "expected schema.toml in a channel, or a hyperparameter `schema`"),
        ({"label": "rings", "categorical": "sex"}, "expected schema.toml in a channel"),
        (SIMPLE | {"label": "age"}, "expected a column age, got sex, length, rings"),
        (SIMPLE | {"categorical": "sex,colour"}, "expected a column colour"),
        (SIMPLE | {"categorical": ""}, "row 1, column sex: expected a number, got 'M'"),
        (SIMPLE | {"task": "guess"}, "expected one of regression, binary, multiclass, got 'guess'"),
        (SIMPLE | {"categorial": "sex"}, "hyperparameter categorial is unknown: expected one of categorical, label"),
        (SIMPLE | {"seed": "-1"}, "hyperparameter seed: expected a whole number up to 2,147,483,647, got '-1'"),
        ({"schema": "name = "}, "schema: "),
        ({"label": 3}, "an object whose values are all strings"),
        ([], "an object whose values are all strings"),
    ],
)
def test_a_featurizer_job_that_says_too_little_fails_with_one_line(opt_ml, hyperparameters, reason):
    configure(opt_ml, hyperparameters)

    assert training.main("featurizer", opt_ml) == 1
    assert reason in failure(opt_ml)
    assert "Traceback" not in failure(opt_ml)


def test_hyperparameters_that_are_no_json_are_refused(opt_ml):
    give(opt_ml, "input/config/hyperparameters.json", "{")

    assert training.main("featurizer", opt_ml) == 1
    assert failure(opt_ml).startswith("hyperparameters.json: expected JSON, got ")


def test_no_hyperparameters_file_means_no_hyperparameters(opt_ml):
    (opt_ml / "input/config/hyperparameters.json").unlink()
    give(opt_ml, "input/data/train/schema.toml", SCHEMA)

    assert training.main("featurizer", opt_ml) == 0


def test_hyperparameters_that_the_sdk_quotes_and_adds_are_understood(opt_ml):
    configure(opt_ml, {name: json.dumps(text) for name, text in SIMPLE.items()} | {"sagemaker_region": '"eu-west-1"'})

    assert training.main("featurizer", opt_ml) == 0


@pytest.mark.parametrize("stage", ["featurizer", "predictor"])
def test_a_job_without_data_names_the_channel_it_expects(tmp_path, stage):
    assert training.main(stage, tmp_path) == 1
    assert "expected a channel train, got none" in failure(tmp_path)


def test_a_channel_without_csv_files_says_what_is_in_it(tmp_path):
    give(tmp_path, "input/data/train/rows.parquet", "")

    assert training.main("featurizer", tmp_path) == 1
    assert "expected .csv files with a header in channel train, got rows.parquet" in failure(tmp_path)


def test_a_column_without_any_value_is_refused(opt_ml):
    for name in ("a", "b"):
        give(opt_ml, f"input/data/train/{name}.csv", "sex,length,rings\nM,,1\nF,NA,2\n")

    assert training.main("featurizer", opt_ml) == 1
    assert "column length: expected a value in at least one training row" in failure(opt_ml)


def test_columns_and_categories_that_make_one_feature_are_refused(opt_ml):
    for name in ("a", "b"):
        give(opt_ml, f"input/data/train/{name}.csv", "sex,sex_M,rings\nM,1,1\nF,2,2\n")

    assert training.main("featurizer", opt_ml) == 1
    assert "expected column and category names that make different features" in failure(opt_ml)


@pytest.fixture(scope="module")
def featurized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("featurized")
    give(base, "input/data/train/rows.csv", "sex,length,rings\n" + raw_rows(0, 40))
    configure(base, SIMPLE)
    assert training.main("featurizer", base) == 0
    return base


@pytest.mark.parametrize(
    ("hyperparameters", "reason"),
    [
        (QUICK | {"max_depth": "deep"}, "hyperparameter max_depth: expected a whole number, got 'deep'"),
        (QUICK | {"max_depth": "2.5"}, "hyperparameter max_depth: expected a whole number, got '2.5'"),
        (QUICK | {"eta": "nan"}, "hyperparameter eta: expected a finite number, got 'nan'"),
        (QUICK | {"max_depth": "9" * 5000}, "hyperparameter max_depth: expected a whole number, got '999"),
        (QUICK | {"eta": ""}, "hyperparameter eta: expected a finite number, got ''"),
        (QUICK | {"ets": "0.1"}, "hyperparameter ets is unknown: expected one of alpha, base_score"),
        (QUICK | {"num_round": "0"}, "hyperparameter num_round: expected at least 1, got 0"),
        (QUICK | {"subsample": "7"}, "XGBoost refuses these hyperparameters"),
    ],
)
def test_a_wrong_hyperparameter_is_named(featurized, tmp_path, hyperparameters, reason):
    job = predictor_job(featurized, tmp_path, hyperparameters)

    assert training.main("predictor", job) == 1
    assert reason in failure(job)[:1024]
    assert "Traceback" not in failure(job)


def test_given_hyperparameters_are_used_and_recorded_with_their_score(featurized, tmp_path):
    job = predictor_job(featurized, tmp_path, {"max_depth": "2", "num_round": "7", "eta": "0.3", "seed": "5"})

    assert training.main("predictor", job) == 0

    predictor = Predictor.load(job / "model")
    search = predictor.contract.report["search"]
    assert xgboost.Booster(model_file=job / "model" / MODEL).num_boosted_rounds() == 7
    assert search["chosen"]["parameters"] == {"max_depth": 2, "eta": 0.3}
    assert search["metric"] == "rmse"
    assert 0 < search["chosen"]["score"] < 5


def test_a_job_without_a_seed_is_that_of_seed_42(featurized, tmp_path):
    written = []
    for number, seed in enumerate(({}, {"seed": "42"}, {"seed": "43"})):
        job = predictor_job(featurized, tmp_path / str(number), QUICK | {"subsample": "0.5"} | seed)
        assert training.main("predictor", job) == 0
        written.append((job / "model" / MODEL).read_bytes())

    assert written[0] == written[1] != written[2]
    assert Contract.load(featurized / "model").training["seed"] == 42


def test_without_hyperparameters_the_best_of_all_tried_is_chosen(featurized, tmp_path, capsys):
    job = predictor_job(featurized, tmp_path, {})

    assert training.main("predictor", job) == 0

    search = Contract.load(job / "model").report["search"]
    assert len(search["tried"]) > 1
    assert search["chosen"]["score"] == min(candidate["score"] for candidate in search["tried"])
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("cross-validation")]
    assert told == [f"cross-validation: {done} of 8 candidates" for done in range(1, 9)]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda text: text.replace("sex_F", "sex_X"), "in only one of both: sex_F, sex_X"),
        (lambda text: text.replace("rings", "age"), "in only one of both: age, rings"),
        (lambda text: text + "1,0,0,x,2\n", "row 41, column sex_M: expected a number, got 'x'"),
        (lambda text: text + "1,0,0,1,\n", "row 41: expected a label"),
    ],
)
def test_features_that_are_not_the_contracts_are_refused(featurized, tmp_path, edit, reason):
    job = predictor_job(featurized, tmp_path, QUICK)
    features = job / "input/data/train/features.csv"
    features.write_text(edit(features.read_text()))

    assert training.main("predictor", job) == 1
    assert reason in failure(job)


def test_a_damaged_contract_is_refused_in_one_line(featurized, tmp_path):
    job = predictor_job(featurized, tmp_path, QUICK)
    contract = job / "input/data/train/contract.json"
    contract.write_text(contract.read_text().replace("shells", "stones").replace('"rings"', '"age"'))

    assert training.main("predictor", job) == 1
    assert "contract.json: its hash is" in failure(job)
    assert "Traceback" not in failure(job)


@pytest.mark.parametrize(("task", "classes"), [("regression", 1), ("binary", 1), ("multiclass", 3)])
def test_features_of_another_origin_are_learned_by_label_and_task(tmp_path, task, classes):
    numbers = {"regression": 9, "binary": 2, "multiclass": 3}[task]
    rows = "".join(f"{i / 8},{i % 3},{i % numbers}\n" for i in range(60))
    give(tmp_path, "input/data/train/features.csv", "a,b,y\n" + rows)
    configure(tmp_path, {**QUICK, "label": "y", "task": task})

    assert training.main("predictor", tmp_path) == 0

    predictor = Predictor.load(tmp_path / "model")
    assert predictor.predict(np.zeros((2, 2), dtype=np.float32)).size == 2 * classes


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        (["1", "2"], "features, column y: expected every class number from 0 on, got [1.0, 2.0]"),
        (["0", "2"], "expected every class number from 0 on, got [0.0, 2.0]"),
        (["0", "0"], "expected every class number from 0 on, got [0.0]"),
        (["0", "0.5"], "expected every class number from 0 on, got [0.0, 0.5]"),
        ([*"7654321"], "expected every class number from 0 on, got [1.0, 2.0, 3.0, 4.0, 5.0]"),  # the first five
    ],
)
def test_classes_of_another_origin_that_are_not_numbered_are_refused(tmp_path, classes, reason):
    give(tmp_path, "input/data/train/features.csv", "a,y\n" + "".join(f"1,{one}\n" for one in classes))
    configure(tmp_path, {**QUICK, "label": "y", "task": "binary"})

    assert training.main("predictor", tmp_path) == 1
    assert reason in failure(tmp_path)


def test_a_class_that_the_contract_does_not_have_is_refused(tmp_path):
    columns = (Column("a", ColumnType.NUMERIC), Column("y", ColumnType.LABEL, ("no", "yes")))
    give(tmp_path, "input/data/train/contract.json", Contract("made", Task.BINARY, columns, ("a",), {}).to_json())
    give(tmp_path, "input/data/train/features.csv", "a,y\n1,0\n2,1\n3,2\n")
    configure(tmp_path, QUICK)

    assert training.main("predictor", tmp_path) == 1
    assert failure(tmp_path) == "features, column y: expected class numbers from 0 to 1"


@pytest.mark.parametrize(
    ("rows", "reason"),
    [("1,2\n", "features: expected at least 2 rows, got 1"), ("1,2\n1,\n", "row 2: expected a label")],
)
def test_rows_that_nothing_can_be_learned_from_are_refused(tmp_path, rows, reason):
    give(tmp_path, "input/data/train/features.csv", "a,y\n" + rows)
    configure(tmp_path, {**QUICK, "label": "y", "task": "regression"})

    assert training.main("predictor", tmp_path) == 1
    assert reason in failure(tmp_path)


def test_two_rows_are_enough_to_learn_from(tmp_path):
    give(tmp_path, "input/data/train/features.csv", "a,y\n1,2\n2,3\n")
    configure(tmp_path, {**QUICK, "label": "y", "task": "regression"})

    assert training.main("predictor", tmp_path) == 0


def test_features_without_contract_label_and_task_are_refused(tmp_path):
    give(tmp_path, "input/data/train/features.csv", "a,y\n1,2\n")
    configure(tmp_path, {"label": "y"})

    assert training.main("predictor", tmp_path) == 1
    assert "expected the featurizer's contract.json in a channel, or hyperparameters `label`" in failure(tmp_path)


def test_a_feature_name_that_xgboost_cannot_hold_is_named(tmp_path):
    give(tmp_path, "input/data/train/features.csv", "a<5,y\n" + "1,2\n2,3\n" * 9)
    configure(tmp_path, {**QUICK, "label": "y", "task": "regression"})

    assert training.main("predictor", tmp_path) == 1
    assert "feature a<5: expected a name without" in failure(tmp_path)


def test_an_unexpected_error_is_told_first_and_traced_after(tmp_path, monkeypatch):
    give(tmp_path, "broken_stage/__init__.py", "")
    give(tmp_path, "broken_stage/train.py", "def train(job):\n    raise ZeroDivisionError('out of luck')\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert training.main("broken_stage", tmp_path) == 1
    assert failure(tmp_path).startswith("ZeroDivisionError: out of luck\n")
    assert "Traceback" in failure(tmp_path)


def test_sigterm_ends_a_training_at_once_with_a_reason(tmp_path):
    give(tmp_path, "slow_stage/__init__.py", "")
    slow = "import time\n\ndef train(job):\n    (job.model_dir / 'begun').touch()\n    time.sleep(60)\n"
    give(tmp_path, "slow_stage/train.py", slow)
    program = (
        "import sys, pathlib; from serving.training import main; sys.exit(main(*[sys.argv[1], pathlib.Path('.')]))"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    with started([sys.executable, "-c", program, "slow_stage"], cwd=tmp_path, env=environment) as process:
        wait_until((tmp_path / "model/begun").exists, "the training to begin")

        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=60) == 1
    assert "stopped by SIGTERM" in failure(tmp_path)


def test_a_model_directory_of_a_job_is_vouched_for_by_its_manifest(featurized):
    artifact.verify(featurized / "model")

    assert {path.name for path in (featurized / "model").iterdir()} == {
        "contract.json", "manifest.json", "preprocess.joblib", "transform.json",
    }  # fmt: skip
