"""What it answers, while it serves."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from local_test.check.calls import NoReply, Reply, call, ping
from local_test.check.case import LARGEST, MIB, Case, Seen, Verdict, doubtful, fine, wrong
from local_test.check.subject import NotHere, Running

SLOWEST_PING = 2.0  # seconds
LONGEST_MESSAGE = 2048  # bytes
AT_ONCE = 8
FEW = 5  # pings
JUNK = b"\x00\xff\xfe not a row \x01" * 8
HEADERS = {
    "X-Amzn-SageMaker-Custom-Attributes": "trace=1",
    "X-Amzn-SageMaker-Inference-Id": "check",
    "X-Amzn-SageMaker-Target-Variant": "AllTraffic",
    "X-Amzn-SageMaker-Session-Id": "check",
}


def ping_rule(case: Case) -> Seen:
    running = case.hosted()
    replies = [ping(running.port) for _ in range(10)]
    slowest = max(reply.seconds for reply in replies)
    if bad := next((reply for reply in replies if reply.status != 200), None):
        return wrong(f"once healthy, it answered {bad}")
    if replies[0].body:
        return doubtful(f"the body is not empty: {replies[0]}")
    return fine(f"10 of 10, the slowest in {slowest * 1000:.0f} ms")


def ping_under_load(case: Case) -> Seen:
    """Once more before it fails: a single late ping may be this machine's doing."""
    first = _pings_under_load(case)
    return first if first.verdict is Verdict.OK else _pings_under_load(case)


def _pings_under_load(case: Case) -> Seen:
    running = case.hosted()
    body = case.asking.repeated(MIB)
    times: list[float] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        busy = [pool.submit(_outcome, case, running, body) for _ in range(2 * AT_ONCE)]
        while not all(one.done() for one in busy):
            try:
                times.append(ping(running.port).seconds)
            except NoReply as error:
                pool.shutdown(wait=False, cancel_futures=True)
                return wrong(f"while {AT_ONCE} requests of 1 MiB were served: {error}")
            time.sleep(0.02)
    slowest = max(times, default=0.0)
    said = f"{len(times)} pings beside {AT_ONCE} requests of 1 MiB at once, the slowest in {slowest * 1000:.0f} ms"
    if len(times) < FEW:
        said += "; the requests were over too soon to tell more"
    return fine(said) if slowest < SLOWEST_PING else wrong(said)


def answer(case: Case) -> Seen:
    reply = case.good()
    if reply.status != 200:
        return wrong(str(reply))
    return fine(f"{reply} ({reply.seconds * 1000:.0f} ms)") if reply.body.strip() else wrong("200 and nothing in it")


def answer_type(case: Case) -> Seen:
    media = _answered(case).headers.get("content-type", "")
    if not media or media.startswith("text/html"):
        return wrong(f"Content-Type: {media or 'not there'}")
    return fine(media)


def content_type_parameters(case: Case) -> Seen:
    media = case.asking.content_type.partition(";")[0]
    ways = [{"Content-Type": f"{media}; charset=utf-8"}, {"Content-Type": media.upper()}]
    return _same(case, ways)


def accept(case: Case) -> Seen:
    return _same(case, [{"Accept": "*/*"}, {}])


def platform_headers(case: Case) -> Seen:
    return _same(case, [HEADERS])


def errors(case: Case) -> Seen:
    running = case.hosted()
    headers = {"Content-Type": case.asking.content_type or "text/csv"}
    reply = case.ask(running, headers, JUNK)
    if reply.status == 200:
        return wrong(f"a body of no type at all is answered with {reply}")
    if reply.status >= 500:
        return doubtful(f"a body of no type at all counts as the server's fault: {reply}")
    if b"Traceback (most recent call last)" in reply.body:
        return doubtful("the answer has a traceback in it")
    if len(reply.body) > LONGEST_MESSAGE:
        return doubtful(f"the refusal has {len(reply.body)} bytes")
    return fine(str(reply))


def unknown_type(case: Case) -> Seen:
    body = case.asking.body or b"1,2,3\n"
    reply = case.ask(case.hosted(), {"Content-Type": "application/x-nobody-knows"}, body)
    return _refused(reply)


