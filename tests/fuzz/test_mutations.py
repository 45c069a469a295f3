"""Mutated bodies against the whole application of each stage, and against the single container behind nginx.

They are answered as the libraries say, or refused in words.
"""

from __future__ import annotations

import json
import re
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from flask import Flask, got_request_exception

from featurizer.model import Featurizer
from featurizer.records import ACCEPTED
from predictor.model import Predictor
from serving.app import create_app
from serving.media import content_type
from serving.payload import NPY, Payload
from serving.settings import Settings
from tests.corpus_cases import LONGEST_REFUSAL, Ask, Request, in_process, over_tcp
from tests.corpus_format import read_rules
from tests.fuzz.cases import as_case, bodies, with_body
from tests.fuzz.conftest import SEED, Budget
from tests.fuzz.mutate import LONGEST, Mutator, smallest
from tests.fuzz.oracle import Oracle, Uncountable
from tests.servers import Answer, Server
from tests.unit.test_parity import matrix, vector

PATIENCE = 2.0  # seconds of CPU for a body of 64 KiB
ENOUGH = 5  # findings
STAGES = {"featurizer": Featurizer, "predictor": Predictor}
SINGLE = "pipeline"
MEDIA = [
    *(
        "text/csv",
        "text/csv; header=present",
        "text/csv; header=absent",
        "text/csv;header=maybe",
        "text/csv;contract=0",
    ),
    *("application/json", "application/jsonlines", "application/x-npy", "application/x-ndjson", "text/plain", "*/*"),
    *("application/json;q=0.1, text/csv;q=0.5", "text/csv;q=0, */*", "text/csv;output=label", ";;;", ""),
    "Text/CSV;CHARSET=utf-8",
]


class TooSlow(BaseException):
    """Beyond what the application may catch."""


