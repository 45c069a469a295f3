"""Which TCP ports are listened on where others can reach them, from the kernel's own tables."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

LISTEN = "0A"
_LOOPBACK = re.compile(r"[0-9A-F]{6}7F|0{24}01000000|0{16}FFFF0000[0-9A-F]{6}7F")


def reachable(tables: str, inodes: set[str] | None = None) -> set[int]:
    """The listening ports in the text of /proc/net/tcp and tcp6, but for those on loopback.

    With `inodes`, of these sockets only.
    """
    ports = set()
    for line in tables.splitlines():
        fields = line.split()
        if len(fields) > 9 and fields[3] == LISTEN and (inodes is None or fields[9] in inodes):
            address, _, port = fields[1].partition(":")
            if not _LOOPBACK.fullmatch(address):
                ports.add(int(port, 16))
    return ports


def of_session(session: int) -> set[int]:
    """The ports that the processes of a session listen on, but for those on loopback."""
    inodes = {inode for pid in members(session) for inode in _sockets(pid)}
    tables = "".join(path.read_text() for path in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")) if path.exists())
    return reachable(tables, inodes)


def members(session: int) -> Iterator[int]:
    """The processes of a session."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[3] == str(session):
                yield int(path.parent.name)


def _sockets(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(link.readlink())
                if target.startswith("socket:["):
                    yield target[8:-1]
