"""Every case of the corpus gets the answer that it is owed: from the application, gunicorn, nginx and the router."""

from __future__ import annotations

import contextlib
import http.client
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from featurizer.model import Featurizer
from predictor.model import Predictor
from serving.app import create_app
from serving.settings import Settings
from tests.corpus_cases import LEVELS, Ask, Case, Reply, Request, in_process, over_tcp, plain_csv, replay
from tests.corpus_format import load_corpus
from tests.servers import Server, launched, running, wait_until

STAGES: dict[str, Callable[..., Featurizer | Predictor]] = {"featurizer": Featurizer.load, "predictor": Predictor.load}
AS_THE_CHAIN_RUNS_IT = {
    "MODEL_SERVER_NGINX": "off",
    "MODEL_SERVER_WORKERS": "1",
    "MODEL_SERVER_WORKER_CLASS": "gthread",
}
FEATURES = "".join(f"-0.{number},-0.4,-1.1,-0.6,,-0.7,-0.6,0,0,1\n" for number in range(101, 110))
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
TIMES, CLIENTS = 10_000, 4
IDLE, OWN_FILES = 10_000, 200  # connections, and the files that a test has open besides
RECORDS = [f"{sex},0.455,0.365,0.095,0.514,0.2245,0.{number},0.15\n" for number, sex in enumerate("MFIMFIXMF", 101)]


@dataclass(frozen=True)
class Place:
    """Where a case is replayed: a stage, the level at which it is asked, and the container's settings."""

    level: str
    stage: str
    env: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return "-".join([self.level, self.stage, *(f"{name}={value}" for name, value in self.env)])


@dataclass(frozen=True)
class Replay:
    place: Place
    case: Case

    def __str__(self) -> str:
        return f"{self.place.level}-{self.place.stage}-{self.case}"


CASES = load_corpus()
REPLAYS = [
    Replay(Place(level, stage, tuple(sorted(case.env.items()))), case)
    for level in LEVELS
    for case in CASES
    for stage in case.stages
    if level in case.levels
]


@dataclass
class Fleet:
    """The servers that the replays ask, each started once, and the workers they began with."""

    artifacts: Path
    stack: contextlib.ExitStack
    servers: dict[Place, Server] = field(default_factory=dict)
    workers: dict[Place, list[int]] = field(default_factory=dict)
    asks: dict[Place, Ask] = field(default_factory=dict)
    begun: dict[str, Future[Reply]] = field(default_factory=dict)

    def launch(self, place: Place) -> Server:
        """Start what answers at a place, and for a router the container behind it. Returns at once."""
        if place not in self.servers:
            self.servers[place] = self.stack.enter_context(launched(*self._command(place)))
        return self.servers[place]

    def wait(self) -> None:
        for place, server in self.servers.items():
            wait_until(lambda server=server: server.pings() == 200, f"{place} to answer 200", 60)  # type: ignore[misc]
            self.workers[place] = server.workers()

    def begin(self, replays: Sequence[Replay]) -> None:
        """Send what only a timeout answers, so that the others need not wait for it."""
        pool = self.stack.enter_context(ThreadPoolExecutor())
        for asked in replays:
            if asked.case.waits:
                self.begun[str(asked)] = pool.submit(self.ask(asked.place), asked.case.request, 1)

    def stop(self) -> None:
        """Tell all at once; leaving the stack waits for them."""
        for server in self.servers.values():
            server.process.terminate()

    def lost(self) -> list[Place]:
        """Where another worker runs now than at the start."""
        return [place for place, server in self.servers.items() if server.workers() != self.workers[place]]

    def ask(self, place: Place) -> Ask:
        if place not in self.asks:
            served = self.servers.get(place)
            self.asks[place] = over_tcp(served.port) if served else in_process(self._application(place))
        return self.asks[place]

    def _application(self, place: Place) -> FlaskClient:
        settings = Settings.from_env(dict(place.env))
        stage = STAGES[place.stage](
            self._model(place), settings.default_accept, max_rows=settings.max_rows, batch=settings.batch
        )
        return create_app(stage, settings, interface=stage.interface).test_client()

    def _command(self, place: Place) -> tuple[str, Mapping[str, str]]:
        if place.level == "router":
            behind = self.launch(Place("nginx", place.stage, place.env))
            return "local_test", AS_THE_CHAIN_RUNS_IT | {"CONTAINERS": f"{place.stage}=http://127.0.0.1:{behind.port}"}
        # Alone, gunicorn spends a worker on each of the two clients that wait.
        front = {"nginx": {}, "gunicorn": {"MODEL_SERVER_NGINX": "off", "MODEL_SERVER_WORKERS": "3"}}[place.level]
        one = {"MODEL_SERVER_WORKERS": "1"} if place.env else {}
        return place.stage, {"SM_MODEL_DIR": str(self._model(place)), **front, **one, **dict(place.env)}

    def _model(self, place: Place) -> Path:
        return self.artifacts / place.stage / "model"


