"""The rules of the image check, on a scripted server that is started as often as a rule wants it."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from local_test.__main__ import main, parser
from local_test.check import command, ending_rules, image_rules, request_rules, start_rules
from local_test.check.asking import Asking
from local_test.check.calls import NoReply, call
from local_test.check.case import Case, Rule, Seen, Verdict, doubtful, fine, last_line, skipped, wrong
from local_test.check.listening import reachable
from local_test.check.rules import RULES
from local_test.check.subject import CannotStart, NotHere, Situation
from tests.scripted_container import Asked, Reply, ScriptedContainer, answer, raw

LABEL = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"
PORT = 23456
GOOD = Asking(b"1,2\n", "text/csv")


@dataclass
class Server:
    """What is said to run."""

    port: int
    code: int | None = None
    words: str = "started\n"
    ports: set[int] | None = None
    ends_with: int | None = 0

    def exit_code(self) -> int | None:
        return self.code

    def terminate(self, seconds: float) -> int | None:  # noqa: ARG002
        return self.ends_with

    def log(self) -> str:
        return self.words

    def listening(self) -> set[int]:
        if self.ports is None:
            raise NotHere("only Linux shows who listens where")
        return self.ports


@dataclass
class Scripted:
    """`reply` and `ping` are its answers; `begin` changes what a situation starts, or raises."""

    reply: Reply = answer(b"9.5", "application/json")  # noqa: RUF009 - a function
    ping: Reply = answer(b"")  # noqa: RUF009
    begin: Callable[[Situation, Server], None] = lambda _situation, _server: None
    known: Mapping[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    media: str = ""
    mounts: bool = True
    name: str = "it"
    started: list[Situation] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def facts(self) -> Mapping[str, Any]:
        return self.known

    def manifest(self) -> str:
        return self.media

    def files_below(self, path: str) -> list[str]:
        return [file for file in self.files if file.startswith(path)]

    @contextlib.contextmanager
    def start(self, situation: Situation) -> Iterator[Server]:
        self.started.append(situation)
        with ScriptedContainer(self.reply, self.ping) as container:
            container.asked = self.asked
            server = Server(container.port)
            self.begin(situation, server)
            yield server


def examine(rule: str, subject: Scripted, asking: Asking = GOOD) -> Seen:
    with Case(subject, asking, PORT, 0.3) as case:
        return command.examine(case, rule)


def config(**given: Any) -> dict[str, Any]:
    return {"Config": given}


@pytest.mark.parametrize(
    ("rule", "facts", "verdict", "said"),
    [
        ("architecture", {"Os": "linux", "Architecture": "amd64"}, "ok", "linux/amd64"),
        ("architecture", {"Os": "linux", "Architecture": "arm64"}, "warning", "linux/arm64: for Graviton"),
        ("architecture", {"Os": "windows", "Architecture": "amd64"}, "FAILED", "windows/amd64"),
        ("architecture", config(), "skipped", "this is no image"),
        ("bind-to-port-label", config(Labels={LABEL: "true"}), "ok", "true"),
        ("bind-to-port-label", config(Labels={LABEL: "yes"}), "FAILED", f"{LABEL}: 'yes'"),
        ("bind-to-port-label", config(Labels=None), "FAILED", f"{LABEL}: not there"),
        ("exec-form", config(Entrypoint=None), "ok", "no ENTRYPOINT"),
        ("exec-form", config(Entrypoint=["python", "serve.py"]), "ok", "python serve.py"),
        ("exec-form", config(Entrypoint=["/bin/bash", "-c", "serve"]), "FAILED", "is a shell's: /bin/bash -c serve"),
        ("exec-form", config(Entrypoint=["/bin/sh", "start.sh"]), "ok", "/bin/sh start.sh"),
        ("exec-form", config(Entrypoint=["/sbin/tini"]), "FAILED", "/sbin/tini: takes `serve` for its own argument"),
        ("exec-form", config(Entrypoint=["tini", "--"]), "ok", "tini --"),
        ("exec-form", config(Entrypoint=["/bin/sh", "-c", "x" * 200]), "FAILED", f"/bin/sh -c {'x' * 109}"),
        ("user", config(User=""), "ok", "root"),
        ("user", config(User="0:0"), "ok", "0:0"),
        ("user", config(User="root:users"), "ok", "root:users"),
        ("user", config(User="10001"), "warning", "USER 10001"),
    ],
)
def test_an_images_configuration_is_judged(rule: str, facts: Mapping[str, Any], verdict: str, said: str) -> None:
    seen = examine(rule, Scripted(known=facts))

    assert seen.verdict == verdict
    assert said in seen.text


def test_files_in_opt_ml_and_the_manifest_are_judged() -> None:
    docker = "application/vnd.docker.distribution.manifest.v2+json"

    seen = [
        examine("nothing-in-opt-ml", Scripted(files=["/opt/program/a"])),
        examine("nothing-in-opt-ml", Scripted(files=["/opt/ml/model/a", "/opt/ml/b"])),
        examine("manifest", Scripted(media=docker)),
        examine("manifest", Scripted(media="application/vnd.oci.image.index.v1+json")),
    ]

    assert [one.verdict for one in seen] == ["ok", "FAILED", "ok", "FAILED"]
    assert seen[1].text == "2 files, such as /opt/ml/model/a"
    assert seen[3].text == "application/vnd.oci.image.index.v1+json"
    long = examine("nothing-in-opt-ml", Scripted(files=["/opt/ml/" + "x" * 200]))
    assert long.text == f"1 files, such as /opt/ml/{'x' * 112}"
    shown = examine("exec-form", Scripted(known=config(Entrypoint=["x" * 121])))
    assert shown.text == "x" * 120


def listening_on(*ports: int) -> Callable[[Situation, Server], None]:
    return lambda _situation, server: setattr(server, "ports", set(ports))


def cannot_start(*situations: str) -> Callable[[Situation, Server], None]:
    """A subject that starts only without these changes to its situation."""

    def begin(situation: Situation, _server: Server) -> None:
        for name in situations:
            if getattr(situation, name):
                raise CannotStart(f"no start with {name}")

    return begin


@pytest.mark.parametrize(
    ("rule", "subject", "verdict", "said"),
    [
        ("serve", Scripted(begin=listening_on(PORT, 1)), "ok", f"on port {PORT}"),
        ("serve", Scripted(), "ok", "healthy after"),
        ("serve", Scripted(begin=listening_on()), "FAILED", f"listens on port {PORT} of the loopback only"),
        (
            "serve",
            Scripted(ping=answer(b"", status=503)),
            "FAILED",
            "was answered with 200 within 0 s; last: 503",
        ),
        ("serve", Scripted(ping=raw(b"")), "FAILED", "last: no answer to GET /ping"),
        ("default-port", Scripted(), "ok", "healthy on 8080"),
        ("one-port", Scripted(begin=listening_on(PORT)), "ok", "the given port and no other"),
        ("one-port", Scripted(begin=listening_on(PORT, PORT + 9)), "ok", f"and [{PORT + 9}] of the safe range"),
        ("one-port", Scripted(begin=listening_on(PORT, PORT + 10)), "FAILED", f"also listens on {PORT + 10}"),
        ("one-port", Scripted(begin=listening_on(PORT, PORT - 1)), "FAILED", f"also listens on {PORT - 1}"),
        ("one-port", Scripted(), "skipped", "only Linux shows"),
        ("neighbours", Scripted(), "ok", "both are healthy"),
        ("neighbours", Scripted(begin=cannot_start("beside")), "FAILED", "no start with beside"),
        ("read-only-model", Scripted(), "ok", "mounted read-only"),
        ("read-only-model", Scripted(mounts=False), "skipped", "this needs Docker"),
        ("other-user", Scripted(), "ok", "healthy as 10001:10001"),
        ("other-user", Scripted(begin=cannot_start("user")), "warning", "no start with user"),
        ("read-only-root", Scripted(), "ok", "healthy"),
        ("read-only-root", Scripted(begin=cannot_start("read_only")), "warning", "no start with read_only"),
        ("logs", Scripted(), "ok", "started"),
        ("logs", Scripted(begin=lambda _s, server: setattr(server, "words", " \n")), "warning", "nothing was written"),
    ],
)
def test_a_start_is_judged(rule: str, subject: Scripted, verdict: str, said: str) -> None:
    seen = examine(rule, subject)

    assert seen.verdict == verdict, seen
    assert said in seen.text


@pytest.mark.parametrize(
    ("rule", "situation"),
    [
        ("default-port", Situation(None)),
        ("other-user", Situation(PORT + 4, user="10001:10001")),
        ("read-only-root", Situation(PORT + 5, read_only=True)),
    ],
)
def test_a_rule_starts_it_in_its_own_situation(rule: str, situation: Situation) -> None:
    subject = Scripted()

    examine(rule, subject)

    assert subject.started[-1] == situation


def test_it_is_first_started_as_the_platform_does_it() -> None:
    subject = Scripted()

    examine("serve", subject)

    (first,) = subject.started
    assert (first.model, first.writable_model, first.read_only) == (True, False, False)
    assert (first.port, first.env, first.user, first.beside) == (PORT, {}, "", None)


def test_of_a_log_80_characters_are_shown() -> None:
    seen = examine("logs", Scripted(begin=lambda _situation, server: setattr(server, "words", "x" * 90)))

    assert seen.text == "x" * 80


@pytest.mark.parametrize(("started_after", "watched"), [(0.0, 10), (8.0, 12)])
def test_a_start_without_a_model_is_watched_for_10_seconds_or_half_as_long_again_as_a_good_one(
    started_after: float, watched: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(start_rules, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(start_rules, "_is_healthy", lambda _running: False)
    with Case(Scripted(), GOOD, PORT, 5) as case:
        case.hosted()
        case.started_after = started_after
        seen = start_rules.ping_means_ready(case)

    assert (seen.verdict, seen.text) == ("ok", f"not 200 within {watched} s without a model")
    assert watched <= now[0] < watched + 0.2


def test_a_neighbour_shares_the_network_of_the_first() -> None:
    subject = Scripted()

    with Case(subject, GOOD, PORT, 5) as case:
        command.examine(case, "neighbours")
        first = case.hosted()

    assert subject.started == [Situation(PORT), Situation(PORT + 1, beside=first)]


def test_a_second_one_that_takes_the_first_ones_place_is_found() -> None:
    def begin(situation: Situation, server: Server) -> None:
        if situation.beside:
            first = situation.beside
            server.port, first.port = first.port, 9

    seen = examine("neighbours", Scripted(begin=begin))

    assert (seen.verdict, seen.text[:40]) == ("FAILED", "the second took the first one's place: n")


def test_what_starts_only_with_a_writable_model_directory_is_found() -> None:
    def begin(situation: Situation, _server: Server) -> None:
        if not situation.writable_model:
            raise CannotStart("read-only file system")

    seen = examine("read-only-model", Scripted(begin=begin))
    hopeless = examine("read-only-model", Scripted(begin=cannot_start("port")))

    assert (seen.verdict, seen.text) == ("FAILED", "it starts only when it may write into /opt/ml/model")
    assert (hopeless.verdict, hopeless.text) == ("skipped", "it does not start: no start with port")


@pytest.mark.parametrize(
    ("code", "healthy", "verdict", "said"),
    [
        (3, False, "ok", "without a model it ends with exit code 3"),
        (0, False, "FAILED", "exit code 0, as if nothing had happened"),
        (None, True, "warning", "without a model /ping is 200"),
        (None, False, "ok", "not 200 within 0 s without a model"),
    ],
)
def test_a_start_without_a_model_is_judged(
    code: int | None, healthy: bool, verdict: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_rules, "WITHOUT_MODEL", 0.2)

    def begin(situation: Situation, server: Server) -> None:
        if not situation.model:
            server.code = code
            server.port = server.port if healthy else 9

    subject = Scripted(begin=begin)
    with Case(subject, GOOD, PORT, 5) as case:
        case.hosted()
        case.started_after = 0.0
        seen = start_rules.ping_means_ready(case)

    assert seen.verdict == verdict
    assert said in seen.text
    assert subject.started[-1] == Situation(PORT + 2, model=False)


def test_it_is_started_once_for_all_rules_and_its_failure_is_told_once() -> None:
    def begin(_situation: Situation, server: Server) -> None:
        server.code, server.words = 1, "first\n\n  the reason \n"

    subject = Scripted(begin=begin)
    with Case(subject, GOOD, PORT, 5) as case:
        before = command.examine(case, "ping")
        told = command.examine(case, "serve")
        after = command.examine(case, "ping")

    assert subject.started == [Situation(PORT)]
    assert (before.verdict, before.text) == ("skipped", "it does not start: it ended with exit code 1: the reason")
    assert (told.verdict, told.text) == (
        "FAILED", f"with SAGEMAKER_BIND_TO_PORT={PORT}: it ended with exit code 1: the reason",
    )  # fmt: skip
    assert (after.verdict, after.text) == ("skipped", "it does not start: see serve")
    assert last_line(Server(1, words=" \n")) == "its log is empty"
    assert len(last_line(Server(1, words="x" * 900))) == 300


def by_type(**replies: Reply) -> Reply:
    """Other answers where a header or the body is as the name says; else a good one."""

    def reply(asked: Asked, connection: socket.socket) -> None:
        media, accept = asked.headers.get("content-type", ""), asked.headers.get("accept", "")
        found = {
            "parameters": ";" in media,
            "capitals": media.isupper(),
            "unknown": "nobody-knows" in media,
            "empty": not asked.body,
            "junk": b"\x00" in asked.body,
            "large": len(asked.body) > 1000,
            "json": accept == "application/json",
            "any": accept == "*/*",
            "none": not accept,
            "headers": "x-amzn-sagemaker-session-id" in asked.headers,
        }
        chosen = next((answered for name, answered in replies.items() if found.get(name)), None)
        (chosen or replies.get("other") or answer(b"9.5", "application/json"))(asked, connection)

    return reply


REFUSED = answer(b"no", status=415)
LONG = answer(b"x" * 2049, status=400)
SHORT = answer(b"x" * 2048, status=400)
TRACE = answer(b"Traceback (most recent call last):\n", status=400)
FAILED = answer(b"oops", status=500)
NUMBERS = iter(range(10**9))


def changing(asked: Asked, connection: socket.socket) -> None:
    """Another answer each time."""
    answer(b"%d" % next(NUMBERS), "application/json")(asked, connection)


@pytest.mark.parametrize(
    ("rule", "reply", "verdict", "said"),
    [
        ("answer", answer(b"9.5\n 1"), "ok", "200: 9.5 1 ("),
        ("answer", answer(b" \n"), "FAILED", "200 and nothing in it"),
        ("answer", FAILED, "FAILED", "500: oops"),
        ("answer", raw(b""), "FAILED", "no answer to POST /invocations"),
        ("answer", by_type(other=answer(b"", status=406), json=answer(b"9")), "ok", "200: 9"),
        ("answer-type", answer(b"9", "text/csv"), "ok", "text/csv"),
        ("answer-type", answer(b"9", "text/html; charset=utf-8"), "FAILED", "Content-Type: text/html"),
        ("answer-type", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n9"), "FAILED", "Content-Type: not there"),
        ("answer-type", FAILED, "skipped", "a good request is not answered with 200"),
        ("content-type-parameters", answer(b"9"), "ok", "the same answer"),
        ("content-type-parameters", by_type(parameters=REFUSED), "FAILED", "charset=utf-8 is answered with 415: no"),
        ("content-type-parameters", by_type(capitals=REFUSED), "FAILED", "Content-Type: TEXT/CSV is answered with 415"),
        (
            "content-type-parameters",
            by_type(capitals=answer(b"8")),
            "FAILED",
            "with something else: 200: 8",
        ),
        ("content-type-parameters", changing, "ok", "the answers differ each time"),
        (
            "content-type-parameters",
            by_type(capitals=answer(b"8", "text/csv"), other=lambda *asked: changing(*asked)),
            "FAILED",
            "with something else: 200: 8",
        ),
        ("accept", by_type(any=REFUSED), "FAILED", "Accept: */* is answered with 415"),
        ("accept", by_type(any=answer(b"9,5", "text/csv")), "ok", "the same answer"),
        (
            "platform-headers",
            by_type(headers=FAILED),
            "FAILED",
            "Session-Id: check is answered with 500",
        ),
        ("platform-headers", by_type(headers=answer(b"8")), "FAILED", "is answered with something else"),
        ("platform-headers", answer(b"9"), "ok", "the same answer"),
        ("errors", by_type(junk=REFUSED), "ok", "415: no"),
        ("errors", answer(b"9"), "FAILED", "a body of no type at all is answered with 200: 9"),
        ("errors", by_type(junk=FAILED), "warning", "counts as the server's fault: 500"),
        ("errors", by_type(junk=TRACE), "warning", "the answer has a traceback in it"),
        ("errors", by_type(junk=LONG), "warning", "the refusal has 2049 bytes"),
        ("errors", by_type(junk=SHORT), "ok", "400: xx"),
        ("unknown-type", by_type(unknown=REFUSED), "ok", "415: no"),
        ("unknown-type", answer(b"9"), "warning", "200: 9"),
        ("unknown-type", FAILED, "warning", "500: oops"),
        ("empty-body", by_type(empty=REFUSED), "ok", "415: no"),
        ("empty-body", FAILED, "warning", "500: oops"),
        ("payload-limit", answer(b"9"), "ok", "6 MiB: 200, in"),
        ("payload-limit", by_type(large=answer(b"", status=413)), "FAILED", "a body of 6 MiB: 413"),
        ("payload-limit", by_type(large=REFUSED), "FAILED", "a body of 6 MiB: 415"),
        ("payload-limit", by_type(large=raw(b"")), "FAILED", "a body of 6 MiB: no answer"),
        ("execution-parameters", answer(b"", status=404), "ok", "not there"),
        ("execution-parameters", FAILED, "FAILED", "500: oops"),
        ("execution-parameters", answer(b"{"), "FAILED", "no JSON: 200: {"),
        ("execution-parameters", answer(b"[" * 100_000), "FAILED", "no JSON"),
        ("execution-parameters", answer(b"", status=404), "ok", "else 1, MultiRecord, 6 MB"),
        ("empty-body", answer(b"", status=499), "ok", "499"),
        ("unknown-type", answer(b"", status=400), "ok", "400"),
        ("unknown-type", answer(b"", status=499), "ok", "499"),
        ("unknown-type", answer(b"", status=399), "warning", "399"),
        ("errors", by_type(junk=answer(b"", status=499)), "ok", "499"),
        ("ping-under-load", answer(b"9"), "ok", "beside 8 requests of 1 MiB at once"),
    ],
)
def test_answers_are_judged(rule: str, reply: Reply, verdict: str, said: str) -> None:
    seen = examine(rule, Scripted(reply))

    assert seen.verdict == verdict, seen
    assert said in seen.text


def test_a_payload_that_cannot_be_repeated_is_judged_by_its_size_alone() -> None:
    asking = Asking(b"{}", "application/json")

    seen = [
        examine("payload-limit", Scripted(by_type(large=answer(b"no", status=status))), asking) for status in (400, 413)
    ]

    assert [one.verdict for one in seen] == ["ok", "FAILED"]


def test_without_a_payload_a_rule_asks_with_rows_of_its_own() -> None:
    none = Asking(b"", "")
    subject = Scripted(REFUSED)

    seen = [examine(rule, subject, none).verdict for rule in ("unknown-type", "empty-body", "errors", "payload-limit")]
    skipped_one = examine("answer", subject, none)

    assert seen == ["ok"] * 4
    assert (skipped_one.verdict, skipped_one.text) == ("skipped", "no payload was given: --payload FILE")
    media = [asked.headers["content-type"] for asked in subject.asked]
    assert media == ["application/x-nobody-knows", "text/csv", "text/csv", "text/csv"]
    assert subject.asked[0].body == b"1,2,3\n"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, ""),
        ({"MaxConcurrentTransforms": 1, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 100}, ""),
        ({"MaxConcurrentTransforms": 4, "MaxPayloadInMB": 25}, ""),
        ({"MaxPayloadInMB": 0}, ""),
        (["x" * 100], f"expected an object, got ['{'x' * 78}"),
        ({"BatchStrategy": "SINGLE_RECORD"}, ""),
        ({"BatchStrategy": "SingleRecord"}, "BatchStrategy"),
        ({"MaxPayloadInMB": -1}, "MaxPayloadInMB: expected a whole number from 0 to 100, got -1"),
        ({"MaxPayloadInMB": 101}, "MaxPayloadInMB: expected a whole number from 0 to 100, got 101"),
        ({"MaxPayloadInMB": "6"}, "MaxPayloadInMB"),
        ({"MaxConcurrentTransforms": 0}, "MaxConcurrentTransforms"),
        ({"MaxConcurrentTransforms": True}, "MaxConcurrentTransforms"),
        ([], "object"),
    ],
)
def test_execution_parameters_are_judged(document: Any, said: str) -> None:
    seen = examine("execution-parameters", Scripted(answer(json.dumps(document).encode(), "application/json")))

    assert seen.verdict == ("FAILED" if said else "ok"), seen
    assert said in seen.text


def test_pings_are_judged() -> None:
    statuses = iter([200, 200, 200, 500])
    late: Reply = lambda *given: answer(b"", status=next(statuses, 200))(*given)  # noqa: E731

    seen = [examine("ping", Scripted(ping=ping)) for ping in (answer(b""), answer(b"pong"), late)]

    assert [one.verdict for one in seen] == ["ok", "warning", "FAILED"]
    assert seen[0].text.startswith("10 of 10, the slowest in ")
    assert seen[1].text == "the body is not empty: 200: pong"
    assert seen[2].text == "once healthy, it answered 500"


def test_a_ping_that_is_late_under_load_is_examined_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = [wrong("late"), fine("in time"), wrong("late"), wrong("late again")]
    monkeypatch.setattr(request_rules, "_pings_under_load", lambda _case: verdicts.pop(0))

    seen = [examine("ping-under-load", Scripted()) for _ in range(2)]

    assert [one.text for one in seen] == ["in time", "late again"]


def test_a_load_is_16_requests_of_up_to_1_mib_and_few_pings_beside_it_are_said_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = []
    for few in (0, 10**9):
        monkeypatch.setattr(request_rules, "FEW", few)
        subject = Scripted()
        texts.append(examine("ping-under-load", subject).text)
        bodies = [asked.body for asked in subject.asked]

    told = ["over too soon to tell more" in text for text in texts]
    assert told == [False, True]
    assert bodies == [GOOD.body * (2**20 // len(GOOD.body))] * 16


def test_a_ping_is_asked_for_10_times_and_once_at_the_start() -> None:
    pings: list[Asked] = []
    subject = Scripted(ping=lambda asked, connection: (pings.append(asked), answer(b"")(asked, connection))[1])

    examine("ping", subject)

    assert [(one.method, one.path) for one in pings] == [("GET", "/ping")] * 11


def test_the_largest_body_has_6_mib_and_the_good_rows() -> None:
    subject = Scripted()

    examine("payload-limit", subject)

    assert subject.asked[-1].body == GOOD.body * (6_291_456 // len(GOOD.body))


def test_execution_parameters_are_asked_for_as_batch_transform_does() -> None:
    subject = Scripted()

    examine("execution-parameters", subject)

    assert [(asked.method, asked.path) for asked in subject.asked] == [("GET", "/execution-parameters")]


def test_the_headers_of_the_platform_are_sent() -> None:
    subject = Scripted()

    examine("platform-headers", subject)

    assert {
        "x-amzn-sagemaker-custom-attributes": "trace=1",
        "x-amzn-sagemaker-inference-id": "check",
        "x-amzn-sagemaker-target-variant": "AllTraffic",
        "x-amzn-sagemaker-session-id": "check",
    }.items() <= subject.asked[-1].headers.items()


def test_an_answer_is_asked_for_as_json_and_csv_only_where_the_first_is_refused() -> None:
    answered, refused = Scripted(), Scripted(answer(b"", status=406))

    for subject in (answered, refused):
        examine("answer", subject)

    accepts = [[asked.headers.get("accept") for asked in subject.asked] for subject in (answered, refused)]
    assert accepts == [[None], [None, "application/json", "text/csv"]]


def test_without_a_payload_a_row_of_its_own_is_under_way_for_the_30_seconds_from_sigterm_on() -> None:
    given: list[float] = []
    begin = lambda _situation, server: setattr(server, "terminate", lambda seconds: given.append(seconds) or 0)  # noqa: E731
    subject = Scripted(answer(b"9"), begin=begin)

    assert examine("sigterm", subject, Asking(b"", "")).verdict == "ok"
    assert [asked.body for asked in subject.asked] == [b"1,2,3\n"] * 2
    assert given == [30]


def test_a_slow_ping_under_load_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_rules, "SLOWEST_PING", 0.0)

    assert examine("ping-under-load", Scripted()).verdict == "FAILED"


@pytest.mark.parametrize(
    ("code", "status", "verdict", "said"),
    [
        (0, 200, "ok", "exit code 0 after"),
        (3, 200, "warning", "exit code 3 after"),
        (None, 200, "FAILED", "still running 30 s after SIGTERM"),
        (137, 200, "FAILED", "still running 30 s after SIGTERM"),
        (0, 500, "FAILED", "the request that was under way was answered with 500 instead of 200"),
        (0, 0, "FAILED", "the request that was under way was lost"),
    ],
)
def test_an_end_is_judged(code: int | None, status: int, verdict: str, said: str) -> None:
    posts: list[Asked] = []

    def reply(asked: Asked, connection: socket.socket) -> None:
        posts.append(asked)
        usual = len(posts) == 1 or status == 200
        (answer(b"9") if usual else raw(b"") if not status else answer(b"", status=status))(asked, connection)

    subject = Scripted(reply, begin=lambda _situation, server: setattr(server, "ends_with", code))
    seen = examine("sigterm", subject)

    assert (seen.verdict, said in seen.text) == (verdict, True), seen
    for seconds in re.findall(r"after (\S+) s, and", seen.text):
        assert 0.5 <= float(seconds) < 3600  # the body is finished after half a second
    assert [asked.body for asked in posts] == [GOOD.body] * 2
    assert subject.started == [Situation(PORT), Situation(PORT + 6)]


@pytest.mark.parametrize(("given", "sent"), [("application/json", "application/json"), ("", "text/csv")])
def test_the_request_under_way_at_the_end_is_of_the_users_content_type(given: str, sent: str) -> None:
    posts: list[Asked] = []

    def reply(asked: Asked, connection: socket.socket) -> None:
        posts.append(asked)
        answer(b"9")(asked, connection)

    seen = examine(
        "sigterm",
        Scripted(reply, begin=lambda _situation, server: setattr(server, "ends_with", 0)),
        Asking(b"[1]", given),
    )

    assert seen.verdict == "ok", seen
    assert [asked.headers["content-type"] for asked in posts] == [sent] * 2


def test_a_call_says_what_came_instead_of_an_answer() -> None:
    with ScriptedContainer(raw(b"SSH-2.0\r\n")) as other, pytest.raises(NoReply, match="POST /invocations: "):
        call(other.port, "POST", "/invocations", b"1")
    with ScriptedContainer(answer(b"x" * 200, X_Y="z")) as server:
        reply = call(server.port, "POST", "/invocations", b"1", {"A": "b"})
        asked = server.asked[0]
    with pytest.raises(NoReply, match=r"no answer to GET /ping: .*refused"):
        call(server.port, "GET", "/ping")

    assert (reply.status, reply.headers["x-y"], reply.body, reply.seconds > 0) == (200, "z", b"x" * 200, True)
    assert str(reply) == f"200: {'x' * 160}"
    assert (asked.body, asked.headers["a"]) == (b"1", "b")


TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1
   1: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1
   2: 0A01A8C0:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 13 1
   3: 00000000:1F93 0100007F:0001 01 00000000:00000000 00:00000000 00000000     0        0 14 1
   4: 00000000000000000000000000000000:1F94 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 15 1
   5: 00000000000000000000000001000000:1F95 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 16 1
   6: 0000000000000000FFFF00000100007F:1F96 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 17 1
"""


