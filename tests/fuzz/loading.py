"""Load damaged artifacts, one after the other, in a process that may die of it: it says before what it tries.

    python -m tests.fuzz.loading BASES SCRATCH HOW SEED FIRST COUNT

A line is `NUMBER`, before, and ` VERDICT`, after: `original`, `hash`, `contract`, `structure`, `xgboost`, `answered`,
`refused`, or `finding: ...`. HOW is `checked`, or `stock` for XGBoost without our check.
"""

from __future__ import annotations

import json
import logging
import re
import resource
import shutil
import signal
import sys
from pathlib import Path
from random import Random

import numpy as np

from featurizer.model import Featurizer
from predictor.booster import Booster, BoosterError
from predictor.model import MODEL, Predictor
from serving import artifact
from serving.contract import FILE, Contract
from serving.errors import BadArtifact, ServingError
from serving.payload import CSV, NPY, Payload
from serving.settings import Settings
from tests.fuzz.damage import damaged

HANGS = 10  # seconds
MEMORY = 6 << 30
ROWS = np.array([[0.0, 1.0, -1.0, 0.5, np.nan, 1e30, -1e30, 0.0, 1.0, 0.0]] * 2, np.float32)


def mutant(bases: Path, seed: str, number: int) -> tuple[Path, str, bytes]:
    """A base, the name of one of its files, and that file's damaged content."""
    random = Random(f"{seed} {number}")
    base = random.choice(sorted(bases.iterdir()))
    names = sorted(path.name for path in base.iterdir() if path.suffix == ".json")
    weights = [6 if name in (MODEL, "transform.json") else 1 for name in names]
    name = random.choices(names, weights)[0]
    content = damaged((base / name).read_bytes(), random)
    if name == FILE and random.random() < 0.7:  # a forger knows how the hash is made
        content = with_right_hash(content)
    return base, name, content


def with_right_hash(content: bytes) -> bytes:
    try:
        Contract.from_json(content.decode())
    except BadArtifact as error:
        if found := re.search("that of its fields is ([0-9a-f]{64})", str(error)):
            document = json.loads(content)
            document["hash"] = found[1]
            return json.dumps(document).encode()
    except UnicodeDecodeError:
        pass
    return content


def verdict_of(bases: Path, scratch: Path, seed: str, number: int) -> str:
    base, name, content = mutant(bases, seed, number)
    if content == (base / name).read_bytes():
        return "original"
    directory = scratch / base.name
    if not directory.exists():
        shutil.copytree(base, directory)
    try:
        (directory / name).write_bytes(content)
        if name != artifact.MANIFEST:
            try:
                artifact.verify(directory)
                return "finding: damaged, and the manifest vouches for it"
            except BadArtifact:
                artifact.write_manifest(directory)
        return _load(directory, name)
    finally:
        for changed in (name, artifact.MANIFEST):
            shutil.copyfile(base / changed, directory / changed)


def _load(directory: Path, name: str) -> str:
    featurizes = directory.name.startswith("featurizer")
    try:
        stage: Featurizer | Predictor = (Featurizer if featurizes else Predictor).load(directory)
    except BadArtifact as error:
        if name == artifact.MANIFEST:
            return "hash"
        if "not a booster that this XGBoost reads" in str(error):
            return "xgboost"
        return "contract" if name == FILE else "structure"
    if name == FILE:
        stage.interface.describe(Settings())
        stage.interface.openapi(Settings())
    try:
        answer = stage(request_for(stage))
    except ServingError:
        return "refused"
    numbers = np.array(json.loads(answer.body)[{True: "instances", False: "result"}[featurizes]], np.float64)
    return "answered" if np.isfinite(numbers).all() and len(numbers) == 2 else "finding: an answer that is not finite"


def request_for(stage: Featurizer | Predictor) -> Payload:
    if isinstance(stage, Predictor):
        from serving.formats.npy import write_npy

        return Payload(write_npy(np.resize(ROWS, (2, len(stage.contract.features)))), NPY, "application/json")
    row = ",".join("0.5" if column.type == "numeric" else "M" for column in stage.contract.inputs)
    return Payload(f"{row}\n{row}\n".encode(), CSV, "application/json")


def stock(bases: Path, seed: str, number: int) -> str:
    """What becomes of a damaged model in XGBoost alone."""
    base, name, content = mutant(bases, seed, number)
    original = (base / name).read_bytes()
    if content == original or name != MODEL:
        return "original"
    width = len(json.loads(original)["learner"]["feature_names"])
    rows = np.ascontiguousarray(np.resize(ROWS, (2, width)))
    try:
        answer = Booster(content).predict(rows)
    except BoosterError:
        return "xgboost"
    same = answer.tobytes() == Booster(original).predict(rows).tobytes()
    return "answered the same" if same else "answered differently"


def main(bases: Path, scratch: Path, how: str, seed: str, first: int, count: int) -> None:
    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(first, first + count):
        print(number, end="", flush=True)
        signal.alarm(HANGS)  # nobody handles it: it ends the process
        try:
            verdict = stock(bases, seed, number) if how == "stock" else verdict_of(bases, scratch, seed, number)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            verdict = f"finding: {type(error).__name__}: {str(error)[:200]!r}"
        signal.alarm(0)
        print(f" {verdict}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))