@pytest.fixture(scope="module")
def fleet(artifacts: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Every server that a selected test asks; they start and stop side by side."""
    selected = [
        value
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        for value in item.callspec.params.values()
    ]
    replays = [value for value in selected if isinstance(value, Replay)]
    with contextlib.ExitStack() as stack:
        fleet = Fleet(artifacts, stack)
        for place in [value for value in selected if isinstance(value, Place)] + [asked.place for asked in replays]:
            if place.level != "application":
                fleet.launch(place)
        fleet.wait()
        fleet.begin(replays)
        yield fleet
        fleet.stop()


@pytest.mark.parametrize("asked", REPLAYS, ids=str)
def test_every_case_gets_the_answer_that_it_is_owed(fleet: Fleet, asked: Replay) -> None:
    begun = fleet.begun.get(str(asked))
    ask = (lambda *_: begun.result()) if begun else fleet.ask(asked.place)

    replay(ask, asked.case, asked.place.level)


SERVED = sorted({replay.place for replay in REPLAYS if replay.place.level != "application"}, key=repr)
FEATURIZERS = [Place(level, "featurizer") for level in LEVELS[1:]]
at_every_featurizer = pytest.mark.parametrize("place", FEATURIZERS, ids=lambda place: place.level)


BODIES = {"featurizer": "".join(RECORDS), "predictor": FEATURES}
STAGES_SERVED = [Place(level, stage) for level in LEVELS[1:] for stage in STAGES]
at_every_stage = pytest.mark.parametrize("place", STAGES_SERVED, ids=lambda place: f"{place.level}-{place.stage}")


@at_every_stage
def test_the_same_request_gets_the_same_bytes_from_every_worker(fleet: Fleet, place: Place) -> None:
    port, body = fleet.servers[place].port, BODIES[place.stage]
    times = TIMES if place == Place("nginx", "featurizer") else TIMES // 10

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = pool.map(lambda _: distinct_answers(port, body, times // CLIENTS), range(CLIENTS))

    ((status, answer),) = set().union(*answers)
    assert (status, bool(answer)) == (200, True)


def distinct_answers(port: int, body: str, times: int) -> set[tuple[int, bytes]]:
    """The different answers to one request asked many times, on one connection where the server keeps it."""
    found = set()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        for _ in range(times):
            connection.request("POST", "/invocations", body, {"Content-Type": "text/csv"})
            response = connection.getresponse()
            found.add((response.status, response.read()))
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_after_a_restart_and_with_other_threads_the_bytes_are_the_same(artifacts: Path, stage: str) -> None:
    found = set()
    for threads in ("1", "4", "4"):
        env = {"SM_MODEL_DIR": str(artifacts / stage / "model"), "OMP_NUM_THREADS": threads}
        with running(stage, env) as server:
            found |= distinct_answers(server.port, BODIES[stage] * 500, 10)

    ((status, _),) = found
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

    with socket.create_connection(("127.0.0.1", fleet.servers[place].port), timeout=20) as connection:
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
        with socket.create_connection(("127.0.0.1", fleet.servers[place].port), timeout=20) as connection:
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
def test_idle_connections_keep_nobody_out(fleet: Fleet, place: Place) -> None:
    """As many as this machine lets both sides have open; the limit of a process is often less."""
    server = fleet.servers[place]
    with contextlib.ExitStack() as stack:
        stack.enter_context(as_many_files_as_allowed())
        count = min(IDLE, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OWN_FILES)
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        status, pings = fleet.ask(place)(plain_csv(RECORDS[0], None), 1).responses[0].status, []
        for _ in range(5):
            begun = time.monotonic()
            pings.append((server.pings(2), time.monotonic() - begun))

    assert (status, {ping for ping, _ in pings}) == (200, {200})
    assert min(seconds for _, seconds in pings) < 0.1


@contextlib.contextmanager
def as_many_files_as_allowed() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("place", SERVED, ids=str)
def test_no_worker_was_lost_and_every_log_line_is_json(fleet: Fleet, place: Place) -> None:
    """Stands after all that asks."""
    exceptions = [line for line in fleet.servers[place].lines() if "exception" in line]

    assert place not in fleet.lost()
    assert exceptions == []
