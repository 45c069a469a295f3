"""Both artifacts of a training run, as `train` and `package` write them and the single container wants them."""

from __future__ import annotations

from pathlib import Path

from serving import artifact
from serving.contract import Contract
from serving.errors import BadArtifact

STAGES = ("featurizer", "predictor")
RUN_FILES = ("report.txt", "test.csv", "predicted_vs_actual.png", "feature_importance.png")  # that `train` puts beside


def verify_both(directory: Path) -> Contract:
    """The contract that both artifacts share, once all their files are found undamaged.

    Raises `BadArtifact`, also for those of two training runs, and `OSError`.
    """
    models = [directory / stage / "model" for stage in STAGES]
    for model in models:
        artifact.verify(model)
    first, second = map(Contract.load, models)
    if first.hash != second.hash:
        hashes = f"{first.hash[:12]} and {second.hash[:12]}"
        raise BadArtifact(f"the artifacts in {directory} are of two training runs ({hashes})")
    return first


def files_of_both(directory: Path) -> dict[str, Path]:
    """Their files, by the names that the single container looks for: `featurizer/...`, `predictor/...`."""
    return {f"{stage}/{path.name}": path for stage in STAGES for path in artifact.files_of(directory / stage / "model")}
