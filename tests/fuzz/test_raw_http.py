"""Mutated requests on raw sockets: gunicorn alone, nginx in front, the router in front of both, the single container.

Whatever comes, the server answers or closes in time, one response a request, and goes on serving everybody else.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from tests.corpus_cases import LONGEST_REFUSAL, Reply, Request, header, over_tcp, plain_csv, shown, split_responses
from tests.fuzz.cases import as_case, raw_requests
from tests.fuzz.conftest import SEED, Budget
from tests.fuzz.mutate import HTTP_TOKENS, Mutator
from tests.servers import Answer, Server, launched, wait_until

FRONTS = ("gunicorn", "nginx", "router", "single")
AT_ONCE = 4  # connections
LONGEST = 16 * 1024
QUIET = 0.15  # seconds without a byte, after which the client says that nothing more comes
SOON = 20.0  # seconds in which a client that has ended is answered, or its connection closed
ENOUGH = 5  # findings
ALLOWED = {501, 505}  # what HTTP has and we do not; 503 is nginx's word for a worker that closed without an answer
ROW = "M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15\n"
_OURS = re.compile("[0-9a-f]{32}|")  # an id that a server made, or none
_REQUEST_LINE = re.compile(rb"HTTP/[0-9]|\r?\n\r?\n")


@dataclass(frozen=True)
class Sent:
    """Bytes, and how they are cut into pieces; `responses`: the bodies they are owed, when that is known."""

    pieces: tuple[bytes, ...]
    prefix: str  # of the ids in them
    responses: tuple[bytes, ...] | None = None

    @property
    def bytes(self) -> bytes:
        return b"".join(self.pieces)


@dataclass
class Front:
    """A server, the workers it began with, and what it owes for some rows."""

    name: str
    server: Server
    workers: list[int]
    owed: dict[int, bytes] = field(default_factory=dict)

    def usual(self, rows: int) -> bytes:
        """The answer to so many rows, by an ordinary request."""
        if rows not in self.owed:
            self.owed[rows] = self.ask(rows)
        return self.owed[rows]

    def ask(self, rows: int) -> bytes:
        answer = over_tcp(self.server.port)(plain_csv(ROW * rows, None), 1).responses[0]
        assert answer.status == 200, shown(answer)
        return answer.body


@pytest.fixture(scope="module")
def fronts(artifacts: Path, single: Server) -> Iterator[dict[str, Front]]:
    model = {"SM_MODEL_DIR": str(artifacts / "featurizer" / "model")}
    with contextlib.ExitStack() as stack:
        start = lambda stage, env: stack.enter_context(launched(stage, env))  # noqa: E731
        servers = {
            "gunicorn": start("featurizer", model | {"MODEL_SERVER_NGINX": "off", "MODEL_SERVER_WORKERS": "3"}),
            "nginx": start("featurizer", model),
        }
        router = {"MODEL_SERVER_NGINX": "off", "MODEL_SERVER_WORKERS": "1", "MODEL_SERVER_WORKER_CLASS": "gthread"}
        behind = f"featurizer=http://127.0.0.1:{servers['nginx'].port}"
        servers["router"] = start("local_test", router | {"CONTAINERS": behind})
        for name, server in servers.items():
            wait_until(lambda server=server: server.pings() == 200, f"{name} to answer", 60)  # type: ignore[misc]
        every = servers | {"single": single}
        yield {name: Front(name, server, server.workers()) for name, server in every.items()}
        for server in servers.values():
            server.process.terminate()


# --- requests


def well_formed(front: Front, random: Random, prefix: str) -> Sent:
    """One request or several on one connection, framed in one of the ways that HTTP has."""
    rows = [random.choice([1, 1, 2, 3, 30]) for _ in range(random.choice([1, 1, 1, 2, 4]))]
    wire = b"".join(
        _request(random, ROW * count, f"{prefix}{number}", last=number == len(rows) - 1)
        for number, count in enumerate(rows)
    )
    answered = rows[:1] if front.name == "gunicorn" else rows  # its workers answer one request a connection
    return Sent(cut(wire, random), prefix, tuple(front.usual(count) for count in answered))


def _request(random: Random, body: str, name: str, *, last: bool) -> bytes:
    lines = ["Content-Type: text/csv", f"X-Request-Id: {name}", "Host: x"]
    lines += random.sample(
        ["Accept: */*", "accept:text/csv", "X-Odd:  a b \t", "User-Agent: x", "A:"], random.randint(0, 3)
    )
    if chunked := random.random() < 0.5:
        lines.append(
            random.choice(["Transfer-Encoding: chunked", "transfer-encoding:Chunked", "TRANSFER-ENCODING:  chunked"])
        )
    else:
        lines.append(random.choice(["Content-Length: %d", "content-length:%d", "Content-Length:  %d "]) % len(body))
    if last:
        lines.append(random.choice(["Connection: close", "connection: CLOSE"]))
    random.shuffle(lines)
    target = random.choice(["/invocations", "/invocations?a=b", "http://x/invocations"])
    head = "\r\n".join([f"POST {target} HTTP/1.1", *lines, "", ""]).encode()
    return head + (in_chunks(body.encode(), random) if chunked else body.encode())


def in_chunks(body: bytes, random: Random) -> bytes:
    pieces = cut(body, random)
    size = random.choice(["%x", "%X", "%04x", "%x;a=b", '%x;a="b"'])
    chunks = b"".join((size % len(piece)).encode() + b"\r\n" + piece + b"\r\n" for piece in pieces if piece)
    return chunks + random.choice([b"0", b"000"]) + b"\r\n" + random.choice([b"", b"X-Trailer: 1\r\n"]) + b"\r\n"


def cut(data: bytes, random: Random) -> tuple[bytes, ...]:
    places = sorted(random.choices(range(len(data) + 1), k=random.choice([0, 0, 1, 2, 5, 20])))
    return tuple(data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True))


def mutated(front: Front, random: Random, prefix: str, mutate: Mutator) -> Sent:
    base = random.choice(mutate.pool)
    if random.random() < 0.5:
        base = well_formed(front, random, prefix).bytes
    return Sent(cut(mutate(base), random), prefix)


# --- answers


def exchange(port: int, sent: Sent) -> tuple[Reply, float]:
    """Send, wait until the server has been quiet, end, and read to the end. Returns the seconds the end took."""
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):  # refused before all was sent
            for piece in sent.pieces:
                connection.sendall(piece)
        received, closed = _until_answered(connection, len(sent.responses or ()))
        started = time.monotonic()
        if not closed:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            received += _until_closed(connection)
        return split_responses(received, head=sent.bytes.startswith(b"HEAD"), closed=True), time.monotonic() - started


def _until_answered(connection: socket.socket, wanted: int) -> tuple[bytes, bool]:
    """What comes until all that is wanted has come, or for a while nothing does. nginx takes an end for an abort."""
    connection.settimeout(SOON if wanted else QUIET)
    received = b""
    try:
        while chunk := connection.recv(1 << 20):
            received += chunk
            if wanted and len(split_responses(received).responses) >= wanted:
                connection.settimeout(QUIET)
    except TimeoutError:
        return received, False
    except ConnectionError:
        pass
    return received, True


def _until_closed(connection: socket.socket) -> bytes:
    connection.settimeout(SOON + 7)
    received = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while chunk := connection.recv(1 << 20):
            received += chunk
    return received


def problem(sent: Sent, reply: Reply, ended: float) -> str:
    if ended > SOON:
        return f"a client that had ended waited {ended:.1f} s"
    if sent.responses is not None:
        return _problem_of_known(sent, reply)
    if reply.rest and not _may_be_cut(sent, reply):
        return f"no complete response: {reply.rest[:200]!r}"
    if wrong := [answer for answer in reply.responses if answer.status >= 500 and answer.status not in ALLOWED]:
        return f"answered {shown(wrong[0])}"
    most = 1 + len(_REQUEST_LINE.findall(sent.bytes))
    if len(reply.responses) > most:
        return f"{len(reply.responses)} responses to at most {most} requests"
    # a server joins what was sent twice
    ids = [name for answer in reply.responses for name in header(answer, "X-Request-Id").split(",")]
    if foreign := [name for name in ids if name.encode() not in sent.bytes and not _OURS.fullmatch(name)]:
        return f"the response to another connection's request {foreign[0]}"
    if b"HEAD" not in sent.bytes and (wordless := [answer for answer in reply.responses if not _is_said(answer)]):
        return f"a refusal that is no JSON of ours: {shown(wordless[0])}"
    closing = [header(answer, "Connection").lower() == "close" for answer in reply.responses]
    return "a response after one that closes" if any(closing[:-1]) else ""


def _is_said(answer: Answer) -> bool:
    """Whether a refusal is JSON, short, and in words: ours, or the router's as SageMaker has them."""
    if answer.status < 400:
        return True
    if not answer.content_type.startswith("application/json") or len(answer.body) >= 2 * LONGEST_REFUSAL:
        return False
    return {"code", "message"} <= answer.json.keys() or "Message" in answer.json


