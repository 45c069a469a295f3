"""Standard output and error as a server may use them: it never waits for whoever reads them."""

from __future__ import annotations

import os
import select
import stat
from functools import partial

LONGEST = 4096  # bytes of a line that a pipe takes whole or not at all, whoever else writes to it: Linux's PIPE_BUF


def unblock() -> None:
    """Let no reader of standard output or error hold this process or its children up.

    A stream that is closed becomes /dev/null, or the next file to be opened would be written to as if it were the log.
    """
    for descriptor in (0, 1, 2):
        try:
            kind = os.fstat(descriptor).st_mode
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
            continue
        if descriptor and not stat.S_ISREG(kind):
            _unblock(descriptor)


class Output:
    """A descriptor. A line that does not fit into it now is lost, and so is one that nobody will read.

    A server calls `unblock` first. Where nobody has, a pipe is asked before each line; if another process fills it in
    between, that line waits.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._rest = b""  # of a line that a terminal or a socket took half of
        self._send = partial(os.write, descriptor)
        if os.get_blocking(descriptor) and not stat.S_ISREG(os.fstat(descriptor).st_mode):
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            self._send = partial(_write_if_ready, poll, descriptor)

    def write(self, line: bytes) -> bool:
        """Whether the line was taken."""
        try:
            if self._rest:
                self._rest = self._rest[self._send(self._rest) :]
                if self._rest:
                    return False
            self._rest = line[self._send(line) :]
        except OSError:  # full, or closed
            return False
        return True


def _write_if_ready(poll: select.poll, descriptor: int, data: bytes) -> int:
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(descriptor, data)


def _unblock(descriptor: int) -> None:
    """A pipe or a terminal is opened anew: O_NONBLOCK holds for all who share an open file, the shell before us too."""
    try:
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # a socket, of another user, or without a reader
        os.set_blocking(descriptor, False)
        return
    os.dup2(own, descriptor)
    os.close(own)
