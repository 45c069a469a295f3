"""A process that ends with the one that started it: run as a program, it becomes the command that follows.

    python serving/tied.py PARENT MEMORY COMMAND...

MEMORY: the bytes of address space that it may have; 0: no limit.

It needs nothing but the standard library, and is there for programs that cannot tie themselves, such as nginx.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Sequence

_SET_PDEATHSIG = 1  # linux/prctl.h


def tie(parent: int) -> None:
    """Have the kernel send this process SIGTERM when `parent` ends: when the thread that started it ends.

    It stays so when the process becomes another program. Whose parent has ended by now is told at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM))
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def tied(command: Sequence[str], memory: int = 0) -> list[str]:
    """The command of a child that is to end with this process. With PID 1 everything ends anyway."""
    if sys.platform != "linux" or (os.getpid() == 1 and not memory):
        return list(command)
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(memory), *command]


if __name__ == "__main__":
    tie(int(sys.argv[1]))
    if memory := int(sys.argv[2]):
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606
