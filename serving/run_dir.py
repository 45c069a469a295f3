"""The directory of one container's sockets, pid files and configuration."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from serving.settings import BadSetting, Settings

_LONGEST = 90  # bytes; a socket's name, which is longer by 14, has 107 at most
_UNSAFE = re.compile(r"[\s\x00-\x1f;{}\"'$\\#:]")
_PREFIX = "serving-"


@contextlib.contextmanager
def run_directory(settings: Settings) -> Iterator[Path]:
    """The one of the settings, or a fresh one that is removed afterwards. No other server can have it meanwhile.

    Raises `BadSetting` for one that nginx's configuration or a socket could not name, or that another server has.
    """
    if settings.run_dir:
        run_dir = _usable(settings.run_dir.absolute())
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadSetting(f"MODEL_SERVER_RUN_DIR: expected a directory, got {run_dir}: {error.strerror}") from error
        with _own(run_dir):
            yield run_dir
        return
    base = _writable_directory()
    _remove_what_is_left(base)
    run_dir = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    try:
        with _own(_usable(run_dir)):
            yield run_dir
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


@contextlib.contextmanager
def held(directory: Path) -> Iterator[int]:
    """A lock on a directory, which the kernel takes back when all who inherited its descriptor have ended.

    Process ids tell nothing of who runs in another container. Raises `BlockingIOError` while somebody else has it.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _own(run_dir: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(run_dir.resolve()))
        except OSError as error:
            taken = isinstance(error, BlockingIOError)
            why = "another server uses it; give each its own, or none" if taken else error.strerror
            raise BadSetting(f"MODEL_SERVER_RUN_DIR: expected a directory of its own, got {run_dir}: {why}") from error
        yield


def _remove_what_is_left(base: str) -> None:
    """Remove the directories of killed servers: nobody has their lock, and the socket was made by one who had it."""
    for socket in Path(base).glob(f"{_PREFIX}*/health.sock"):
        with contextlib.suppress(OSError), held(socket.parent):
            shutil.rmtree(socket.parent, ignore_errors=True)


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
