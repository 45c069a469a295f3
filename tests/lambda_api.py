"""AWS Lambda's runtime API on loopback: it hands out events and takes what is answered."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.datasets import read_answers
from tests.servers import ROOT

EVENTS = {path.stem: path.read_bytes() for path in sorted((ROOT / "tests" / "events").glob("*.json"))}
# Which of them a payload can be put in, by what a payload of it may be.
OF_ROWS = ("direct_rows", "direct_instances", "direct_body", "http_stage")
OF_CSV = ("direct_csv", "direct_base64", "url_csv", "url_npy", "http_csv", "rest_csv", "rest_base64", "rest_npy")
OF_LINES = ("http_jsonlines",)
OLDER = ("direct_older", "rest_mapping")
SHAPES = (*OF_ROWS, *OF_CSV, *OF_LINES, *OLDER)
AS_NPY = ("url_npy", "rest_npy")  # ask for an answer in which there is no text
_VERSION = "/2018-06-01/runtime"
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


@dataclass
class RuntimeApi:
    """`answers`: what was posted, in order: path below the version, headers, and body."""

    address: str = ""
    status: int = 202
    events: queue.Queue[tuple[dict[str, str], bytes] | None] = field(default_factory=queue.Queue)
    answers: queue.Queue[tuple[str, Mapping[str, str], bytes]] = field(default_factory=queue.Queue)
    asked: int = 0

    def invoke(self, event: bytes, **headers: str) -> dict[str, Any]:
        """The response to an event, which must be to this very event, whole, and within the platform's limit."""
        self.asked += 1
        request_id = f"8476a536-e9f4-11e8-9739-{self.asked:012}"
        given = {"Lambda-Runtime-Aws-Request-Id": request_id, "Lambda-Runtime-Deadline-Ms": "1795183999000"}
        self.events.put((given | {name.replace("_", "-"): value for name, value in headers.items()}, event))
        path, _, body = self.answers.get(timeout=60)
        assert path == f"/invocation/{request_id}/response"
        assert len(body) <= MOST
        answer: dict[str, Any] = json.loads(body)
        return answer


@contextlib.contextmanager
def runtime_api() -> Iterator[RuntimeApi]:
    api = RuntimeApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            assert self.path == f"{_VERSION}/invocation/next"
            if (found := api.events.get()) is None:
                self._answer(500, {}, b"")
            else:
                self._answer(200, found[0], found[1])

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            api.answers.put((self.path.removeprefix(_VERSION), dict(self.headers.items()), body))
            self._answer(api.status, {}, b'{"status":"OK"}')

        def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A function that was killed resets its connection."""

    server = Server(("127.0.0.1", 0), Handler)
    api.address = f"127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield api
    finally:
        api.events.put(None)
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Function:
    """`serve` as Lambda starts it, and the API that drives it."""

    api: RuntimeApi
    process: subprocess.Popen[bytes]
    log: Path

    def invoke(self, event: bytes, **headers: str) -> dict[str, Any]:
        return self.api.invoke(event, **headers)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextlib.contextmanager
def function(log: Path, stage: str, env: Mapping[str, str], command: Sequence[str] = ()) -> Iterator[Function]:
    """A function of this checkout, or what `command` starts, in which `{api}` stands for the API's address.

    Its environment has nothing but what Lambda gives. Its log shows a failure.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    with runtime_api() as api, log.open("wb") as output:
        process = subprocess.Popen(
            [word.format(api=api.address) for word in command] or [sys.executable, "-m", "serving", "serve"],
            cwd=ROOT,
            env=clean | {"STAGE": stage, "AWS_LAMBDA_RUNTIME_API": api.address} | env,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Function(api, process, log)
        except BaseException:
            print(f"--- the function said:\n{log.read_text()[-8000:]}")
            raise
        finally:
            process.kill()
            process.wait(10)