def _problem_of_known(sent: Sent, reply: Reply) -> str:
    bodies = tuple(answer.body for answer in reply.responses)
    if bodies == sent.responses and not reply.rest:
        names = [header(answer, "X-Request-Id") for answer in reply.responses]
        return "" if names == [f"{sent.prefix}{number}" for number in range(len(names))] else f"ids {names}"
    came = "; ".join(map(shown, reply.responses)) or "nothing"
    return f"expected {len(sent.responses or ())} answers to well-formed requests, got {len(bodies)}: {came}"


def _may_be_cut(sent: Sent, reply: Reply) -> bool:
    """HTTP/0.9 has answers without a head; one to a HEAD among others has a length and no body."""
    return b"HEAD" in sent.bytes or not reply.rest.startswith(b"HTTP/1.")


def kind_of(text: str) -> str:
    return re.sub(r"[0-9a-f]{32}|b'.*|b\".*|[0-9.]+ s", "_", text)[:100]


@pytest.mark.parametrize("name", FRONTS)
def test_mutated_requests_are_answered_or_closed_and_cost_nobody_else_anything(
    name: str, fronts: dict[str, Front], budget: Budget
) -> None:
    front = fronts[name]
    stages = ("featurizer", "predictor")
    pool = list(dict.fromkeys(wire for stage in stages for wire in raw_requests(stage, LONGEST)))
    mutate = Mutator(budget.random, pool, tuple(HTTP_TOKENS), longest=LONGEST)
    findings: dict[str, str] = {}
    requests = known = 0
    statuses: dict[int, int] = {}
    usual = front.usual(2)

    with ThreadPoolExecutor(AT_ONCE) as pool_of_threads:
        while budget.lasts() and len(findings) < ENOUGH:
            batch = []
            for _ in range(AT_ONCE * 4):
                prefix = f"fuzz-{requests}-"
                requests += 1
                chosen = budget.random.random() < 0.3
                known += chosen
                batch.append(
                    well_formed(front, budget.random, prefix)
                    if chosen
                    else mutated(front, budget.random, prefix, mutate)
                )
            replies = list(pool_of_threads.map(lambda sent: exchange(front.server.port, sent), batch))
            for sent, (reply, ended) in zip(batch, replies, strict=True):
                for answer in reply.responses or [None]:
                    status = answer.status if answer else 0
                    statuses[status] = statuses.get(status, 0) + 1
                if wrong := problem(sent, reply, ended):
                    raw = Request(parts=((sent.bytes, 1),), raw=True)
                    findings.setdefault(kind_of(wrong), as_case(f"{name}: {wrong}", "featurizer", raw))
            assert front.ask(2) == usual, f"FUZZ_SEED={SEED}: another answer after these:\n{[s.bytes for s in batch]}"

    counts = ", ".join(f"{count} x {status or 'closed'}" for status, count in sorted(statuses.items()))
    budget.say(f"{requests} connections, {known} of them well-formed ({counts})")
    exceptions = [line for line in front.server.lines() if "exception" in line]
    assert not findings, f"FUZZ_SEED={SEED}\n\n" + "\n".join(findings.values())
    assert exceptions == []
    assert front.server.workers() == front.workers
