"""Unpacking a stranger's `model.tar.gz`: into a fresh directory, plain files and directories only, all within limits.

Python's own `filter="data"` was got round more than once, so that nothing here rests on it: tarfile reads the headers,
and what is written, and where, is decided here.
"""

from __future__ import annotations

import gzip
import os
import re
import stat
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from local_test.control_plane.headers import MIB, Archive, BadArchive, Header, shown
from serving.inside import inside

__all__ = ["MIB", "BadArchive", "Limits", "unpack"]

_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)
_NAME = re.compile(r"[^\x00-\x1f\x7f\\]{1,255}")
_DEEPEST = 32  # directories within one another
_PIECE = MIB


@dataclass(frozen=True)
class Limits:
    """What an archive may hold, and how many times its own size it may grow beyond `always` bytes."""

    members: int = 10_000
    size: int = 4 * 1024 * MIB
    ratio: int = 200
    always: int = 64 * MIB


class _Unzipped(gzip.GzipFile):
    """The tar inside of the gzip. What asks for much at once, or grows too much, is stopped."""

    def __init__(self, file: IO[bytes], limits: Limits) -> None:
        super().__init__(fileobj=file, mode="rb")
        packed = file.seek(0, os.SEEK_END)
        file.seek(0)
        self.most = min(limits.size, max(limits.always, packed * limits.ratio))

    def read(self, size: int | None = -1) -> bytes:
        # tarfile reads headers whole, and a header may say that it has a terabyte
        if size is None or not 0 <= size <= _PIECE:
            raise BadArchive(f"a header of {size} bytes: expected at most {_PIECE}")
        content = super().read(size)
        if self.tell() > self.most:
            raise BadArchive(f"expected at most {self.most} bytes unpacked, got more")
        return content


def unpack(file: IO[bytes], directory: Path, limits: Limits | None = None) -> None:
    """Write an archive's files below `directory`, which must not exist.

    Raises `BadArchive`. What was written before that stays.
    """
    directory.mkdir(parents=True)
    try:
        with _Unzipped(file, limits or Limits()) as content, _opened(content) as archive:
            for member, path in _members(archive, (limits or Limits()).members, content.most):
                _take(archive, member, inside(directory, member.name) if path.parts else directory)
            _check_end(content, archive)
    except tarfile.TarError as error:
        raise BadArchive(f"expected a gzip tar file ({error})") from error
    except (zlib.error, EOFError, gzip.BadGzipFile, ValueError) as error:  # `OutsideError` too
        raise BadArchive(f"expected a gzip tar file ({error})") from error
    except OSError as error:
        raise BadArchive(f"cannot be unpacked ({error.strerror or error})") from error


def _opened(content: _Unzipped) -> tarfile.TarFile:
    return Archive.open(fileobj=content, mode="r:", tarinfo=Header)


def _members(archive: tarfile.TarFile, most: int, size: int) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
    """Each member with the path to write it to. Raises `BadArchive` for one that must not be written."""
    seen: set[PurePosixPath] = set()
    made: set[PurePosixPath] = set()  # those, and the directories around them
    total = 0
    while member := archive.next():
        archive.members.clear()  # type: ignore[attr-defined] # they would be kept, with all that their headers say
        _check_member(member)
        path, total = PurePosixPath(member.name), total + member.size
        made |= {path, *path.parents[:-1]}
        if len(made) > most:
            raise BadArchive(f"expected at most {most} members, got more")
        if path in seen:
            raise BadArchive(f"has a member {shown(member)} twice")
        if not 0 <= member.size <= size or total > size:
            raise BadArchive(f"expected at most {size} bytes unpacked, its members have {total} or more")
        seen.add(path)
        yield member, path


def _check_member(member: tarfile.TarInfo) -> None:
    name = shown(member)
    path = PurePosixPath(member.name)
    if not (member.type in _PLAIN or member.isdir()) or member.issparse():
        what = "a link" if member.issym() or member.islnk() else "a special file"
        raise BadArchive(f"must hold files and directories only: {name} is {what}")
    if ".." in path.parts or path.is_absolute():
        raise BadArchive(f"must stay in its directory: it has a member {name}")
    plain = len(path.parts) <= _DEEPEST and all(_NAME.fullmatch(part) for part in path.parts)
    if not plain or (not path.parts and not member.isdir()):
        raise BadArchive(f"must have plain names: it has a member {name}")
    if member.mode & (stat.S_ISUID | stat.S_ISGID):
        raise BadArchive(f"must hold no program of another user: {name} is setuid or setgid")


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Write a member."""
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(target, "wb") as file:
        source, left = archive.extractfile(member), member.size
        while source and left:
            piece = source.read(min(left, _PIECE // 2))
            if not piece:
                raise EOFError(f"{shown(member)} ends {left} bytes early")
            file.write(piece)
            left -= len(piece)


def _check_end(content: _Unzipped, archive: tarfile.TarFile) -> None:
    """tarfile takes whatever it cannot read behind the first member for the end."""
    content.seek(archive.offset)
    while piece := content.read(_PIECE):
        if piece.strip(b"\0"):
            raise BadArchive("expected nothing behind its last member, got other bytes")
