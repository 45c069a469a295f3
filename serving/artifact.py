"""A model directory: files vouched for by a manifest, packed as SageMaker's `model.tar.gz`.

Nothing of a directory is parsed before all of it is checked, and what is parsed is what was checked: a file is hashed
as it is read.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.bounded import NotPlain, WrongSize, pieces
from serving.errors import BadArtifact, cut

MANIFEST = "manifest.json"
LARGEST = 1 << 30  # bytes of a file
LARGEST_MANIFEST = 1 << 20
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """What the manifest says of a file."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Artifact:
    """A model directory that its manifest vouches for. `fingerprint`: SHA-256 of the manifest, and so of all of it."""

    directory: Path
    entries: Mapping[str, Entry]
    fingerprint: str

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def expect(self, stage: str, *names: str) -> None:
        """Raises `BadArtifact` where none of these files is there, as in the artifact of another stage."""
        if not any(name in self for name in names):
            got = cut(", ".join(self.entries) or "none", 200)
            raise BadArtifact(
                f"{self.directory}: expected the files of the {stage}'s artifact, with {' or '.join(names)}; "
                f"got {got}: give this container the {stage}'s model.tar.gz"
            )

    def read(self, name: str) -> bytes:
        """A file's bytes, checked once more: somebody may have replaced it. Raises `BadArtifact`."""
        if name not in self.entries:
            raise BadArtifact(f"there is no {name} in {self.directory}")
        content: list[bytes] = []
        self.check(name, content.append)
        return b"".join(content)

    def text(self, name: str) -> str:
        """`read`, of a file in UTF-8."""
        try:
            return self.read(name).decode()
        except UnicodeDecodeError as error:
            raise BadArtifact(f"{name}: expected UTF-8, got other bytes ({error.reason})") from error

    def check(self, name: str, take: Callable[[bytes], object] = len) -> None:
        """Compare a file with its entry; `take` gets it piece by piece. Raises `BadArtifact`."""
        expected, digest = self.entries[name], hashlib.sha256()
        try:
            for piece in pieces(self.directory / name, expected.size):
                digest.update(piece)
                take(piece)
        except FileNotFoundError:
            raise BadArtifact(f"{MANIFEST} lists {name}, which is no regular file of {self.directory}") from None
        except NotPlain as error:
            kind = f"no regular file of {self.directory} that can be read: {error}"
            raise BadArtifact(f"{MANIFEST} lists {name}, which is {kind}") from error
        except WrongSize as error:
            raise BadArtifact(f"{name} is damaged: expected {expected.size} bytes, got {error}") from error
        if (got := digest.hexdigest()) != expected.sha256:
            raise BadArtifact(f"{name} is damaged: expected SHA-256 {expected.sha256}, got {got}")


def write_manifest(model_dir: Path) -> None:
    """Write `manifest.json`: SHA-256 and size in bytes of every other file of the directory."""
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": path.stat().st_size}
        for path in sorted(model_dir.iterdir())
        if path.name != MANIFEST
    }
    (model_dir / MANIFEST).write_text(json.dumps({"files": files}, indent=2) + "\n", encoding="utf-8")


def verify(model_dir: Path) -> Artifact:
    """Check every file against the manifest, before anything else of the directory is parsed.

    Hidden files (SageMaker and macOS leave some) are passed over. Raises `BadArtifact` naming the file.
    """
    manifest = _read_manifest(model_dir)
    found = Artifact(model_dir, _entries(manifest, model_dir), hashlib.sha256(manifest).hexdigest())
    with os.scandir(model_dir) as present:
        for entry in present:
            if entry.name not in found and entry.name != MANIFEST and not entry.name.startswith("."):
                raise BadArtifact(f"{cut(entry.name)} is in {model_dir} but not in its {MANIFEST}")
    for name in found.entries:
        found.check(name)
    return found


def _read_manifest(model_dir: Path) -> bytes:
    if not model_dir.is_dir():
        raise BadArtifact(f"there is no model directory {model_dir}")
    try:
        return b"".join(pieces(model_dir / MANIFEST, most=LARGEST_MANIFEST))
    except FileNotFoundError:
        why = f"there is no {MANIFEST} in {model_dir}: expected the files of a trained artifact"
        raise BadArtifact(why + _elsewhere(model_dir)) from None
    except NotPlain as error:
        raise BadArtifact(f"{MANIFEST} in {model_dir} is no regular file that can be read: {error}") from error
    except WrongSize as error:
        raise BadArtifact(f"{MANIFEST}: expected at most {LARGEST_MANIFEST} bytes, got {error}") from error


def _elsewhere(model_dir: Path) -> str:
    """What to do where the files are in directories of the archive."""
    found = sorted(path.parent.name for path in model_dir.glob(f"*/{MANIFEST}"))
    if found == ["featurizer", "predictor"]:
        return "; got those of both stages, which the single container serves (STAGE=pipeline)"
    if found:
        around = cut(found[0])
        return f"; they are in {around}/: pack them without it, with tar -C {around} -czf model.tar.gz ."
    return ""


def _entries(manifest: bytes, model_dir: Path) -> dict[str, Entry]:
    try:
        listed = json.loads(manifest)["files"].items()
        entries = {name: Entry(entry["sha256"], entry["size"]) for name, entry in listed}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise BadArtifact(f"{MANIFEST} in {model_dir} is not a manifest: {cut(repr(error), 200)}") from error
    for name, entry in entries.items():
        # a name that is none, or a path, would lead out of the directory
        if Path(name).name != name or name in ("", MANIFEST) or "\0" in name:
            raise BadArtifact(f"{MANIFEST} lists {cut(name)!r}, which is no regular file of {model_dir}")
        if not (isinstance(entry.sha256, str) and _DIGEST.fullmatch(entry.sha256) and type(entry.size) is int):
            raise BadArtifact(f"{MANIFEST} in {model_dir} is not a manifest: {cut(name)} has no SHA-256 or no size")
        if not 0 <= entry.size <= LARGEST:
            raise BadArtifact(f"{cut(name)}: expected at most {LARGEST} bytes, {MANIFEST} says {entry.size}")
    return entries


def files_of(model_dir: Path) -> list[Path]:
    """What belongs to the artifact; hidden files do not."""
    return sorted(path for path in model_dir.iterdir() if not path.name.startswith("."))


def pack(model_dir: Path, archive: Path) -> None:
    """Write the directory's files as a `.tar.gz`, members at the top. The same files give the same bytes."""
    pack_files({path.name: path for path in sorted(model_dir.iterdir())}, archive)


def pack_files(files: Mapping[str, Path], archive: Path) -> None:
    """Write files as a `.tar.gz` under the names given."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, path in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                tar.addfile(member, file)
    with archive.open("wb") as target, gzip.GzipFile(fileobj=target, mode="wb", filename="", mtime=0) as zipped:
        zipped.write(raw.getvalue())
