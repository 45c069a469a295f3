"""How a program is told to end. It imports nothing of weight: a program calls it before its other imports."""

from __future__ import annotations

import signal
import sys

INTERRUPTED = 130
_TOLD = (signal.SIGINT, signal.SIGTERM)


def raise_when_interrupted() -> None:
    """Make SIGINT and SIGTERM raise `KeyboardInterrupt`, so that a command stops on its way out what it started.

    Python itself does so for SIGINT only, and not where the command was started in a script's background: there
    SIGINT is ignored. Processes that are started after this call take both signals as usual.
    """
    for number in _TOLD:
        signal.signal(number, signal.default_int_handler)


def exit_when_told(code: int) -> None:
    """Make both signals end the program until it handles them itself: the kernel drops what PID 1 has no handler for.

    `serving/bin` starts it with both blocked, so that they wait until here.
    """
    for number in _TOLD:
        signal.signal(number, lambda *_: sys.exit(code))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD)
