"""The applications, in this process, give every request of the corpus the answer that it is owed."""

from __future__ import annotations

import pytest

from tests.corpus_cases import replay
from tests.corpus_levels import Applications, ArtifactsOf, Replay, replays

REPLAYS = replays("application")


@pytest.fixture(scope="module")
def applications(artifacts_of: ArtifactsOf) -> Applications:
    return Applications(artifacts_of)


@pytest.mark.parametrize("asked", REPLAYS, ids=str)
def test_every_case_gets_the_answer_that_it_is_owed(applications: Applications, asked: Replay) -> None:
    replay(applications.ask(asked.place), asked.case, "application")
