"""What DataProcessing does with each record: InputFilter, JoinSource and OutputFilter, in AWS's part of JSONPath."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CSV = "text/csv"
MEDIA = (CSV, "application/json", "application/jsonlines")
OUTPUT, INPUT = "SageMakerOutput", "SageMakerInput"
# A name after a dot; in brackets: names, numbers, a slice or a star. `.[` is the same as `[`.
_STEP = re.compile(
    r"\.(?P<name>[^.\[\]*'\s]+)"
    r"|\.(?P<any>\*)"
    r"|\.?\[\s*(?:(?P<star>\*)"
    r"|(?P<names>'[^']*'(?:\s*,\s*'[^']*')*)"
    r"|(?P<numbers>-?\d+(?:\s*,\s*-?\d+)*)"
    r"|(?P<start>-?\d+)?:(?P<stop>-?\d+)?)\s*\]"
)
# A CSV column as it stands, quotes included.
_COLUMN = re.compile(rb'(?:^|,)((?:"(?:[^"]|"")*")?[^,]*)')

Json = Any
_Step = Callable[[Json], Json]


class FilterError(Exception):
    """An expression that is no JSONPath of AWS's kind, or data that it does not fit. The message says why."""


@dataclass(frozen=True)
class Path:
    """A JSONPath. `steps`: each with whether it gives many values, which the next one then takes one by one."""

    text: str
    steps: tuple[tuple[_Step, bool], ...]
    by_index: bool  # no step has a name, so that it can choose columns of CSV

    def of(self, value: Json) -> Json:
        """What it chooses of a document. Raises `FilterError` when that is not there."""
        return self._apply(value, 0)

    def _apply(self, value: Json, position: int) -> Json:
        if position == len(self.steps):
            return value
        step, many = self.steps[position]
        try:
            found = step(value)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise FilterError(f"{self.text} chooses what is not there") from error
        if many:
            return [self._apply(one, position + 1) for one in found]
        return self._apply(found, position + 1)


def parse(text: str) -> Path:
    """A filter. Raises `FilterError`."""
    if not text.startswith("$"):
        raise FilterError(f"expected a JSONPath that begins with $, got {text!r}")
    steps: list[tuple[_Step, bool]] = []
    by_index = True
    at = 1
    while at < len(text):
        if not (found := _STEP.match(text, at)):
            raise FilterError(f"expected a JSONPath, got {text!r}: {text[at:]!r} is not supported")
        if found["names"] and "," in found["names"] and found.end() < len(text):
            raise FilterError(f"expected nothing after several names, got {text!r}")
        steps.append(_step(found))
        by_index = by_index and not (found["name"] or found["names"])
        at = found.end()
    return Path(text, tuple(steps), by_index and len(steps) <= 1)


def _step(found: re.Match[str]) -> tuple[_Step, bool]:
    if name := found["name"]:
        return (lambda value: _object(value)[name]), False
    if found["any"] or found["star"]:
        return (lambda value: list(value.values()) if isinstance(value, dict) else list(_array(value))), True
    if found["names"]:
        names = re.findall(r"'([^']*)'", found["names"])
        if len(names) == 1:
            return (lambda value: _object(value)[names[0]]), False
        return (lambda value: {name: _object(value)[name] for name in names}), False
    if found["numbers"]:
        numbers = [int(number) for number in found["numbers"].split(",")]
        if len(numbers) == 1:
            return (lambda value: _array(value)[numbers[0]]), False
        return (lambda value: [_array(value)[number] for number in numbers]), True
    # The end is not taken, as in JSONPath and in AWS's examples ("$[0:-1]" drops a last column); one sentence of AWS's
    # guide says that it is.
    start, stop = (int(part) if part else None for part in (found["start"], found["stop"]))
    return (lambda value: _array(value)[start:stop]), True


def _object(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise TypeError(value)
    return value


def _array(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise TypeError(value)
    return value


@dataclass(frozen=True)
class Processing:
    """The DataProcessing of a job, and the media types of its input and output."""

    input_filter: Path
    output_filter: Path
    join: bool
    content_type: str
    accept: str

    @property
    def looks_into_answers(self) -> bool:
        return self.join or bool(self.output_filter.steps)

    def sent(self, record: bytes) -> bytes:
        """What the model gets of a record. Raises `FilterError`."""
        return _filtered(record, self.input_filter, self.content_type)

    def kept(self, record: bytes, answer: bytes) -> bytes:
        """What is written of a record's answer, both without a newline. Raises `FilterError`."""
        joined = _joined(record, answer, self.content_type) if self.join else answer
        return _filtered(joined, self.output_filter, self.accept or self.content_type)

    def written(self, records: Sequence[bytes], body: bytes, *, by_line: bool) -> bytes:
        """What is written of a payload's answer. Raises `FilterError`."""
        if not self.looks_into_answers:
            return body
        answers = body.removesuffix(b"\n").split(b"\n") if by_line else [body]
        if len(answers) != len(records):
            hint = "; is the first record a header, which has no answer?" if len(answers) == len(records) - 1 else ""
            message = f"expected an answer of {len(records)} lines, one for each record, got {len(answers)}"
            raise FilterError(message + hint)
        kept = (self.kept(_bare(record), _bare(answer)) for record, answer in zip(records, answers, strict=True))
        return b"\n".join(kept)


def _bare(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _filtered(record: bytes, path: Path, media: str) -> bytes:
    if not path.steps:
        return record
    line = _bare(record)
    end = record[len(line) :]
    if _media(media) == CSV:
        chosen = path.of([column.group(1) for column in _COLUMN.finditer(line)])
        return b",".join(chosen if isinstance(chosen, list) else [chosen]) + end
    return _dumped(path.of(_loaded(line))) + end


def _joined(record: bytes, answer: bytes, media: str) -> bytes:
    if _media(media) == CSV:
        return record + b"," + answer
    given = _loaded(record)
    whole = given if isinstance(given, dict) else {INPUT: given}
    return _dumped(whole | {OUTPUT: _loaded(answer)})


def _loaded(text: bytes) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FilterError(f"expected JSON: {error}") from error


def _dumped(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def processing(asked: Mapping[str, Any], content_type: str, accept: str) -> Processing:
    """What a DataProcessing of the API means. Raises `FilterError` for what AWS refuses."""
    first, last = parse(asked.get("InputFilter") or "$"), parse(asked.get("OutputFilter") or "$")
    join = asked.get("JoinSource", "None") == "Input"
    if join and content_type != accept:
        raise FilterError(
            f"JoinSource Input requires ContentType and Accept to be the same, got {content_type!r} and {accept!r}."
        )
    if join or first.steps:
        _check("ContentType", content_type, first)
    if join or last.steps:
        _check("Accept", accept or content_type, last)
    return Processing(first, last, join, content_type, accept)


def _check(name: str, given: str, path: Path) -> None:
    if (media := _media(given)) not in MEDIA:
        raise FilterError(f"DataProcessing requires {name} to be one of {', '.join(MEDIA)}, got {given!r}.")
    if media == CSV and not path.by_index:
        raise FilterError(f"Columns of {CSV} are chosen by index, as $[1:] does, got {path.text!r}.")


def _media(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
