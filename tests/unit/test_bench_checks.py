"""The benchmark measures nobody whose answers are not those of the libraries, in whatever way they are wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from featurizer.model import Featurizer
from pipeline.model import Pipeline
from predictor.model import Predictor
from serving.errors import ServingError
from serving.payload import Payload as Asked
from serving.payload import Stage
from serving.settings import Settings
from tools.bench.check import WrongAnswer, check
from tools.bench.contenders import FLOOR, OURS, SAMPLE, SINGLE, STAGES, constant_of
from tools.bench.processes import Payload
from tools.bench.rounds import _check_all
from tools.bench.truth import Truth

Post = Callable[[Payload], tuple[int, Payload]]


@dataclass(frozen=True)
class InProcess:
    """A container as the benchmark asks it, without a server."""

    name: str
    post: Post


def of_stage(stage: Stage) -> Post:
    def answer(payload: Payload) -> tuple[int, Payload]:
        try:
            answered = stage(Asked(payload.body, payload.content_type, payload.accept))
        except ServingError as error:
            return error.status, Payload(error.message.encode(), "text/plain")
        return 200, Payload(answered.body, answered.content_type)

    return answer


def of_payload(payload: Payload) -> Post:
    return lambda _payload: (200, payload)


@pytest.fixture(scope="module")
def truth(artifacts: Path) -> Any:
    """What the libraries say, computed once for a body."""
    loaded = Truth.load(artifacts)
    return SimpleNamespace(
        body=loaded.body, features=cache(loaded.features), predictions=loaded.predictions, contract=loaded.contract
    )


@pytest.fixture(scope="module")
def right(artifacts: Path) -> dict[str, Post]:
    """What each container answers that is right."""
    loaded = (
        Featurizer.load(artifacts / "featurizer" / "model"),
        Predictor.load(artifacts / "predictor" / "model"),
        Pipeline.load(Settings(model_dir=artifacts)),
    )
    return {name: of_stage(stage) for name, stage in zip((*STAGES, SINGLE), loaded, strict=True)}


def containers(
    posts: dict[str, Post], wrong: str = "", change: Callable[[Post], Post] = lambda post: post
) -> list[Any]:
    """Both containers or the single one, of which one is wrong."""
    names = (SINGLE,) if wrong == SINGLE else STAGES
    return [InProcess(name, change(posts[name]) if name == wrong else posts[name]) for name in names]


def altered(change: Callable[[Any], Any]) -> Callable[[Post], Post]:
    """Answers whose numbers are changed, in the format that they came in."""

    def changed(post: Post) -> Post:
        def answer(payload: Payload) -> tuple[int, Payload]:
            status, right = post(payload)
            if right.content_type.startswith("application/x-npy"):
                body = io.BytesIO()
                np.save(body, change(np.load(io.BytesIO(right.body))))
                return status, replace(right, body=body.getvalue())
            if right.content_type.startswith("text/csv"):
                numbers = change(np.array([line.split(",") for line in right.body.decode().split()], dtype=np.float32))
                lines = (",".join(map(str, row)) for row in numbers)
                return status, replace(right, body="".join(f"{line}\n" for line in lines).encode())
            numbers = change(np.array(json.loads(right.body)["result"], dtype=np.float32))
            return status, replace(right, body=json.dumps({"result": numbers.tolist()}).encode())

        return answer

    return changed


def in_many_rows(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda numbers: change(numbers) if len(numbers) > 1 else numbers


def last_bit(numbers: Any) -> Any:
    changed = numbers.copy()
    changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(np.inf))
    return changed


def answering(status: int, body: bytes) -> Callable[[Post], Post]:
    return lambda post: lambda payload: (status, replace(post(payload)[1], body=body))


def unreachable(_post: Post) -> Post:
    def refuse(_payload: Payload) -> tuple[int, Payload]:
        raise ConnectionRefusedError

    return refuse


WRONG: dict[str, tuple[Callable[[Post], Post], str]] = {
    "a bit": (altered(last_bit), "as the libraries compute them, got others"),
    "a bit of many rows": (altered(in_many_rows(last_bit)), "as the libraries compute them, got others"),
    "a row too few": (altered(in_many_rows(lambda numbers: numbers[:-1])), "as the libraries compute them, got others"),
    "rows in another order": (altered(lambda numbers: numbers[::-1] + 0), "as the libraries compute them, got others"),
    "a failure": (answering(500, b"out of memory"), "expected 200, got 500: out of memory"),
    "no numbers": (answering(200, b"<html>"), "expected numbers as"),
    "nothing": (answering(200, b""), "expected"),
    "no answer": (unreachable, r"expected an answer, got ConnectionRefusedError\(\)"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("stage", [*STAGES, SINGLE])
def test_a_wrong_answer_is_found(truth: Any, right: dict[str, Post], stage: str, kind: str) -> None:
    change, reason = WRONG[kind]
    check(OURS, containers(right, SINGLE if stage == SINGLE else ""), truth, (1, 7))

    with pytest.raises(WrongAnswer, match=reason):
        check(OURS, containers(right, stage, change), truth, (1, 7))


@pytest.mark.parametrize("stage", [*STAGES, SINGLE])
def test_a_contender_of_constant_answers_gives_these_and_no_others(truth: Any, stage: str) -> None:
    constant = {name: of_payload(constant_of(name, truth)) for name in (*STAGES, SINGLE)}
    check(FLOOR, containers(constant, SINGLE if stage == SINGLE else ""), truth, (1, 7))

    with pytest.raises(WrongAnswer, match=f"{stage}: expected its constant as the libraries compute them"):
        check(FLOOR, containers(constant, stage, answering(200, b"{}")), truth, ())


@pytest.mark.parametrize("stage", STAGES)
def test_answers_of_the_sample_may_be_a_little_off_and_no_more(truth: Any, right: dict[str, Post], stage: str) -> None:
    def off(by: float) -> Callable[[Post], Post]:
        return altered(lambda numbers: numbers * np.float32(1 + by))

    check(SAMPLE, containers(right, "predictor", off(1e-6)), truth, (1, 7))

    with pytest.raises(WrongAnswer, match=f"{stage}: expected the .* as the libraries compute them, got others"):
        check(SAMPLE, containers(right, stage, off(1e-4)), truth, (1, 7))


def test_every_contender_is_looked_at(truth: Any, right: dict[str, Post]) -> None:
    contenders = [replace(OURS, name=name) for name in ("first", "last")]
    pairs: Any = {"first": containers(right), "last": containers(right, "predictor", altered(last_bit))}

    with pytest.raises(WrongAnswer, match="predictor: expected the predictions of 1 rows"):
        _check_all(SimpleNamespace(truth=truth), contenders, pairs, (1,))
