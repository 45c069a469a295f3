"""What must be refused at once costs its worker little CPU time and no memory that stays.

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

from tests.corpus_cases import Case, load_corpus, over_tcp
from tests.pace import TRIES, least_cost
from tests.servers import Server, launched, wait_until

STAGES = ("featurizer", "predictor")
SOON = 0.2  # seconds of CPU; who has more is in no hurry
CASES = [
    pytest.param(stage, case, id=f"{stage}-{case.group}/{case.name}")
    for case in load_corpus()
    for stage in case.stages
    if case.answer.get("cpu_seconds", 1) <= SOON and not case.env and "nginx" in case.levels
]
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
        """What a case costs: seconds, and the MB that were needed at most."""
        self.forget_its_peak()
        memory, seconds = self.memory("VmRSS"), self.seconds()
        reply = over_tcp(self.server.port)(case.request, 1)
        assert reply.responses[0].status == case.expected("nginx").status
        return self.seconds() - seconds, self.memory("VmHWM") - memory


@pytest.fixture(scope="module")
def workers(artifacts: Path) -> Iterator[dict[str, Worker]]:
    with contextlib.ExitStack() as stack:
        servers = {}
        for stage in STAGES:
            env = {"SM_MODEL_DIR": str(artifacts / stage / "model"), "MODEL_SERVER_WORKERS": "1"}
            servers[stage] = stack.enter_context(launched(stage, env))
        for stage, server in servers.items():
            wait_until(lambda server=server: server.pings() == 200, f"{stage} to answer 200", 60)  # type: ignore[misc]
        yield {stage: Worker(server, server.workers()[0]) for stage, server in servers.items()}


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
