"""The corpus over gunicorn, over nginx and over the router: what they decide, and a slice of the rest.

The application itself is asked in test_corpus_application.py.
"""

from __future__ import annotations

import contextlib
import http.client
import resource
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.corpus_cases import Request, plain_csv, replay
from tests.corpus_levels import WIRE, ArtifactsOf, Fleet, Place, Replay, marked, replays
from tests.servers import running

REPLAYS = [entry for level in WIRE for entry in replays(level)]
FEATURES = "".join(f"-0.{number},-0.4,-1.1,-0.6,,-0.7,-0.6,0,0,1\n" for number in range(101, 110))
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
TIMES, CLIENTS = 400, 4
IDLE, OWN_FILES = 10_000, 200  # connections, and the files that a test has open besides
RECORDS = [f"{sex},0.455,0.365,0.095,0.514,0.2245,0.{number},0.15\n" for number, sex in enumerate("MFIMFIXMF", 101)]
BODIES = {"featurizer": "".join(RECORDS), "predictor": FEATURES}
STAGES_SERVED = [Place(level, stage) for level in WIRE for stage in BODIES]
FEATURIZERS = [Place(level, "featurizer") for level in WIRE]
SERVED = sorted({entry.place for entry in REPLAYS}, key=repr)
at_every_featurizer = pytest.mark.parametrize("place", FEATURIZERS, ids=lambda place: place.level)