def test_ports_that_others_can_reach_are_read_from_the_kernels_tables() -> None:
    assert reachable(TABLE) == {0x1F90, 0x1F92, 0x1F94}
    assert reachable(TABLE, {"11", "12", "15"}) == {0x1F90, 0x1F94}


@pytest.mark.parametrize("seen", [fine("good"), skipped("none"), doubtful("odd \x1b[31m"), wrong("bad " * 60)])
def test_a_finding_is_shown_in_a_table(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rule = RULES["serve"]

    lines = list(command.shown(rule, seen))

    sign = {Verdict.SKIPPED: "-"}.get(seen.verdict, str(seen.verdict))
    assert lines[0].startswith(f"{sign:<9}serve  ")
    assert all(len(line) <= 80 or "https://" in line for line in lines)
    assert all(line.isprintable() for line in lines)
    heads = [line.split()[0] for line in lines[1:] if not line.startswith(" " * 34)]
    told = seen.verdict in (Verdict.FAILED, Verdict.WARNING)
    assert heads == (["rule", "SageMaker", "mend", "source"] if told else [])
    assert (rule.source in " ".join(line.strip() for line in lines)) is told


def test_every_rule_has_an_examination_of_its_own() -> None:
    modules = (image_rules, start_rules, request_rules, ending_rules)
    examined = [function for module in modules for function in module.EXAMINED.values()]

    assert len(set(examined)) == len(examined) == len(RULES)


@pytest.mark.parametrize(("columns", "room"), [(500, 84), (100, 64), (30, 20)])
def test_a_table_is_as_wide_as_the_terminal_up_to_120(columns: int, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))

    first, second = command.shown(RULES["serve"], fine("x" * (room + 1)))

    assert first == f"ok{' ' * 7}serve{' ' * 20}{'x' * room}"
    assert second == f"{' ' * 34}x"
    assert list(command.shown(RULES["serve"], fine(""))) == [f"ok{' ' * 7}serve{' ' * 20}"]


