"""A recording: a file of JSON lines, a request with its answer each. It holds payloads, so only its owner reads it."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.errors import cut

VERSION = 1


class BadRecording(Exception):
    """A file that is no recording. The message names the line, what was expected and what came."""


@dataclass(frozen=True)
class Asked:
    """A request as a container sees it."""

    content_type: str
    accept: str
    body: bytes
    attributes: str = ""  # of X-Amzn-SageMaker-Custom-Attributes


@dataclass(frozen=True)
class Answered:
    """What came back, refusals included. `ms`: until its last byte; None where nobody measured it."""

    status: int
    content_type: str
    body: bytes
    ms: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)  # not kept in the file


@dataclass(frozen=True)
class Exchange:
    id: str
    asked: Asked
    answered: Answered


class Recording:
    """A recording that is written: each exchange is in the file before `add` returns."""

    def __init__(self, path: Path, source: str) -> None:
        """Raises `FileExistsError`: what was recorded once is never written over."""
        self.path, self.count = path, 0
        self._lock = threading.Lock()
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")
        self._write({"recording": VERSION, "of": source})

    def add(self, exchange: Exchange) -> None:
        asked, answered = exchange.asked, exchange.answered
        request = {"content_type": asked.content_type, "accept": asked.accept, **_packed(asked.body)}
        if asked.attributes:
            request["attributes"] = asked.attributes
        answer = {"status": answered.status, "content_type": answered.content_type, **_packed(answered.body)}
        if answered.ms is not None:
            answer["ms"] = round(answered.ms, 3)
        with self._lock:
            self._write({"id": exchange.id, "request": request, "answer": answer})
            self.count += 1

    def close(self) -> None:
        self._file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()


def read(path: Path) -> Iterator[Exchange]:
    """The exchanges of a recording, in their order. Raises `BadRecording` and `OSError`."""
    with path.open("rb") as file:
        head = _object(path, 1, file.readline())
        if head.get("recording") != VERSION:
            raise BadRecording(
                f'{path}: expected a recording, whose first line is {{"recording": {VERSION}, ...}}, '
                f"got {cut(str(head), 64)}"
            )
        for number, line in enumerate(file, 2):
            whole = _object(path, number, line)
            try:
                request, answer = whole["request"], whole["answer"]
                asked = Asked(
                    str(request["content_type"]),
                    str(request["accept"]),
                    _unpacked(request),
                    str(request.get("attributes", "")),
                )
                ms = None if answer.get("ms") is None else float(answer["ms"])
                answered = Answered(int(answer["status"]), str(answer["content_type"]), _unpacked(answer), ms)
                yield Exchange(str(whole["id"]), asked, answered)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise BadRecording(f"{path}, line {number}: expected a request with its answer, {error!r}") from error


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        whole = json.loads(line)
    except ValueError as error:
        raise BadRecording(f"{path}, line {number}: expected JSON, {error}") from error
    if not isinstance(whole, dict):
        raise BadRecording(f"{path}, line {number}: expected a JSON object, got {cut(str(whole), 64)}")
    return whole


def _packed(body: bytes) -> dict[str, str]:
    """Text as it is, so that people can read and edit it; other bytes in base64."""
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


def _unpacked(side: Mapping[str, Any]) -> bytes:
    if "body_base64" in side:
        return base64.b64decode(side["body_base64"], validate=True)
    return str(side["body"]).encode()
