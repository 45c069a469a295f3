"""Requests with the answers they are owed, computed in this process before any fault."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featurizer.model import Featurizer
from predictor.model import Predictor
from serving.errors import ServingError
from serving.payload import CSV, JSON, NPY, Payload, Stage


@dataclass(frozen=True)
class Question:
    """A request and its right answer. Of a refusal the code counts: its text holds the request's id."""

    body: bytes
    content_type: str
    accept: str
    status: int
    answer: bytes
    code: str = ""

    def is_right(self, status: int, body: bytes, request_id: str) -> bool:
        if status != self.status:
            return False
        if not self.code:
            return body == self.answer
        told = json.loads(body)
        return bool(told["code"] == self.code and told["request_id"] == request_id)


def ask(stage: Stage, body: bytes, content_type: str = CSV, accept: str = CSV) -> Question:
    """The question, with what the stage answers here."""
    try:
        answer = stage(Payload(body, content_type, accept))
    except ServingError as error:
        return Question(body, content_type, accept, error.status, b"", error.code)
    return Question(body, content_type, accept, 200, answer.body)


def raw_rows(count: int, first: int = 0) -> Iterator[bytes]:
    """Abalone rows, no two alike: their features differ, so an answer that reaches another caller is seen."""
    for number in range(first, first + count):
        sex = "MFI"[number % 3]
        yield f"{sex},{0.2 + number * 1e-6:.6f},0.365,0.095,0.514,0.2245,0.101,0.15\n".encode()


def featurizer(artifacts: Path) -> Featurizer:
    return Featurizer.load(artifacts / "featurizer" / "model", max_rows=200_000)


def unique_rows(artifacts: Path, count: int) -> list[Question]:
    """One-row requests to the featurizer."""
    stage = featurizer(artifacts)
    return [ask(stage, row) for row in raw_rows(count)]


def echoes(word: str, count: int) -> list[Question]:
    """Requests to the tests' stage that does what the body's first words say and answers the body."""
    bodies = [f"{word} {number}".encode() for number in range(count)]
    return [Question(body, "text/plain", "*/*", 200, body) for body in bodies]


def of_featurizer(artifacts: Path, count: int) -> list[Question]:
    """What a featurizer gets in a day: mostly sound rows, one or many, and one request in a hundred that is not."""
    stage = featurizer(artifacts)
    rows = list(raw_rows(count))
    sound = [ask(stage, row) for row in rows]
    sound += [ask(stage, b"".join(rows[at : at + 100]), CSV, NPY) for at in range(0, min(count, 2000), 100)]
    sound += [ask(stage, json.dumps([row.decode().strip().split(",")]).encode(), JSON, JSON) for row in rows[:100]]
    return _mixed(sound, list(_unsound(stage, rows[0])))


def of_predictor(artifacts: Path, count: int) -> list[Question]:
    """The same for a predictor: features as text and as NPY."""
    first, stage = featurizer(artifacts), Predictor.load(artifacts / "predictor" / "model")
    features = [first(Payload(row, CSV, CSV)).body for row in raw_rows(count)]
    sound = [ask(stage, body, CSV, JSON) for body in features]
    many = [b"".join(features[at : at + 100]) for at in range(0, min(count, 2000), 100)]
    sound += [ask(stage, _npy(body), NPY, CSV) for body in many]
    return _mixed(sound, list(_unsound(stage, features[0])))


def _unsound(stage: Stage, row: bytes) -> Iterator[Question]:
    bodies: Sequence[tuple[bytes, str]] = (
        (b"", CSV), (b"\n\n", CSV), (row.strip() + b",1,2,3\n", CSV), (row.replace(b"0.", b"x.", 1), CSV),
        (b"{", JSON), (b"[[1, 2]]", JSON), (b"\x93NUMPY\x01\x00", NPY), (row, "text/html"),
        (row, "text/csv; charset=ebcdic"),
    )  # fmt: skip
    for body, content_type in bodies:
        question = ask(stage, body, content_type)
        if question.code:
            yield question


def _mixed(sound: list[Question], unsound: list[Question]) -> list[Question]:
    """In one order for all runs: one in a hundred is unsound."""
    mixed = sound + list(itertools.islice(itertools.cycle(unsound), max(1, len(sound) // 100)))
    random.Random(0).shuffle(mixed)  # noqa: S311 - an order, no secret
    return mixed


def _npy(rows: bytes) -> bytes:
    from serving.formats.npy import write_npy

    table = [[float(cell) for cell in line.split(b",")] for line in rows.splitlines()]
    return write_npy(np.asarray(table, dtype=np.float32))


Questions = Callable[[Path, int], list[Question]]
