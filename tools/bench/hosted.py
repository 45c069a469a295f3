"""The images on the hosts that they are made for, in Docker: started, asked, and always removed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from serving.payload import CSV, JSON, NPY
from tools.bench.processes import HOST, STARTED_WITHIN, BenchError, Payload
from tools.bench.runtime_api import RuntimeApi, runtime_api

MB_OF_A_CPU = 1769  # of a function's memory, for which Lambda gives one vCPU
# As Lambda has it: one directory that can be written, nobody's user, no /dev/shm, no rights.
SANDBOX = (
    *("--read-only", "--tmpfs", "/tmp:rw,noexec,nosuid,size=512m"),  # noqa: S108 - the container's own
    *("--ipc", "none", "--user", "993:990", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
Ask = Callable[[bytes], bytes]  # rows as CSV; the answer as JSON


@dataclass(frozen=True)
class Images:
    featurizer: str
    predictor: str
    pipeline: str


def docker(*arguments: str) -> str:
    """Raises `BenchError`."""
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=300)
    except FileNotFoundError as error:
        raise BenchError("there is no docker on PATH") from error
    if done.returncode:
        raise BenchError(f"docker {arguments[0]}: {done.stderr.strip()[-2000:]}")
    return done.stdout.strip()


def _last_words(name: str) -> str:
    done = subprocess.run(
        ["docker", "logs", "--tail", "5", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.stdout.decode(errors="replace")


def run(stack: ExitStack, image: str, options: Sequence[str]) -> str:
    """Start a container; the stack removes it. Returns its name."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    stack.callback(_remove, name)
    docker("run", "--detach", "--name", name, *options, image, "serve")
    return name


def _remove(name: str) -> None:
    with contextlib.suppress(BenchError):  # it has never been
        docker("rm", "--force", "--volumes", name)


def chain(stack: ExitStack, images: Images, artifacts: Path) -> Ask:
    """Two containers in one network namespace; the caller hands the featurizer's answer to the predictor."""
    reach = ("--env", "SAGEMAKER_SAFE_PORT_RANGE=8081-8082")
    hop = ("--env", f"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT={NPY}")
    published = ("--publish", f"{HOST}::8081", "--publish", f"{HOST}::8082")
    first = run(
        stack, images.featurizer, [*published, *reach, *hop, *_on(8081), *_mount(artifacts / "featurizer" / "model")]
    )
    beside = ("--network", f"container:{first}")
    run(stack, images.predictor, [*beside, *reach, *_on(8082), *_mount(artifacts / "predictor" / "model")])
    featurizer, predictor = (_connected(stack, first, port) for port in (8081, 8082))

    def ask(body: bytes) -> bytes:
        features = featurizer(Payload(body, CSV, NPY))
        return predictor(Payload(features.body, features.content_type, JSON)).body

    return ask


def single(stack: ExitStack, images: Images, artifacts: Path) -> Ask:
    name = run(stack, images.pipeline, ["--publish", f"{HOST}::8080", *_mount(artifacts)])
    post = _connected(stack, name, 8080)
    return lambda body: post(Payload(body, CSV, JSON)).body


def function(memory: int) -> Callable[[ExitStack, Images, Path], Ask]:
    """`memory`: MB, which decide how much of a CPU there is."""

    def start(stack: ExitStack, images: Images, artifacts: Path) -> Ask:
        api = stack.enter_context(runtime_api())
        limits = ("--memory", f"{memory}m", "--memory-swap", f"{memory}m", "--cpus", f"{memory / MB_OF_A_CPU:.2f}")
        told = ("--network", "host", "--env", f"AWS_LAMBDA_RUNTIME_API={api.address}")
        run(stack, images.pipeline, [*told, *limits, *SANDBOX, *_mount(artifacts)])
        return partial(_invoke, api)

    return start


def _invoke(api: RuntimeApi, body: bytes) -> bytes:
    """As a direct invocation with an envelope; one that refuses is given back whole."""
    event = {"body": body.decode(), "headers": {"Content-Type": CSV}}
    answer = api.invoke(json.dumps(event).encode())
    envelope = json.loads(answer)
    return envelope["body"].encode() if envelope["statusCode"] == 200 else answer


def _on(port: int) -> tuple[str, ...]:
    return ("--env", f"SAGEMAKER_BIND_TO_PORT={port}")


def _mount(directory: Path) -> tuple[str, ...]:
    return ("--volume", f"{directory.resolve()}:/opt/ml/model:ro")


def _connected(stack: ExitStack, name: str, port: int) -> Callable[[Payload], Payload]:
    """Posts on one kept connection. Until the first answer it tries again."""
    published = int(docker("port", name, str(port)).splitlines()[0].rpartition(":")[2])
    connection = stack.enter_context(
        contextlib.closing(http.client.HTTPConnection(HOST, published, timeout=STARTED_WITHIN))
    )
    answered = False

    def post(payload: Payload) -> Payload:
        nonlocal answered
        deadline = time.monotonic() + STARTED_WITHIN
        while True:
            try:
                found = _post(connection, payload)
            except (OSError, http.client.HTTPException):
                connection.close()
            else:
                answered = True
                return found
            if answered or time.monotonic() > deadline:
                raise BenchError(f"{name} did not answer; it said:\n{_last_words(name)}")
            time.sleep(0.01)

    return post


def _post(connection: http.client.HTTPConnection, payload: Payload) -> Payload:
    """Raises `HTTPException` for what is not 200, as nginx answers before there is a worker."""
    headers = {"Content-Type": payload.content_type, "Accept": payload.accept}
    connection.request("POST", "/invocations", payload.body, headers)
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise http.client.HTTPException(f"{response.status}: {body[:200]!r}")
    return Payload(body, response.headers.get("Content-Type", ""))


def usable(images: Images) -> None:
    """Raises `BenchError` that says how to build what is missing."""
    for stage, image in vars(images).items():
        try:
            docker("image", "inspect", "--format", "{{.Id}}", image)
        except BenchError as error:
            raise BenchError(
                f"there is no image {image}: docker build -f {stage}/Dockerfile -t {image} . ({error})"
            ) from error


def load() -> float:
    """What else the machine does: processes that run or wait to, over the last minute."""
    return os.getloadavg()[0]
