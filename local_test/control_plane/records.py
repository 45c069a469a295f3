"""Batch Transform's records: an object taken apart into payloads, and the answers put together again."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence

MIB = 1024 * 1024


class BadObject(Exception):
    """An input object that cannot be made into payloads. The message says why."""


def unpack(data: bytes, compression: str) -> bytes:
    """An object's content as its CompressionType has it: None or Gzip. Raises `BadObject`."""
    if compression != "Gzip":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise BadObject(f"expected gzip, as CompressionType says: {error}") from error


def split(data: bytes, split_type: str) -> list[bytes]:
    """An object's records, newlines included: joined they are the object again. One record when SplitType is None.

    Only a line feed ends a line, so a quoted one splits a CSV record in two, as on the platform.
    """
    if split_type != "Line":
        return [data] if data else []
    lines = data.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def pack(records: Iterable[bytes], strategy: str, most: int) -> Iterator[list[bytes]]:
    """The records of each payload: one with SingleRecord, as many as fit into `most` bytes with MultiRecord.

    With `most` 0 there is no limit. Raises `BadObject` for a record that fits into no payload.
    """
    group: list[bytes] = []
    size = 0
    for record in records:
        if most and len(record) > most:
            raise BadObject(f"a record of {len(record)} bytes does not fit into MaxPayloadInMB, {most} bytes")
        if group and (strategy == "SingleRecord" or (most and size + len(record) > most)):
            yield group
            group, size = [], 0
        group.append(record)
        size += len(record)
    if group:
        yield group


def assemble(answers: Sequence[bytes], assemble_with: str) -> bytes:
    """The content of the `.out` object.

    Line puts a newline after each answer, also after one that ends in a newline already: nothing that AWS says lets
    it look into a body. So a model whose batch answers end in a newline is used with None, or has blank lines.
    """
    end = b"\n" if assemble_with == "Line" else b""
    return b"".join(answer + end for answer in answers)
