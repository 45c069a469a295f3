"""What the booster computed, as the caller asked for it: scores, labels or probabilities, in any of the formats."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from serving.contract import Contract, Task
from serving.errors import NotAcceptable, cut
from serving.formats.csv import quote, write_csv
from serving.formats.npy import write_npy
from serving.payload import CSV, JSON, NPY


class Output(StrEnum):
    """`score` is what the booster computes: a number, the second class's probability, or each class's."""

    SCORE = "score"
    LABEL = "label"
    PROBABILITIES = "probabilities"


def choose(name: str, media: str, contract: Contract) -> Output:
    """The output by its name. Raises `NotAcceptable` (406) when this model has none such, or not in that format."""
    offered = [Output.SCORE] if contract.task is Task.REGRESSION else list(Output)
    if not classes_of(contract) and Output.LABEL in offered:
        offered.remove(Output.LABEL)
    if name not in offered:
        expected = f"output={' or output='.join(offered)} of a {contract.task.value} model"
        raise NotAcceptable(f"expected {expected}, got output={cut(name)}")
    if name == Output.LABEL and media == NPY:
        raise NotAcceptable(f"expected a text format for output=label, got {NPY}")
    return Output(name)


def classes_of(contract: Contract) -> tuple[str, ...]:
    """The names of a classification's classes, in the order of the booster's numbers."""
    return contract.label.categories if contract.label else ()


def numbers_a_row(output: Output, contract: Contract) -> int:
    """How many numbers a row of the answer has at least; labels are none."""
    if output is Output.LABEL:
        return 0
    several = contract.task is Task.MULTICLASS or output is Output.PROBABILITIES
    return max(1, len(classes_of(contract))) if several else 1


def select(scores: NDArray[np.float32], output: Output, contract: Contract) -> NDArray[np.float32] | list[str]:
    """Scores (one a row, or rows x classes), or what follows from them: probabilities rows x classes, or labels."""
    if output is Output.SCORE:
        return scores
    probabilities = np.column_stack([1 - scores, scores]) if scores.ndim == 1 else scores
    if output is Output.PROBABILITIES:
        return probabilities
    classes = classes_of(contract)
    return [classes[index] for index in probabilities.argmax(axis=1)]


def write(answers: NDArray[np.float32] | list[str], media: str) -> bytes:
    """Labels as text; numbers in the shortest text that reads back to the same float32, or as NPY."""
    return _write_labels(answers, media) if isinstance(answers, list) else write_predictions(answers, media)


def write_predictions(predictions: NDArray[np.float32], media: str) -> bytes:
    if media == NPY:
        return write_npy(predictions)
    numbers = orjson.dumps(np.ascontiguousarray(predictions), option=orjson.OPT_SERIALIZE_NUMPY)
    if media == JSON:
        return b'{"result":' + numbers + b"}"
    rows = numbers if predictions.ndim == 2 else b"[" + numbers.replace(b",", b"],[") + b"]"
    if media == CSV:
        return write_csv(rows)
    separator = b"],[" if predictions.ndim == 2 else b","
    return _write_lines(numbers[1:-1].replace(separator, separator.replace(b",", b"\n")).split(b"\n"))


def _write_labels(labels: list[str], media: str) -> bytes:
    if media == JSON:
        return orjson.dumps({"result": labels})
    if media == CSV:
        return "".join(f"{quote(label)}\n" for label in labels).encode()
    return _write_lines(list(map(orjson.dumps, labels)))


def _write_lines(values: list[Any]) -> bytes:
    return b'{"result":' + b'}\n{"result":'.join(values) + b"}\n"
