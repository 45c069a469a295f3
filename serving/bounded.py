"""Reading a file that may be anything: a link, a FIFO, a device, larger than memory, replaced while it is read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_CHUNK = 1 << 20
_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


class NotPlain(Exception):
    """What a file is instead of a plain one that can be read."""


class WrongSize(Exception):
    """How many bytes a file has instead."""


def pieces(path: Path, expected: int | None = None, most: int = 0) -> Iterator[bytes]:
    """A plain file's content of `expected` bytes, or of `most` at most. Waits for nobody and follows no link.

    Raises `NotPlain` and `WrongSize`, and `FileNotFoundError`.
    """
    try:
        # without O_NONBLOCK a FIFO would wait for a writer
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield from _plain_pieces(opened, expected, most)
        finally:
            os.close(opened)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NotPlain("a link" if error.errno == errno.ELOOP else error.strerror) from error


def _plain_pieces(file: int, expected: int | None, most: int) -> Iterator[bytes]:
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        raise NotPlain(_KINDS.get(stat.S_IFMT(found.st_mode), "a special file"))
    if found.st_size != expected if expected is not None else found.st_size > most:
        raise WrongSize(found.st_size)
    left = found.st_size
    while left and (piece := os.read(file, min(left, _CHUNK))):
        left -= len(piece)
        yield piece