def test_a_broken_rules_lines_are_in_two_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    rule = Rule("r", "t " * 50, "p", "m", "https://" + "s-" * 60)

    assert list(command.shown(rule, wrong("bad"))) == [
        f"FAILED   r{' ' * 24}bad",
        f"{' ' * 28}rule  {'t ' * 41}t",
        f"{' ' * 34}{'t ' * 7}t",
        f"{' ' * 23}SageMaker  p",
        f"{' ' * 28}mend  m",
        f"{' ' * 26}source  {rule.source}",
    ]


def run_check(monkeypatch: pytest.MonkeyPatch, subject: Scripted, *arguments: str) -> int:
    monkeypatch.setattr(command, "_subject", lambda *_: subject)
    return main(["check", "image", *arguments])


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--only", "user", "architecture"], 1, "it: 1 warning, 1 failed\n"),
        (["--only", "user", "architecture", "--skip", "architecture"], 0, "it: 1 warning\n"),
        (["--only", "user", "--strict"], 1, "it: 1 warning\n"),
        (["--only", "exec-form", "manifest", "--skip", "manifest", "--strict"], 0, "it: 1 ok\n"),
    ],
)
def test_what_is_broken_decides_the_exit_code_and_all_is_counted(
    options: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = Scripted(known={"Os": "a", "Architecture": "b", **config(User="7")})

    assert run_check(monkeypatch, subject, *options) == code
    assert capsys.readouterr().out.endswith(f"\n\n{said}")


def test_json_has_all_of_a_rule_and_what_was_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_check(monkeypatch, Scripted(known=config(User="7")), "--json", "--strict", "--only", "user")

    rule = RULES["user"]
    assert code == 1
    assert json.loads(capsys.readouterr().out) == {
        "subject": "it",
        "broken": 1,
        "findings": [
            {
                "name": "user", "title": rule.title, "platform": rule.platform, "mend": rule.mend,
                "source": rule.source, "verdict": "warning", "seen": "USER 7",
            }
        ],
    }  # fmt: skip


def test_without_options_every_rule_is_examined_on_ports_from_23456_within_60_seconds() -> None:
    given = parser().parse_args(["check", "i"])

    assert (given.port, given.start_timeout, given.strict, given.json) == (23456, 60, False, False)
    assert (given.only, given.skip, given.env) == (list(command.EXAMINED), [], [])
