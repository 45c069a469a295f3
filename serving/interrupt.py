"""How a command is told to end: Ctrl-C and SIGTERM both raise KeyboardInterrupt."""

from __future__ import annotations

import signal


def raise_when_interrupted() -> None:
    """Make SIGINT and SIGTERM raise `KeyboardInterrupt`, so that a command stops on its way out what it started.

    Python itself does so for SIGINT only, and not where the command was started in a script's background: there
    SIGINT is ignored. Processes that are started after this call take both signals as usual.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