@dataclass
class Target:
    """An application or a server, and what it owes."""

    stage: str
    oracle: Oracle
    accepted: tuple[str, ...]
    asked: Ask
    raised: list[str] = field(default_factory=list)

    def ask(self, request: Request) -> Answer:
        """The answer, the same request id in each. Raises `TooSlow`."""
        named = replace(request, headers={**request.headers, "X-Request-Id": "fuzz"})
        with bounded(5 * PATIENCE):
            return (*self.asked(named, 1).responses, Answer(0, {}, b"no answer"))[0]

    def problem(self, request: Request) -> tuple[str, Answer | None]:
        """What is wrong with the answer; empty when nothing is."""
        self.raised.clear()
        started = time.process_time()
        try:
            answer = self.ask(request)
        except TooSlow:
            return f"no answer after {5 * PATIENCE} s of CPU", None
        spent = time.process_time() - started
        if spent > PATIENCE:
            return f"{spent:.1f} s of CPU", answer
        if answer.status == 200:
            return self._problem_of_answer(request, answer), answer
        return self._problem_of_refusal(answer), answer

    def _problem_of_refusal(self, answer: Answer) -> str:
        if answer.status >= 500 or answer.status < 400:
            reason = self.raised[-1] if self.raised else repr(answer.body[:200])
            return f"status {answer.status}: {reason}"
        if not answer.content_type.startswith("application/json") or len(answer.body) >= LONGEST_REFUSAL:
            return f"a refusal of {len(answer.body)} bytes of {answer.content_type}"
        error = answer.json
        words = error.get("code"), error.get("message"), error.get("request_id")
        return "" if all(isinstance(word, str) and word for word in words) else f"a refusal without words: {error}"

    def _problem_of_answer(self, request: Request, answer: Answer) -> str:
        media = content_type(request.headers["Content-Type"], self.accepted)
        try:
            owed = self.oracle.answer(self.stage, request.body, media.name, media.parameters.get("header", ""))
        except (Uncountable, ValueError, KeyError, TypeError, RecursionError) as error:
            return f"200 for what the libraries do not read: {type(error).__name__}: {str(error)[:200]}"
        payload = Payload(answer.body, answer.content_type)
        got = matrix(payload) if self.stage == "featurizer" else vector(payload)
        if len(got) != len(owed):
            return f"{len(got)} rows, the libraries read {len(owed)}"
        if self.stage == "featurizer" and answer.content_type.startswith(NPY):
            owed = owed.astype(np.float32)
        return "" if got.tobytes() == owed.tobytes() else f"other values than the libraries': {got[:3]}, {owed[:3]}"

    def remember(self, _app: Flask, exception: BaseException, **_others: object) -> None:
        last = traceback.extract_tb(exception.__traceback__)[-1]
        self.raised.append(
            f"{type(exception).__name__} in {Path(last.filename).name}:{last.name}: {str(exception)[:200]}"
        )


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raises `TooSlow` after so many seconds of CPU."""

    def stop(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def app_of(stage: str, artifacts: Path) -> Flask:
    loaded = STAGES[stage].load(artifacts / stage / "model")
    return create_app(loaded, Settings(stage=stage), interface=loaded.interface)


def target_of(stage: str, artifacts: Path) -> Target:
    loaded, app = STAGES[stage].load(artifacts / stage / "model"), app_of(stage, artifacts)
    target = Target(stage, Oracle(artifacts), tuple(loaded.interface.accepted), in_process(app.test_client()))
    got_request_exception.connect(target.remember, app)
    return target


def single_of(server: Server, artifacts: Path) -> Target:
    """The single container takes what a featurizer takes and owes what a predictor makes of that."""
    return Target(SINGLE, Oracle(artifacts), tuple(ACCEPTED), over_tcp(server.port))


def valid_requests(artifacts: Path) -> dict[str, list[Request]]:
    """A few rows of each stage in every format."""
    featurize = Featurizer.load(artifacts / "featurizer" / "model")
    names = [column.name for column in featurize.contract.inputs]
    values = ["M", 0.455, 0.365, 0.095, 0.514, 0.2245, 0.101, 0.15]
    record = dict(zip(names, values, strict=True))
    rows = ",".join(map(str, values)) + "\nF,0.53,NA,0.135,6e-1,0.2565,,0.21\nI,1,2,3,4,5,6,7\n"
    shapes = [
        values,
        [values] * 2,
        record,
        [record] * 2,
        {"instances": [record]},
        {"instances": [{"features": values}]},
    ]
    raw = [
        *(("text/csv", body) for body in (rows, ",".join(names) + "\n" + rows, rows.replace("\n", ",9\r\n"))),
        *(("application/json", json.dumps(shape)) for shape in shapes),
        *(("application/jsonlines", f"{json.dumps(row)}\n" * 2) for row in (values, record, {"features": values})),
    ]
    features = [featurize(Payload(rows.encode(), "text/csv", media)) for media in featurize.offered]
    return {
        "featurizer": [_post(media, body.encode()) for media, body in raw],
        "predictor": [_post(payload.content_type, payload.body) for payload in features],
    }


def _post(media: str, body: bytes) -> Request:
    return Request(headers={"Content-Type": media}, parts=((body, 1),))


def mutated(request: Request, mutate: Mutator, random: Random) -> Request:
    """Another body; now and then other headers."""
    headers = dict(request.headers)
    if random.random() < 0.15:
        headers[random.choice(["Content-Type", "Accept"])] = random.choice(MEDIA)
    if random.random() < 0.03:
        name = random.choice(["Content-Type", "Accept", "Content-Encoding", "X-Amzn-SageMaker-Custom-Attributes"])
        value = mutate(headers.get(name, random.choice(MEDIA)).encode())[:3000]
        headers[name] = re.sub("[^ -~]", "", value.decode("latin-1")).strip()
    return replace(with_body(request, mutate(request.body)), headers=headers)


def kind_of(text: str) -> str:
    """What is alike in two messages that speak of different values."""
    return re.sub(r"'.*'|\".*\"|[0-9]+|got .*", "_", text, flags=re.DOTALL)[:120]


def kind_of_answer(answer: Answer) -> str:
    if answer.status == 200:
        return f"{answer.content_type.partition(';')[0]} {len(answer.body).bit_length()} {b'null' in answer.body}"
    return f"{answer.status} {answer.json['code']} {kind_of(answer.json['message'])}"


def reduced(target: Target, request: Request, problem: str) -> str:
    """The shortest body found that has the same problem, as a case."""
    deadline = time.monotonic() + 10

    def fails(body: bytes) -> bool:
        return kind_of(target.problem(with_body(request, body))[0]) == kind_of(problem)

    body = smallest(request.body, fails, lambda: time.monotonic() < deadline)
    kept = with_body(request, body)
    return as_case(target.problem(kept)[0] or problem, target.stage, kept)


@pytest.mark.parametrize("stage", [*STAGES, SINGLE])
def test_a_mutated_body_is_answered_as_the_libraries_say_or_refused(
    stage: str, artifacts: Path, budget: Budget, single: Server
) -> None:
    budget.lasts()  # from here on
    target = single_of(single, artifacts) if stage == SINGLE else target_of(stage, artifacts)
    reads = "featurizer" if stage == SINGLE else stage
    begun = bodies(reads, LONGEST) + valid_requests(artifacts)[reads]
    texts = [request.body for request in begun]
    mutate = Mutator(budget.random, texts)
    pools: dict[bool, list[Request]] = {True: [], False: []}  # by whether the answer is 200
    for request in begun:
        pools[target.ask(request).status == 200].append(request)
    seen: set[str] = set()
    findings: dict[str, str] = {}
    statuses: dict[int, int] = {}
    asked: list[tuple[Request, Answer]] = []

    while budget.lasts() and len(findings) < ENOUGH:
        request = mutated(budget.random.choice(pools[budget.random.random() < 0.7]), mutate, budget.random)
        problem, answer = target.problem(request)
        if answer and not problem and budget.random.random() < 0.25 and _differs(target.ask(request), answer):
            problem = "another answer when asked again"
        if problem and kind_of(problem) not in findings:
            findings[kind_of(problem)] = reduced(target, request, problem)
        if not answer or problem:
            continue
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        if (kind := kind_of_answer(answer)) not in seen:
            # what taught something is mutated further
            seen.add(kind)
            pools[answer.status == 200].append(request)
            texts.append(request.body)
            asked.append((request, answer))
    changed = [request for request, answer in asked if _differs(target.ask(request), answer)]

    counts = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    budget.say(f"{sum(statuses.values())} inputs, {len(seen)} kinds of answers ({counts})")
    assert not findings, f"FUZZ_SEED={SEED}\n\n" + "\n".join(findings.values())
    assert changed == []


def _differs(one: Answer, other: Answer) -> bool:
    return (one.status, one.content_type, one.body) != (other.status, other.content_type, other.body)


def test_a_printed_case_is_read_as_the_request_it_was() -> None:
    headers = {"Content-Type": 'text/csv; a="b"', "Accept": "*/*", "X-Odd": "\\"}
    requests = [Request(headers=headers, parts=((body, 1),)) for body in (b'"\\\x7f\x1b\n\xc3\xa9', b"\xff\0", b"")]
    requests.append(Request(parts=((b"GET / HTTP/1.1\r\n\xff", 1),), raw=True, ends=True))
    rule = 'contract = "abalone"\n[[rule]]\nid = "C1"\nwhy = "a reason"\n'

    rules = [read_rules(rule + as_case('a "case"', "featurizer", request), "csv") for request in requests]

    read = [case.request for (only,) in rules for case in only.cases]
    assert [(r.headers, r.body, r.raw, r.ends) for r in read] == [(r.headers, r.body, r.raw, r.ends) for r in requests]
