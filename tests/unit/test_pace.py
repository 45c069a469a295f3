"""The yardstick of the tests that bound CPU time: one that forgives everything would hold nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests import pace


def spending(*seconds: float) -> tuple[list[float], Callable[[], float]]:
    left = list(seconds)
    return left, lambda: left.pop(0)


def test_the_least_of_all_tries_counts_and_none_is_made_once_it_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "slowness", lambda: 1.0)
    left, spend = spending(9.0, 3.0, 8.0, 2.0, 7.0, 1.0)

    assert pace.least_cost(spend, 3.0) == 3.0
    assert left == [8.0, 2.0, 7.0, 1.0]
    assert pace.least_cost(spending(9.0, 3.0, 8.0, 2.0, 7.0, 1.0)[1]) == 2.0


def test_what_a_slow_core_needs_counts_as_an_ordinary_one_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    paces = iter([1.0, 2.0, 3.0, 1.0] + [1.0] * 6)
    monkeypatch.setattr(pace, "slowness", lambda: next(paces))

    assert pace.least_cost(spending(8.0, 9.0, 5.0, 5.0, 5.0)[1]) == 3.0


def test_a_core_is_never_faster_than_an_ordinary_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "ORDINARY", pace.ORDINARY // 1000)

    assert pace.slowness() == 1.0
