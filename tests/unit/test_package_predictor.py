"""`package --predictor`: boosters of every kind, served as XGBoost itself answers, or refused with the reason."""

from __future__ import annotations

import gzip
import json
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import xgboost

from pipeline.adopt.boosters import read_booster, shape_of, zeros_are_as_missing
from pipeline.cli import main
from predictor.model import MODEL, Predictor
from serving.contract import Contract, Task
from serving.payload import CSV, JSON, Payload
from serving.training import BadJob

RANDOM = np.random.default_rng(5)
ROWS = RANDOM.normal(size=(240, 3)).astype(np.float32)
ROWS[::7, 1] = np.nan
NUMBERS = np.nan_to_num(ROWS) @ [1.0, -2.0, 0.5]
CLASSES = np.digitize(NUMBERS, [-1, 1])
NAMES = ["length", "width of it", "höhe"]


def trained(objective: str, target: Any, names: list[str] | None = None, **parameters: Any) -> xgboost.Booster:
    data = xgboost.DMatrix(ROWS, target, feature_names=names)
    return xgboost.train({"objective": objective, "nthread": 1, "seed": 1, **parameters}, data, 6)


def package(path: Path, *more: str, out: Path | None = None) -> int:
    return main(["package", "--predictor", str(path), "--out", str(out or path.parent / "out"), *more])


def served(tmp_path: Path) -> Predictor:
    return Predictor.load(tmp_path / "out" / "predictor" / "model")


