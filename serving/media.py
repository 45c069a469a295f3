"""Media types and content negotiation, as RFC 9110 has them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from serving.errors import NotAcceptable, UnsupportedMediaType, cut
from serving.payload import JSONLINES, NPY

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*+(?:"|\\?$)'  # one that is not closed goes to the end
_TYPE = re.compile(rf"\s*({_WORD}/{_WORD}|\*)\s*(;|$)")
_PARAMETER = re.compile(rf'\s*({_WORD})=({_WORD}|"(?:[^"\\]|\\.)*+")\s*')
# separators within quotes separate nothing
_PARAMETERS, _RANGES = (re.compile(rf'(?:[^{mark}"]++|{_QUOTED})++', re.DOTALL) for mark in ";,")
# `.2` and a lone `*` are none of RFC 9110, and what Java sends unless told otherwise
_QVALUE = re.compile(r"0(\.[0-9]{0,3})?|\.[0-9]{1,3}|1(\.0{0,3})?")
_CHARSETS = {"utf-8", "utf8", "us-ascii", "ascii"}
_ALIASES = {
    "application/x-jsonlines": JSONLINES, "application/x-ndjson": JSONLINES, "application/jsonl": JSONLINES, "*": "*/*",
}  # fmt: skip


@dataclass(frozen=True)
class MediaType:
    """A media type in lower case, with its parameters; their names in lower case too."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_media_type(text: str) -> MediaType | None:
    """Read a header such as `Text/CSV; charset="UTF-8"`; None when it names no type. Junk parameters are dropped."""
    if not (found := _TYPE.match(text)):
        return None
    parameters: dict[str, str] = {}
    for part in _PARAMETERS.findall(text, found.end()):
        if pair := _PARAMETER.fullmatch(part):
            parameters.setdefault(pair[1].lower(), _unquoted(pair[2]))
    return MediaType(found[1].lower(), parameters)


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


@lru_cache(256)
def content_type(text: str, supported: tuple[str, ...]) -> MediaType:
    """The payload's media type, aliases resolved. Raises `UnsupportedMediaType` (415) listing what is supported."""
    media = parse_media_type(text)
    name = _ALIASES.get(media.name, media.name) if media else ""
    if media is None or name not in supported:
        came = f"got {cut(text)}" if text else "got no Content-Type"
        raise UnsupportedMediaType(f"expected Content-Type {' or '.join(supported)}, {came}")
    charset = media.parameters.get("charset") or "utf-8"
    if name != NPY and charset.lower() not in _CHARSETS:  # NPY is no text
        raise UnsupportedMediaType(f"expected charset utf-8, got {cut(charset)}", code="unsupported_charset")
    return MediaType(name, media.parameters)


def preferred(offered: Sequence[str], default: str) -> tuple[str, ...]:
    """The offered types, the container's default first. Raises `ValueError` when the default is not offered."""
    if not default:
        return tuple(offered)
    media = parse_media_type(default)
    name = _ALIASES.get(media.name, media.name) if media else default
    if name not in offered:
        raise ValueError(f"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT: expected one of {', '.join(offered)}, got {default!r}")
    return (name, *(other for other in offered if other != name))


@lru_cache(256)
def negotiate(accept: str, offered: tuple[str, ...]) -> MediaType:
    """Choose the answer's media type: highest q-value, then the order of `offered`.

    Its parameters are those of the range that allowed it. A missing or wholly malformed Accept takes the first one
    offered. Raises `NotAcceptable` (406).
    """
    ranges = _read_accept(accept)
    if not ranges:
        return MediaType(offered[0])
    best, best_quality = None, 0.0
    for name in offered:
        quality, parameters = _quality(name, ranges)
        if quality > best_quality:
            best, best_quality = MediaType(name, parameters), quality
    if best is None:
        raise NotAcceptable(f"expected Accept to allow {' or '.join(offered)}, got {cut(accept)}")
    return best


_Range = tuple[float, Mapping[str, str]]  # q-value and parameters


def _read_accept(accept: str) -> dict[str, _Range]:
    """Of a type that is named several times, with different parameters, the most wanted."""
    ranges: dict[str, _Range] = {}
    for part in _RANGES.findall(accept):
        media = parse_media_type(part)
        quality = media.parameters.get("q", "1") if media else ""
        if media and _QVALUE.fullmatch(quality):
            name = _ALIASES.get(media.name, media.name)
            if name not in ranges or float(quality) > ranges[name][0]:
                ranges[name] = float(quality), media.parameters
    return ranges


def _quality(name: str, ranges: Mapping[str, _Range]) -> _Range:
    """The most specific range that matches decides."""
    for pattern in (name, name.partition("/")[0] + "/*", "*/*"):
        if pattern in ranges:
            return ranges[pattern]
    return 0.0, {}
