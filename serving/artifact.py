"""A model directory: files vouched for by a manifest, packed as SageMaker's `model.tar.gz`."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

from serving.errors import BadArtifact

MANIFEST = "manifest.json"


def write_manifest(model_dir: Path) -> None:
    """Write `manifest.json`: SHA-256 and size in bytes of every other file of the directory."""
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": path.stat().st_size}
        for path in sorted(model_dir.iterdir())
        if path.name != MANIFEST
    }
    (model_dir / MANIFEST).write_text(json.dumps({"files": files}, indent=2) + "\n", encoding="utf-8")


def verify(model_dir: Path) -> None:
    """Check every file against the manifest, before anything else of the directory is parsed.

    Hidden files (SageMaker and macOS leave some) are passed over. Raises `BadArtifact` naming the file.
    """
    files = _read_manifest(model_dir)
    present = {path.name for path in model_dir.iterdir() if not path.name.startswith(".")} - {MANIFEST}
    if extra := sorted(present - files.keys()):
        raise BadArtifact(f"{extra[0]} is in {model_dir} but not in its {MANIFEST}")
    for name, expected in files.items():
        path = model_dir / name
        if Path(name).name != name or path.is_symlink() or not path.is_file():
            raise BadArtifact(f"{MANIFEST} lists {name}, which is no regular file of {model_dir}")
        if (size := path.stat().st_size) != expected["size"]:
            raise BadArtifact(f"{name} is damaged: expected {expected['size']} bytes, got {size}")
        if (got := hashlib.sha256(path.read_bytes()).hexdigest()) != expected["sha256"]:
            raise BadArtifact(f"{name} is damaged: expected SHA-256 {expected['sha256']}, got {got}")


def _read_manifest(model_dir: Path) -> dict[str, dict[str, object]]:
    if not model_dir.is_dir():
        raise BadArtifact(f"there is no model directory {model_dir}")
    try:
        files = json.loads((model_dir / MANIFEST).read_bytes())["files"]
        return {str(name): {"sha256": entry["sha256"], "size": entry["size"]} for name, entry in files.items()}
    except FileNotFoundError as error:
        raise BadArtifact(f"there is no {MANIFEST} in {model_dir}: expected the files of a trained artifact") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadArtifact(f"{MANIFEST} in {model_dir} is not a manifest: {error!r}") from error


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
