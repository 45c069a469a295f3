"""AWS Lambda's runtime API on loopback: it hands out events and takes what is answered. The tests use it, too."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tools.bench.processes import HOST

_VERSION = "/2018-06-01/runtime"
ANSWERED_WITHIN = 120.0  # seconds


@dataclass
class RuntimeApi:
    """`answers`: what was posted, in order: path below the version, headers, and body. `status`: what that is given."""

    address: str = ""
    status: int = 202
    events: queue.Queue[tuple[dict[str, str], bytes] | None] = field(default_factory=queue.Queue)
    answers: queue.Queue[tuple[str, Mapping[str, str], bytes]] = field(default_factory=queue.Queue)
    asked: int = 0

    def invoke(self, event: bytes, **headers: str) -> bytes:
        """The response to an event. Raises `ValueError` when it is to another, `queue.Empty` when none comes."""
        self.asked += 1
        request_id = f"8476a536-e9f4-11e8-9739-{self.asked:012}"
        given = {"Lambda-Runtime-Aws-Request-Id": request_id, "Lambda-Runtime-Deadline-Ms": "1795183999000"}
        self.events.put((given | {name.replace("_", "-"): value for name, value in headers.items()}, event))
        path, _, body = self.answers.get(timeout=ANSWERED_WITHIN)
        if path != f"/invocation/{request_id}/response":
            raise ValueError(f"expected the response to {request_id}, got {path}: {body[:1000]!r}")
        return body


@contextlib.contextmanager
def runtime_api() -> Iterator[RuntimeApi]:
    server = _Server((HOST, 0), _Handler)
    api = server.api
    api.address = f"{HOST}:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield api
    finally:
        api.events.put(None)
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401
        self.api = RuntimeApi()
        super().__init__(*arguments)

    def handle_error(self, *_: object) -> None:
        """A function that was killed resets its connection."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path != f"{_VERSION}/invocation/next":
            self._answer(404, {}, b"")
        elif (found := self.server.api.events.get()) is None:
            self._answer(500, {}, b"")
        else:
            self._answer(200, *found)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.api.answers.put((self.path.removeprefix(_VERSION), dict(self.headers.items()), body))
        self._answer(self.server.api.status, {}, b'{"status":"OK"}')

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
