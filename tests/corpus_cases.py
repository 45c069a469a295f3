"""The corpus: requests with the answers that they are owed, and why. How they are sent and judged."""

from __future__ import annotations

import contextlib
import io
import re
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from flask.testing import FlaskClient

from tests.pace import least_cost
from tests.servers import Answer

LEVELS = ("application", "gunicorn", "nginx", "router")
GROUPS = ("http", "media", "csv", "json", "lines", "features")
LONGEST_REFUSAL = 2048  # bytes: SageMaker shortens what is longer
PATIENCE = 60  # seconds without a byte
CPU_SECONDS = 2.0  # what any body up to the limit may cost the application, of an ordinary core

OF_REFUSALS = ("code", "row", "column", "says")
OF_ANSWERS = ("content_type", "rows", "same_as", "body", "ends_with_one_newline")

Part = tuple[bytes, int]  # bytes, and how many times


@dataclass(frozen=True)
class Request:
    """A request. `raw`: the very bytes on the wire, instead of a request made of the other fields."""

    method: str = "POST"
    path: str = "/invocations"
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    raw: bool = False
    ends: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(piece * times for piece, times in self.parts)

    @property
    def size(self) -> int:
        """Bytes of the body, which is not put together for it."""
        return sum(len(piece) * times for piece, times in self.parts)

    @property
    def unfinished(self) -> bool:
        """True for a raw request whose Content-Length promises more than is sent."""
        head, _, body = self.body.partition(b"\r\n\r\n") if self.raw else (b"", b"", b"")
        length = re.search(rb"\nContent-Length: ([0-9]+)\r", head)
        return length is not None and int(length[1]) > len(body)

    def wire(self) -> bytes:
        if self.raw:
            return self.body
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: localhost", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        body = self.body
        if body or self.method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Expected:
    """The first response as it must be. An empty field is not looked at.

    `status` 0 is a connection closed without an answer. `cpu_seconds` of the process, and `memory_mb` that Python and
    numpy allocate at most, the request's body not among them, are looked at where the application is asked in-process.
    """

    status: int
    code: str = ""
    row: int = 0
    column: str = ""
    says: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    rows: int = 0
    same_as: str = ""
    body: str | None = None
    ends_with_one_newline: bool = False
    responses: int = 1
    cpu_seconds: float = CPU_SECONDS
    memory_mb: int = 0


