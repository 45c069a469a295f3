"""Boosters of nine versions of XGBoost, with the predictions that each wrote beside them (tests/boosters/make.py)."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.adopt import ubjson
from pipeline.cli import main
from predictor.forest import Malformed
from predictor.model import Predictor
from predictor.structure import check_fields

BOOSTERS = Path(__file__).resolve().parents[1] / "boosters"
ROWS = np.random.RandomState(0).normal(size=(200, 3)).astype("float32")
FILES = sorted(path for path in BOOSTERS.iterdir() if path.suffix in (".json", ".ubj"))
WRITTEN = [path for path in FILES if path.with_suffix(".npy").exists()]


def moved(path: Path) -> bool:
    """Whether its writer keeps the weights of dropout where older readers do not look."""
    version, kind = path.stem.split("-")
    return kind != "trees" and tuple(map(int, version.split(".")[:2])) >= (3, 3)


def test_there_are_files_of_every_version_of_either_kind() -> None:
    assert len({path.stem.split("-")[0] for path in WRITTEN}) == 9
    assert sum(map(moved, WRITTEN)) == 6


@pytest.mark.parametrize("path", [path for path in WRITTEN if not moved(path)], ids=lambda path: path.name)
def test_a_packaged_booster_predicts_what_its_writer_did(path: Path, tmp_path: Path) -> None:
    assert main(["package", "--predictor", str(path), "--out", str(tmp_path)]) == 0

    answered = Predictor.load(tmp_path / "predictor" / "model").predict(ROWS)

    assert answered.tobytes() == np.load(path.with_suffix(".npy")).tobytes()


@pytest.mark.filterwarnings(
    "ignore:.*Found JSON model saved before:UserWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        *((path.name, "weight_drop: expected no such field") for path in WRITTEN if moved(path)),
        ("3.4.1-dropout.pkl", "weight_drop: expected no such field"),
        ("1.3.3-linear.json", "boosted_rounds: expected it"),
    ],
)
def test_what_the_reader_would_pass_over_is_refused(
    name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["package", "--predictor", str(BOOSTERS / name), "--allow-pickle", "--out", str(tmp_path)])

    said = capsys.readouterr().err
    assert code == 2
    assert says in said
    assert f"the file is of XGBoost {name.partition('-')[0]}" in said
    assert not list(tmp_path.iterdir())


def objects(value: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of a model, but those whose names are free."""
    if isinstance(value, dict):
        yield place, value
        for name, inner in value.items():
            yield from objects(inner, f"{place}.{name}") if name not in ("attributes", "cats") else ()
    elif isinstance(value, list):
        for inner in value[:1]:
            yield from objects(inner, f"{place}[]")


@pytest.mark.parametrize("name", ["2.1.4-dart.json", "3.3.0-dart.json"])
def test_an_unknown_field_is_refused_wherever_it_stands(name: str) -> None:
    model = json.loads((BOOSTERS / name).read_bytes())
    model["learner"]["gradient_booster"].pop("weight_drop") if name.startswith("3.3") else None
    check_fields(model)
    places = [place for place, _ in objects(model)]
    assert len(places) >= 8

    for place in places:
        forged = copy.deepcopy(model)
        dict(objects(forged))[place]["more"] = 1
        with pytest.raises(Malformed, match="more"):
            check_fields(forged)


def test_ubjson_is_read_as_the_json_that_is_beside_it() -> None:
    for path in BOOSTERS.glob("*.ubj"):
        if (beside := path.with_suffix(".json")).exists():
            one, two = ubjson.decode(path.read_bytes()), json.loads(beside.read_bytes())
            assert [place for place, _ in objects(one)] == [place for place, _ in objects(two)]
            first, second = (found["learner"]["gradient_booster"]["model"]["trees"][0] for found in (one, two))
            assert first["split_indices"] == second["split_indices"]
            assert np.allclose(first["split_conditions"], second["split_conditions"])


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"{L", b"[", b"[#", b"[#L\xff\xff\xff\xff\xff\xff\xff\xff", b"[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"[$S#i\x01", b"SL\x7f\xff\xff\xff\xff\xff\xff\xff", b"Si\x01\xff", b"?", b"i\x01i\x01", b"[#i\x01" * 500,
        b"{i\x01a" * 500, b"[i\x01]", b"[#T",
    ],
)  # fmt: skip
def test_other_bytes_are_no_ubjson(content: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        ubjson.decode(content)


def test_a_file_that_ends_early_is_no_ubjson() -> None:
    whole = (BOOSTERS / "3.4.1-trees.ubj").read_bytes()

    for end in range(0, len(whole), 7):
        with pytest.raises(ValueError, match="expected"):
            ubjson.decode(whole[:end])
