"""Attacks on how a request is framed, named and sized: one answer at most, nothing smuggled is run, nothing is told.

`tests/corpus/http.toml` holds the answer to each malformed request; here each carries a second request inside, and the
logs say whether anybody ran it.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.corpus_cases import LONGEST_REFUSAL, header, shown, split_responses
from tests.servers import ECHO, ROOT, Answer, Server, launched, running, wait_until

FRONTS = ("nginx", "gunicorn", "router")
MIB = 1024 * 1024
UNPACKED = 64 * MIB
QUIET = 0.3  # seconds without a byte after an answer, after which none more is expected
SOON = 60.0  # seconds in which anything is answered, or its connection closed
AT_ONCE = 8  # connections
SMUGGLED = b"POST /invocations HTTP/1.1\r\nHost: x\r\nX-Request-Id: %s\r\nContent-Length: 5\r\n\r\nhello"
POST = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: %d\r\n"  # of all that follows the head
END = b"0\r\n\r\n"

# Each is sent with the smuggled request after it; %d is then the length of the body, the smuggled request included.
FRAMINGS = {
    "CL.TE": POST + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + END,
    "TE.CL": CHUNKED + LENGTH + b"\r\n" + END,
    "CL.TE, HTTP/1.0": POST.replace(b"1.1", b"1.0") + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + END,
    "TE in HTTP/1.0": CHUNKED.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n\r\n" + END,
    "TE.TE, twice": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n" + END,
    "TE.TE, identity after": CHUNKED + b"Transfer-Encoding: identity\r\n\r\n" + END,
    "TE.TE, a list": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + END,
    "TE.TE, chunked twice in a list": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + END,
    "TE of another name": POST + LENGTH + b"Transfer-Encoding: xchunked\r\n\r\n" + END,
    "TE, a blank before the colon": POST + LENGTH + b"Transfer-Encoding : chunked\r\n\r\n" + END,
    "TE, a vertical tab": POST + LENGTH + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + END,
    "TE, a NUL": POST + LENGTH + b"Transfer-Encoding: chunked\x00\r\n\r\n" + END,
    "TE, folded": POST + LENGTH + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + END,
    "TE, hidden in a folded line": POST + LENGTH + b"X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n" + END,
    "TE, hidden by a bare LF": POST + LENGTH + b"X-A: b\nTransfer-Encoding: chunked\r\n\r\n" + END,
    "TE, hidden by a bare CR": POST + LENGTH + b"X-A: b\rTransfer-Encoding: chunked\r\n\r\n" + END,
    "TE, an underscore": POST + LENGTH + b"Transfer_Encoding: chunked\r\n\r\n" + END,
    "CL twice, 0 last": POST + LENGTH + b"Content-Length: 0\r\n\r\n",
    "CL twice, 0 first": POST + b"Content-Length: 0\r\n" + LENGTH + b"\r\n",
    "CL twice, the same": POST + LENGTH + LENGTH + b"\r\n",
    "CL, a list": POST + b"Content-Length: 0, %d\r\n\r\n",
    "CL, negative": POST + b"Content-Length: -%d\r\n\r\n",
    "CL, a plus": POST + b"Content-Length: +%d\r\n\r\n",
    "CL, hexadecimal": POST + b"Content-Length: 0x%x\r\n\r\n",
    "CL, two numbers": POST + b"Content-Length: 0 %d\r\n\r\n",
    "CL, an underscore": POST + b"Content-Length: 1_%d\r\n\r\n",
    "CL, folded": POST + b"Content-Length:\r\n %d\r\n\r\n",
    "CL, hidden by a bare LF": POST + LENGTH + b"X-A: b\nContent-Length: 0\r\n\r\n",
    "CL of the name with an underscore": POST + b"Content_Length: 0\r\n" + LENGTH + b"\r\n",
    "a head that is folded at its first line": b"POST /invocations HTTP/1.1\r\n Host: x\r\n" + LENGTH + b"\r\n",
    "chunk size, letters": CHUNKED + b"\r\nzz\r\nhello\r\n" + END,
    "chunk size, negative": CHUNKED + b"\r\n-5\r\nhello\r\n" + END,
    "chunk size, a plus": CHUNKED + b"\r\n+5\r\nhello\r\n" + END,
    "chunk size, 0x": CHUNKED + b"\r\n0x5\r\nhello\r\n" + END,
    "chunk size, an underscore": CHUNKED + b"\r\n0_5\r\nhello\r\n" + END,
    "chunk size, none": CHUNKED + b"\r\n\r\nhello\r\n" + END,
    "chunk longer than its size": CHUNKED + b"\r\n3\r\nhello\r\n" + END,
    "a body where none is due": b"GET /ping HTTP/1.1\r\nHost: x\r\n" + LENGTH + b"\r\n",
    "a body of a path that is none": b"POST /nowhere HTTP/1.1\r\nHost: x\r\n" + LENGTH + b"\r\n",
    "a body of a method that is none": b"PUT /invocations HTTP/1.1\r\nHost: x\r\n" + LENGTH + b"\r\n",
    "a body of a refusal": POST + b"Content-Encoding: gzip\r\n" + LENGTH + b"\r\n",
    "a body of 1 GiB": POST + b"Content-Length: 1073741824\r\n\r\n",
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n",
    "no Host": b"POST /invocations HTTP/1.1\r\n" + LENGTH + b"\r\n",
    "two Hosts": POST + b"Host: y\r\n" + LENGTH + b"\r\n",
    "Host with a path": POST.replace(b"Host: x", b"Host: x/y") + LENGTH + b"\r\n",
}  # fmt: skip

# Of these everybody says 400 and closes, whatever comes after.
BROKEN = (
    "CL.TE",
    "TE.CL",
    "CL twice, 0 last",
    "CL twice, 0 first",
    "CL, negative",
    "TE, folded",
    "chunk size, negative",
)
# Lines that end with LF alone, as RFC 9112 lets a server read them: nginx takes such a request for one, what follows
# for the next, and frames each anew.
LENIENT = {
    "bare LF in the head": CHUNKED.replace(b"x\r\n", b"x\n") + b"\r\n" + END,
    "bare LF in a chunk's extension": CHUNKED + b"\r\n5;\nhello\r\n" + END,
}
# What is refused without a body, or by a server that knows no request yet.
REFUSED = {
    "garbage": b"\x00\xff\xfe\r\n\r\n",
    "a ping by POST": b"POST /ping HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    "a ping of a method that is none": b"A" * 3000 + b" /ping HTTP/1.1\r\nHost: x\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": b"GET /ping HTTP/9.9\r\nHost: x\r\n\r\n",
    "TRACE": b"TRACE /ping HTTP/1.1\r\nHost: x\r\nX-Secret: told\r\n\r\n",
    "a file of the machine": b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "a file, encoded": b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "a NUL in the path": b"GET /ping%00.html HTTP/1.1\r\nHost: x\r\n\r\n",
    "an error page": b"GET /_not_found HTTP/1.1\r\nHost: x\r\n\r\n",
    "markup in the path": b"GET /<script>alert(1)</script> HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long path": b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long header": b"GET /ping HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
    "a very long header": b"GET /ping HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
    "too many headers": b"GET /ping HTTP/1.1\r\nHost: x\r\n"
    + b"".join(b"X-%d: 1\r\n" % n for n in range(101))
    + b"\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END,
    "an unknown expectation": POST + b"Expect: everything\r\nContent-Length: 5\r\n\r\nhello",
    "a stage that fails": POST + b"Content-Length: 4\r\n\r\nfail",
}
TOLD = re.compile(r"nginx/|gunicorn|werkzeug|flask|python|traceback|\.py\b|/opt/|/tmp/|/usr/|<html", re.IGNORECASE)


@dataclass(frozen=True)
class Came:
    """What one connection brought. `closed`: the server ended it."""

    answers: tuple[Answer, ...]
    rest: bytes
    closed: bool


@dataclass(frozen=True)
class Front:
    """A server, and all whose logs say what was run behind it."""

    name: str
    server: Server
    logging: tuple[Server, ...]

    def ran(self) -> set[str]:
        """The ids of all requests that the logs have."""
        lines = [line for server in self.logging for line in server.lines()]
        return {line["request_id"] for line in lines if line["message"] == "request"}


@pytest.fixture(scope="module")
def fronts() -> Iterator[dict[str, Front]]:
    with contextlib.ExitStack() as stack:
        nginx = stack.enter_context(launched(ECHO))
        gunicorn = stack.enter_context(launched(ECHO, {"MODEL_SERVER_NGINX": "off"}))
        behind = {"CONTAINERS": f"echo=http://127.0.0.1:{nginx.port}", "MODEL_SERVER_WORKER_CLASS": "gthread"}
        router = stack.enter_context(launched("local_test", behind | {"MODEL_SERVER_NGINX": "off"}))
        found = {
            "nginx": Front("nginx", nginx, (nginx,)),
            "gunicorn": Front("gunicorn", gunicorn, (gunicorn,)),
            "router": Front("router", router, (router, nginx)),
        }
        for front in found.values():
            wait_until(lambda front=front: front.server.pings() == 200, f"{front.name} to answer", 60)  # type: ignore[misc]
        yield found
        for front in found.values():
            front.server.process.terminate()


def exchange(front: Front, message: bytes, wanted: int = 1) -> Came:
    """Send, and read until the server closes or has been quiet for a while after the answers that are wanted."""
    received, closed = b"", True
    with socket.create_connection(("127.0.0.1", front.server.port), timeout=SOON) as connection:
        with contextlib.suppress(ConnectionError):  # refused before all was sent
            connection.sendall(message)
        try:
            while chunk := connection.recv(MIB):
                received += chunk
                if len(split_responses(received).responses) >= wanted:
                    connection.settimeout(QUIET)
        except ConnectionError:
            pass
        except TimeoutError:
            closed = False
    reply = split_responses(received, closed=True)
    return Came(reply.responses, reply.rest, closed)


def exchange_all(front: Front, messages: dict[str, bytes], wanted: int = 1) -> dict[str, Came]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        came = pool.map(lambda message: exchange(front, message, wanted), messages.values())
        return dict(zip(messages, came, strict=True))


def with_smuggled(framings: dict[str, bytes], prefix: str) -> dict[str, bytes]:
    """Each framing with a request after it whose id begins with `prefix`, and its length filled in."""
    made = {}
    for number, (name, framing) in enumerate(framings.items()):
        smuggled = SMUGGLED % f"{prefix}-{number}".encode()
        head, _, begun = framing.partition(b"\r\n\r\n")
        length = len(begun) + len(smuggled)
        made[name] = re.sub(rb"%[dx]", lambda found, n=length: found[0] % n, head) + b"\r\n\r\n" + begun + smuggled  # type: ignore[misc]
    return made


def said_badly(answer: Answer) -> str:
    """What is wrong with how a refusal is worded; nothing for an answer that is none."""
    told = f"{answer.headers}\n{answer.body.decode('utf-8', 'replace')}"
    if found := TOLD.search(told.replace("'Server': 'nginx'", "").replace("'Server': 'gunicorn'", "")):
        return f"tells {found[0]!r}"
    if str(ROOT) in told or re.search(r"\d", header(answer, "Server")):
        return "tells a path or a version"
    if answer.status < 400:
        return ""
    if header(answer, "Content-Type") != "application/json" or len(answer.body) > LONGEST_REFUSAL:
        return "is no JSON of at most 2,048 bytes"
    error = json.loads(answer.body)
    if "Message" in error:  # the router's, as SageMaker's runtime has it
        return "" if header(answer, "x-amzn-RequestId") else "has no id"
    return "" if all(error.get(key) for key in ("code", "message", "request_id")) else "lacks a code, words or an id"


@pytest.mark.parametrize("name", FRONTS)
def test_a_request_within_a_request_is_never_run(name: str, fronts: dict[str, Front]) -> None:
    front = fronts[name]

    came = exchange_all(front, with_smuggled(FRAMINGS, "smuggled"))

    statuses = {attack: [answer.status for answer in one.answers] for attack, one in came.items()}
    assert {attack: found for attack, found in statuses.items() if len(found) != 1} == {}
    assert {attack: one.rest for attack, one in came.items() if one.rest} == {}
    assert {attack for attack, one in came.items() if one.answers[0].status == 501 and not one.closed} == set()
    assert {attack for attack in BROKEN if not came[attack].closed or came[attack].answers[0].status != 400} == set()
    assert [shown(one.answers[0]) for one in came.values() if one.answers[0].status == 500] == []
    assert {ran for ran in front.ran() if ran.startswith("smuggled")} == set()


@pytest.mark.parametrize("name", FRONTS)
def test_lines_without_cr_are_refused_or_frame_each_request_once(name: str, fronts: dict[str, Front]) -> None:
    """nginx, which lets them pass, answers both requests: the logs show that the other test would see it."""
    front = fronts[name]

    owed = [200, 200] if name == "nginx" else [400]
    came = exchange_all(front, with_smuggled(LENIENT, f"after-{name}"), len(owed))

    ran = {request for request in front.ran() if request.startswith(f"after-{name}")}
    assert [[answer.status for answer in one.answers] for one in came.values()] == [owed] * len(LENIENT)
    assert len(ran) == (len(LENIENT) if name == "nginx" else 0)


@pytest.mark.parametrize("name", FRONTS)
def test_no_refusal_tells_a_version_a_path_or_a_trace(name: str, fronts: dict[str, Front]) -> None:
    front = fronts[name]

    came = exchange_all(front, REFUSED | with_smuggled(FRAMINGS, "told"))

    answers = {attack: answer for attack, one in came.items() for answer in one.answers}
    assert {attack for attack in REFUSED if not answers[attack].status >= 400} <= (
        {"too many headers", "an unknown expectation"} if name == "nginx" else set()
    )
    assert {attack: (said_badly(one), shown(one)) for attack, one in answers.items() if said_badly(one)} == {}


@pytest.mark.parametrize("name", FRONTS)
@pytest.mark.parametrize(
    "value", ["a\r\n Set-Cookie: b", "a\rSet-Cookie: b", "a\nSet-Cookie: b", "a\x00b", "a%0d%0aSet-Cookie: b"]
)
def test_a_header_that_is_echoed_adds_no_other(name: str, fronts: dict[str, Front], value: str) -> None:
    echoed = f"X-Amzn-SageMaker-Custom-Attributes: {value}\r\nX-Request-Id: {value}\r\n".encode()

    came = exchange(fronts[name], POST + echoed + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello")

    assert [header(answer, "Set-Cookie") for answer in came.answers] == [""]
    assert came.rest == b""


@pytest.mark.parametrize("name", FRONTS)
def test_a_gibibyte_that_is_only_announced_is_refused_at_once(name: str, fronts: dict[str, Front]) -> None:
    (answer,) = exchange(fronts[name], POST + b"Content-Length: 1073741824\r\n\r\n").answers

    assert answer.status == 413


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, identity"])
@pytest.mark.parametrize("name", ["nginx", "gunicorn"])
def test_what_is_compressed_is_refused_and_nothing_is_unpacked(
    name: str, fronts: dict[str, Front], coding: str, bomb: bytes
) -> None:
    server = fronts[name].server
    before = peak_memory(server)

    answer = server.invoke(bomb, "text/csv", Content_Encoding=coding)

    assert (answer.status, answer.json["code"], answer.headers["Accept-Encoding"]) == (
        415, "unsupported_encoding", "identity",
    )  # fmt: skip
    assert peak_memory(server) - before < UNPACKED // 2


@pytest.fixture(scope="module")
def bomb() -> bytes:
    packed = zlib.compress(bytes(UNPACKED), 9, wbits=31)
    assert len(packed) < UNPACKED // 500
    return packed


def peak_memory(server: Server) -> int:
    """Bytes that the workers have held at most, each at its time."""
    statuses = [Path(f"/proc/{worker}/status").read_text() for worker in server.workers()]
    return sum(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024 for status in statuses)


def test_every_attack_left_every_worker_alive(fronts: dict[str, Front]) -> None:
    """Stands after all that attacks."""
    lines = [line for front in fronts.values() for server in front.logging for line in server.lines()]

    assert [front.server.pings() for front in fronts.values()] == [200] * len(FRONTS)
    assert [line for line in lines if line["message"].startswith(("Worker exiting", "lost "))] == []
    assert {"RuntimeError" in line["exception"] for line in lines if "exception" in line} == {True}


def test_heads_that_are_never_finished_do_not_hold_the_threads_of_a_server_without_nginx() -> None:
    """The router is one. Each of them had a thread to itself for good."""
    env = {"MODEL_SERVER_NGINX": "off", "MODEL_SERVER_WORKER_CLASS": "gthread", "MODEL_SERVER_THREADS": "4"}
    with running(ECHO, env | {"MODEL_SERVER_WORKERS": "1"}) as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        slow = [stack.enter_context(socket.create_connection(address, timeout=SOON)) for _ in range(6)]
        for connection in slow:
            connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: a\r\nX-")

        def closed() -> bool:
            with contextlib.suppress(OSError):
                slow[0].send(b"x")  # a byte now and then is no head
            return bool(select.select(slow[:1], [], [], 0.2)[0])

        wait_until(closed, "the first of them to be closed")
        answered = server.invoke(b"hello")

        assert answered.body == b"hello"
        assert "Traceback" not in server.output()
