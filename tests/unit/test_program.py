"""What of `transform.json` is looked at before the compiled transform runs it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from featurizer.program import check_program
from serving.errors import BadArtifact
from tests.fuzz.test_artifacts import STEPS, TEXTS

SOUND = {
    "format": 1,
    "numeric": ["p", "q"],
    "categorical": ["r", "s"],
    "features": [f"f{number}" for number in range(7)],
    "parts": [
        {"columns": ["q", "p"], "kind": "numeric", "steps": STEPS},
        {"columns": ["s", "r"], "kind": "text", "encode": TEXTS, "steps": [{"do": "add", "values": [0.0]}]},
    ],
}
STEP = ("parts", 0, "steps")
CODE = (*STEP, 7, "columns")


def put(*path: Any) -> Callable[[Any], None]:
    *names, last, value = path

    def change(program: Any) -> None:
        for name in names:
            program = program[name]
        program[last] = value

    return change


WRONG: dict[str, tuple[Callable[[Any], None], str]] = {
    "a format of the future": (put("format", 2), "expected format 1, got 2"),
    "a name twice": (put("features", ["f"] * 7), "features: expected a list of different names"),
    "a feature too many": (put("features", list("abcdefgh")), "expected parts that make 8 features, got 7"),
    "no parts": (put("parts", []), "expected parts"),
    "a column that is none": (put("parts", 0, "columns", ["q", "z"]), "part 0: expected columns of its kind"),
    "a column of the other kind": (put("parts", 0, "columns", ["q", "r"]), "part 0: expected columns of its kind"),
    "a part of another kind": (put("parts", 1, "kind", "image"), "part 1: expected a part of kind"),
    "a kind that is a list": (put("parts", 1, "kind", ["text"]), "part 1: expected a part of kind"),
    "a step that is a list": (put(*STEP, 0, {"do": []}), "part 0, step 0: expected one of impute"),
    "a step that is none": (put(*STEP, 0, {"do": "exec"}), "part 0, step 0: expected one of impute"),
    "an argument too many": (put(*STEP, 4, "axis", 0), "part 0, step 4: expected arguments low, high"),
    "a number too few": (put(*STEP, 2, "values", [1.0, 2.0]), "part 0, step 2: expected 3 numbers"),
    "a number of a thousand bits": (put(*STEP, 2, "values", 0, 2**1000), "part 0, step 2: expected a number"),
    "a number of 64 bits and a sign": (put(*STEP, 2, "values", 0, 2**63), "part 0, step 2: expected a number"),
    "one of them below zero": (put(*STEP, 2, "values", 0, -(2**63)), "part 0, step 2: expected a number"),
    "a number as true": (put(*STEP, 2, "values", 0, True), "part 0, step 2: expected a number"),
    "an indicator of no column": (put(*STEP, 1, "indicate", [2]), "part 0, step 1: expected whole numbers below 2"),
    "an indicator below zero": (put(*STEP, 1, "indicate", [-1]), "part 0, step 1"),
    "a bound of a thousand bits": (put(*STEP, 4, "high", 2**1000), "part 0, step 4: expected low and high"),
    "bounds the wrong way": (put(*STEP, 4, "low", 4.0), "part 0, step 4: expected low and high"),
    "a refusal of neither": (put(*STEP, 4, {"do": "refuse", "missing": 1}), "part 0, step 4: expected missing true or"),
    "a function that reads files": (put(*STEP, 5, "name", "load"), "part 0, step 5: expected one of numpy's"),
    "edges of a column too few": (put(*STEP, 6, "edges", [[0.0]]), "part 0, step 6: expected edges of 3 columns"),
    "an encoder too few": (put(*STEP, 7, "columns", []), "part 0, step 7: expected encoders of 3 columns"),
    "a width of a billion": (put(*CODE, 0, "width", 10**9), "features, got 1000000005"),
    "a width below zero": (put(*CODE, 0, "width", -1), "expected a width"),
    "a code behind the width": (put(*CODE, 0, "codes", [0, 3]), "expected whole numbers below 3"),
    "a code too few": (put(*CODE, 0, "codes", [0]), "expected 2 codes"),
    "an unknown code behind the outputs": (put(*CODE, 1, "unknown", 2), "expected whole numbers below 2"),
    "a category that is a list": (put(*CODE, 0, "values", [[], 1.0]), "expected values of its kind"),
    "a text among numbers": (put(*CODE, 0, "values", ["M", 1.0]), "expected values of its kind"),
    "a number among texts": (put("parts", 1, "encode", 0, "values", ["M", 1.0]), "part 1, encode: expected values"),
    "an output that is text": (
        put("parts", 1, "encode", 1, "outputs", ["x", 1.0]),
        "part 1, encode: expected a number",
    ),
}


def test_every_kind_of_step_passes() -> None:
    check_program(SOUND)


@pytest.mark.parametrize(
    "change",
    [
        put(*STEP, 2, "values", 0, 2**63 - 1),
        put(*STEP, 2, "values", 0, 1 - 2**63),
        put(*STEP, 2, "values", ["nan", "inf", "-inf"]),
        put(*STEP, 4, {"do": "clip", "low": 3, "high": 3}),
        put(*CODE, 0, "unknown", None),
        lambda program: program.update(  # a category that is dropped, of one
            features=["f"],
            parts=[
                {
                    **program["parts"][1],
                    "steps": [],
                    "encode": [{**TEXTS[0], "width": 0, "codes": [0, 0], "unknown": 0, "missing": 0}, TEXTS[1]],
                }
            ],
        ),
    ],
    ids=["the greatest number", "the least", "numbers not finite", "one bound", "a refusal", "no width"],
)
def test_what_a_step_may_have_at_most_passes(change: Callable[[Any], None]) -> None:
    program = copy.deepcopy(SOUND)
    change(program)

    check_program(program)


def test_the_place_of_what_is_wrong_is_named_where_there_is_one() -> None:
    with pytest.raises(BadArtifact, match=r"^transform\.json: expected format 1, got 2$"):
        check_program({**SOUND, "format": 2})
    with pytest.raises(BadArtifact, match=r"^transform\.json, features: expected a list of different names, got None$"):
        check_program({**SOUND, "features": None})


@pytest.mark.parametrize("name", WRONG)
def test_what_would_fail_with_a_request_is_named_at_the_start(name: str) -> None:
    change, said = WRONG[name]
    program = copy.deepcopy(SOUND)
    change(program)

    with pytest.raises(BadArtifact) as caught:
        check_program(program)

    assert str(caught.value).startswith("transform.json")
    assert said in str(caught.value)


@pytest.mark.parametrize("program", [None, [], {}, "x", 1])
def test_a_document_that_is_no_program_is_refused(program: object) -> None:
    with pytest.raises(BadArtifact, match=r"transform\.json"):
        check_program(program)
