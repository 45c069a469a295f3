"""Findings as cases of the corpus, ready to be kept, and the corpus as what the fuzzers begin with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from tests.corpus_cases import Request, load_corpus

GROUPS = {"text/csv": "csv", "application/json": "json", "application/jsonlines": "lines"}


def bodies(stage: str, longest: int) -> list[Request]:
    """The corpus's requests to /invocations of a stage, with bodies that are not too long, each once."""
    found = {
        (tuple(sorted(request.headers.items())), request.body): request
        for case in load_corpus()
        for request in [case.request]
        if stage in case.stages and not request.raw and request.path == "/invocations" and request.method == "POST"
        if sum(len(piece) * times for piece, times in request.parts) <= longest
    }
    return list(found.values())


def raw_requests(stage: str, longest: int) -> list[bytes]:
    """The bytes on the wire of the corpus's cases about HTTP, each once."""
    requests = [case.request for case in load_corpus() if case.group in ("http", "media") and stage in case.stages]
    short = [request for request in requests if sum(len(piece) * times for piece, times in request.parts) <= longest]
    return list(dict.fromkeys(request.wire() for request in short))


def with_body(request: Request, body: bytes) -> Request:
    return replace(request, parts=((body, 1),))


def as_case(about: str, stage: str, request: Request) -> str:
    """A case to be kept, once its answer is filled in. The first line says where."""
    media = request.headers.get("Content-Type", "").partition(";")[0]
    group = "http" if request.raw else GROUPS.get(media, "features" if stage == "predictor" else "media")
    lines = [f"# tests/corpus/{group}/F<number>-<words>.toml", f"about = {quoted(about)}", f'stage = "{stage}"']
    lines += ["", "[request]"]
    if request.raw:
        lines += [f"raw = [ {{ {_as_text(request.body, 'text', 'hex')} }} ]", "ends = true"]
    else:
        lines += [*_headers(request.headers), _as_text(request.body, "body", "body_hex")]
    return "\n".join([*lines, "", "[answer]", "status = 400", ""])


def quoted(text: str) -> str:
    """A TOML string. JSON's are, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _headers(headers: Mapping[str, str]) -> list[str]:
    named = {"content_type": "Content-Type", "accept": "Accept"}
    lines = [f"{key} = {quoted(headers[name])}" for key, name in named.items() if name in headers]
    others = [f"{quoted(name)} = {quoted(value)}" for name, value in headers.items() if name not in named.values()]
    return lines + ([f"headers = {{ {', '.join(others)} }}"] if others else [])


def _as_text(body: bytes, text: str, binary: str) -> str:
    try:
        return f"{text} = {quoted(body.decode())}"
    except UnicodeDecodeError:
        return f"{binary} = {quoted(body.hex(' '))}"
