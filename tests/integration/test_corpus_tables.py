"""The corpus once more, on tables of other shapes than abalone's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.corpus_cases import Case, check
from tests.corpus_levels import Applications, Place
from tests.corpus_tables import TABLES, Untranslated, cases, translated


def all_of(table: str) -> list[tuple[str, Case]]:
    found = []
    for case in cases():
        for stage in case.stages:
            try:
                found.append((stage, translated(case, TABLES[table], stage)))
            except Untranslated:
                continue
    return found


ENTRIES = [pytest.param(stage, case, id=f"{table}-{stage}-{case}") for table in TABLES for stage, case in all_of(table)]


@pytest.fixture(scope="module")
def applications(once: Callable[..., Path]) -> Applications:
    return Applications(cache(lambda name: once(f"table-{name}", TABLES[name].train)))


@pytest.mark.parametrize(("stage", "case"), ENTRIES)
def test_a_case_gets_the_answer_that_it_is_owed_on_this_table(
    applications: Applications, stage: str, case: Case
) -> None:
    ask = applications.ask(Place("application", stage, contract=case.contract))

    check(ask(case.request, 1), case.expected("application"))
