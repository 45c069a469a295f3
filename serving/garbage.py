"""When Python looks for garbage: never among what was loaded, nor while a large body becomes a million lists."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

LARGE = 1 << 18  # bytes of a body


def keep_what_is_loaded() -> None:
    """What was loaded stays: looking through all of it would hold a request up for tens of milliseconds."""
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def left_alone() -> Iterator[None]:
    """No search meanwhile, which takes a fifth of the time of 200,000 lines; what no cycle holds is freed as ever.

    Among threads the first that comes decides: when it is done the search goes on for all.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
