"""`python -m pipeline train`: what it writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurizer.model import Featurizer
from featurizer.schema import read_rows, typed_frame
from pipeline import kept
from pipeline.cli import main, parser
from pipeline.data import load_rows, load_schema
from pipeline.train import _show_progress
from predictor.model import Predictor
from serving.contract import Contract, LabelPlace
from serving.payload import Payload, run_serially
from serving.run_dir import held

ROOT = Path(__file__).resolve().parents[2]
ARTICLE_ROW = b"I,0.365,0.295,0.095,0.25,0.1075,0.0545,0.08"
ARTICLE_FEATURES = (
    -1.3317586042173168, -1.1425409076053987, -1.0579488602777858, -1.177706547272754, -1.130662184748842,
)  # fmt: skip
PICTURES = ("predicted_vs_actual.png", "feature_importance.png")
SCHEMA = """
name = "flowers"
task = "{task}"
[split]
test_size = 0.2
[search]
repeats = 1
folds = 2
rounds = 60
[[columns]]
name = "height"
type = "numeric"
[[columns]]
name = "soil"
type = "categorical"
[[columns]]
name = "{label}"
type = "label"
"""


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 rows of `height`, `soil` and labels for each of the tasks, and in `out` the artifacts of the regression."""
    generator = np.random.default_rng(7)
    lines = ["height,soil,age,alive,kind"]
    for i in range(60):
        height = generator.normal()
        kind = ("rose", "lily", "aster")[int(height > 0) + int(height > 1)]
        soil, alive = ("clay", "sand", "")[i % 3], "yes" if height > 0 else "no"
        lines.append(f"{height if i % 9 else ''},{soil},{height * 2},{alive},{kind}")
    path = tmp_path_factory.mktemp("grown") / "flowers.csv"
    path.write_text("\n".join(lines) + "\n")
    assert train(path, path.parent / "out") == 0
    return path.parent


@pytest.fixture
def flowers(grown: Path, tmp_path: Path) -> Path:
    """The rows and the artifacts of `grown`, for a test to change."""
    shutil.copytree(grown, tmp_path, dirs_exist_ok=True)
    return tmp_path / "flowers.csv"


def train(flowers: Path, out: Path, task: str = "regression", label: str = "age", *more: str) -> int:
    schema = flowers.with_name(f"{task}.toml")
    schema.write_text(SCHEMA.format(task=task, label=label))
    return main(["train", "--data", str(flowers), "--schema", str(schema), "--out", str(out), *more])


def test_a_full_disk_is_one_sentence(flowers, tmp_path, capsys):
    out = tmp_path / "other"
    out.mkdir()
    (out / ".test.csv.new").symlink_to("/dev/full")

    assert train(flowers, out) == 1

    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("pipeline: no space is left on the disk")
    assert said.endswith(": free some, or put the output, or TMPDIR, on another one")


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_abalone_gives_the_features_that_the_article_prints(artifacts):
    featurizer = Featurizer.load(artifacts / "featurizer/model")

    answer = featurizer(Payload(ARTICLE_ROW, "text/csv", "text/csv"))

    assert tuple(float(cell) for cell in answer.body.split(b","))[:5] == ARTICLE_FEATURES


def test_abalone_is_predicted_better_than_by_the_articles_parameters(artifacts):
    metrics = Contract.load(artifacts / "predictor/model").report["metrics"]

    assert metrics["model"]["rmse"] <= 2.18
    assert metrics["model"]["rmse"] < metrics["article"]["rmse"] < 2.2
    assert metrics["constant"]["rmse"] == pytest.approx(3.35, abs=0.01)


def test_the_reported_rmse_is_that_of_the_served_chain_on_the_held_out_rows(artifacts):
    stages = [Featurizer.load(artifacts / "featurizer/model"), Predictor.load(artifacts / "predictor/model")]
    body = (artifacts / "test.csv").read_bytes()

    answer = run_serially(stages, Payload(body, "text/csv", "application/json"))

    errors = np.array(json.loads(answer.body)["result"]) - pd.read_csv(artifacts / "test.csv")["rings"].to_numpy()
    told = Contract.load(artifacts / "predictor/model").report["metrics"]["model"]["rmse"]
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(told, abs=1e-4)