@dataclass(frozen=True)
class Case:
    """One request. `overrides`: by level, the answer's keys that are rightly others there. `only`: where it is asked.

    `rule` is the id of its rule and `why` the reason for its answer. `contract` names the data set whose model
    answers. `alone`: why the answer differs when good rows stand before it.
    """

    group: str
    rule: str
    name: str
    about: str
    why: str
    contract: str
    stages: tuple[str, ...]
    env: Mapping[str, str]
    request: Request
    answer: Mapping[str, Any]
    overrides: Mapping[str, Mapping[str, Any]]
    only: tuple[str, ...] = LEVELS
    alone: str = ""

    def __str__(self) -> str:
        return f"{self.group}/{self.name}"

    @property
    def id(self) -> str:
        """Its rule's id, or its own where it was found later."""
        return self.name.partition("-")[0]

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels at which the case is replayed.

        A case about HTTP meets the router only if it has a table for it. Settings mean the same with nginx and
        without, and each costs another server: without a table for it, none is started but the one with nginx.
        """
        skipped = {"application"} if self.request.raw else set()
        if self.request.raw or self.group == "http":
            skipped |= {"router"} - set(self.overrides)
        if self.env:
            skipped |= {"gunicorn", "router"} - set(self.overrides)
        return tuple(level for level in self.only if level not in skipped)

    @property
    def waits(self) -> bool:
        """True where a timeout of the server ends the exchange: it waits for the rest of the request."""
        closed = any(answer.get("status") == 0 for answer in (self.answer, *self.overrides.values()))
        return self.request.unfinished or (self.request.raw and not self.request.ends and closed)

    def expected(self, level: str) -> Expected:
        """The answer that a level owes. Where it refuses what the others answer, it owes nothing of their answer."""
        override = {key: value for key, value in self.overrides.get(level, {}).items() if key != "why"}
        owed = {**self.answer, **override}
        lapsed = OF_ANSWERS if owed["status"] >= 400 else OF_REFUSALS
        lists = {name: tuple(owed[name]) for name in ("says", "silent") if name in owed}
        return Expected(**{key: value for key, value in {**owed, **lists}.items() if key not in lapsed})


@dataclass(frozen=True)
class Rule:
    """A reason, with the cases that it explains. `test`: the test that holds what no single request shows."""

    id: str
    group: str
    why: str
    cases: tuple[Case, ...] = ()
    test: str = ""

    @property
    def other_ids(self) -> set[str]:
        """The ids of cases that were found later and belong to this rule."""
        return {case.id for case in self.cases} - {self.id}


@dataclass(frozen=True)
class Reply:
    """The complete responses that came back on a connection, and the bytes after them.

    `cpu_seconds`: what it cost this process, where the application was asked within it.
    """

    responses: tuple[Answer, ...]
    rest: bytes = b""
    cpu_seconds: float = 0.0


Ask = Callable[[Request, int], Reply]  # the int: how many responses are waited for


# --- sending


def in_process(client: FlaskClient) -> Ask:
    """Ask a Flask application without a server."""

    def ask(request: Request, _wanted: int) -> Reply:
        headers = {name: value.encode().decode("latin-1") for name, value in request.headers.items()}
        body = request.body
        begun = time.process_time()
        response = client.open(request.path, method=request.method, data=body, headers=headers)
        seconds = time.process_time() - begun
        answer = Answer(response.status_code, dict(response.headers), response.data)
        return Reply((answer,), cpu_seconds=seconds)

    return ask


def over_tcp(port: int) -> Ask:
    """Ask whoever listens there, each request on a connection of its own."""

    def ask(request: Request, wanted: int) -> Reply:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
            with contextlib.suppress(ConnectionError):  # refused before all was sent: the answer is there to be read
                connection.sendall(request.wire())
                if request.ends:
                    connection.shutdown(socket.SHUT_WR)
            return _read_reply(connection, head=request.method == "HEAD", wanted=wanted)

    return ask


def _read_reply(connection: socket.socket, *, head: bool, wanted: int) -> Reply:
    """Read until the server closes. Once all that is wanted has come, say that nothing more is sent."""
    received = b""
    reply = Reply(())
    while chunk := _receive(connection, received):
        received += chunk
        if len(reply.responses) < wanted and len((reply := split_responses(received, head=head)).responses) >= wanted:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
    return split_responses(received, head=head, closed=True)


def _receive(connection: socket.socket, before: bytes) -> bytes:
    try:
        return connection.recv(1 << 20)
    except ConnectionError:
        return b""
    except TimeoutError:
        raise AssertionError(f"neither answered nor closed within {PATIENCE} s; came: {before[:200]!r}") from None


def split_responses(received: bytes, *, head: bool = False, closed: bool = False) -> Reply:
    """The complete responses in what was received. Interim ones (1xx) do not count."""
    responses: list[Answer] = []
    while b"\r\n\r\n" in received and received.startswith(b"HTTP/1."):
        top, _, after = received.partition(b"\r\n\r\n")
        first, *lines = top.decode("latin-1").split("\r\n")
        status, headers = int(first.split()[1]), dict(line.split(": ", 1) for line in lines)
        length = _length(status, headers, head=head)
        if length is None and not closed:
            break
        if length is not None and len(after) < length:
            break
        received = b"" if length is None else after[length:]
        if status >= 200:
            responses.append(Answer(status, headers, after if length is None else after[:length]))
    return Reply(tuple(responses), received)


def _length(status: int, headers: Mapping[str, str], *, head: bool) -> int | None:
    """Bytes of a response's body; None when it lasts until the connection closes."""
    if head or status < 200 or status in (204, 304):
        return 0
    named = {name.lower(): value for name, value in headers.items()}
    assert "transfer-encoding" not in named, f"our answers have a length, this one has {named}"
    return int(named["content-length"]) if "content-length" in named else None


