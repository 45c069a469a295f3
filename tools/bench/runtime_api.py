"""Lambda's runtime API on loopback, as much of it as a function of ours asks for: an event out, its answer in."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tools.bench.processes import HOST

_NEXT = "/2018-06-01/runtime/invocation/next"
ANSWERED_WITHIN = 120.0  # seconds


@dataclass
class RuntimeApi:
    """One event at a time."""

    address: str = ""
    events: queue.Queue[bytes | None] = field(default_factory=queue.Queue)
    answers: queue.Queue[bytes] = field(default_factory=queue.Queue)

    def invoke(self, event: bytes) -> bytes:
        """Raises `queue.Empty` when no answer comes."""
        self.events.put(event)
        return self.answers.get(timeout=ANSWERED_WITHIN)


@contextlib.contextmanager
def runtime_api() -> Iterator[RuntimeApi]:
    api = RuntimeApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            event = api.events.get() if self.path == _NEXT else None
            self._answer(404 if event is None else 200, event or b"")

        def do_POST(self) -> None:
            api.answers.put(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(202, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Lambda-Runtime-Aws-Request-Id", "bench")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A function that was removed resets its connection."""

    server = Server((HOST, 0), Handler)
    api.address = f"{HOST}:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield api
    finally:
        api.events.put(None)
        server.shutdown()
        server.server_close()
