"""A body that must be refused at once costs its worker little CPU time and no memory that stays.

Both are read from /proc, of the worker alone: neither the clock nor whoever else runs here counts, and a second is one
of an ordinary core.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving.payload import CSV, JSON, JSONLINES
from serving.settings import MIB
from tests.corpus_cases import Case, Request, over_tcp
from tests.corpus_format import load_corpus
from tests.pace import TRIES, least_cost
from tests.servers import Server, running

STAGES = ("featurizer", "predictor")
SOON = 0.2  # seconds of CPU; who has more is in no hurry
CASES = [
    pytest.param(stage, case, id=f"{stage}-{case}")
    for case in load_corpus()
    for stage in case.stages
    if case.answer.get("cpu_seconds", 1) <= SOON and not case.env and "nginx" in case.levels
]
ROWS = 200_000  # as many as a request may have
ROW = ",".join(["0.51234567890123"] * 7)
LARGE = {
    CSV: f"F,{ROW}\n".encode() * ROWS,
    JSONLINES: f'["F",{ROW}]\n'.encode() * ROWS,
    JSON: b"[" + b",".join([f'["F",{ROW}]'.encode()] * ROWS) + b"]",
}
TIMES = 10
STAYS = 8  # MB that a worker may have grown by once it has seen everything twice


@dataclass(frozen=True)
class Worker:
    """The only worker of a container behind nginx."""

    server: Server
    process: int

    def seconds(self) -> float:
        """CPU time of all its threads: Linux's clock of another process."""
        return time.clock_gettime(~self.process << 3 | 2)

    def memory(self, name: str) -> float:
        """`VmRSS`, what it has in memory, or `VmHWM`, the most that it had, in MB."""
        lines = Path(f"/proc/{self.process}/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1e3

    def forget_its_peak(self) -> None:
        Path(f"/proc/{self.process}/clear_refs").write_text("5", encoding="utf-8")

    def ask(self, case: Case) -> tuple[float, float]:
        """The cost of a case: seconds, and the MB that were needed at most."""
        return self.send(case.request, case.expected("nginx").status)

    def send(self, request: Request, status: int) -> tuple[float, float]:
        self.forget_its_peak()
        memory, seconds = self.memory("VmRSS"), self.seconds()
        reply = over_tcp(self.server.port)(request, 1)
        assert reply.responses[0].status == status
        return self.seconds() - seconds, self.memory("VmHWM") - memory


@pytest.fixture(scope="module")
def workers(artifacts: Path) -> Iterator[dict[str, Worker]]:
    with contextlib.ExitStack() as stack:
        yield {stage: stack.enter_context(alone(artifacts, stage)) for stage in STAGES}


@contextlib.contextmanager
def alone(artifacts: Path, stage: str) -> Iterator[Worker]:
    env = {"SM_MODEL_DIR": str(artifacts / stage / "model"), "MODEL_SERVER_WORKERS": "1"}
    with running(stage, env) as server:
        yield Worker(server, server.workers()[0])


@pytest.mark.parametrize(("stage", "case"), CASES)
def test_its_worker_spends_no_more_cpu_and_memory_than_the_case_allows(
    workers: dict[str, Worker], stage: str, case: Case
) -> None:
    expected = case.expected("nginx")

    seconds = least_cost(lambda: workers[stage].ask(case)[0], expected.cpu_seconds)

    assert seconds <= expected.cpu_seconds
    if expected.memory_mb:
        assert min(workers[stage].ask(case)[1] for _ in range(TRIES)) <= expected.memory_mb


@pytest.mark.parametrize("stage", STAGES)
def test_a_worker_that_has_seen_all_of_them_does_not_grow_by_seeing_them_again(
    workers: dict[str, Worker], stage: str
) -> None:
    worker = workers[stage]
    again = [case.values[1] for case in CASES if case.values[0] == stage]
    before = worker.memory("VmRSS")

    for case in again:
        worker.ask(case)

    assert worker.memory("VmRSS") - before <= STAYS


@pytest.mark.parametrize("media", [JSON, *(pytest.param(media, marks=pytest.mark.long) for media in (CSV, JSONLINES))])
def test_a_worker_takes_at_most_ten_times_the_largest_body(artifacts: Path, media: str) -> None:
    body = LARGE[media]
    request = Request(headers={"Content-Type": media, "Accept": CSV}, parts=((body, 1),))

    with alone(artifacts, "featurizer") as worker:
        _, memory = worker.send(request, 200)

    assert 24e6 < len(body) < 25 * MIB
    assert memory <= len(body) * TIMES / 1e6
