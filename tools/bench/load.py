"""Load from wrk: compiled, so that on two cores the client is not what is measured."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.bench.processes import HOST, BenchError, Container, Payload

SCRIPTS = Path(__file__).parent
THREADS = 2  # of wrk, against one container
GRACE = 130.0  # seconds for the request that is under way when the time is over


@dataclass(frozen=True)
class Load:
    """What the clients saw; times in seconds. `errors`: answers that were not 200, and those that never came."""

    requests: int
    per_second: float
    p50: float
    p99: float
    errors: int


@dataclass(frozen=True)
class Source:
    """A request as wrk reads it: its body is in a file."""

    file: Path
    content_type: str
    accept: str

    @classmethod
    def write(cls, file: Path, payload: Payload) -> Source:
        file.write_bytes(payload.body)
        return cls(file, payload.content_type, payload.accept)


def on_container(container: Container, source: Source, clients: int, seconds: float) -> Load:
    arguments = [str(source.file), source.content_type, source.accept]
    while True:
        load = _wrk("single.lua", container.port, min(THREADS, clients), clients, seconds, arguments)
        if load.requests or load.errors or seconds > 60:
            return load
        seconds *= 3  # a slow container, or a busy machine


def on_chain(
    featurizer: Container, predictor: Container, source: Source, accept: str, clients: int, seconds: float
) -> Load:
    """`accept`: what the last container is asked for."""
    arguments = [str(featurizer.port), str(source.file), source.content_type, source.accept, accept]
    while True:
        load = _wrk("chain.lua", predictor.port, clients, clients, seconds, arguments)
        if load.requests >= 3 or load.errors or seconds > 60:
            return load
        seconds *= 3  # a slow chain with a large body


def _wrk(script: str, port: int, threads: int, clients: int, seconds: float, arguments: Sequence[str]) -> Load:
    wrk = shutil.which("wrk")
    if not wrk:
        raise BenchError("there is no wrk on PATH")
    command = [
        *(wrk, f"-t{threads}", f"-c{clients}", f"-d{math.ceil(seconds) + 1}s", "--timeout", "60s", "--latency"),
        *("-s", str(SCRIPTS / script), f"http://{HOST}:{port}/invocations", "--", *arguments),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)  # it knows whole seconds only, and takes this as the end of its time
            output, errors = process.communicate(timeout=GRACE)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"wrk did not end within {GRACE:.0f} s") from error
        finally:
            process.kill()
    lines = [line for line in output.splitlines() if line.startswith('{"requests"')]
    if process.returncode or len(lines) != 1:
        raise BenchError(f"wrk ended with {process.returncode}:\n{output[-2000:]}{errors[-2000:]}")
    return Load(**json.loads(lines[0]))