# --- judging


def replay(ask: Ask, case: Case, level: str) -> None:
    """Send a case and compare the answer. Raises `AssertionError` with what was expected and what came."""
    __tracebackhide__ = True
    expected = case.expected(level)
    measure = level == "application"
    reply = measured(ask, case.request, expected) if measure else ask(case.request, expected.responses)
    if level == "router" and "status" not in case.overrides.get(level, {}):
        reply = from_behind_the_router(reply, its_own="router" in case.overrides)
    check(reply, expected, head=case.request.method == "HEAD")
    if expected.same_as:
        check_same(reply, ask(plain_csv(expected.same_as, case.request.headers.get("Accept")), 1))


def from_behind_the_router(reply: Reply, *, its_own: bool) -> Reply:
    """A container's refusal out of the model error that the router makes of it; `its_own`: it may refuse itself."""
    __tracebackhide__ = True
    if not reply.responses or reply.responses[0].status < 400:
        return reply
    first = reply.responses[0]
    if first.status != 424:
        assert its_own, f"expected 424 with the container's refusal inside, got {shown(first)}"
        return reply
    error = first.json
    original = error["OriginalStatusCode"]
    side = "CLIENT" if 400 <= original < 500 else "SERVER"
    assert error["ErrorCode"] == f"{side}_ERROR_FROM_MODEL", f"expected the error of the {side}, got {shown(first)}"
    inner = Answer(original, {**first.headers, "Content-Length": ""}, error["OriginalMessage"].encode())
    return replace(reply, responses=(inner, *reply.responses[1:]))


def plain_csv(body: str, accept: str | None) -> Request:
    headers = {"Content-Type": "text/csv"} | ({"Accept": accept} if accept is not None else {})
    return Request(headers=headers, parts=((body.encode(), 1),))


def check(reply: Reply, expected: Expected, *, head: bool = False) -> None:
    """Raises `AssertionError` when the reply is not the expected one."""
    __tracebackhide__ = True
    assert not reply.rest, f"expected complete responses, got {len(reply.responses)} and {reply.rest[:300]!r}"
    if not reply.responses:
        assert expected.status == 0, f"expected {expected.status}, got a connection closed without an answer"
        return
    first = reply.responses[0]
    owed = f"{expected.status} {expected.code}".strip() if expected.status else "a closed connection"
    assert first.status == expected.status, f"expected {owed}, got {shown(first)}"
    got = len(reply.responses)
    assert got == expected.responses, f"expected {expected.responses} responses, got {got}, the last {shown(first)}"
    _check_everywhere(first, expected)
    if first.status >= 400 and not head:
        _check_refusal(first, expected)
    elif first.status < 400:
        _check_answer(first, expected)


def check_same(reply: Reply, other: Reply) -> None:
    __tracebackhide__ = True
    one, two = reply.responses[0], other.responses[0]
    assert two.status == 200, f"expected 200 for same_as, got {shown(two)}"
    assert one.body == two.body, f"expected the answer of same_as, {shown(two)}; got {shown(one)}"


