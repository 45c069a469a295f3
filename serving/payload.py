"""The one idea: a stage is a function from `Payload` to `Payload`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

CSV = "text/csv"
JSON = "application/json"
JSONLINES = "application/jsonlines"
NPY = "application/x-npy"


@dataclass(frozen=True)
class Payload:
    """A body with its content type and the content types its sender accepts, as the HTTP headers say them."""

    body: bytes
    content_type: str = ""
    accept: str = ""


Stage = Callable[[Payload], Payload]


def run_serially(stages: Sequence[Stage], payload: Payload) -> Payload:
    """Feed each stage what the one before it answered.

    Only the last stage sees the client's Accept, as on SageMaker.
    """
    accept = payload.accept
    for stage in stages[:-1]:
        payload = stage(replace(payload, accept=""))
    return stages[-1](replace(payload, accept=accept))