def empty_body(case: Case) -> Seen:
    reply = case.ask(case.hosted(), {"Content-Type": case.asking.content_type or "text/csv"}, b"")
    return doubtful(str(reply)) if reply.status >= 500 else fine(str(reply))


def payload_limit(case: Case) -> Seen:
    """The good rows again and again must be answered as they are once."""
    headers = {"Content-Type": case.asking.content_type or "text/csv"}
    usual = case.good().status if case.asking.body else 0
    try:
        reply = case.ask(case.hosted(), headers, case.asking.repeated(LARGEST))
    except NoReply as error:
        return wrong(f"a body of 6 MiB: {error}")
    refused = reply.status != usual if case.asking.repeats else reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    if refused:
        return wrong(f"a body of 6 MiB: {reply}")
    return fine(f"6 MiB: {reply.status}, in {reply.seconds:.1f} s")


def execution_parameters(case: Case) -> Seen:
    reply = call(case.hosted().port, "GET", "/execution-parameters")
    if reply.status == 404:
        return fine("not there: the job's own, else 1, MultiRecord, 6 MB")
    if reply.status != 200:
        return wrong(str(reply))
    try:
        problems = list(_problems(json.loads(reply.body)))
    except (ValueError, RecursionError):
        return wrong(f"no JSON: {reply}")
    return wrong("; ".join(problems)) if problems else fine(str(reply))


def _problems(given: Any) -> Iterator[str]:  # noqa: ANN401 - whatever JSON holds
    if not isinstance(given, dict):
        yield f"expected an object, got {str(given)[:80]}"
        return
    concurrent, most = given.get("MaxConcurrentTransforms", 1), given.get("MaxPayloadInMB", 6)
    if type(concurrent) is not int or concurrent < 1:
        yield f"MaxConcurrentTransforms: expected a whole number above 0, got {concurrent!r}"
    if type(most) is not int or not 0 <= most <= 100:
        yield f"MaxPayloadInMB: expected a whole number from 0 to 100, got {most!r}"
    if (strategy := given.get("BatchStrategy", "MULTI_RECORD")) not in ("MULTI_RECORD", "SINGLE_RECORD"):
        yield f"BatchStrategy: expected MULTI_RECORD or SINGLE_RECORD, got {strategy!r}"


def _answered(case: Case) -> Reply:
    if (reply := case.good()).status != 200:
        raise NotHere("a good request is not answered with 200")
    return reply


def _same(case: Case, ways: list[dict[str, str]]) -> Seen:
    """The good request in other words, which must change nothing; Accept may change how it is written."""
    usual = _answered(case)
    steady = _answered(case).body == usual.body  # else there is an id or a time in it
    for headers in ways:
        said = ", ".join(f"{name}: {value}" for name, value in headers.items()) or "no Accept"
        reply = case.ask(case.hosted(), headers)
        if reply.status != 200:
            return wrong(f"{said} is answered with {reply}")
        same = reply.body == usual.body if steady else _type(reply) == _type(usual)
        if "Accept" not in headers and not same:
            return wrong(f"{said} is answered with something else: {reply}")
    return fine("the same answer" if steady else "200 and the same type; the answers differ each time")


def _refused(reply: Reply) -> Seen:
    return fine(str(reply)) if 400 <= reply.status < 500 else doubtful(str(reply))


def _type(reply: Reply) -> str:
    return reply.headers.get("content-type", "")


def _outcome(case: Case, running: Running, body: bytes) -> int:
    try:
        return case.ask(running, {"Content-Type": case.asking.content_type or "text/csv"}, body).status
    except NoReply:
        return 0


EXAMINED = {
    "ping": ping_rule,
    "answer": answer,
    "answer-type": answer_type,
    "content-type-parameters": content_type_parameters,
    "accept": accept,
    "platform-headers": platform_headers,
    "errors": errors,
    "unknown-type": unknown_type,
    "empty-body": empty_body,
    "payload-limit": payload_limit,
    "execution-parameters": execution_parameters,
    "ping-under-load": ping_under_load,
}
