"""Functions as AWS Lambda runs them, and the events that they get."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.datasets import read_answers
from tests.servers import ROOT, started, written_lines
from tools.bench.runtime_api import RuntimeApi, runtime_api

EVENTS = {path.stem: path.read_bytes() for path in sorted((ROOT / "tests" / "events").glob("*.json"))}
# Which of them a payload can be put in, by what a payload of it may be.
OF_ROWS = ("direct_rows", "direct_instances", "direct_body", "http_stage")
OF_CSV = ("direct_csv", "direct_base64", "url_csv", "url_npy", "http_csv", "rest_csv", "rest_base64", "rest_npy")
OF_LINES = ("http_jsonlines",)
OLDER = ("direct_older", "rest_mapping")
SHAPES = (*OF_ROWS, *OF_CSV, *OF_LINES, *OLDER)
AS_NPY = ("url_npy", "rest_npy")  # ask for an answer in which there is no text
_OURS = ("SAGEMAKER_", "SM_", "MODEL_SERVER_", "PORT", "STAGE", "MAX_CONTENT_LENGTH", "LOG_LEVEL", "AWS_")
MOST = 6 * 1024 * 1024 + 100  # bytes that the platform takes


def with_rows(name: str, rows: Sequence[Sequence[Any]]) -> bytes:
    """The event with these rows instead of its own; None is a missing cell."""
    event = json.loads(EVENTS[name])
    text = _as_csv(rows)
    written = {
        "direct_rows": rows,
        "direct_instances": {"instances": rows},
        "direct_older": {"response_content_type": "application/json", "pred_x_csv": text},
    }
    if name in written:
        return json.dumps(written[name]).encode()
    if name in OLDER:
        text = json.dumps(json.loads(event["body"]) | {"pred_x_csv": text})
    elif name in OF_ROWS:
        text = json.dumps({"instances": rows})
    elif name in OF_LINES:
        text = "\n".join(map(json.dumps, rows))
    encoded = event.get("isBase64Encoded")
    return json.dumps(event | {"body": base64.b64encode(text.encode()).decode() if encoded else text}).encode()


def _as_csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().removesuffix("\n")


def unpacked(envelope: Mapping[str, Any]) -> tuple[bytes, str]:
    """The body that an envelope brings, and its media type."""
    assert envelope["statusCode"] == 200, envelope
    body = envelope["body"]
    content = base64.b64decode(body) if envelope["isBase64Encoded"] else body.encode()
    return content, envelope["headers"]["Content-Type"]


def predictions(envelope: Mapping[str, Any], rows: int = 1) -> NDArray[np.float32]:
    """The numbers that an envelope brings, in whatever format."""
    return np.asarray(read_answers(*unpacked(envelope), rows), dtype=np.float32)


@dataclass(frozen=True)
class Function:
    """`serve` as Lambda starts it, and the API that drives it."""

    api: RuntimeApi
    process: subprocess.Popen[bytes]
    log: Path

    def invoke(self, event: bytes, **headers: str) -> dict[str, Any]:
        """The response to an event, which must be to this very event, whole, and within the platform's limit."""
        body = self.api.invoke(event, **headers)
        assert len(body) <= MOST
        answer: dict[str, Any] = json.loads(body)
        return answer

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in written_lines(self.log, self.process)]


@contextlib.contextmanager
def function(log: Path, stage: str, env: Mapping[str, str], command: Sequence[str] = ()) -> Iterator[Function]:
    """A function of this checkout, or what `command` starts, in which `{api}` stands for the API's address.

    Its environment has nothing but what Lambda gives. Its log shows a failure.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(runtime_api())
        function = started(
            [word.format(api=api.address) for word in command] or [sys.executable, "-m", "serving", "serve"],
            env=clean | {"STAGE": stage, "AWS_LAMBDA_RUNTIME_API": api.address} | env,
            stdout=stack.enter_context(log.open("wb")),
            stderr=subprocess.STDOUT,
        )
        process = stack.enter_context(function)
        try:
            yield Function(api, process, log)
        except BaseException:
            print(f"--- the function said:\n{log.read_text()[-8000:]}")
            raise
