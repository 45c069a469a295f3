"""`package`: both artifacts of a training run as one, for a host that takes a single `model.tar.gz`."""

from __future__ import annotations

import argparse
from pathlib import Path

from serving import artifact
from serving.contract import Contract
from serving.errors import BadArtifact
from serving.training import BadJob

HELP = "pack both artifacts into one model.tar.gz, for the single container"
EXAMPLES = """examples:
  python -m pipeline package --single artifacts/model.tar.gz
"""
STAGES = ("featurizer", "predictor")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--single", type=Path, required=True, metavar="OUT.tar.gz", help="the file to write")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="what `train` wrote")


def run(arguments: argparse.Namespace) -> int:
    try:
        contract = pack_single(arguments.artifacts, arguments.single)
    except (BadArtifact, OSError) as error:
        raise BadJob(str(error)) from error
    print(f"Wrote {arguments.single}: {' and '.join(STAGES)} of {contract.dataset}, training run {contract.hash[:12]}")
    return 0


def pack_single(artifacts: Path, archive: Path) -> Contract:
    """Write the files of both artifacts, unchanged, under `featurizer/` and `predictor/`. Returns their contract.

    Raises `BadArtifact` for files that are damaged or of different training runs.
    """
    models = {stage: artifacts / stage / "model" for stage in STAGES}
    for model in models.values():
        artifact.verify(model)
    contracts = [Contract.load(model) for model in models.values()]
    if len({contract.hash for contract in contracts}) > 1:
        raise BadArtifact(f"the artifacts in {artifacts} are of different training runs: train again")
    files = {f"{stage}/{path.name}": path for stage, model in models.items() for path in artifact.files_of(model)}
    artifact.pack_files(files, archive)
    return contracts[-1]
