"""Both artifacts of a training run below one directory, where the single container looks for them."""

from __future__ import annotations

from pathlib import Path

from serving import artifact
from serving.contract import Contract
from serving.errors import BadArtifact

STAGES = ("featurizer", "predictor")


def files_of(artifacts: Path) -> dict[str, Path]:
    """The files of what `train` wrote, by their names below the model directory: `featurizer/...`, `predictor/...`."""
    return {f"{stage}/{path.name}": path for stage in STAGES for path in artifact.files_of(artifacts / stage / "model")}


def pack(artifacts: Path, archive: Path) -> Contract:
    """Write the files of both artifacts, unchanged, as one `model.tar.gz`. Returns their contract.

    Raises `BadArtifact` for files that are damaged or of different training runs.
    """
    models = [artifacts / stage / "model" for stage in STAGES]
    for model in models:
        artifact.verify(model)
    contracts = [Contract.load(model) for model in models]
    if len({contract.hash for contract in contracts}) > 1:
        raise BadArtifact(f"the artifacts in {artifacts} are of different training runs: train again")
    artifact.pack_files(files_of(artifacts), archive)
    return contracts[-1]
