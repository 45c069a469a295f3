"""The applications, in this process, give every request of the corpus the answer that it is owed.

They give it again among many good rows, where large bodies are read by other code than small ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.corpus_behind import among, behind, excluded, media_of, row_size
from tests.corpus_cases import Ask, Case, Request, replay
from tests.corpus_levels import Applications, ArtifactsOf, Replay, replays

REPLAYS = replays("application")
LARGE = 1 << 20  # bytes of a body that takes long to make and to read
SOME = 500  # rows of CSV that are read as a grid
MANY = 12_500  # rows that are several blocks of CSV and JSON Lines, and several pieces of a JSON list
BEHIND = [entry for entry in REPLAYS if not excluded(entry.case)]
REFUSED = [entry for entry in BEHIND if entry.case.answer["status"] == 400]
ANSWERED = [entry for entry in BEHIND if entry.case.answer["status"] == 200]
# how many of each group are put behind other rows at least, so that the rules that exclude cases stay narrow
LEAST = {"csv": (270, 150), "json": (230, 75), "lines": (65, 30), "features": (85, 60)}


def one_of_each(entries: Sequence[Replay], least: int = 0) -> list[object]:
    """All as parameters; of those with at least `least` bytes, each format, stage and outcome once, the rest `long`."""
    seen: set[object] = set()
    parameters = []
    for entry in entries:
        kind = (media_of(entry.case.request), entry.place.stage, entry.case.answer.get("code"))
        large = entry.case.request.size >= least
        parameters.append(
            pytest.param(entry, id=str(entry), marks=[pytest.mark.long] if large and kind in seen else [])
        )
        seen |= {kind} if large else set()
    return parameters


@pytest.fixture(scope="module")
def applications(artifacts_of: ArtifactsOf) -> Applications:
    return Applications(artifacts_of)


@pytest.mark.parametrize("entry", one_of_each(REPLAYS, LARGE))
def test_every_case_gets_the_answer_that_it_is_owed(applications: Applications, entry: Replay) -> None:
    replay(applications.ask(entry.place), entry.case, "application")


@pytest.mark.parametrize("entry", REFUSED, ids=str)
def test_a_refused_row_gets_the_same_refusal_behind_500_good_rows(applications: Applications, entry: Replay) -> None:
    check_refusals(applications.ask(entry.place), entry, SOME)


@pytest.mark.parametrize("entry", one_of_each(REFUSED))
def test_a_refused_row_gets_the_same_refusal_in_a_later_block(applications: Applications, entry: Replay) -> None:
    check_refusals(applications.ask(entry.place), entry, MANY)


@pytest.mark.parametrize("entry", ANSWERED, ids=str)
def test_a_row_gets_the_same_answer_among_1000_good_rows(applications: Applications, entry: Replay) -> None:
    check_answers(applications.ask(entry.place), entry, SOME)


@pytest.mark.parametrize("entry", one_of_each(ANSWERED))
def test_a_row_gets_the_same_answer_in_a_block_amid_others(applications: Applications, entry: Replay) -> None:
    check_answers(applications.ask(entry.place), entry, MANY)


@pytest.mark.parametrize("group", LEAST)
def test_most_cases_about_rows_are_put_behind_other_rows(group: str) -> None:
    refused, answered = (sum(entry.case.group == group for entry in part) for part in (REFUSED, ANSWERED))
    least_refused, least_answered = LEAST[group]

    assert refused >= least_refused
    assert answered >= least_answered


def check_refusals(ask: Ask, entry: Replay, count: int) -> None:
    """Compare the refusals behind one good row, which is a small body, and behind many."""
    __tracebackhide__ = True
    request, stage, expected = entry.case.request, entry.place.stage, entry.case.expected("application")

    behind_one, behind_many = (refusal(ask, behind(request, stage, rows)) for rows in (1, count))

    assert behind_one["status"] == 400
    assert behind_one["code"] == expected.code or not expected.code
    assert behind_one.get("row") == expected.row + 1 or not expected.row
    assert behind_one.get("column") == expected.column or not expected.column
    assert behind_many == moved(behind_one, count - 1, row_size(request, stage))


def check_answers(ask: Ask, entry: Replay, count: int) -> None:
    """Compare a case's answer, line by line, with the one that it gets among many good rows."""
    __tracebackhide__ = True
    request, stage = in_csv(entry.case), entry.place.stage

    requests = request, behind(request, stage, 1), among(request, stage, count)
    own, behind_one, among_many = (ask(request, 1).responses[0] for request in requests)

    assert (own.status, behind_one.status, among_many.status) == (200, 200, 200)
    good = behind_one.body.removesuffix(own.body)
    assert good.count(b"\n") == 1
    assert among_many.body == good * count + own.body + good * count


def in_csv(case: Case) -> Request:
    """The request of a case, whose answer has a line for each row."""
    return replace(case.request, headers={**case.request.headers, "Accept": "text/csv"})


def refusal(ask: Ask, request: Request) -> dict[str, Any]:
    response = ask(request, 1).responses[0]
    body = response.json if response.status >= 400 else {"answer": response.body[:300]}
    return {"status": response.status, **body, "request_id": ""}


def moved(refused: Mapping[str, Any], rows: int, size: int) -> dict[str, Any]:
    """The same refusal so many rows further down. A character is counted within the row where that is named."""
    if "row" in refused:
        return {**refused, "row": refused["row"] + rows}
    further = rows * size
    message = re.sub(
        r"(character|offset) (\d+)", lambda match: f"{match[1]} {int(match[2]) + further}", refused["message"]
    )
    return {**refused, "message": message}
