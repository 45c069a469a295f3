"""A recording: a file of JSON lines, a request with its answer each. It holds payloads, so only its owner reads it."""

from __future__ import annotations

import base64
import json
import math
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


class CutOff(BadRecording):
    """The last line is not whole: the recorder was killed while it wrote it. All before it was read."""


class Unwritable(Exception):
    """Nothing more can be recorded. The message says why, and how much was."""


@dataclass(frozen=True)
class Asked:
    """A request as a container sees it."""

    content_type: str
    accept: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)  # others of InvokeEndpoint, in small letters


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
    """A recording that is written: each exchange is in the file, whole, before `add` returns."""

    def __init__(self, path: Path, source: str) -> None:
        """Raises `FileExistsError`: what was recorded once is never written over. And other `OSError`s."""
        self.path, self.count, self.failed = path, 0, ""
        self._lock, self._end = threading.Lock(), 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._write({"recording": VERSION, "of": source})

    def add(self, exchange: Exchange) -> None:
        """Raises `Unwritable`, then and for every exchange that follows."""
        asked, answered = exchange.asked, exchange.answered
        request: dict[str, Any] = {"content_type": asked.content_type, "accept": asked.accept, **_packed(asked.body)}
        if asked.headers:
            request["headers"] = dict(asked.headers)
        answer = {"status": answered.status, "content_type": answered.content_type, **_packed(answered.body)}
        if answered.ms is not None:
            answer["ms"] = round(answered.ms, 3)
        with self._lock:
            if not self.failed:
                try:
                    self._write({"id": exchange.id, "request": request, "answer": answer})
                    self.count += 1
                    return
                except OSError as error:
                    self.failed = f"{self.path}: {error.strerror}; {counted(self.count)} are recorded in it"
            raise Unwritable(self.failed)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file. A recording of nothing is removed."""
        os.close(self._file)
        if not self.count:
            self.path.unlink(missing_ok=True)

    def _write(self, line: Mapping[str, Any]) -> None:
        """All of the line or, on a full disk, nothing of it."""
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError:
            os.ftruncate(self._file, self._end)
            os.lseek(self._file, self._end, os.SEEK_SET)
            raise
        self._end += written


def counted(requests: int) -> str:
    return f"{requests} request{'' if requests == 1 else 's'}"


def read(path: Path) -> Iterator[Exchange]:
    """The exchanges of a recording, in their order. Raises `BadRecording`, `CutOff` at the end, and `OSError`."""
    with path.open("rb") as file:
        head = _object(path, 1, file.readline())
        if head.get("recording") != VERSION:
            raise BadRecording(
                f'{path}: expected a recording, whose first line is {{"recording": {VERSION}, ...}}, '
                f"got {cut(str(head), 64)}"
            )
        for number, line in enumerate(file, 2):
            if not line.endswith(b"\n"):
                raise CutOff(f"{path}, line {number}: cut off, and left out")
            whole = _object(path, number, line)
            try:
                request, answer = whole["request"], whole["answer"]
                asked = Asked(
                    str(request["content_type"]),
                    str(request["accept"]),
                    _unpacked(request),
                    {str(name): str(value) for name, value in request.get("headers", {}).items()},
                )
                ms = None if answer.get("ms") is None else float(answer["ms"])
                if ms is not None and not 0 < ms < math.inf:
                    raise ValueError(f"{ms} ms")
                answered = Answered(int(answer["status"]), str(answer["content_type"]), _unpacked(answer), ms)
                yield Exchange(str(whole["id"]), asked, answered)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise BadRecording(f"{path}, line {number}: expected a request with its answer, {error!r}") from error


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        whole = json.loads(line)
    except (ValueError, RecursionError) as error:
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
