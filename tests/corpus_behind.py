"""The requests of the corpus once more, with good rows before theirs.

Large bodies are read by other code than small ones: CSV as a grid above some thousand characters, a JSON list in
pieces, JSON Lines in blocks. A wrong row must get the same refusal there, in its place, and a good one its answer.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from tests.corpus_cases import Case, Request

LONGEST = 1 << 16  # bytes of a body: longer ones are about their size
GOOD: Mapping[str, Mapping[str, str | float]] = {
    "featurizer": {
        "sex": "M", "length": 0.455, "diameter": 0.365, "height": 0.095,
        "whole_weight": 0.514, "shucked_weight": 0.2245, "viscera_weight": 0.101, "shell_weight": 0.15,
    },
    "predictor": {
        "length": -0.6, "diameter": -0.4, "height": -1.1, "whole_weight": -0.6, "shucked_weight": -0.6,
        "viscera_weight": -0.7, "shell_weight": -0.6, "sex_F": 0, "sex_I": 0, "sex_M": 1,
    },
}  # fmt: skip
LABEL = {"featurizer": {"rings": 15}, "predictor": {}}
_ROWS = re.compile(r'\s*(?:\{\s*"instances"\s*:\s*)?\[\s*(?=[\[{])')


# why a case is not put behind other rows, besides the reason that it gives itself
EXCLUDED: Mapping[str, Callable[[Case], bool]] = {
    "not about rows": lambda case: case.group not in ("csv", "json", "lines", "features"),
    "another contract, whose good rows are not known here": lambda case: case.contract != "abalone",
    "settings of its own": lambda case: bool(case.env),
    "about its size": lambda case: case.request.size > LONGEST or case.answer["status"] == 413,
    "about a header or type": lambda case: case.answer["status"] in (406, 409, 415),
    "about a body without rows": lambda case: case.answer.get("code") == "empty_body",
    "NPY, whose header says how many rows there are": lambda case: media_of(case.request) == "application/x-npy",
    "no rows of this format": lambda case: _split(case.request, case.stages[0]) is None,
}


def excluded(case: Case) -> str:
    """The reason why a case is not put behind other rows; nothing when it is."""
    return case.alone or next((reason for reason, holds in EXCLUDED.items() if holds(case)), "")


def behind(request: Request, stage: str, count: int) -> Request:
    """The request with so many good rows before its own, which are of the same shape."""
    split = _split(request, stage)
    assert split, "expected a body of rows"
    before, row, after = split
    return replace(request, parts=((before, 1), (row, count), (after, 1)))


def among(request: Request, stage: str, count: int) -> Request:
    """The request, which is answered, with so many good rows before its own, and as many after them."""
    split = _split(request, stage)
    assert split, "expected a body of rows"
    before, row, after = split
    if media_of(request) == "application/json":
        end = after.rindex(b"]")  # of the list of rows, whatever else closes
        more = ((after[:end], 1), (b"," + row.removesuffix(b","), count), (after[end:], 1))
    else:
        more = ((after.rstrip(b"\r\n") + b"\n", 1), (row, count), (b"", 1))
    return replace(request, parts=((before, 1), (row, count), *more))


def row_size(request: Request, stage: str) -> int:
    """Bytes of each good row that `behind` puts before the request's."""
    split = _split(request, stage)
    return len(split[1]) if split else 0


def media_of(request: Request) -> str:
    return request.headers.get("Content-Type", "").lower().partition(";")[0].strip()


def _split(request: Request, stage: str) -> tuple[bytes, bytes, bytes] | None:
    """The bytes before the good rows, one of these with its separator, and the bytes after them."""
    media, content_type = media_of(request), request.headers.get("Content-Type", "").lower()
    text = request.body.decode("utf-8", "surrogateescape")
    mark, text = ("\ufeff", text[1:]) if text.startswith("\ufeff") else ("", text)
    pieces: tuple[str, str, str] | None
    if media == "text/csv":
        header = re.search(r"header=(\w+)", content_type)
        pieces = _split_csv(text, stage, header[1] if header else "")
    elif media == "application/json":
        pieces = _split_json(text, stage)
    else:
        pieces = ("", _json_row(_decoded(text.partition("\n")[0], 0), text, stage) + "\n", text)
    if not pieces:
        return None
    before, row, after = pieces
    return (mark + before).encode(), row.encode(), after.encode("utf-8", "surrogateescape")


def _split_csv(text: str, stage: str, header: str) -> tuple[str, str, str] | None:
    good, known = GOOD[stage], GOOD[stage] | LABEL[stage]
    first, newline, rest = text.partition("\n")
    try:
        cells = next(csv.reader([first.rstrip("\r")]), [])
    except csv.Error:
        cells = []
    if header == "present" or (not header and 2 * len(set(cells) & good.keys()) > len(cells)):
        row = ",".join(str(known.get(name, 1)) for name in cells)
        return (first + newline, row + "\n", rest) if rest else None
    values = known if len(cells) == len(known) else good
    return "", ",".join(map(str, values.values())) + "\n", text


def _split_json(text: str, stage: str) -> tuple[str, str, str] | None:
    if match := _ROWS.match(text):
        row = _json_row(_decoded(text, match.end()), text[match.end() :], stage)
        return text[: match.end()], row + ",", text[match.end() :]
    document = _decoded(text, len(text) - len(text.lstrip()))
    if isinstance(document, dict) and (not document or "instances" in document or _is_wrapper(document)):
        return None
    if document == [] or not text.lstrip().startswith(("[", "{")):
        return None
    return "[", _json_row(document, text.lstrip(), stage) + ",", text + "]"


def _decoded(text: str, start: int) -> object:
    """The JSON value that begins there; the text's beginning where there is none."""
    try:
        return json.JSONDecoder().raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        return text[start:]


def _is_wrapper(document: Mapping[str, object]) -> bool:
    return document.keys() != {"features"} and all(isinstance(value, list | dict) for value in document.values())


def _json_row(first: object, text: str, stage: str) -> str:
    """A good row of the shape of a body's first one."""
    good, known = GOOD[stage], GOOD[stage] | LABEL[stage]
    if isinstance(first, dict) and first.keys() == {"features"} and isinstance(first["features"], list):
        return json.dumps({"features": _values(first["features"], good, known)})
    if isinstance(first, str) and text.startswith('{"features"'):
        return json.dumps({"features": list(good.values())})
    if isinstance(first, dict) or (isinstance(first, str) and text.startswith("{")):
        return json.dumps(good)
    return json.dumps(_values(first, good, known))


def _values(like: object, good: Mapping[str, str | float], known: Mapping[str, str | float]) -> list[str | float]:
    return list((known if isinstance(like, list) and len(like) == len(known) else good).values())
