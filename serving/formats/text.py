"""Bytes to text, strictly."""

from __future__ import annotations

from serving.errors import BadPayload


def decode(body: bytes) -> str:
    """UTF-8 without its byte order mark. Raises `BadPayload` for another encoding, a NUL, or no text."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadPayload(f"expected UTF-8, got a wrong byte at offset {error.start}", code="bad_encoding") from error
    if "\0" in text:
        raise BadPayload(f"expected text, got a NUL at character {text.index(chr(0)) + 1}", code="nul_byte")
    if not text or text.isspace():
        raise BadPayload("expected at least one row, got an empty body", code="empty_body")
    if text.startswith("\ufeff"):
        raise BadPayload("expected one byte order mark at most, got two", code="bad_encoding")
    return text
