"""The JSON request of AWS's older samples of one model on App Runner, ECS and Lambda, for all rows of it.

They take `{"response_content_type": "...", "pred_x_csv": "CSV"}` and answer the first row's prediction: as text, or as
`{"Predicted value": "..."}`.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from featurizer.records import ACCEPTED
from serving.errors import BadPayload, NotAcceptable, cut
from serving.formats.document import parse
from serving.formats.text import decode
from serving.media import content_type
from serving.payload import CSV, JSON, Payload

ROWS, ANSWER = "pred_x_csv", "response_content_type"
TEXT = "text/plain"


@dataclass(frozen=True)
class OlderRequest:
    """Rows as CSV within JSON. `media`: what the answer is."""

    rows: str
    media: str = JSON

    @classmethod
    def read(cls, payload: Payload) -> OlderRequest | None:
        """None for any other request. Raises `ServingError` for one of this kind that is wrong."""
        if f'"{ROWS}"'.encode() not in payload.body or content_type(payload.content_type, ACCEPTED).name != JSON:
            return None
        document = parse(decode(payload.body))
        if not isinstance(document, dict) or ROWS not in document or not document.keys() <= {ROWS, ANSWER}:
            return None  # rows of a data set that has such a column
        rows, answer = document[ROWS], document.get(ANSWER) or JSON
        if not isinstance(rows, str):
            raise BadPayload(f"expected {ROWS} to be a string of CSV", code="json_shape")
        if answer not in (JSON, TEXT):
            raise NotAcceptable(f"expected {ANSWER} {JSON} or {TEXT}, got {cut(answer)}")
        return cls(rows, answer)

    @property
    def payload(self) -> Payload:
        return Payload(self.rows.encode(), CSV, CSV)

    def answer(self, predictions: Payload) -> Payload:
        """A line a row, in one string: of a single row it is what the samples answer."""
        text = predictions.body.decode().rstrip("\n")
        if self.media == TEXT:
            return Payload(text.encode(), f"{TEXT}; charset=utf-8")
        return Payload(orjson.dumps({"Predicted value": text}), JSON)
