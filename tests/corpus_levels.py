"""The places where the corpus is replayed: applications in this process, gunicorn, nginx, the router.

Over a wire few answers can differ from the application's. `slice_of` says which cases are asked there in every run of
the tests; the whole corpus there is marked `long`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from featurizer.model import Featurizer
from predictor.model import Predictor
from serving.app import create_app
from serving.settings import Settings
from tests.corpus_cases import LEVELS, Ask, Case, Reply, in_process, over_tcp
from tests.corpus_format import load_corpus
from tests.servers import Server, launched, wait_until

WIRE = LEVELS[1:]
CONTRACT = "abalone"
STAGES: dict[str, Callable[..., Featurizer | Predictor]] = {"featurizer": Featurizer.load, "predictor": Predictor.load}
AS_THE_CHAIN_RUNS_IT = {
    "MODEL_SERVER_NGINX": "off",
    "MODEL_SERVER_WORKERS": "1",
    "MODEL_SERVER_WORKER_CLASS": "gthread",
}
LARGE = 1 << 20  # bytes of a body that is only asked over a wire where all are
ArtifactsOf = Callable[[str], Path]  # by the name of a contract


@dataclass(frozen=True)
class Place:
    """A place to replay cases: a stage with a contract's model, the level at which it is asked, and its settings."""

    level: str
    stage: str
    env: tuple[tuple[str, str], ...] = ()
    contract: str = CONTRACT

    def __str__(self) -> str:
        settings = [f"{name}={value}" for name, value in self.env]
        return "-".join([self.level, self.stage, *([] if self.contract == CONTRACT else [self.contract]), *settings])


@dataclass(frozen=True)
class Replay:
    place: Place
    case: Case

    def __str__(self) -> str:
        return f"{self.place.level}-{self.place.stage}-{self.case}"


def replays(level: str) -> list[Replay]:
    """Each case at a level, for each stage that owes the answer."""
    return [
        Replay(Place(level, stage, tuple(sorted(case.env.items())), case.contract), case)
        for case in load_corpus()
        for stage in case.stages
        if level in case.levels
    ]


def slice_of(cases: Sequence[Case], level: str) -> set[str]:
    """The cases, by group and name, that are asked over a wire in every run.

    They are those that the level decides (HTTP, raw requests, an answer of its own), and of the others the smallest of
    each rule and outcome: a rule that the level breaks is seen by it.
    """
    chosen = [case for case in cases if case.group == "http" or case.request.raw or level in case.overrides]
    smallest: dict[object, Case] = {}
    for case in sorted(cases, key=lambda case: case.request.size):
        if not case.env and case.request.size <= LARGE:
            expected = case.expected(level)
            smallest.setdefault((case.rule, case.stages, expected.status, expected.code), case)
    return {str(case) for case in (*chosen, *smallest.values()) if not case.env}


def marked(replays: Sequence[Replay]) -> list[object]:
    """Parameters of a test over a wire: all but the slice are `long`."""
    slices = {level: slice_of([entry.case for entry in replays if entry.place.level == level], level) for level in WIRE}
    return [
        pytest.param(
            entry, id=str(entry), marks=[] if str(entry.case) in slices[entry.place.level] else [pytest.mark.long]
        )
        for entry in sorted(replays, key=lambda entry: entry.case.waits)  # they end by then
    ]


@dataclass
class Applications:
    """The applications of the stages in this process, each loaded once."""

    artifacts_of: ArtifactsOf
    clients: dict[Place, FlaskClient] = field(default_factory=dict)

    def ask(self, place: Place) -> Ask:
        if place not in self.clients:
            settings = Settings.from_env(dict(place.env))
            model = self.artifacts_of(place.contract) / place.stage / "model"
            limits = {"max_rows": settings.max_rows, "batch": settings.batch}
            stage = STAGES[place.stage](model, settings.default_accept, **limits)
            self.clients[place] = create_app(stage, settings, interface=stage.interface).test_client()
        return in_process(self.clients[place])


@dataclass
class Fleet:
    """The servers that are asked over a wire, each started once, and the workers that they began with."""

    artifacts_of: ArtifactsOf
    stack: contextlib.ExitStack
    servers: dict[Place, Server] = field(default_factory=dict)
    workers: dict[Place, list[int]] = field(default_factory=dict)
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
        """Send the requests that end by a timeout, so that the others need not wait for them."""
        waiting = [entry for entry in replays if entry.case.waits]
        pool = self.stack.enter_context(ThreadPoolExecutor(len(waiting) or 1))
        for entry in waiting:
            self.begun[str(entry)] = pool.submit(self.ask(entry.place), entry.case.request, 1)

    def stop(self) -> None:
        """Tell all at once; leaving the stack waits for them."""
        for server in self.servers.values():
            server.process.terminate()

    def lost(self) -> list[Place]:
        """The places where another worker runs now than at the start."""
        return [place for place, server in self.servers.items() if server.workers() != self.workers[place]]

    def ask(self, place: Place) -> Ask:
        return over_tcp(self.servers[place].port)

    def _command(self, place: Place) -> tuple[str, Mapping[str, str]]:
        if place.level == "router":
            behind = self.launch(Place("nginx", place.stage, place.env, place.contract))
            return "local_test", AS_THE_CHAIN_RUNS_IT | {"CONTAINERS": f"{place.stage}=http://127.0.0.1:{behind.port}"}
        # Alone, gunicorn spends a worker on each of the two clients that wait.
        front = {"nginx": {}, "gunicorn": {"MODEL_SERVER_NGINX": "off", "MODEL_SERVER_WORKERS": "3"}}[place.level]
        one = {"MODEL_SERVER_WORKERS": "1"} if place.env else {}
        model = self.artifacts_of(place.contract) / place.stage / "model"
        return place.stage, {"SM_MODEL_DIR": str(model), **front, **one, **dict(place.env)}
