"""A model directory, its manifest and its archive."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from featurizer.model import Featurizer
from local_test.control_plane.unpacking import unpack
from predictor.model import Predictor
from serving.artifact import MANIFEST, files_of, pack, verify, write_manifest
from serving.errors import BadArtifact


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "model.bin").write_bytes(b"weights")
    (directory / "contract.json").write_text("{}")
    write_manifest(directory)
    return directory


def test_the_manifest_has_the_digest_and_the_size_of_every_other_file(model_dir: Path) -> None:
    manifest = json.loads((model_dir / MANIFEST).read_text())

    assert manifest == {
        "files": {
            "contract.json": {"sha256": hashlib.sha256(b"{}").hexdigest(), "size": 2},
            "model.bin": {"sha256": hashlib.sha256(b"weights").hexdigest(), "size": 7},
        }
    }


def test_a_sound_directory_passes_with_the_hidden_files_that_systems_leave(model_dir: Path) -> None:
    (model_dir / "._model.bin").write_bytes(b"of macOS")
    (model_dir / ".sagemaker-uploading").touch()

    verify(model_dir)

    assert sorted(path.name for path in model_dir.glob("[!.]*")) == ["contract.json", MANIFEST, "model.bin"]


def lists(name: str, **entry: object) -> Callable[[Path], object]:
    """A manifest of one entry."""
    return lambda directory: (directory / MANIFEST).write_text(json.dumps({"files": {name: entry}}))


def replace_by_link(directory: Path) -> None:
    (directory / "model.bin").rename(directory.parent / "elsewhere")
    (directory / "model.bin").symlink_to(directory.parent / "elsewhere")


def replace_by_directory(directory: Path) -> None:
    (directory / "model.bin").unlink()
    (directory / "model.bin").mkdir()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(
            lambda d: (d / "model.bin").write_bytes(b"Weights"), "model.bin is damaged: expected SHA-256", id="bytes"
        ),
        pytest.param(lambda d: (d / "model.bin").write_bytes(b"weight"), "expected 7 bytes, got 6", id="truncated"),
        pytest.param(lambda d: (d / "model.bin").unlink(), "lists model.bin, which is no regular file", id="missing"),
        pytest.param(replace_by_link, "lists model.bin, which is no regular file", id="link"),
        pytest.param(replace_by_directory, "lists model.bin, which is no regular file", id="directory"),
        pytest.param(lambda d: (d / "evil.py").touch(), "evil.py is in", id="extra"),
        pytest.param(lambda d: (d / MANIFEST).unlink(), f"there is no {MANIFEST}", id="no manifest"),
        pytest.param(lambda d: (d / MANIFEST).write_text("{"), "is not a manifest", id="syntax"),
        pytest.param(lambda d: (d / MANIFEST).write_text("[]"), "is not a manifest", id="a list"),
        pytest.param(lambda d: (d / MANIFEST).write_text('{"files": []}'), "is not a manifest", id="files as a list"),
        pytest.param(lambda d: (d / MANIFEST).write_bytes(b"\xff"), "is not a manifest", id="no text"),
        pytest.param(lists("model.bin", size=7), "is not a manifest", id="no digest"),
    ],
)
def test_each_kind_of_damage_is_named(model_dir: Path, damage: Callable[[Path], object], reason: str) -> None:
    damage(model_dir)

    with pytest.raises(BadArtifact) as caught:
        verify(model_dir)

    assert reason in str(caught.value)


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/hostname", "sub/file", ""])
def test_a_manifest_names_only_files_of_its_directory(model_dir: Path, name: str) -> None:
    for path in model_dir.iterdir():
        path.unlink()
    (model_dir.parent / "elsewhere").touch()
    lists(name, sha256=hashlib.sha256(b"").hexdigest(), size=0)(model_dir)

    with pytest.raises(BadArtifact, match="which is no regular file"):
        verify(model_dir)


@pytest.mark.parametrize(
    ("around", "said"),
    [
        (["model"], "they are in model/: pack them without it, with tar -C model -czf model.tar.gz ."),
        (["featurizer", "predictor"], "got those of both stages, which the single container serves (STAGE=pipeline)"),
    ],
)
def test_files_with_a_directory_around_them_are_seen(
    model_dir: Path, tmp_path: Path, around: list[str], said: str
) -> None:
    for name in around:
        shutil.copytree(model_dir, tmp_path / "archive" / name)

    with pytest.raises(BadArtifact) as caught:
        verify(tmp_path / "archive")

    assert str(caught.value) == (
        f"there is no {MANIFEST} in {tmp_path}/archive: expected the files of a trained artifact; {said}"
    )


@pytest.mark.parametrize(("load", "stage", "other"), [
    (Featurizer.load, "featurizer", "predictor"), (Predictor.load, "predictor", "featurizer"),
])  # fmt: skip
def test_the_artifact_of_the_other_stage_is_named(
    artifacts: Path, load: Callable[[Path], object], stage: str, other: str
) -> None:
    with pytest.raises(BadArtifact) as caught:
        load(artifacts / other / "model")

    got = sorted(path.name for path in (artifacts / other / "model").iterdir() if path.name != MANIFEST)
    assert f"expected the files of the {stage}'s artifact, with " in str(caught.value)
    assert f"; got {', '.join(got)}: give this container the {stage}'s model.tar.gz" in str(caught.value)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadArtifact, match="there is no model directory"):
        verify(tmp_path / "nowhere")


def test_the_same_files_pack_to_the_same_bytes(model_dir: Path, tmp_path: Path) -> None:
    pack(model_dir, tmp_path / "one.tar.gz")
    os.utime(model_dir / "model.bin", (1, 1))
    (model_dir / "model.bin").chmod(0o600)
    pack(model_dir, tmp_path / "two.tar.gz")

    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()


def test_an_archive_holds_plain_files_at_its_top(model_dir: Path, tmp_path: Path) -> None:
    pack(model_dir, tmp_path / "model.tar.gz")

    with tarfile.open(tmp_path / "model.tar.gz") as tar:
        members = tar.getmembers()
    unpacked = tmp_path / "unpacked"
    with (tmp_path / "model.tar.gz").open("rb") as file:
        unpack(file, unpacked)

    assert [member.name for member in members] == ["contract.json", MANIFEST, "model.bin"]
    assert {(member.isfile(), member.uid, member.mtime, member.mode) for member in members} == {(True, 0, 0, 0o644)}
    verify(unpacked)


def big(directory: Path) -> None:
    """Ten gigabytes of nothing, and the manifest says so."""
    os.truncate(directory / "model.bin", 10_000_000_000)
    lists("model.bin", sha256="0" * 64, size=10_000_000_000)(directory)
    (directory / "contract.json").unlink()


def become(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    def damage(directory: Path) -> None:
        (directory / name).unlink()
        make(directory / name)

    return damage


@pytest.mark.parametrize("name", ["model.bin", MANIFEST])
@pytest.mark.parametrize(
    ("make", "what"),
    [
        pytest.param(os.mkfifo, "a FIFO", id="fifo"),
        pytest.param(Path.mkdir, "a directory", id="directory"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "a link", id="/dev/zero"),
        pytest.param(lambda path: path.symlink_to(path), "a link", id="itself"),
        pytest.param(lambda path: path.symlink_to("nowhere"), "a link", id="nothing"),
    ],
)
def test_what_is_no_plain_file_is_refused_without_waiting_for_it(
    model_dir: Path, name: str, make: Callable[[Path], object], what: str
) -> None:
    become(name, make)(model_dir)

    with pytest.raises(BadArtifact) as caught:
        verify(model_dir)

    assert name in str(caught.value)
    assert str(caught.value).endswith(what)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(big, "expected at most 1073741824 bytes", id="a file too large"),
        pytest.param(lambda d: os.truncate(d / MANIFEST, 10**10), "expected at most 1048576 bytes", id="manifest"),
        pytest.param(lambda d: os.truncate(d / "model.bin", 10**10), "expected 7 bytes, got 10000000000", id="grown"),
        pytest.param(lambda d: (d / MANIFEST).write_text("[" * 100_000), "is not a manifest", id="depth"),
        pytest.param(lists("model.bin", sha256="0" * 64, size=True), "no SHA-256 or no size", id="size true"),
        pytest.param(lists("model.bin", sha256="0" * 63, size=7), "no SHA-256 or no size", id="digest cut"),
        pytest.param(lists("model.bin", sha256="0" * 64, size=-1), "expected at most", id="size below zero"),
        pytest.param(lists(MANIFEST, sha256="0" * 64, size=1), "which is no regular file", id="lists itself"),
        pytest.param(lambda d: (d / "sub").mkdir(), "sub is in", id="directory"),
        pytest.param(lambda d: os.mkfifo(d / "pipe"), "pipe is in", id="unlisted fifo"),
    ],
)
def test_no_size_and_no_name_leads_the_check_astray(
    model_dir: Path, damage: Callable[[Path], object], reason: str
) -> None:
    damage(model_dir)

    with pytest.raises(BadArtifact, match=reason):
        verify(model_dir)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read")
def test_a_file_that_may_not_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        directory.chmod(0o755)
        (directory / "model.bin").write_bytes(b"weights")
        write_manifest(directory)
        (directory / MANIFEST).chmod(0o644)
        (directory / "model.bin").chmod(0)
        os.seteuid(65534)
        try:
            with pytest.raises(BadArtifact, match=r"model\.bin.*Permission denied"):
                verify(directory)
        finally:
            os.seteuid(0)


def test_what_is_parsed_is_what_was_vouched_for(model_dir: Path) -> None:
    files = verify(model_dir)
    (model_dir / "model.bin").write_bytes(b"WEIGHTS")

    with pytest.raises(BadArtifact, match=r"model\.bin is damaged: expected SHA-256 [0-9a-f]{64}, got [0-9a-f]{64}"):
        files.read("model.bin")


@pytest.mark.parametrize(
    "spoil", [lambda _: None, become("model.bin", os.mkfifo), lambda d: (d / "model.bin").write_bytes(b"x")]
)
def test_no_file_stays_open(model_dir: Path, spoil: Callable[[Path], object]) -> None:
    spoil(model_dir)
    before = len(list(Path("/proc/self/fd").iterdir()))

    with suppress(BadArtifact):
        verify(model_dir).read("model.bin")

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_is_read_whole_as_bytes_or_as_text(model_dir: Path) -> None:
    (model_dir / "words").write_text("größer", encoding="utf-8")
    (model_dir / "large").write_bytes(bytes(range(256)) * 10_000)
    write_manifest(model_dir)
    files = verify(model_dir)

    assert files.text("words") == "größer"
    assert files.read("large") == bytes(range(256)) * 10_000
    assert ("words" in files, "none" in files) == (True, False)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none", "there is no none in"),
        ("large", "large: expected UTF-8, got other bytes"),
        ("gone", "lists gone, which is no regular file"),
    ],
)
def test_what_cannot_be_read_as_text_is_named(model_dir: Path, name: str, reason: str) -> None:
    (model_dir / "large").write_bytes(b"\xff" * 10)
    (model_dir / "gone").touch()
    write_manifest(model_dir)
    files = verify(model_dir)
    (model_dir / "gone").unlink()

    with pytest.raises(BadArtifact, match=reason):
        files.text(name)


def test_the_fingerprint_tells_two_artifacts_apart(model_dir: Path) -> None:
    first = verify(model_dir).fingerprint
    os.utime(model_dir / "model.bin", (1, 1))
    again = verify(model_dir).fingerprint
    (model_dir / "model.bin").write_bytes(b"WEIGHTS")
    write_manifest(model_dir)

    assert first == again
    assert verify(model_dir).fingerprint != first


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (1 << 30, "model.bin is damaged: expected 1073741824 bytes, got 7"),
        ((1 << 30) + 1, f"model.bin: expected at most 1073741824 bytes, {MANIFEST} says 1073741825"),
    ],
)
def test_a_file_has_at_most_a_gibibyte(model_dir: Path, size: int, reason: str) -> None:
    (model_dir / "contract.json").unlink()
    lists("model.bin", sha256="0" * 64, size=size)(model_dir)

    with pytest.raises(BadArtifact) as caught:
        verify(model_dir)

    assert str(caught.value) == reason


def test_a_manifest_has_at_most_a_mebibyte(model_dir: Path) -> None:
    manifest = model_dir / MANIFEST
    manifest.write_bytes(manifest.read_bytes().ljust(1 << 20))
    verify(model_dir)
    manifest.write_bytes(manifest.read_bytes() + b" ")

    with pytest.raises(BadArtifact) as caught:
        verify(model_dir)

    assert str(caught.value) == f"{MANIFEST}: expected at most 1048576 bytes, got 1048577"


def test_what_is_wrong_with_a_manifest_is_told_in_bounds(model_dir: Path) -> None:
    (model_dir / MANIFEST).write_bytes(b'{"files": "' + b"x" * 500 + b"\xff")
    with pytest.raises(BadArtifact) as caught:
        verify(model_dir)
    told = str(caught.value).removeprefix(f"{MANIFEST} in {model_dir} is not a manifest: ")
    assert (len(told), told[-1]) == (200, "…")

    lists("n" * 65, sha256="0" * 64, size=True)(model_dir)
    (model_dir / "contract.json").unlink()
    (model_dir / "model.bin").rename(model_dir / ("n" * 65))
    with pytest.raises(BadArtifact, match=f"is not a manifest: {'n' * 63}… has no SHA-256 or no size$"):
        verify(model_dir)


def test_a_directory_without_files_of_its_own_has_an_empty_manifest_that_ends_its_line(tmp_path: Path) -> None:
    write_manifest(tmp_path)

    assert (tmp_path / MANIFEST).read_text() == '{\n  "files": {}\n}\n'
    assert verify(tmp_path).entries == {}


def test_hidden_files_are_not_of_the_artifact(model_dir: Path) -> None:
    (model_dir / ".hidden").touch()

    assert [path.name for path in files_of(model_dir)] == ["contract.json", MANIFEST, "model.bin"]


def test_an_archive_is_plain_gzip_without_a_name_or_a_time(model_dir: Path, tmp_path: Path) -> None:
    pack(model_dir, tmp_path / "model.tar.gz")

    packed = (tmp_path / "model.tar.gz").read_bytes()
    assert packed[:3] == b"\x1f\x8b\x08"
    assert packed[3:8] == bytes(5)  # neither a flag nor a time
