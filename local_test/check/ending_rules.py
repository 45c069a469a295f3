"""How it ends."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from http.client import HTTPException, HTTPResponse

from local_test.check.calls import HOST
from local_test.check.case import Case, Seen, doubtful, fine, wrong
from local_test.check.subject import Situation

GRACE = 30.0  # seconds from SIGTERM to SIGKILL
KILLED = 128 + 9


def sigterm(case: Case) -> Seen:
    """Half of a request's body has arrived when SIGTERM comes, so that it is under way for sure."""
    case.hosted()
    content_type = case.asking.content_type or "text/csv"
    body = case.asking.body or b"1,2,3\n"
    with case.subject.start(Situation(case.port + 6)) as running:
        case.wait_until_healthy(running)
        usual = case.ask(running, {"Content-Type": content_type}, body).status
        with socket.create_connection((HOST, running.port), timeout=GRACE) as client:
            head = f"POST /invocations HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {content_type}\r\n"
            half = len(body) // 2
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:half])
            time.sleep(0.3)
            ends: list[int | None] = []
            began = time.monotonic()
            ending = threading.Thread(target=lambda: ends.append(running.terminate(GRACE)))
            ending.start()
            time.sleep(0.5)
            status = _finish(client, body[half:])
        ending.join()
        seconds = time.monotonic() - began
    code = ends[0]
    if code is None or code == KILLED:
        return wrong(f"still running {GRACE:.0f} s after SIGTERM")
    if status != usual:
        got = f"answered with {status} instead of {usual}" if status else "lost"
        return wrong(f"the request that was under way was {got}")
    said = f"exit code {code} after {seconds:.1f} s, and the request under way was answered with {status}"
    return fine(said) if code == 0 else doubtful(said)


def _finish(client: socket.socket, rest: bytes) -> int:
    """Send the rest and read the answer's status; 0 for none."""
    with contextlib.suppress(OSError, HTTPException):
        client.sendall(rest)
        response = HTTPResponse(client)
        response.begin()
        response.read()
        return response.status
    return 0


EXAMINED = {"sigterm": sigterm}
