"""What the chain leaves in files that the router may read: the training run's pictures and rows, and the logs."""

from __future__ import annotations

import csv
import json
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.contract import Contract

PICTURES = {
    "predicted_vs_actual.png": "What the model predicts for the test rows, and what is true",
    "feature_importance.png": "How much each feature counts in the model",
}
MOST_LOG = 8 * 1024 * 1024  # bytes of each log that are searched, from its end
MOST_LINES = 100
_SAMPLES = Path(__file__).resolve().parent.parent / "payloads" / "rows.csv"


@dataclass(frozen=True)
class Files:
    """Directories that may be None, absent or empty."""

    artifacts: Path | None = None
    logs: Path | None = None

    def pictures(self, contract: Contract | None = None) -> list[str]:
        """Those that are there; none of another training run than `contract` is of, where that is known."""
        if not self.artifacts or (contract and not self._is_of(contract)):
            return []
        return [name for name in PICTURES if _may_read(self.artifacts / name)]

    def _is_of(self, contract: Contract) -> bool:
        report = self.artifacts / "report.txt" if self.artifacts else None
        told = report.read_text(encoding="utf-8", errors="replace") if report and _may_read(report) else ""
        return f"Training run {contract.hash[:12]}," in told

    def picture(self, name: str) -> bytes | None:
        return (self.artifacts / name).read_bytes() if self.artifacts and name in self.pictures() else None

    def sample(self, contract: Contract | None) -> str:
        """Two rows that the chain takes, as CSV with a header: of the test rows, of the samples, or made up.

        Nothing where a name could not be seen in the form.
        """
        names = [column.name for column in contract.inputs] if contract else []
        if self.artifacts and contract:
            try:
                with (self.artifacts / "test.csv").open(encoding="utf-8", newline="") as file:
                    reader = csv.DictReader(file)
                    rows = [[row[name] or "" for name in names] for row, _ in zip(reader, range(2), strict=False)]
                return _csv([names, *rows])
            except (OSError, KeyError, ValueError, csv.Error):
                pass  # there is none, or it is of another data set
        if contract is None or contract.dataset == "abalone":
            return "".join(_SAMPLES.read_text(encoding="utf-8").splitlines(keepends=True)[:2])
        made = _csv([names, [column.categories[0] if column.categories else "1" for column in contract.inputs]])
        return made if made.replace("\n", "").isprintable() else ""

    def log_lines(self, names: Sequence[str], request_id: str) -> list[dict[str, Any]] | None:
        """The lines of a request in the logs of these programs, in order of time; None where there are no logs."""
        if not self.logs or not any(_may_read(self.logs / f"{name}.log") for name in names):
            return None
        found = [line for name in names for line in _lines_of(self.logs / f"{name}.log", request_id)]
        return sorted(found, key=lambda line: str(line.get("time")))[:MOST_LINES]


def log_command(names: Iterable[str], request_id: str) -> str:
    """What shows those lines where the router cannot read the containers' logs."""
    return f"docker compose logs --no-log-prefix {' '.join(names)} | grep -F -- {shlex.quote(request_id)}"


def _may_read(path: Path) -> bool:
    try:
        return path.is_file() and os.access(path, os.R_OK)
    except OSError:  # of a directory that is closed to us
        return False


def _lines_of(log: Path, request_id: str) -> list[dict[str, Any]]:
    sought = json.dumps(request_id)[1:-1].encode()
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - MOST_LOG))
            lines = [line for line in file if sought in line]
    except OSError:
        return []
    found = [line for line in map(_object, lines[-MOST_LINES:]) if line.get("request_id") == request_id]
    return [line | {"program": log.stem} for line in found]


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _csv(rows: Iterable[Iterable[str]]) -> str:
    """Cells with commas or quotes are quoted as CSV has it."""
    return "".join(",".join(_cell(cell) for cell in row) + "\n" for row in rows)


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text
