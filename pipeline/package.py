"""`package`: artifacts of models that were trained elsewhere; both artifacts of a training run as one archive."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts import STAGES, files_of_both, verify_both
from serving import artifact
from serving.errors import BadArtifact, full_disk
from serving.training import BadJob

if TYPE_CHECKING:
    from pipeline.adopt.request import Made

HELP = "make artifacts of models trained elsewhere; pack both into one model.tar.gz, for the single container"
EXAMPLES = """examples:
  python -m pipeline package --predictor model.json
  python -m pipeline package --featurizer preprocess.joblib --predictor model.ubj --classes no,yes
  python -m pipeline package --pipeline pipeline.joblib --sample rows.csv --single artifacts/own/model.tar.gz
  python -m pipeline package --single artifacts/model.tar.gz
A .joblib or .pkl file runs code of whoever wrote it when it is read. docs/own_model.md has more.
"""
MADE = Path("artifacts/own")
SHOWN = 12  # columns and features that are printed
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
FILES = ("predictor", "featurizer", "pipeline")
OF_A_BOOSTER = ("classes", "trees", "allow_pickle", "positional", "dense")
OF_A_TRANSFORMER = ("missing_categories", "columns")
OF_FILES = ("contract", "sample", "name", "out", *OF_A_BOOSTER, *OF_A_TRANSFORMER)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    models = parser.add_argument_group("models trained elsewhere")
    models.add_argument("--predictor", type=Path, metavar="FILE", help="a booster: JSON or UBJSON of save_model")
    models.add_argument("--featurizer", type=Path, metavar="FILE.joblib", help="a fitted scikit-learn transformer")
    models.add_argument(
        "--pipeline", type=Path, metavar="FILE.joblib", help="a fitted scikit-learn Pipeline that ends in an XGBModel"
    )
    models.add_argument("--contract", type=Path, metavar="FILE", help="columns: a schema in TOML, or a contract.json")
    models.add_argument(
        "--columns", metavar="NAME=TYPE,...", help="what your own steps take: integer, numeric or categorical"
    )
    models.add_argument("--sample", type=Path, metavar="FILE.csv", help="rows with a header, to compare on")
    models.add_argument("--name", help="of the models (default own-model)")
    models.add_argument("--classes", metavar="A,B,...", help="names of the classes, in the order of their numbers")
    models.add_argument("--trees", choices=("best", "all"), help="rounds that answer after early stopping")
    models.add_argument("--positional", action="store_true", help="features by order, whatever the booster calls them")
    models.add_argument("--dense", action="store_true", help="the booster learned from the dense matrix of features")
    models.add_argument("--missing-categories", action="store_true", help="let serving take NA, None, ... as missing")
    models.add_argument("--allow-pickle", action="store_true", help="read a pickled booster, which runs its code")
    models.add_argument("--out", type=Path, help=f"where the artifacts go (default {MADE})")
    both = parser.add_argument_group("one archive")
    both.add_argument("--single", type=Path, metavar="OUT.tar.gz", help="the file to write")
    both.add_argument("--artifacts", type=Path, help="what `train` wrote (default artifacts)")


def run(arguments: argparse.Namespace) -> int:
    artifacts = arguments.artifacts or Path("artifacts")
    if any(getattr(arguments, name) for name in FILES):
        if arguments.artifacts:
            raise BadJob("--artifacts: expected --out, where the models that are given go")
        artifacts = _adopt(arguments)
    elif given := [name for name in OF_FILES if getattr(arguments, name)]:
        raise BadJob(f"--{given[0].replace('_', '-')}: expected --predictor, --featurizer or --pipeline beside it")
    elif not arguments.single:
        raise BadJob("expected --predictor, --featurizer or --pipeline, or --single")
    if arguments.single:
        _pack(artifacts, arguments.single)
    return 0


def _adopt(arguments: argparse.Namespace) -> Path:
    """Make the artifacts of the files given. Returns where they are."""
    # imported here: they bring scikit-learn and XGBoost, which an archive does without
    from pipeline.adopt.make import adopt
    from pipeline.adopt.request import Request

    if arguments.pipeline and (arguments.predictor or arguments.featurizer):
        raise BadJob("--pipeline: expected neither --predictor nor --featurizer beside it: it has both")
    if arguments.single and not (arguments.pipeline or (arguments.predictor and arguments.featurizer)):
        raise BadJob("--single: expected both models, or --pipeline")
    _refuse_alone(arguments, OF_A_BOOSTER, "predictor")
    _refuse_alone(arguments, OF_A_TRANSFORMER, "featurizer")
    if arguments.name is not None and not NAME.fullmatch(arguments.name):
        raise BadJob(
            f"--name: expected up to 63 letters, digits, - _ and ., a letter or digit first; got {arguments.name!r}"
        )
    if arguments.classes == "":
        raise BadJob("--classes: expected names with commas between them, got none")
    flags = ("allow_pickle", "positional", "dense", "missing_categories")
    request = Request(
        **{name: getattr(arguments, name) for name in (*FILES, "contract", "sample", *flags)},
        columns=_kinds(arguments.columns or ""),
        name=arguments.name or "",
        classes=tuple(arguments.classes.split(",")) if arguments.classes else (),
        trees=arguments.trees or "",
    )
    out: Path = arguments.out or MADE
    try:
        made = adopt(request, out)
    except OSError as error:
        raise BadJob(full_disk(error) or f"--out {out}: expected a directory that can be written; {error}") from error
    _show(made, out)
    return out


def _kinds(text: str) -> dict[str, str]:
    """`--columns`: the type of each column that it names."""
    from pipeline.adopt.told import KINDS

    pairs = [part.rpartition("=") for part in text.split(",")] if text else []
    for name, _, kind in pairs:
        if not name or kind not in KINDS:
            raise BadJob(f"--columns: expected NAME=TYPE,..., each type one of {', '.join(KINDS)}; got {text}")
    return {name: kind for name, _, kind in pairs}


def _refuse_alone(arguments: argparse.Namespace, names: tuple[str, ...], file: str) -> None:
    for name in names:
        if getattr(arguments, name) and not (arguments.pipeline or getattr(arguments, file)):
            raise BadJob(f"--{name.replace('_', '-')}: expected --{file} or --pipeline beside it")


def _show(made: Made, out: Path) -> None:
    contract = made.contract
    print(f"{contract.dataset}: {contract.task.value}, contract {contract.hash[:12]}")
    if "featurizer" in made.stages:
        for column in contract.inputs:
            print(f"  {column.name}: {column.type.value}" + _listed(": ", column.categories))
    if contract.label:
        print(f"  {contract.label.name}: label" + _listed(": ", contract.label.categories))
    print(_listed(f"{len(contract.features)} features: ", contract.features))
    print("\n".join(made.told))
    print(f"Wrote to {out}/: {', '.join(f'{stage}/model.tar.gz' for stage in made.stages)}")
    if len(made.stages) == 2:
        print(f"Serve it: python -m local_test chain up --artifacts {out}")
    else:
        (stage,) = made.stages
        env = f"MODEL_SERVER_HOST=127.0.0.1 STAGE={stage} SM_MODEL_DIR={out}/{stage}/model"
        print(f"Serve it: {env} python -m serving serve")


def _listed(prefix: str, names: tuple[str, ...]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    return prefix + ", ".join(names[:SHOWN]) + more if names else ""


def _pack(artifacts: Path, archive: Path) -> None:
    try:
        contract = verify_both(artifacts)
        artifact.pack_files(files_of_both(artifacts), archive)
    except (BadArtifact, OSError) as error:
        raise BadJob(f"{error}; to train both again: python -m pipeline train --out {artifacts}") from error
    print(f"Wrote {archive}: {' and '.join(STAGES)} of {contract.dataset}, training run {contract.hash[:12]}")
