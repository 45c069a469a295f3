"""Bytes to text, strictly."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from serving.errors import BadPayload, PayloadTooLarge

BLOCK = 1 << 18  # characters that are taken apart at a time


def decode(body: bytes) -> str:
    """UTF-8 without its byte order mark. Raises `BadPayload` for another encoding, a NUL, or no text."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        offset = error.start + (len(codecs.BOM_UTF8) if body.startswith(codecs.BOM_UTF8) else 0)
        gzip = body.startswith(b"\x1f\x8b")  # a router that drops Content-Encoding leaves no other sign of it
        got = "gzip: send the body uncompressed" if gzip else f"a wrong byte at offset {offset}"
        raise BadPayload(f"expected UTF-8, got {got}", code="bad_encoding") from error
    if "\0" in text:
        raise BadPayload(f"expected text, got a NUL at character {text.index(chr(0)) + 1}", code="nul_byte")
    if not text or text.isspace():
        raise BadPayload("expected at least one row, got an empty body", code="empty_body")
    if text.startswith("\ufeff"):
        raise BadPayload("expected one byte order mark at most, got two", code="bad_encoding")
    return text


def decode_lines(body: bytes) -> str:
    """Text whose lines end with LF, the last one with nothing. Not splitlines(): it would break at U+2028 too."""
    text = decode(body)
    return (text.replace("\r\n", "\n") if "\r" in text else text).rstrip("\n")


def check_rows(rows: int, most: int) -> None:
    """Rows cost time, however few bytes they have. Raises `PayloadTooLarge` (413); `most` 0 is no limit."""
    if most and rows > most:
        message = f"expected at most {most} rows in a request, got {rows}: send them in several"
        raise PayloadTooLarge(message, code="too_many_rows")


def text_blocks(text: str, start: int = 0, most: int = 0) -> Iterator[tuple[int, str]]:
    """The lines from `start` on, block by block, so that what is wrong is found before the rest costs anything.

    Yields the number of a block's first line, counted from 1, and the block without its last newline. Raises
    `PayloadTooLarge` (413) for more lines than `most`, after the first block, which may be no rows; 0 is no limit.
    """
    number = 1
    while start < len(text):
        end = line_end(text, start + BLOCK)
        block = text[start:end]
        following = number + block.count("\n") + 1
        yield number, block
        if most and number == 1:
            check_rows(text.count("\n", start) + 1, most)
        number, start = following, end + 1


def line_end(text: str, start: int) -> int:
    found = text.find("\n", start)
    return len(text) if found < 0 else found
