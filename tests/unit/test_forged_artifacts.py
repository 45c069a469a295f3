"""Signed files with a value of another type somewhere, in an artifact whose manifest and hash were forged to match."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from featurizer.model import Featurizer
from predictor.model import Predictor
from serving import artifact
from serving.contract import FILE
from serving.errors import BadArtifact, ServingError
from serving.settings import Settings
from tests.fuzz.loading import request_for, with_right_hash
from tests.fuzz.test_artifacts import write_bases

VALUES = (None, 5, "abc", [], {})
KINDS = ({int, float}, {str}, {list}, {dict}, {bool}, {type(None)})
MAY_BE_NULL = ("unknown", "missing")  # codes of an encoder
NAMES = ["featurizer-of-every-step", "predictor-binary-dart", "predictor-linear", "predictor-multiclass"]
Place = tuple[Any, ...]
Stage = Featurizer | Predictor


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sound")
    write_bases(directory, rounds=1)
    return directory


def forgeries(directory: Path) -> Iterator[tuple[Path, Place, object, object]]:
    """Put each value in each place of each file. Yield the file, the place, what stands there, and what stood there."""
    for file in sorted(directory.glob("*.json")):
        manifest, original = (directory / artifact.MANIFEST).read_bytes(), file.read_bytes()
        for path in places(json.loads(original)):
            for value in VALUES:
                document = holder = json.loads(original)
                for key in path[:-1]:
                    holder = holder[key]
                before, holder[path[-1]] = holder[path[-1]], copy.copy(value)
                content = json.dumps(document).encode()
                file.write_bytes(with_right_hash(content) if file.name == FILE else content)
                if file.name != artifact.MANIFEST:
                    artifact.write_manifest(directory)
                yield file, path, value, before
        file.write_bytes(original)
        (directory / artifact.MANIFEST).write_bytes(manifest)


def places(node: Any, path: Place = ()) -> Iterator[Place]:
    """The way to every value of a document; in a list, to one item of each shape."""
    if path:
        yield path
    keys: list[Any] = list(node) if isinstance(node, dict) else []
    if isinstance(node, list):
        keys += {str(item.keys()) if isinstance(item, dict) else type(item): i for i, item in enumerate(node)}.values()
    for key in keys:
        yield from places(node[key], (*path, key))


def answer_of(stage: Stage) -> bytes:
    """The body of the stage's answer, or the code of its refusal; the stage is asked to describe itself too."""
    json.dumps(stage.interface.openapi(Settings()))
    try:
        return stage(request_for(stage)).body
    except ServingError as error:
        return error.code.encode()


def without_empty_lists(contract: Any) -> Any:
    """The contract without empty lists of categories, which are written as nothing."""
    for column in contract["columns"]:
        if column.get("categories") == []:
            del column["categories"]
    return contract


@pytest.mark.parametrize("name", NAMES)
def test_a_value_of_another_type_is_refused_in_one_line_or_changes_nothing(
    sound: Path, tmp_path: Path, name: str
) -> None:
    stage_class: type[Stage] = Featurizer if name.startswith("featurizer") else Predictor
    directory = shutil.copytree(sound / name, tmp_path / "model")
    owed = answer_of(stage_class.load(directory))
    refusals: list[str] = []
    findings: list[str] = []

    for file, path, value, before in forgeries(directory):
        case = f"{file.name}, {path}: {value!r} for {before!r:.40}"
        try:
            stage = stage_class.load(directory)
            answer = answer_of(stage)
        except BadArtifact as error:
            refusals.append(str(error))
            continue
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            findings.append(f"{case}: {error!r}")
            continue
        may_differ = any({type(value), type(before)} <= kind for kind in KINDS)
        may_differ |= value is None and path[-1] in MAY_BE_NULL
        if answer != owed and not may_differ:
            findings.append(f"{case}: answered {answer!r}")
        if file.name == FILE:
            contract = json.loads(stage.contract.to_json())
            if contract != without_empty_lists(json.loads(file.read_bytes())):
                findings.append(f"{case}: read as {contract}")

    assert findings == []
    assert [reason for reason in refusals if "\n" in reason or len(reason) > 600] == []
    assert len(refusals) > 150
