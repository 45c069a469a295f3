"""JSON patterns of CloudWatch Logs, as the control plane judges them."""

from __future__ import annotations

import pytest

from local_test.control_plane.errors import ApiError
from local_test.control_plane.patterns import compiled

LINE = '{"status": 400, "code": "not_a_number", "stage": "featurizer", "times": {"ms": 2.5}}'


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("{ $.status = 400 }", True),
        ("{$.status=400}", True),
        ("{ $.status = 599 }", False),
        ("{ $.status >= 400 && $.stage = featurizer }", True),
        ("{ $.status >= 400 && $.stage = predictor }", False),
        ("{ $.status > 400 || $.code = not_* }", True),
        ('{ $.code = "not_a_number" }', True),
        ("{ $.code != not_a_number }", False),
        ("{ $.code != other }", True),
        ("{ $.code > a }", False),
        ("{ $.status != 400 }", False),
        ("{ $.status <= 400 }", True),
        ("{ $.status < 400 }", False),
        ("{ $.status > 400 }", False),
        ("{ $.times.ms < 3 }", True),
        ("{ $.times.ms.more < 3 }", False),
        ("{ $.nothing = 1 }", False),
        ("{ $.nothing != 1 }", False),
    ],
)
def test_a_pattern_finds_what_its_terms_say(pattern: str, found: bool) -> None:
    assert compiled(pattern)(LINE) is found


def test_a_line_that_is_no_json_is_never_found() -> None:
    assert compiled("{ $.status != 1 }")("plain words") is False


@pytest.mark.parametrize("pattern", ["{", "{}", "{ status = 1 }", "{ $.a = 1 && }", "{ $.a ~ 1 }", "{ $.a = 1"])
def test_any_other_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ApiError, match="Invalid filter pattern"):
        compiled(pattern)
