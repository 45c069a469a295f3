"""The directory tree that SageMaker mounts at /opt/ml for training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from local_test.state import ChainError
from serving.inside import inside

_CHANNEL = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}


def prepare(tree: Path, channels: Mapping[str, str], hyperparameters: Mapping[str, str]) -> None:
    """Make the tree anew, with copies of the channels' files. Raises `ChainError` when a file is missing."""
    for name in ("input", "output", "model"):
        shutil.rmtree(tree / name, ignore_errors=True)
    for name in ("input/config", "input/data", "output/data", "model"):
        (tree / name).mkdir(parents=True)
    for name, source in channels.items():
        _copy(Path(source), inside(tree / "input" / "data", name))
    config = {
        "hyperparameters": dict(hyperparameters),  # every value is a string
        "inputdataconfig": dict.fromkeys(channels, _CHANNEL),
        "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"},
    }
    for name, value in config.items():
        (tree / "input" / "config" / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")


def _copy(source: Path, channel: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, channel)
    elif source.is_file():
        channel.mkdir()
        shutil.copy(source, channel)
    else:
        raise ChainError(f"channel {channel.name}: there is no file or directory {source}")