def saved(tmp_path: Path, model: Any, name: str = "model.json") -> Path:
    model.save_model(tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("ending", ["json", "ubj", "model"])
@pytest.mark.parametrize(
    ("objective", "target", "more", "task", "classes"),
    [
        ("reg:squarederror", NUMBERS, {}, Task.REGRESSION, ()),
        ("count:poisson", CLASSES, {"num_parallel_tree": 2, "base_score": 0.3}, Task.REGRESSION, ()),
        ("binary:logistic", NUMBERS > 0, {}, Task.BINARY, ("0", "1")),
        ("multi:softprob", CLASSES, {"num_class": 3}, Task.MULTICLASS, ("0", "1", "2")),
        ("binary:logistic", NUMBERS > 0, {"booster": "dart", "rate_drop": 0.4}, Task.BINARY, ("0", "1")),
        ("reg:absoluteerror", NUMBERS, {"booster": "gblinear"}, Task.REGRESSION, ()),
    ],
)
@pytest.mark.filterwarnings(
    "ignore:.*Saving model in the UBJSON:UserWarning", "ignore:.*Unknown file format:UserWarning"
)
def test_a_booster_answers_as_it_did(
    tmp_path: Path, objective: str, target: Any, more: Any, task: Task, classes: Any, ending: str
) -> None:
    named = NAMES if ending == "json" else None
    booster = trained(objective, target, named, **more)

    assert package(saved(tmp_path, booster, f"model.{ending}")) == 0

    predictor = served(tmp_path)
    theirs = booster.predict(xgboost.DMatrix(ROWS, feature_names=named))
    assert predictor.predict(ROWS).tobytes() == theirs.tobytes()
    assert predictor.contract.features == tuple(named or ("f0", "f1", "f2"))
    assert predictor.contract.task is task
    assert (predictor.contract.label.categories if predictor.contract.label else ()) == classes


def test_what_was_derived_is_printed_and_the_next_command(tmp_path: Path, capsys: Any) -> None:
    package(saved(tmp_path, trained("multi:softprob", CLASSES, NAMES, num_class=3)), "--classes", "s,m,l")

    printed = capsys.readouterr().out
    for part in ("own-model: multiclass", "label: s, m, l", "3 features: length, width of it, höhe", "to the bit"):
        assert part in printed
    assert f"STAGE=predictor SM_MODEL_DIR={tmp_path}/out/predictor/model python -m serving serve" in printed


def test_the_names_of_classes_are_answered(tmp_path: Path) -> None:
    booster = trained("multi:softprob", CLASSES, num_class=3)
    package(saved(tmp_path, booster), "--classes", "s,m,l")

    answer = served(tmp_path)(Payload(b"3,-3,1\n-3,3,-1\n", CSV, f"{JSON}; output=label"))

    chosen = booster.predict(xgboost.DMatrix([[3, -3, 1], [-3, 3, -1]])).argmax(axis=1)
    assert json.loads(answer.body)["result"] == [["s", "m", "l"][index] for index in chosen]


@pytest.fixture(scope="module")
def stopped() -> xgboost.XGBRegressor:
    """A model of which early stopping found an earlier round than the last to be the best."""
    noise = np.random.default_rng(1).normal(size=120) * 3
    model = xgboost.XGBRegressor(n_estimators=60, early_stopping_rounds=4, learning_rate=0.5, n_jobs=1)
    return model.fit(ROWS[:120], NUMBERS[:120] + noise, eval_set=[(ROWS[120:], NUMBERS[120:])], verbose=False)


@pytest.mark.parametrize(
    ("save", "trees", "best"),
    [
        (lambda model, path: model.save_model(path), None, True),
        (lambda model, path: model.save_model(path), "all", False),
        (lambda model, path: plain(model).save_model(path), None, False),
        (lambda model, path: plain(model).save_model(path), "best", True),
        (lambda model, path: joblib.dump(model, path), None, True),
        (lambda model, path: path.write_bytes(pickle.dumps(plain(model))), None, False),
    ],
)
def test_after_early_stopping_a_file_answers_as_what_was_saved_does(
    tmp_path: Path, stopped: xgboost.XGBRegressor, save: Callable[[Any, Path], None], trees: str | None, best: bool
) -> None:
    path = tmp_path / "model.json"
    save(stopped, path)

    assert package(path, "--allow-pickle", *(["--trees", trees] if trees else [])) == 0

    everything = stopped.get_booster().predict(xgboost.DMatrix(ROWS))
    assert not np.array_equal(everything, stopped.predict(ROWS))
    assert np.array_equal(served(tmp_path).predict(ROWS), stopped.predict(ROWS) if best else everything)


def plain(model: xgboost.XGBModel) -> xgboost.Booster:
    """Its Booster as `xgboost.train` returns it, with the best round."""
    booster = model.get_booster().copy()
    booster.set_attr(scikit_learn=None)
    return booster


@pytest.mark.parametrize("dump", [joblib.dump, lambda m, p: joblib.dump(m, p, compress=3), None])
def test_a_pickled_classifier_is_read_where_that_is_allowed(tmp_path: Path, dump: Any) -> None:
    model = xgboost.XGBClassifier(n_estimators=4, n_jobs=1).fit(ROWS, CLASSES)
    path = tmp_path / "model.pkl"
    if dump:
        dump(model, path)
    else:
        path.write_bytes(gzip.compress(pickle.dumps(model)))

    assert package(path, "--allow-pickle") == 0

    assert np.array_equal(served(tmp_path).predict(ROWS), model.predict_proba(ROWS))
    assert served(tmp_path).contract.label.categories == ("0", "1", "2")


def cannot_be_served() -> dict[str, tuple[xgboost.Booster, str]]:
    """Boosters that answer something else than a number or the classes' probabilities."""
    ranked = xgboost.DMatrix(ROWS, CLASSES, qid=np.arange(240) // 24)
    categorical = xgboost.DMatrix(
        np.column_stack([ROWS[:, 0], RANDOM.integers(0, 4, 240)]), NUMBERS,
        feature_names=["size", "colour"], feature_types=["float", "c"], enable_categorical=True,
    )  # fmt: skip
    nameless = xgboost.DMatrix(categorical.get_data(), NUMBERS, feature_types=["float", "c"], enable_categorical=True)
    two = xgboost.train({"nthread": 1}, xgboost.DMatrix(ROWS, np.column_stack([NUMBERS, NUMBERS])), 2)
    return {
        "ranker": (xgboost.train({"objective": "rank:ndcg", "nthread": 1}, ranked, 2), "got rank:ndcg"),
        "survival": (trained("survival:cox", np.abs(NUMBERS) + 1), "got survival:cox"),
        "classes": (trained("multi:softmax", CLASSES, num_class=3), "multi:softmax: train it with multi:softprob"),
        "margin": (trained("binary:logitraw", NUMBERS > 0), "train it with binary:logistic"),
        "targets": (two, "expected a model of one target, got 2 targets"),
        "quantiles": (trained("reg:quantileerror", NUMBERS, quantile_alpha=[0.1, 0.9]), "got 2 targets"),
        "categorical": (xgboost.train({"nthread": 1}, categorical, 2), "got colour, which is categorical"),
        "nameless": (xgboost.train({"nthread": 1}, nameless, 2), "got f1, which is categorical"),
    }


@pytest.fixture(scope="module")
def unserved() -> dict[str, tuple[xgboost.Booster, str]]:
    return cannot_be_served()


@pytest.mark.parametrize(
    "kind", ["ranker", "survival", "classes", "margin", "targets", "quantiles", "categorical", "nameless"]
)
def test_what_serving_cannot_answer_is_refused_with_the_reason(
    tmp_path: Path, unserved: Any, kind: str, capsys: Any
) -> None:
    booster, reason = unserved[kind]

    assert package(saved(tmp_path, booster)) == 2

    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "more", "reason"),
    [
        (b"", [], "got an empty file"),
        (b"\xef\xbb\xbf{}", [], "got a byte order mark before it: save the file as UTF-8 without one"),
        (b"\n" * 200, [], "reads, JSON or UBJSON; got other bytes"),
        (b"binf" + bytes(200), [], "in the binary format that XGBoost 3.1 gave up, load it with XGBoost 3.0 or older"),
        (b"hello", [], "got other bytes: damaged, or no XGBoost model"),
        (b'[{"nodeid": 0}]', [], "got a list, as dump_model writes it"),
        (b'\n [\n {"nodeid": 0}]', [], "got a list, as dump_model writes it"),
        (b"{}", [], "got one that is damaged, or no XGBoost model"),
        (b'{"learner": {}', [], "got one that is damaged, or no XGBoost model"),
        (b"{L" + bytes(9), [], "got one that is damaged, or no XGBoost model"),
        (b'{"learner":{"generic_param":{}},"version":[3,1,3]}', [], "got settings, as save_config writes them"),
        (pickle.dumps([1]), [], "got a pickle. To read one runs code of whoever wrote it: give --allow-pickle"),
        (gzip.compress(b"{}"), [], "got compressed bytes: unpack them, or is it a pickle?"),
        (pickle.dumps([1]), ["--allow-pickle"], "expected a Booster or an XGBModel, got builtins.list"),
        (pickle.dumps([1])[:-3], ["--allow-pickle"], "joblib.dump or pickle.dump that can be read here"),
        (b"\x80\x04cno_such_module\nThing\n.", ["--allow-pickle"], "No module named 'no_such_module'"),
        (pickle.dumps(xgboost.XGBRegressor()), ["--allow-pickle"], "expected a fitted XGBRegressor"),
        (pickle.dumps(xgboost.XGBRegressor(missing=-1.0)), ["--allow-pickle"], "got missing=-1.0"),
    ],
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes, more: list[str], reason: str, capsys: Any):
    (tmp_path / "model.bin").write_bytes(content)

    assert package(tmp_path / "model.bin", *more) == 2

    error = capsys.readouterr().err
    assert reason in error
    assert error.startswith("pipeline: ")
    assert error.count("\n") == 1


