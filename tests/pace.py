"""CPU seconds as an ordinary core counts them: a shared machine may give half of one today, and less tomorrow."""

from __future__ import annotations

import time
from collections.abc import Callable

ORDINARY = 20_000_000  # turns of the loop below in a second, of CPython on a core of 2.5 GHz with nothing beside it
TURNS = 400_000
TRIES = 5  # of what was too slow


def least_cost(spend: Callable[[], float], enough: float = 0.0) -> float:
    """The least that `spend` tells of its CPU seconds in some tries; no more are made once it is at most `enough`.

    In seconds of an ordinary core: what a slower one needed is divided by how much slower it was, before and after.
    """
    least = float("inf")
    for _ in range(TRIES):
        before = slowness()
        spent = spend()
        least = min(least, spent / max(before, slowness()))
        if least <= enough:
            break
    return least


def cost(call: Callable[[], object]) -> float:
    """CPU seconds that this process needs for a call."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def slowness() -> float:
    """By how much slower than an ordinary core this one is just now; a faster one is no excuse: 1 at least."""
    return max(1.0, cost(_turn) * ORDINARY / TURNS)


def _turn() -> None:
    turned = 0
    for turn in range(TURNS):
        turned += turn
