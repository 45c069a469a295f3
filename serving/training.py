"""`train`, as SageMaker runs it: hyperparameters, channels and exit codes under /opt/ml."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from serving.errors import BadArtifact, ServingError, cut

_MOST = 2**31 - 1  # of a hyperparameter that counts, or a seed


class BadJob(ValueError):
    """A training job that cannot run as given. The message says what was expected and what came."""


@dataclass(frozen=True)
class TrainingJob:
    """What SageMaker hands to `train`. Every hyperparameter is a string; a channel is a directory."""

    hyperparameters: Mapping[str, str]
    channels: Mapping[str, Path]
    model_dir: Path
    output_data_dir: Path

    def find(self, name: str) -> Path | None:
        """The file of this name in any channel."""
        return next((c / name for c in self.channels.values() if (c / name).is_file()), None)

    def training_files(self) -> list[Path]:
        """The CSV files of channel `train` (or `training`) in the order of their names. Raises `BadJob`."""
        channel = self.channels.get("train", self.channels.get("training"))
        if channel is None:
            raise BadJob(f"expected a channel train, got {', '.join(self.channels) or 'none'}")
        files = sorted(path for path in channel.glob("*.csv") if path.is_file())
        if not files:
            present = ", ".join(sorted(path.name for path in channel.iterdir())) or "nothing"
            raise BadJob(f"expected .csv files with a header in channel {channel.name}, got {present}")
        return files

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Refuse a hyperparameter that would be ignored. Those that the SageMaker SDK adds are let pass."""
        for name in self.hyperparameters:
            if name not in known and not name.startswith("sagemaker_"):
                raise BadJob(f"hyperparameter {name} is unknown: expected one of {', '.join(sorted(known))}")

    def whole_number(self, name: str, default: int) -> int:
        """A hyperparameter that counts something. Raises `BadJob`."""
        text = self.hyperparameters.get(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MOST)) and int(text) <= _MOST):
            raise BadJob(f"hyperparameter {name}: expected a whole number up to {_MOST:,}, got {cut(repr(text))}")
        return int(text)


def main(stage: str, base_dir: Path) -> int:
    """Run the stage's `train`. Returns 0, or 1 with the reason in `output/failure`, which SageMaker shows."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, partial(_stop, base_dir))
    try:
        job = read_job(base_dir)
        importlib.import_module(f"{stage}.train").train(job)
    except (BadJob, BadArtifact, ServingError) as error:
        return _fail(base_dir, str(error))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the platform shows what the failure file says
        # SageMaker shows the first 1,024 characters: the reason comes first, the traceback after it
        return _fail(base_dir, f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}")
    print(f"trained {stage}: {', '.join(sorted(path.name for path in job.model_dir.iterdir()))}")
    return 0


def read_job(base_dir: Path) -> TrainingJob:
    """The job as the platform laid it out under `base_dir`. Raises `BadJob`."""
    data = base_dir / "input" / "data"
    channels = {path.name: path for path in sorted(data.iterdir()) if path.is_dir()} if data.is_dir() else {}
    model_dir = base_dir / "model"
    model_dir.mkdir(parents=True, exist_ok=True)
    hyperparameters = _hyperparameters(base_dir / "input" / "config" / "hyperparameters.json")
    return TrainingJob(hyperparameters, channels, model_dir, base_dir / "output" / "data")


def _hyperparameters(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadJob(f"{path.name}: expected JSON, got {error}") from error
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise BadJob(f"{path.name}: expected an object whose values are all strings")
    # The SageMaker SDK writes strings as JSON strings once more: "\"regression\""
    return {name: _unquoted(value) for name, value in given.items()}


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _fail(base_dir: Path, reason: str) -> int:
    output = base_dir / "output"
    output.mkdir(parents=True, exist_ok=True)
    (output / "failure").write_text(reason, encoding="utf-8")
    print(f"training failed: {reason}", file=sys.stderr, flush=True)
    return 1


def _stop(base_dir: Path, number: int, _frame: FrameType | None) -> None:
    """Leave at once: raising would wait for the threads that fit a booster."""
    os._exit(_fail(base_dir, f"stopped by {signal.Signals(number).name} before the end of the training"))