def leaves(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value of a JSON document, and to the first of each list."""
    yield path
    if isinstance(document, dict):
        for name, value in document.items():
            yield from leaves(value, (*path, name))
    elif isinstance(document, list) and document:
        yield from leaves(document[0], (*path, 0))


def test_a_value_of_another_type_in_a_model_is_refused_in_one_line_or_of_no_account(tmp_path: Path) -> None:
    text = bytes(trained("binary:logistic", NUMBERS > 0, NAMES, max_depth=1).save_raw("json")).decode()
    reasons = []
    for *way, last in list(leaves(json.loads(text)))[1:]:
        for value in (None, "x"):
            document = at = json.loads(text)
            for name in way:
                at = at[name]
            at[last] = value
            (tmp_path / "model.json").write_text(json.dumps(document))
            try:
                shape_of(read_booster(tmp_path / "model.json"))
            except BadJob as error:
                reasons.append(str(error))

    assert len(reasons) > 60
    assert [reason for reason in reasons if "\n" in reason] == []


@pytest.mark.parametrize("best", ["abc", "-1", "6"])
def test_a_best_round_that_is_none_of_the_rounds_is_refused(tmp_path: Path, best: str, capsys: Any) -> None:
    booster = trained("reg:squarederror", NUMBERS)
    booster.set_attr(best_iteration=best)

    assert package(saved(tmp_path, booster), "--trees", "best") == 2

    assert f"expected a best_iteration among 6 rounds, got {best}" in capsys.readouterr().err


@pytest.mark.parametrize(("best", "rounds"), [("0", 1), ("5", 6)])
def test_the_best_round_may_be_the_first_or_the_last(tmp_path: Path, best: str, rounds: int) -> None:
    booster = trained("reg:squarederror", NUMBERS)
    booster.set_attr(best_iteration=best)

    assert read_booster(saved(tmp_path, booster), "best").rounds == rounds


def test_a_name_has_up_to_63_characters(tmp_path: Path, capsys: Any) -> None:
    model = saved(tmp_path, trained("reg:squarederror", NUMBERS))

    assert package(model, "--name", "n" * 64) == 2
    assert f"a letter or digit first; got '{'n' * 64}'" in capsys.readouterr().err
    assert package(model, "--name", "n" * 63) == 0
    assert served(tmp_path).contract.dataset == "n" * 63


def test_an_archive_is_to_be_unpacked_first(tmp_path: Path, capsys: Any) -> None:
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(saved(tmp_path, trained("reg:squarederror", NUMBERS)), "xgboost-model")

    assert package(tmp_path / "model.tar.gz") == 2

    assert "unpack it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "expected --predictor, --featurizer or --pipeline, or --single"),
        (["--classes", "a,b"], "--classes: expected --predictor, --featurizer or --pipeline beside it"),
        (["--predictor", "no-such-file"], "no-such-file: No such file or directory"),
        (["--predictor", "MODEL", "--classes", "a,b"], "--classes: expected 3 different classes, got a, b"),
        (["--predictor", "MODEL", "--classes", "a,b,a"], "--classes: expected 3 different classes"),
        (["--predictor", "MODEL", "--classes", ""], "--classes: expected names with commas between them"),
        (["--predictor", "MODEL", "--name", "we ird/../x"], "--name: expected up to 63 letters, digits"),
        (["--predictor", "MODEL", "--name", ""], "a letter or digit first; got ''"),
        (["--predictor", "MODEL", "--missing-categories"], "expected --featurizer or --pipeline beside it"),
        (["--predictor", "MODEL", "--single", "x.tar.gz"], "--single: expected both models"),
        (["--featurizer", "x", "--trees", "all"], "--trees: expected --predictor or --pipeline beside it"),
        (["--predictor", "MODEL", "--artifacts", "x"], "--artifacts: expected --out"),
        (["--predictor", "MODEL", "--pipeline", "x"], "--pipeline: expected neither"),
        (["--predictor", "MODEL", "--contract", "no-such-file"], "no-such-file"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path: Path, arguments: list[str], reason: str, capsys: Any) -> None:
    model = saved(tmp_path, trained("multi:softprob", CLASSES, num_class=3))
    given = [str(model) if word == "MODEL" else word for word in arguments]

    assert main(["package", *given, *(["--out", str(tmp_path / "out")] if "MODEL" in arguments else [])]) == 2

    assert reason in capsys.readouterr().err


def test_rows_of_a_file_are_compared_and_named_where_they_are_wrong(tmp_path: Path, capsys: Any) -> None:
    model = saved(tmp_path, trained("reg:squarederror", NUMBERS, NAMES))
    (tmp_path / "rows.csv").write_text("höhe,other,length,width of it\n1,x,2,3\n,x,1e3,NA\n", encoding="utf-8")
    (tmp_path / "wrong.csv").write_text("höhe,length,width of it\n1,2,3\n1,2,tall\n", encoding="utf-8")

    assert package(model, "--sample", str(tmp_path / "rows.csv")) == 0
    assert "to the bit in 2 rows" in capsys.readouterr().out
    assert package(model, "--sample", str(tmp_path / "wrong.csv")) == 2
    assert "row 2, column width of it: expected a number, got 'tall'" in capsys.readouterr().err


def test_with_a_contract_the_booster_is_of_that_contracts_training_run(tmp_path: Path, artifacts: Path) -> None:
    """Another booster for a featurizer that stays."""
    contract = Contract.load(artifacts / "featurizer" / "model")
    features = np.random.default_rng(1).normal(size=(50, len(contract.features)))
    data = xgboost.DMatrix(features, features[:, 0], feature_names=list(contract.features))
    path = saved(tmp_path, xgboost.train({"nthread": 1}, data, 2))

    assert package(path, "--contract", str(artifacts / "featurizer" / "model" / "contract.json")) == 0

    assert served(tmp_path).contract.hash == contract.hash


def test_a_model_that_is_packaged_again_leaves_nothing_stale(tmp_path: Path) -> None:
    path = saved(tmp_path, trained("reg:squarederror", NUMBERS))
    package(path)
    (tmp_path / "out" / "predictor" / "model" / "old.json").write_text("{}")

    package(path)

    names = sorted(path.name for path in (tmp_path / "out" / "predictor" / "model").iterdir())
    assert names == sorted([MODEL, "contract.json", "manifest.json"])


def test_zero_and_missing_are_told_apart_where_any_split_does() -> None:
    def tree(threshold: float, left: int, child: int = 1) -> dict[str, list[Any]]:
        return {"split_conditions": [threshold], "default_left": [left], "left_children": [child]}

    assert zeros_are_as_missing([tree(0.5, 1), tree(-0.5, 0), tree(0.0, 0), tree(-3.0, 1, child=-1)])
    assert not zeros_are_as_missing([tree(0.5, 1), tree(0.5, 0)])
    assert not zeros_are_as_missing([tree(0.0, 1)])
