"""`train`: both stages of one training run, from raw rows to artifacts."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xgboost.core import XGBoostError

from featurizer import train as featurizer
from featurizer.schema import BadDataset, Schema, labels, read_as_missing, typed_frame
from pipeline import kept
from pipeline.artifacts import STAGES
from pipeline.data import known_datasets, load_rows, load_schema
from pipeline.evaluate import Reference, baselines, metrics
from predictor import search
from predictor import train as predictor
from serving import artifact
from serving.contract import Contract
from serving.errors import cut
from serving.run_dir import held

if TYPE_CHECKING:
    import pandas as pd

HELP = "train both stages and write their artifacts"
EXAMPLES = """examples:
  python -m pipeline train
  python -m pipeline train --dataset penguins --out artifacts/penguins
  python -m pipeline train --dataset california_housing --data california_housing.csv --out artifacts/california
  python -m pipeline train --data houses.csv --schema houses.toml --out artifacts/houses
"""
DATASET = "abalone"
FEWEST_ROWS, LONGEST_SEED = 20, 10  # of rows, and of digits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    columns = parser.add_mutually_exclusive_group()
    columns.add_argument("--dataset", help=f"one of {', '.join(known_datasets())} (default {DATASET})")
    columns.add_argument(
        "--schema", type=Path, metavar="FILE.toml", help="your own columns; see pipeline/datasets/abalone.toml"
    )
    parser.add_argument("--data", type=Path, metavar="FILE.csv", help="the rows: CSV with a header")
    parser.add_argument(
        "--out", type=Path, default=Path("artifacts"), help="where the artifacts go (default artifacts)"
    )
    parser.add_argument("--seed", type=_seed, help="of the split and the booster (default the schema's, else 42)")
    parser.add_argument(
        "--keep", action="store_true", help="do nothing when there are sound artifacts of what was asked for"
    )


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_SEED and int(text) < 2**31):
        raise argparse.ArgumentTypeError(f"expected a whole number below 2,147,483,648, got {cut(repr(text))}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    if arguments.schema and not arguments.data:
        raise BadDataset("expected --data with --schema")
    if arguments.data and not (arguments.schema or arguments.dataset):
        raise BadDataset("expected --schema or --dataset with --data (make: SCHEMA=FILE.toml or DATASET=NAME)")
    if arguments.keep and kept.sound(arguments.out) and _keep(arguments):
        return 0
    schema = load_schema(arguments.dataset or DATASET, arguments.schema)
    rows = load_rows(schema, arguments.data)
    with _own(arguments.out):  # now, not when all is trained
        train(schema, rows, arguments.out, schema.seed if arguments.seed is None else arguments.seed)
    for told in read_as_missing(rows, schema):
        print(told)
    print((arguments.out / "report.txt").read_text(encoding="utf-8").partition("\nTried")[0])
    print(f"Wrote to {arguments.out}/: featurizer/model.tar.gz, predictor/model.tar.gz, test.csv, report.txt, "
          "predicted_vs_actual.png, feature_importance.png")  # fmt: skip
    return 0


@contextlib.contextmanager
def _own(out: Path) -> Iterator[None]:
    """Make the directory, and keep other trainings out of it: they would mix their files with ours."""
    with contextlib.ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(out.resolve()))
        except OSError as error:
            why = "another training writes to it" if isinstance(error, BlockingIOError) else error.strerror
            raise BadDataset(f"--out {out}: expected a directory that can be written; {why}") from error
        yield


def _keep(arguments: argparse.Namespace) -> bool:
    """Whether sound artifacts are what was asked for; says so, or what they are and that they go."""
    contract = Contract.load(arguments.out / "featurizer" / "model")
    named = arguments.dataset or arguments.schema
    schema = load_schema(arguments.dataset, arguments.schema) if named else None
    rows = load_rows(schema, arguments.data) if schema and arguments.data else None
    if found := kept.other(contract, schema, rows, arguments.seed):
        print(f"{arguments.out}/ holds {contract.dataset} artifacts, not {found}: training anew")
        return False
    print(f"keeping the {contract.dataset} artifacts in {arguments.out}/: they are whole and of one training run")
    return True


def train(schema: Schema, raw: pd.DataFrame, out: Path, seed: int) -> Contract:
    """Train on one part of the rows, judge on the other, write everything to `out`. Returns the contract.

    Nothing of `out` is touched before all is trained.
    """
    from sklearn.model_selection import train_test_split

    if len(raw) < FEWEST_ROWS:
        raise BadDataset(f"data: expected at least {FEWEST_ROWS} rows, got {len(raw)}")
    typed_frame(raw, schema)  # judges every row by its number in the file, before the split
    classes = labels(raw, schema)[1]
    references = [Reference.of(given) for given in schema.references]
    raw_train, raw_test = train_test_split(raw, random_state=seed, test_size=schema.test_size)
    fitted = featurizer.fit(schema, raw_train, {"seed": seed, "test_size": schema.test_size}, classes)
    try:
        learned = search.learn(fitted.features, fitted.target, fitted.contract, seed, _show_progress)
        contract, predicted, truth = _judge(schema, fitted, learned, raw_test, seed, references)
    except XGBoostError as error:  # a parameter out of its range
        raise BadDataset(f"schema {schema.name}: XGBoost refuses its search or references: {error}") from error
    with tempfile.TemporaryDirectory() as scratch:
        _write(fitted, learned, contract, raw_test, Path(scratch))
        _draw(contract, learned.booster, predicted, truth, Path(scratch))
        _publish(Path(scratch), out)
    return contract


def _judge(
    schema: Schema, fitted: featurizer.Fitted, learned: search.Learned, raw_test: pd.DataFrame, seed: int,
    references: Sequence[Reference],
) -> tuple[Contract, Any, Any]:  # fmt: skip
    classes = fitted.contract.label.categories if fitted.contract.label else ()
    features = fitted.transformer.transform(typed_frame(raw_test, schema))
    truth = labels(raw_test, schema, classes)[0]
    predicted = learned.booster.inplace_predict(features.astype("float32"), validate_features=False)
    found = {
        "model": metrics(schema.task, predicted, truth),
        **baselines(fitted.contract, (fitted.features, fitted.target), (features, truth), seed, references),
    }
    report = {**fitted.contract.report, "test_rows": len(truth), "metrics": found, "search": learned.report()}
    return predictor.with_versions(replace(fitted.contract, report=report)), predicted, truth


def _write(
    fitted: featurizer.Fitted, learned: search.Learned, contract: Contract, raw_test: pd.DataFrame, out: Path
) -> None:
    for stage in STAGES:
        (out / stage / "model").mkdir(parents=True)
    featurizer.write(replace(fitted, contract=contract), out / "featurizer" / "model")
    predictor.write(learned.booster, contract, out / "predictor" / "model")
    for stage in STAGES:
        artifact.pack(out / stage / "model", out / stage / "model.tar.gz")
    names = [column.name for column in contract.columns]
    raw_test[names].to_csv(out / "test.csv", index=False, lineterminator="\n")


def _draw(contract: Contract, booster: Any, predicted: Any, truth: Any, out: Path) -> None:  # noqa: ANN401
    from pipeline import report

    (out / "report.txt").write_text(report.text(contract), encoding="utf-8")
    report.draw(contract, booster, predicted, truth, out)


def _publish(scratch: Path, out: Path) -> None:
    """Move the files into place one by one: the directories may be mounted in containers. Remove what is stale."""
    for stage in STAGES:
        (out / stage / "model").mkdir(parents=True, exist_ok=True)
        for old in (out / stage / "model").iterdir():
            if old.is_file() and not (scratch / stage / "model" / old.name).exists():
                old.unlink()
    for file in sorted(path for path in scratch.rglob("*") if path.is_file()):
        target = out / file.relative_to(scratch)
        beside = target.with_name(f".{target.name}.new")
        shutil.copyfile(file, beside)
        beside.replace(target)


def _show_progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(
            f"\rcross-validation: {done} of {of} candidates",
            end="\n" if done == of else "",
            file=sys.stderr,
            flush=True,
        )
    elif done in (1, of) or done % 4 == 0:
        print(f"cross-validation: {done} of {of} candidates", file=sys.stderr, flush=True)
