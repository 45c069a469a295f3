"""The loopback's port on which Prometheus, and nobody's web page, is told the counts."""

from __future__ import annotations

import contextlib
import http.server
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from serving.prometheus import CONTENT_TYPE

log = logging.getLogger("serving.scrapes")

AT_ONCE = 8  # a thread each: a container has few
PATIENCE = 5  # seconds for a request
_HOST = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]+)?", re.IGNORECASE)


@contextlib.contextmanager
def listen(port: int, tell: Callable[[], str]) -> Iterator[None]:
    """Answer GET /metrics with what `tell` says, until the end of the block. Raises `OSError`."""

    class Handler(_Handler):
        text = staticmethod(tell)

    with _Server(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics port", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401
        self.free = threading.BoundedSemaphore(AT_ONCE)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        if not self.free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread is left in this container
            self.free.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, *_: object) -> None:
        """The library prints a trace, which is no line of our log. Whoever goes away early is no news."""
        if not isinstance(sys.exception(), OSError):
            log.exception("the counts could not be told")


class _Handler(http.server.BaseHTTPRequestHandler):
    """GET /metrics, and nothing else."""

    timeout = PATIENCE
    text: Callable[[], str]
    error_content_type, error_message_format = "text/plain; charset=utf-8", "%(code)d %(message)s\n"

    def do_GET(self) -> None:
        if not _HOST.fullmatch(self.headers.get("Host", "localhost")):
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        if self.path != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        body = self.text().encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, *_: object) -> None:
        """Without a word of what was sent, which the library would repeat."""
        super().send_error(code, "expected GET /metrics, and a Host of this machine")

    def version_string(self) -> str:
        return "metrics"

    def log_message(self, *_: object) -> None:
        """A scrape every few seconds is no news."""
