"""The directory of one container's sockets, pid files and configuration."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from serving.settings import BadSetting, Settings

_LONGEST = 90  # bytes; a socket's name, which is longer by 14, has 107 at most
_UNSAFE = re.compile(r"[\s\x00-\x1f;{}\"'$\\#:]")


@contextlib.contextmanager
def run_directory(settings: Settings) -> Iterator[Path]:
    """The one of the settings, or a fresh one that is removed afterwards.

    Raises `BadSetting` for one that nginx's configuration or a socket could not name.
    """
    if settings.run_dir:
        run_dir = _usable(settings.run_dir.absolute())
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadSetting(f"MODEL_SERVER_RUN_DIR: expected a directory, got {run_dir}: {error.strerror}") from error
        yield run_dir
        return
    run_dir = Path(tempfile.mkdtemp(prefix="serve-", dir=_writable_directory()))
    try:
        yield _usable(run_dir)
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


def _usable(run_dir: Path) -> Path:
    """Its path becomes words of nginx's configuration, and the names of sockets."""
    if _UNSAFE.search(str(run_dir)) or len(os.fsencode(run_dir)) > _LONGEST:
        expected = f"a path of at most {_LONGEST} bytes without blanks, quotes and any of ;{{}}$\\#:"
        raise BadSetting(f"MODEL_SERVER_RUN_DIR or TMPDIR: expected {expected}, got {str(run_dir)!r}")
    return run_dir


def _writable_directory() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # a read-only root file system without /tmp
        return "/dev/shm"  # noqa: S108