@pytest.fixture(scope="module")
def fleet(artifacts_of: ArtifactsOf, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Every server that a selected test asks; they start and stop side by side."""
    selected = [
        value
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        for value in item.callspec.params.values()
    ]
    replays = [value for value in selected if isinstance(value, Replay) and value.place.level in WIRE]
    with contextlib.ExitStack() as stack:
        fleet = Fleet(artifacts_of, stack)
        for place in [value for value in selected if isinstance(value, Place)] + [entry.place for entry in replays]:
            fleet.launch(place)
        fleet.wait()
        fleet.begin(replays)
        yield fleet
        fleet.stop()


@pytest.mark.parametrize("entry", marked(REPLAYS))
def test_every_case_gets_the_answer_that_it_is_owed(fleet: Fleet, entry: Replay) -> None:
    begun = fleet.begun.get(str(entry))
    ask = (lambda *_: begun.result()) if begun else fleet.ask(entry.place)

    replay(ask, entry.case, entry.place.level)


@pytest.mark.parametrize(
    ("place", "times"),
    [*((place, TIMES) for place in STAGES_SERVED), pytest.param(FEATURIZERS[1], 25 * TIMES, marks=pytest.mark.long)],
    ids=str,
)
def test_the_same_request_gets_the_same_bytes_from_every_worker(fleet: Fleet, place: Place, times: int) -> None:
    port, body = fleet.servers[place].port, BODIES[place.stage]

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = pool.map(lambda _: distinct_answers(port, body, times // CLIENTS), range(CLIENTS))

    ((status, answer),) = set().union(*answers)
    assert (status, bool(answer)) == (200, True)


def distinct_answers(port: int, body: str, times: int) -> set[tuple[int, bytes]]:
    """The different answers to one request asked many times, on one connection where the server keeps it."""
    answers = set()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for _ in range(times):
            connection.request("POST", "/invocations", body, {"Content-Type": "text/csv"})
            response = connection.getresponse()
            answers.add((response.status, response.read()))
    return answers


@pytest.mark.parametrize(
    "place", [Place("nginx", "predictor"), pytest.param(Place("nginx", "featurizer"), marks=pytest.mark.long)], ids=str
)
def test_after_a_restart_and_with_other_threads_the_bytes_are_the_same(
    fleet: Fleet, artifacts_of: ArtifactsOf, place: Place
) -> None:
    body = BODIES[place.stage] * 500
    env = {"SM_MODEL_DIR": str(artifacts_of(place.contract) / place.stage / "model"), "OMP_NUM_THREADS": "4"}

    answers = distinct_answers(fleet.servers[place].port, body, 4)
    with running(place.stage, env) as server:
        answers |= distinct_answers(server.port, body, 10)

    ((status, _),) = answers
    assert status == 200


@at_every_featurizer
def test_shuffled_rows_get_shuffled_answers(fleet: Fleet, place: Place) -> None:
    ask = fleet.ask(place)
    order = [5, 0, 8, 3, 1, 7, 2, 6, 4]

    straight = ask(plain_csv("".join(RECORDS), "text/csv"), 1).responses[0].body.splitlines()
    shuffled = ask(plain_csv("".join(RECORDS[i] for i in order), "text/csv"), 1).responses[0].body.splitlines()

    assert len(set(straight)) == len(RECORDS)
    assert shuffled == [straight[i] for i in order]


@at_every_featurizer
def test_a_client_that_waits_to_be_told_to_continue_is_told_so(fleet: Fleet, place: Place) -> None:
    whole = plain_csv(RECORDS[0], None)
    asking = Request(headers={**whole.headers, "Expect": "100-continue"}, parts=whole.parts)
    head, _, body = asking.wire().partition(b"\r\n\r\n")

    with socket.create_connection(("127.0.0.1", fleet.servers[place].port), timeout=60) as connection:
        connection.sendall(head + b"\r\n\r\n")
        interim = connection.recv(1000)
        connection.sendall(body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


@at_every_featurizer
def test_a_client_that_goes_away_costs_no_worker(fleet: Fleet, place: Place) -> None:
    message = plain_csv("".join(RECORDS * 10_000), None).wire()
    for sent in (message[:50], message[:100_000], message):
        with socket.create_connection(("127.0.0.1", fleet.servers[place].port), timeout=60) as connection:
            connection.sendall(sent)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)

    after = [fleet.ask(place)(plain_csv(RECORDS[0], None), 1).responses[0].status for _ in range(4)]

    assert after == [200] * 4
    assert fleet.servers[place].workers() == fleet.workers[place]


@at_every_featurizer
def test_a_client_that_goes_away_while_it_is_answered_costs_no_worker(fleet: Fleet, place: Place) -> None:
    """It has read the first bytes of an answer that is larger than what sockets and nginx hold back."""
    message = plain_csv("".join(RECORDS * 3000), None).wire()
    begun = []
    for _ in range(4):
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(20)
            connection.connect(("127.0.0.1", fleet.servers[place].port))
            connection.sendall(message)
            begun.append(connection.recv(15))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)

    after = [fleet.ask(place)(plain_csv(RECORDS[0], None), 1).responses[0].status for _ in range(4)]

    assert begun == [b"HTTP/1.1 200 OK"] * 4
    assert after == [200] * 4
    assert fleet.servers[place].workers() == fleet.workers[place]


@pytest.mark.parametrize("place", [Place("nginx", "featurizer")], ids=["nginx"])
@pytest.mark.parametrize("most", [IDLE // 10, pytest.param(IDLE, marks=pytest.mark.long)])
def test_idle_connections_keep_nobody_out(fleet: Fleet, place: Place, most: int) -> None:
    """So many, or as many as this machine lets both sides have open; the limit of a process is often less."""
    server = fleet.servers[place]
    with contextlib.ExitStack() as stack:
        stack.enter_context(as_many_files_as_allowed())
        count = min(most, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OWN_FILES)
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        status = fleet.ask(place)(plain_csv(RECORDS[0], None), 1).responses[0].status
        pings = [server.pings(20) for _ in range(5)]

    assert (status, set(pings)) == (200, {200})


@contextlib.contextmanager
def as_many_files_as_allowed() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "place", [pytest.param(place, marks=[pytest.mark.long] if place.env else []) for place in SERVED], ids=str
)
def test_no_worker_was_lost_and_every_log_line_is_json(fleet: Fleet, place: Place) -> None:
    """Stands after all that asks."""
    exceptions = [line for line in fleet.servers[place].lines() if "exception" in line]

    assert place not in fleet.lost()
    assert exceptions == []
