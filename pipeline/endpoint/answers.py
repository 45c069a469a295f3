"""The answers to several requests as the answer to one."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from pipeline.endpoint.errors import PipelineError
from pipeline.endpoint.payloads import csv_records
from serving.payload import CSV, JSON, JSONLINES, NPY


def media_type(content_type: str) -> str:
    """Without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def count(body: bytes, media: str) -> int | None:
    """How many rows an answer has; None for a type whose rows we cannot tell."""
    if media == CSV:
        return sum(1 for _ in csv_records(io.BytesIO(body)))
    if media == JSONLINES:
        return sum(1 for line in body.split(b"\n") if line.strip())
    if media == JSON:
        return None if (result := _result(body)) is None else len(result)
    return len(_array(body)) if media == NPY else None


def rows(body: bytes, media: str) -> list[bytes]:
    """Each row of an answer as it is written, of CSV and JSON Lines; without line ends."""
    records = csv_records(io.BytesIO(body)) if media == CSV else body.splitlines()
    return [record.rstrip(b"\r\n") for record in records if record.strip()]


def joined(bodies: Iterable[bytes], media: str) -> Iterator[bytes]:
    """The pieces of one answer; an answer alone stays as it is. Raises `PipelineError` for a type unknown to us."""
    waiting = iter(bodies)
    first = next(waiting, b"")
    second = next(waiting, None)
    if second is None:
        yield first
        return
    every = chain([first, second], waiting)
    if media in (CSV, JSONLINES):
        yield from (body if body.endswith(b"\n") else body + b"\n" for body in every)
    elif media == JSON:
        yield from _joined_json(every)
    elif media == NPY:
        yield _joined_arrays(every)
    else:
        raise PipelineError(
            f"answers of type {media or 'unknown'} to several requests cannot be put together",
            f"give --accept {CSV}, {JSONLINES}, {JSON} or {NPY}",
        )


def _joined_json(bodies: Iterable[bytes]) -> Iterator[bytes]:
    separator = b'{"result":['
    for body in bodies:
        if _result(body) is None:
            raise PipelineError(
                f'expected answers of {{"result": [...]}}, got {body[:80]!r}', f"give --accept {JSONLINES} or {CSV}"
            )
        # As it is written: to read a number and write it anew could change it.
        yield separator + body[body.index(b"[") + 1 : body.rindex(b"]")]
        separator = b","
    yield b"]}"


def _result(body: bytes) -> list[object] | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    if isinstance(document, dict) and list(document) == ["result"] and isinstance(document["result"], list):
        return document["result"]
    return None


def _array(body: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    try:
        return np.atleast_1d(np.load(io.BytesIO(body), allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise PipelineError(
            f"expected an answer of type {NPY}, got another: {error}", f"give --accept {CSV}"
        ) from error


def _joined_arrays(bodies: Iterable[bytes]) -> bytes:
    whole = io.BytesIO()
    np.save(whole, np.concatenate([_array(body) for body in bodies]), allow_pickle=False)
    return whole.getvalue()