def test_abalone_is_split_as_the_published_sample_splits_it(artifacts):
    from sklearn.model_selection import train_test_split

    contract = Contract.load(artifacts / "featurizer/model")
    schema = load_schema("abalone")
    held_out = typed_frame(read_rows([artifacts / "test.csv"]), schema)

    _, expected = train_test_split(load_rows(schema), random_state=42, test_size=0.1)

    assert (contract.training["rows"], len(held_out)) == (3759, 418)
    pd.testing.assert_frame_equal(
        held_out, typed_frame(expected, schema).reset_index(drop=True), check_exact=True, check_index_type=False
    )


def test_both_artifacts_are_packed_with_their_members_at_the_top(artifacts):
    members = {}
    for stage in ("featurizer", "predictor"):
        with tarfile.open(artifacts / stage / "model.tar.gz") as archive:
            members[stage] = archive.getnames()
            assert all(member.isfile() for member in archive)

    assert members == {
        "featurizer": ["contract.json", "manifest.json", "preprocess.joblib", "transform.json"],
        "predictor": ["contract.json", "manifest.json", "xgboost-model.json"],
    }
    contracts = [(artifacts / stage / "model/contract.json").read_bytes() for stage in members]
    assert contracts[0] == contracts[1]


def test_the_report_shows_all_three_errors_and_the_pictures_are_there(artifacts):
    report = (artifacts / "report.txt").read_text()

    assert all(name in report for name in ("this run", "the article's parameters", "the same answer for every row"))
    assert all((artifacts / picture).read_bytes().startswith(b"\x89PNG") for picture in PICTURES)


def test_the_same_seed_gives_the_same_bytes_in_another_process(flowers, tmp_path):
    command = [sys.executable, "-m", "pipeline", "train", "--data", flowers, "--schema", tmp_path / "regression.toml"]
    subprocess.run([*command, "--out", tmp_path / "there"], cwd=ROOT, env={"PYTHONHASHSEED": "7"}, check=True)

    assert files(tmp_path / "out") == files(tmp_path / "there")


def test_another_seed_is_another_training_run(flowers, tmp_path):
    assert train(flowers, tmp_path / "other", "regression", "age", "--seed", "1") == 0

    first, second = (Contract.load(tmp_path / out / "featurizer/model") for out in ("out", "other"))
    assert (first.training["seed"], second.training["seed"]) == (42, 1)
    assert first.hash != second.hash


@pytest.mark.parametrize(
    ("task", "label", "classes"),
    [("binary", "alive", ("no", "yes")), ("multiclass", "kind", ("aster", "lily", "rose"))],
)
def test_a_classification_learns_its_classes_and_is_scored_by_log_loss(flowers, tmp_path, task, label, classes):
    assert train(flowers, tmp_path / "out", task, label) == 0

    contract = Contract.load(tmp_path / "out/predictor/model")
    assert contract.label is not None
    assert contract.label.categories == classes
    assert contract.report["metrics"]["model"]["logloss"] < contract.report["metrics"]["constant"]["logloss"]
    predictor = Predictor.load(tmp_path / "out/predictor/model")
    answer = predictor.predict(np.zeros((4, len(contract.features)), dtype=np.float32))
    assert answer.shape == ((4,) if task == "binary" else (4, 3))


@pytest.mark.usefixtures("flowers")
def test_sound_artifacts_are_kept_when_asked(tmp_path, capsys):
    before = files(tmp_path / "out")
    capsys.readouterr()

    assert main(["train", "--keep", "--out", str(tmp_path / "out")]) == 0

    assert "keeping the flowers artifacts" in capsys.readouterr().out
    assert files(tmp_path / "out") == before


