"""Hours of mixed requests with a fault a minute: no wrong answer, and nothing that grows."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.chaos.client import Load, request_bytes
from tools.chaos.container import Server, running
from tools.chaos.oracle import Question, of_featurizer, of_predictor
from tools.chaos.report import counts
from tools.chaos.tally import Tally

EACH = 10.0  # seconds between samples
WARM = 100_000  # requests after which memory must not grow
MOST_GROWTH = 10_000_000  # bytes of a process
ROWS = 5000


@dataclass(frozen=True)
class Sample:
    """What one process has, so many seconds and answers after the start."""

    seconds: float
    requests: int
    process: str
    pid: int
    pss: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Subject:
    """A container under load. The worker that is oldest at first is left alone, to be weighed to the end."""

    name: str
    server: Server
    load: Load
    questions: Sequence[Question]
    processes: dict[str, int]


def soak(artifacts: Path, seconds: float, rate: float, every: float, out: Path | None) -> int:
    """Returns 0 when nothing was wrong or lost and nothing grew."""
    samples: list[Sample] = []
    with contextlib.ExitStack() as stack:
        subjects = [
            _subject(stack, name, artifacts, questions, rate / 2)
            for name, questions in (
                ("featurizer", of_featurizer(artifacts, ROWS)),
                ("predictor", of_predictor(artifacts, ROWS)),
            )
        ]
        begun = time.monotonic()
        faults = _run(subjects, begun, seconds, every, samples)
        for subject in subjects:
            subject.load.__exit__()
    return _report(subjects, samples, faults, time.monotonic() - begun, out)


def _subject(
    stack: contextlib.ExitStack, name: str, artifacts: Path, questions: Sequence[Question], rate: float
) -> Subject:
    env = {"SM_MODEL_DIR": str(artifacts / name / "model"), "LOG_LEVEL": "WARNING"}
    server = stack.enter_context(running(name, env))
    gunicorn, nginx = server.master("gunicorn"), server.master("nginx")
    processes = {
        "serve": server.process.pid, "gunicorn": gunicorn, "nginx": nginx,
        "nginx worker": server.children(nginx)[0], "worker": server.workers()[0],
    }  # fmt: skip
    load = Load(server.port, questions, clients=8, rate=rate)
    return Subject(name, server, load.__enter__(), questions, processes)


def _run(subjects: list[Subject], begun: float, seconds: float, every: float, samples: list[Sample]) -> int:
    """Sample, and do one fault after another to one container after another. Returns how many."""
    faults, next_fault = 0, begun + every
    while (now := time.monotonic()) < begun + seconds:
        for subject in subjects:
            samples += _samples(subject, now - begun)
        if now >= next_fault:
            fault = FAULTS[faults // len(subjects) % len(FAULTS)]
            fault(subjects[faults % len(subjects)])
            faults, next_fault = faults + 1, next_fault + every
        if faults and int(now - begun) % 300 < EACH:
            told = {subject.name: counts(subject.load.tally) for subject in subjects}
            print(f"{now - begun:.0f} s, {faults} faults: {told}", file=sys.stderr, flush=True)
        time.sleep(max(0.0, min(EACH, begun + seconds - time.monotonic())))
    return faults


def _youngest(subject: Subject) -> int:
    return max(pid for pid in subject.server.workers() if pid != subject.processes["worker"])


def kill_a_worker(subject: Subject) -> None:
    os.kill(_youngest(subject), signal.SIGKILL)


def stop_a_worker(subject: Subject) -> None:
    worker = _youngest(subject)
    os.kill(worker, signal.SIGSTOP)
    time.sleep(3)
    os.kill(worker, signal.SIGCONT)


def stand_still(subject: Subject) -> None:
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in subject.server.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        time.sleep(3)


def cut_connections(subject: Subject) -> None:
    for number in range(200):
        message = request_bytes(subject.questions[number], "cut")
        with socket.create_connection(("127.0.0.1", subject.server.port)) as connection:
            connection.sendall(message[: len(message) * number // 200])


FAULTS: tuple[Callable[[Subject], None], ...] = (kill_a_worker, stop_a_worker, stand_still, cut_connections)


def _samples(subject: Subject, seconds: float) -> Iterator[Sample]:
    for name, pid in subject.processes.items():
        proc = Path(f"/proc/{pid}")
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            memory = dict(line.split()[:2] for line in (proc / "smaps_rollup").read_text().splitlines()[1:])
            status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
            yield Sample(
                round(seconds, 1), subject.load.tally.requests, f"{subject.name} {name}", pid,
                int(memory["Pss:"]) * 1024, len(list((proc / "fd").iterdir())), int(status["Threads"]),
            )  # fmt: skip


def growth(samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    """Of each process: bytes that it gained between the first sixth, or 10^5 requests, and the end; medians of six."""
    found = {}
    for name in dict.fromkeys(sample.process for sample in samples):
        own = [sample for sample in samples if sample.process == name]
        warm = [sample for sample in own if sample.requests >= WARM] or own[len(own) // 6 :]
        early, late = warm[:6], warm[-6:]
        # descriptors of connections come and go with them: the least of some samples are those that stay
        found[name] = {
            "pss": round(statistics.median(s.pss for s in late)),
            "pss_growth": round(statistics.median(s.pss for s in late) - statistics.median(s.pss for s in early)),
            "descriptor_growth": min(s.descriptors for s in late) - min(s.descriptors for s in early),
            "thread_growth": late[-1].threads - early[0].threads,
        }
    return found


def _report(subjects: list[Subject], samples: list[Sample], faults: int, seconds: float, out: Path | None) -> int:
    tallies: dict[str, Tally] = {subject.name: subject.load.tally for subject in subjects}
    grown = growth(samples)
    missing = {sample.process for sample in samples} - {s.process for s in samples if s.seconds > seconds - 5 * EACH}
    broken = [f"{name}: {tally.examples}" for name, tally in tallies.items() if tally.lost or tally.wrong]
    broken += [f"{name} grew: {gained}" for name, gained in grown.items() if gained["pss_growth"] > MOST_GROWTH
               or gained["descriptor_growth"] > 0 or gained["thread_growth"] > 0]  # fmt: skip
    broken += [f"{name} ended" for name in missing]
    document = {
        "seconds": round(seconds), "faults": faults, "held": not broken, "broken": broken,
        "load": {name: counts(tally) for name, tally in tallies.items()}, "growth": grown,
        "samples": [asdict(sample) for sample in samples],
    }  # fmt: skip
    if out:
        out.write_text(json.dumps(document) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in document.items() if name != "samples"}, indent=2))
    return 1 if broken else 0