def measured(ask: Ask, request: Request, expected: Expected) -> Reply:
    """Ask in-process, and hold the CPU time and the memory to their bounds."""
    __tracebackhide__ = True
    whole = replace(request, parts=((request.body, 1),))  # put together here, so that it counts for nothing
    with allocations(counted=expected.memory_mb > 0) as most:
        reply = ask(whole, 1)
        megabytes = most() / 1e6
    seconds = reply.cpu_seconds
    if seconds > expected.cpu_seconds:
        seconds = least_cost(lambda: ask(whole, 1).cpu_seconds, expected.cpu_seconds)
    assert seconds <= expected.cpu_seconds, f"expected {expected.cpu_seconds} s of CPU at most, got {seconds:.3f}"
    if expected.memory_mb:
        assert megabytes <= expected.memory_mb, f"expected {expected.memory_mb} MB at most, got {megabytes:.1f}"
    return reply


@contextlib.contextmanager
def allocations(*, counted: bool) -> Iterator[Callable[[], int]]:
    """Gives the bytes that Python and numpy have allocated at most at once; 0 where they are not counted."""
    if not counted:
        yield lambda: 0
        return
    tracemalloc.start(1)
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def count_rows(answer: Answer) -> int:
    """Rows of an answer of any type that the stages offer."""
    media = _media(answer)
    if media == "application/x-npy":
        return int(np.load(io.BytesIO(answer.body), allow_pickle=False).shape[0])
    if media == "application/json":
        document = answer.json
        return len(document["result"] if "result" in document else document["instances"])
    return len(answer.body.splitlines())


def shown(answer: Answer) -> str:
    body = answer.body if len(answer.body) <= 300 else answer.body[:300] + b"..."
    return f"{answer.status} {answer.content_type} {body!r}"


def header(answer: Answer, name: str) -> str:
    return next((value for key, value in answer.headers.items() if key.lower() == name.lower()), "")


def _media(answer: Answer) -> str:
    return header(answer, "Content-Type").partition(";")[0].strip()


def _check_everywhere(answer: Answer, expected: Expected) -> None:
    __tracebackhide__ = True
    for name, value in expected.headers.items():
        assert header(answer, name) == value, f"expected {name}: {value}, got {header(answer, name)!r}"
    whole = f"{answer.headers}\n{answer.body.decode('utf-8', 'replace')}"
    for text in expected.silent:
        assert text not in whole, f"expected nothing of {text!r}, got {shown(answer)}"


def _check_refusal(answer: Answer, expected: Expected) -> None:
    __tracebackhide__ = True
    assert _media(answer) == "application/json", f"expected a refusal in JSON, got {shown(answer)}"
    assert len(answer.body) < LONGEST_REFUSAL, f"expected a refusal below {LONGEST_REFUSAL} bytes, got {shown(answer)}"
    error = answer.json
    if "Message" in error:  # the router's own, in the words of SageMaker's runtime, which has no codes
        error = {"code": expected.code or "none", "message": error["Message"]}
    assert error.get("code"), f"expected a code, got {shown(answer)}"
    assert error.get("message"), f"expected a message, got {shown(answer)}"
    wanted = {"code": expected.code, "row": expected.row, "column": expected.column}
    for name, value in wanted.items():
        assert not value or error.get(name) == value, f"expected {name} {value!r}, got {shown(answer)}"
    for text in expected.says:
        assert text in error["message"], f"expected a message with {text!r}, got {error['message']!r}"


def _check_answer(answer: Answer, expected: Expected) -> None:
    __tracebackhide__ = True
    if expected.content_type:
        said = re.sub("; contract=[0-9a-f]{64}$", "", answer.content_type)
        assert said == expected.content_type, f"expected an answer in {expected.content_type}, got {shown(answer)}"
    if expected.body is not None:
        assert answer.body == expected.body.encode(), f"expected {expected.body!r}, got {shown(answer)}"
    if expected.rows:
        got = count_rows(answer)
        assert got == expected.rows, f"expected {expected.rows} rows, got {got}: {shown(answer)}"
    if expected.ends_with_one_newline:
        end = answer.body[-3:]
        assert len(end) - len(end.rstrip(b"\n")) == 1, f"expected one newline at the end, got {end!r}"
