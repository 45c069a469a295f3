"""What a container says of itself in /openapi.json is so, for requests that keep to it and for those that do not."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz.conftest import Budget
from tests.fuzz.test_mutations import SINGLE, STAGES, app_of
from tests.servers import Server

CHECKS = [
    *(not_a_server_error, status_code_conformance, content_type_conformance),
    *(response_headers_conformance, response_schema_conformance),
]
ACCEPTS = ["*/*", "text/csv", "application/json", "application/jsonlines", "application/x-npy", "application/xml"]
EXAMPLES = 20  # between two looks at the clock
CELLS = st.one_of(st.floats(-1e3, 1e3).map(repr), st.sampled_from(["M", "F", "", "NA", "x"]), st.text(max_size=5))
TABLES = st.lists(st.lists(CELLS, min_size=7, max_size=11), min_size=1, max_size=5)


def as_csv(rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def as_lines(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(map(json.dumps, rows))


def as_npy(rows: int) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((rows, 10)))
    return buffer.getvalue()


@pytest.fixture(scope="module", autouse=True)
def _formats() -> None:
    """How to send what is no JSON."""
    for media in ("text/csv", "application/jsonlines", "application/x-npy"):
        schemathesis.serializer(media)(lambda _context, value: value.encode() if isinstance(value, str) else value)
    schemathesis.openapi.media_type("text/csv", st.one_of(TABLES.map(as_csv), st.text()).map(str.encode))
    schemathesis.openapi.media_type("application/jsonlines", st.one_of(TABLES.map(as_lines), st.text()).map(str.encode))
    schemathesis.openapi.media_type("application/x-npy", st.one_of(st.integers(0, 3).map(as_npy), st.binary()))


@pytest.mark.parametrize("stage", [*STAGES, SINGLE])
def test_answers_are_as_the_document_says(stage: str, artifacts: Path, budget: Budget, single: Server) -> None:
    if stage == SINGLE:
        schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{single.port}/openapi.json")
    else:
        schema = schemathesis.openapi.from_wsgi("/openapi.json", app_of(stage, artifacts))
    operations = [found.ok() for found in schema.get_all_operations()]
    asked: dict[int, int] = {}

    def ask(case: Any, accept: str) -> None:
        case.headers["Accept"] = accept
        response = case.call_and_validate(checks=CHECKS)
        asked[response.status_code] = asked.get(response.status_code, 0) + 1

    # not shrunk: that takes minutes
    quiet = settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    while budget.lasts():
        operation = budget.random.choice([*operations, *[schema["/invocations"]["POST"]] * 10])
        strategy = st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes])
        seed(budget.random.getrandbits(64))(quiet(given(strategy, st.sampled_from(ACCEPTS))(ask)))()

    counts = ", ".join(f"{count} x {status}" for status, count in sorted(asked.items()))
    budget.say(f"{sum(asked.values())} requests to {len(operations)} operations ({counts})")
    assert {operation.path for operation in operations} >= {"/invocations", "/ping", "/contract"}
