"""Memory that a process and its children share, behind a descriptor that they inherit."""

from __future__ import annotations

import os
import tempfile


def shared_memory(name: str, size: int) -> int:
    """A descriptor of so many bytes, all 0. They lie on no disk, where the system has files in memory."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(name)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.truncate(fd, size)
    os.set_inheritable(fd, True)
    return fd
