"""Findings as cases of the corpus, ready to be pasted into it, and the corpus as the fuzzers' first inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from tests.corpus_cases import Request
from tests.corpus_format import load_corpus

GROUPS = {"text/csv": "csv", "application/json": "json", "application/jsonlines": "lines"}


def bodies(stage: str, longest: int) -> list[Request]:
    """The corpus's requests to /invocations of a stage, with bodies that are not too long, each once."""
    found = {
        (tuple(sorted(request.headers.items())), request.body): request
        for case in load_corpus()
        for request in [case.request]
        if stage in case.stages and not request.raw and request.path == "/invocations" and request.method == "POST"
        if case.contract == "abalone" and request.size <= longest
    }
    return list(found.values())


def raw_requests(stage: str, longest: int) -> list[bytes]:
    """The bytes on the wire of the corpus's cases about HTTP, each once."""
    requests = [case.request for case in load_corpus() if case.group in ("http", "media") and stage in case.stages]
    short = [request for request in requests if request.size <= longest]
    return list(dict.fromkeys(request.wire() for request in short))


def with_body(request: Request, body: bytes) -> Request:
    return replace(request, parts=((body, 1),))


def as_case(about: str, stage: str, request: Request) -> str:
    """A block to paste below its rule in the corpus, once its id, name and answer are filled in."""
    media = request.headers.get("Content-Type", "").partition(";")[0]
    group = "http" if request.raw else GROUPS.get(media, "features" if stage == "predictor" else "media")
    lines = [
        f"# tests/corpus/{group}.toml: paste this below the rule that it breaks, or below a new one",
        "[[rule.case]]",
    ]
    lines += [
        'id = "F0"  # the next free number',
        'name = "in-a-few-words"',
        f"about = {quoted(about)}",
        f'stage = "{stage}"',
    ]
    if request.raw:
        lines += [f"request.raw = [{{ {_as_text(request.body, 'text', 'hex')} }}]", "request.ends = true"]
    else:
        lines += [*_headers(request.headers), "request." + _as_text(request.body, "body", "body_hex")]
    return "\n".join([*lines, "answer.status = 400", ""])


def quoted(text: str) -> str:
    """A TOML string. JSON's are, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _headers(headers: Mapping[str, str]) -> list[str]:
    keys = {"Content-Type": "content_type", "Accept": "accept"}
    return [f"request.{keys.get(name, f'headers.{quoted(name)}')} = {quoted(value)}" for name, value in headers.items()]


def _as_text(body: bytes, text: str, binary: str) -> str:
    try:
        return f"{text} = {quoted(body.decode())}"
    except UnicodeDecodeError:
        return f"{binary} = {quoted(body.hex(' '))}"
