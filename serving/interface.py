"""What a stage takes and gives, as a caller may ask for it: the contract, and the container's OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.contract import Column, ColumnType, Contract, LabelPlace
from serving.payload import CSV, JSON, JSONLINES, NPY
from serving.settings import Settings

_REFUSALS = {
    "400": "the payload breaks the contract; `row` and `column` say where",
    "406": "Accept allows nothing that this stage writes",
    "408": "the body did not come in time",
    "409": "features of another training run",
    "413": "the body, or the answer, is too large",
    "415": "the content type is none of those listed, or the body is compressed",
    "500": "the server's own fault",
    "503": "not ready, or stopping",
}


@dataclass(frozen=True)
class Interface:
    """A stage's contract, the columns it reads, and the media types it takes and gives, its default first."""

    contract: Contract
    reads: Sequence[Column]
    accepted: Sequence[str]
    offered: Sequence[str]

    def describe(self, settings: Settings) -> dict[str, Any]:
        """The contract, with what this container makes of it."""
        return {
            "reads": [column.name for column in self.reads],
            "accepts": list(self.accepted),
            "answers": list(self.offered),
            "max_body_bytes": settings.max_body,
            "labelled_rows": self._place.value,
            "contract": json.loads(self.contract.to_json()),
        }

    def openapi(self, settings: Settings) -> dict[str, Any]:
        """The container's paths as an OpenAPI 3.1 document."""
        invocations = {
            "summary": "One answer for each row, in order; or a refusal and nothing.",
            "requestBody": {
                "required": True,
                "description": f"At most {settings.max_body} bytes.",
                "content": {media: {"schema": self._rows(media)} for media in self.accepted},
            },
            "responses": {
                "200": {
                    "description": "answers",
                    "content": {media: {"schema": _ANSWERS[media]} for media in self.offered},
                }
            }
            | {status: _refusal(text) for status, text in _REFUSALS.items()},
        }
        return {
            "openapi": "3.1.0",
            "info": {"title": f"{settings.stage} of {self.contract.dataset}", "version": self.contract.hash[:12]},
            "paths": {
                "/invocations": {"post": invocations},
                "/ping": {"get": {"responses": {"200": {"description": "ready"}, "503": _refusal("not ready")}}},
                **{path: {"get": _document(text)} for path, text in _DOCUMENTS.items()},
            },
            "components": {"schemas": {"Error": _ERROR}},
        }

    @property
    def _label(self) -> Column | None:
        """The label, which may be among a row's columns: not among features."""
        return self.contract.label if list(self.reads) == list(self.contract.inputs) else None

    @property
    def _place(self) -> LabelPlace:
        return self.contract.labelled_rows if self._label else LabelPlace.NONE

    def _rows(self, media: str) -> dict[str, Any]:
        cells = [_cell(column) for column in self.reads]
        label = {self._label.name: {"description": "the label, which is not read"}} if self._label else {}
        lists = [_list(cells)]
        if self._label and self._place is not LabelPlace.NONE:
            at = 0 if self._place is LabelPlace.FIRST else len(cells)
            lists.append(_list([*cells[:at], _label_cell(self._label), *cells[at:]]))
        record = {
            "type": "object",
            "properties": dict(zip((column.name for column in self.reads), cells, strict=True)) | label,
            "required": [column.name for column in self.reads],
            "additionalProperties": False,
        }
        rows = [{"type": "array", "minItems": 1, "items": row} for row in (*lists, record)]
        several = {
            "type": "object",
            "properties": {"instances": {"oneOf": rows}},
            "required": ["instances"],
            "additionalProperties": False,
        }
        if media == JSON:
            return {"oneOf": [several, *rows, *lists, record]}
        if media == NPY:
            return {"type": "string", "format": "binary"}
        return {"type": "string", "description": self._lines(media)}

    def _lines(self, media: str) -> str:
        if media == JSONLINES:
            return "a row, in JSON, a line"
        labelled = (
            f", and {self._place} of them {self._label.name} or not" if self._label and self._place != "none" else ""
        )
        return "rows of " + ",".join(column.name for column in self.reads) + labelled


def _list(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"type": "array", "prefixItems": list(cells), "minItems": len(cells), "maxItems": len(cells)}


def _label_cell(label: Column) -> dict[str, Any]:
    if label.categories:
        return {"enum": list(label.categories), "description": label.name}
    limits = dict(zip(("minimum", "maximum"), label.range, strict=False))
    return {"type": "integer" if label.whole else "number", "description": label.name} | limits


def _cell(column: Column) -> dict[str, Any]:
    kind = "string" if column.type is ColumnType.CATEGORICAL else "number"
    examples = {"examples": list(column.categories)} if column.categories else {}
    return {"type": "integer" if column.whole else [kind, "null"], "description": column.name} | examples


def _refusal(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": text, "content": {JSON: {"schema": schema}}}


def _document(text: str) -> dict[str, Any]:
    return {"responses": {"200": {"description": text, "content": {JSON: {"schema": {"type": "object"}}}}}}


_DOCUMENTS = {
    "/contract": "what this container expects",
    "/openapi.json": "this document",
    "/execution-parameters": "what Batch Transform asks",
}
_ANSWERS: dict[str, dict[str, Any]] = {
    CSV: {"type": "string"},
    JSON: {"type": "object"},
    JSONLINES: {"type": "string"},
    NPY: {"type": "string", "format": "binary"},
}
_ERROR = {
    "type": "object",
    "required": ["code", "message", "request_id"],
    "properties": {
        "code": {"type": "string"},
        "message": {"type": "string"},
        "request_id": {"type": "string"},
        "row": {"type": "integer", "minimum": 1},
        "column": {"type": "string"},
    },
}
