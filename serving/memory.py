"""Memory: how much there is, and what a process shares with its children."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def shared_memory(name: str, size: int) -> int:
    """A descriptor that children inherit, of so many bytes. On no disk, where the system has files in memory."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(name)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.truncate(fd, size)
    os.set_inheritable(fd, True)
    return fd


def usable_memory(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this container may use: its cgroup's limit, else the machine's memory."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limits.append(int((cgroup / name).read_text()))
        except (OSError, ValueError):  # of the other version, or "max"
            continue
    return min(limits)