def test_artifacts_of_something_else_are_not_kept_and_that_is_said(flowers, tmp_path, capsys):
    asked = ["train", "--keep", "--data", str(flowers), "--out", str(tmp_path / "out"), "--schema"]
    schema, trees = tmp_path / "regression.toml", tmp_path / "trees.toml"
    trees.write_text(schema.read_text().replace("flowers", "trees"))
    first = files(tmp_path / "out")
    capsys.readouterr()

    assert main([*asked, str(schema)]) == 0
    same_rows = capsys.readouterr().out
    flowers.write_text(flowers.read_text() + "0.5,clay,1,no,rose\n")
    assert main([*asked, str(schema)]) == 0
    other_rows = capsys.readouterr().out
    assert main([*asked, str(trees)]) == 0
    other_name = capsys.readouterr().out

    assert "keeping the flowers artifacts" in same_rows
    assert "holds flowers artifacts, not of the rows of --data: training anew" in other_rows
    assert "holds flowers artifacts, not of trees: training anew" in other_name
    assert Contract.load(tmp_path / "out/featurizer/model").dataset == "trees"
    assert files(tmp_path / "out") != first


@pytest.mark.parametrize(
    ("dataset", "seed", "place", "found"),
    [
        ("flowers", "42", "last", ""),
        ("flowers", "7", "last", "with seed 7"),
        ("trees", "42", "last", "of trees"),
        ("flowers", "42", "none", "with labelled_rows last"),
    ],
)
def test_what_was_asked_for_is_told_from_what_is_there(dataset, seed, place, found):
    columns = load_schema("abalone")
    contract = Contract("flowers", columns.task, (), (), {"seed": 42}, labelled_rows=LabelPlace(place))

    assert kept.other(contract, replace(columns, name=dataset), None, int(seed)) == found
    assert kept.other(contract, None, None, None) == ""


def test_damaged_artifacts_are_not_kept_and_stale_files_go(flowers, tmp_path):
    before = files(tmp_path / "out")
    model_dir = tmp_path / "out/featurizer/model"
    inode = model_dir.stat().st_ino
    (model_dir / "preprocess.joblib").write_bytes(b"")
    (model_dir / "stale.bin").write_bytes(b"")
    (model_dir / "theirs").mkdir()
    (model_dir / "theirs" / "stays").write_bytes(b"")

    train(flowers, tmp_path / "out", "regression", "age", "--keep")

    assert files(tmp_path / "out") == {**before, "featurizer/model/theirs/stays": b""}
    assert model_dir.stat().st_ino == inode


def test_a_failed_training_leaves_the_old_artifacts(flowers, tmp_path, capsys):
    before = files(tmp_path / "out")
    flowers.write_text(flowers.read_text() + "tall,clay,1,no,rose\n")

    assert train(flowers, tmp_path / "out") == 2

    assert files(tmp_path / "out") == before
    assert "row 61, column height: expected a number, got 'tall'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--dataset", "oysters"], "one of abalone, california_housing, penguins, penguins_sex, got oysters"),
        (["--data", "rows.csv"], "expected --schema or --dataset with --data (make: SCHEMA="),
        (["--schema", "pipeline/datasets/abalone.toml"], "expected --data with --schema"),
        (["--data", "nowhere.csv", "--schema", "pipeline/datasets/abalone.toml"], "nowhere.csv: No such file"),
        (["--data", "x.csv", "--schema", "nowhere.toml"], "expected a schema file"),
    ],
)
def test_bad_input_ends_with_2_and_one_line(arguments, reason, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)

    assert main(["train", "--out", "/nonexistent/out", *arguments]) == 2

    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_an_out_that_is_no_directory_is_refused_before_the_training(flowers, capsys):
    assert train(flowers, flowers) == 2
    assert "expected a directory that can be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bake"],
        ["train", "--seed", "x"],
        ["train", "--seed", "-1"],
        ["train", "--seed", "2147483648"],
        ["train", "--dataset", "abalone", "--schema", "own.toml"],
    ],
)
def test_wrong_usage_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert "usage: python -m pipeline" in capsys.readouterr().err


