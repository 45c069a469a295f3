"""Names from outside that become paths: none of them leads out of the directory that it is meant for."""

from __future__ import annotations

import os
from pathlib import Path

LONGEST_NAME = 255  # bytes that Linux takes for each part of a path
LONGEST_PATH = 4095


class OutsideError(ValueError):
    """A name that is no file below its directory. The message says why."""


def inside(directory: Path, name: str) -> Path:
    """The path that `name` (an S3 key, an archive's member, a resource's name) has below `directory`.

    Links that are there already are followed before it is compared. Raises `OutsideError` for a name that is absolute,
    has `..` or NUL in it, is too long, or leads to the directory itself or out of it.
    """
    try:
        path = directory / name
        parts = Path(name).parts
        long = len(os.fsencode(path)) > LONGEST_PATH or any(len(os.fsencode(part)) > LONGEST_NAME for part in parts)
        plain = "\0" not in name and ".." not in parts and not Path(name).is_absolute()
        if plain and not long and directory.resolve() in path.resolve().parents:
            return path
    except (OSError, RuntimeError, ValueError):  # what cannot be encoded, or links that go round
        pass
    raise OutsideError(f"expected a name of a file below {directory.name}, got {name[:LONGEST_NAME]!a}")