def test_the_greatest_seed_is_taken_and_artifacts_go_to_a_directory_of_that_name():
    asked = parser("train").parse_args(["train", "--seed", "2147483647"])

    assert (asked.seed, asked.out, asked.keep) == (2_147_483_647, Path("artifacts"), False)


def test_a_training_writes_artifacts_rows_held_out_report_and_pictures(flowers, tmp_path):
    rows = pd.read_csv(flowers, dtype=str, keep_default_na=False)[["height", "soil", "age"]]

    held_out = pd.read_csv(tmp_path / "out" / "test.csv", dtype=str, keep_default_na=False)

    assert set(files(tmp_path / "out")) == {
        *(
            f"featurizer/model/{name}"
            for name in ("contract.json", "manifest.json", "preprocess.joblib", "transform.json")
        ),
        *(f"predictor/model/{name}" for name in ("contract.json", "manifest.json", "xgboost-model.json")),
        *("featurizer/model.tar.gz", "predictor/model.tar.gz", "report.txt", "test.csv", *PICTURES),
    }
    assert len(held_out) == 12
    assert held_out.columns.tolist() == rows.columns.tolist()
    assert set(held_out.itertuples(index=False)) <= set(rows.itertuples(index=False))
    contract = Contract.load(tmp_path / "out/predictor/model")
    assert (contract.training["rows"], contract.report["test_rows"]) == (48, 12)


def test_a_training_prints_its_report_without_what_it_tried_and_where_all_is(flowers, tmp_path, capsys):
    assert train(flowers, tmp_path / "deep" / "again") == 0

    printed = capsys.readouterr()
    report, tried, _ = (tmp_path / "deep" / "again" / "report.txt").read_text().partition("\nTried")
    assert tried
    assert printed.out == (
        "height: 7 cells are read as missing (empty 7)\nsoil: 20 cells are read as missing (empty 20)\n"
        f"{report}\nWrote to {tmp_path}/deep/again/: featurizer/model.tar.gz, predictor/model.tar.gz, test.csv, "
        "report.txt, predicted_vs_actual.png, feature_importance.png\n"
    )
    assert printed.err.splitlines() == [f"cross-validation: {done} of 4 candidates" for done in (1, 4)]


@pytest.mark.parametrize(("terminal", "expected"), [
    (False, [f"cross-validation: {done} of 9 candidates\n" for done in (1, 4, 8, 9)]),
    (True, [f"\rcross-validation: {done} of 9 candidates" for done in range(1, 9)]
     + ["\rcross-validation: 9 of 9 candidates\n"]),
])  # fmt: skip
def test_progress_is_shown_in_one_line_or_now_and_then(terminal, expected, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(sys.stderr, "flush", lambda: shown.append(1))

    for done in range(1, 10):
        _show_progress(done, 9)

    assert len(shown) == len(expected)
    assert capsys.readouterr().err == "".join(expected)


def test_too_few_rows_are_refused(flowers, tmp_path, capsys):
    header, *rows = flowers.read_text().splitlines(keepends=True)
    errors = []
    for count in (18, 19):
        flowers.write_text(header + "".join(rows[:count]) + "tall,clay,1,no,rose\n")
        assert train(flowers, tmp_path / "few") == 2
        errors.append(capsys.readouterr().err)

    assert "data: expected at least 20 rows, got 19" in errors[0]
    assert "row 20, column height" in errors[1]


def test_an_interrupt_ends_with_130_and_one_line(flowers, tmp_path, capsys, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.train.train", interrupt)

    assert train(flowers, tmp_path / "out") == 130
    assert capsys.readouterr().err == "pipeline: interrupted\n"


def test_two_trainings_do_not_mix_their_files_in_one_directory(
    flowers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new").mkdir()
    with held(tmp_path / "new"):
        code = train(flowers, tmp_path / "new")

    assert code == 2
    assert "new: expected a directory that can be written; another training writes to it" in capsys.readouterr().err
    assert list((tmp_path / "new").iterdir()) == []
