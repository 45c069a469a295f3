"""An endpoint: containers in a row, under the rules that SageMaker keeps between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from local_test.connection import Answer, Oversize
from local_test.container import Container, NoAnswer, TimedOut
from local_test.errors import ModelError, shorten
from serving.payload import Payload, run_serially

MIB = 1024 * 1024
CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"
PING_WITHIN = 2.0  # seconds
PRIMARY = "primary"  # what the platform calls the container of a model that has only one


@dataclass(frozen=True)
class Limits:
    """What the platform allows an invocation."""

    request: int = 6_291_456  # bytes of the client's body, and of the answer
    # AWS says "5 MB" here and "6 MB" for the 6,291,456 bytes above, so its MB is taken for 2^20 bytes.
    between: int = 5_000_000  # "5 MB", read so that both readings of it hold
    seconds: float = 60.0  # for all containers together


@dataclass(frozen=True)
class Endpoint:
    """A name, the containers behind it, and the production variant that they are."""

    name: str
    containers: tuple[Container, ...]
    limits: Limits = Limits()
    variant: str = "AllTraffic"

    def log_stream(self, container: str) -> str:
        group = f"log-group:/aws/sagemaker/Endpoints/{self.name}"
        stream = stream_of(f"{self.variant}/local", container)
        return f"arn:aws:logs:us-east-1:123456789012:{group}:log-stream:{stream}"

    def unhealthy(self) -> dict[str, str]:
        """Each container whose ping is not 200 within 2 seconds, with what came instead. All are asked at once."""
        deadline = time.monotonic() + PING_WITHIN
        with ThreadPoolExecutor(len(self.containers)) as pool:
            found = pool.map(partial(_ping, deadline=deadline), self.containers)
            return {c.name: reason for c, reason in zip(self.containers, found, strict=True) if reason}

    def execution_parameters(self) -> Answer:
        """What Batch Transform is told: the first container's answer, since AWS does not say which one it asks.

        Raises `NoAnswer` and `Oversize`.
        """
        return self.containers[0].get("/execution-parameters", time.monotonic() + PING_WITHIN)

    def close(self) -> None:
        for container in self.containers:
            container.close()


def stream_of(instance: str, container: str) -> str:
    """The log stream of a container: only those of several have their names in it."""
    return instance if container == PRIMARY else f"{instance}/{container}"


def _ping(container: Container, deadline: float) -> str:
    try:
        status = container.ping(deadline)
    except NoAnswer as error:
        return str(error)
    return "" if status == 200 else f"answered {status}"


@dataclass(frozen=True)
class Call:
    """A container's call as it went. What was sent and what came is referred to, not copied."""

    container: str
    headers: Mapping[str, str]
    body: bytes
    answer: Answer | None  # None: no usable one came
    milliseconds: float


@dataclass
class Invocation:
    """One request on its way through an endpoint's containers. `times`: milliseconds of each container called."""

    endpoint: Endpoint
    request_id: str
    forwarded: Mapping[str, str]  # the client's headers that the platform passes to the first container
    times: dict[str, float] = field(default_factory=dict)
    last: Answer | None = None
    calls: list[Call] = field(default_factory=list)

    def run(self, payload: Payload) -> Payload:
        """Call the containers in their order. Raises `ModelError`; the containers after a failure are not called."""
        deadline = time.monotonic() + self.endpoint.limits.seconds
        stages = [self._stage(position, deadline) for position in range(len(self.endpoint.containers))]
        return run_serially(stages, payload)

    def _stage(self, position: int, deadline: float) -> Callable[[Payload], Payload]:
        """The call of one container as a stage."""
        container = self.endpoint.containers[position]
        following = next(iter(self.endpoint.containers[position + 1 :]), None)
        forwarded = self.forwarded if position == 0 else {}

        def stage(payload: Payload) -> Payload:
            headers = {"Content-Type": payload.content_type, "Accept": payload.accept, **forwarded}
            # Ours, so that one id stands in every container's log; the platform shows an id to the first only.
            headers[INFERENCE_ID] = self.request_id
            sent = {name: value for name, value in headers.items() if value}
            answer = self._call(container, following, payload.body, sent, deadline)
            self.last = answer
            return Payload(answer.body, answer.headers.get("content-type", ""), payload.accept)

        return stage

    def _call(
        self,
        container: Container,
        following: Container | None,
        body: bytes,
        headers: Mapping[str, str],
        deadline: float,
    ) -> Answer:
        limits = self.endpoint.limits
        answer = None
        started = time.perf_counter()
        try:
            answer = container.post(body, headers, deadline, limits.between if following else limits.request)
        except TimedOut as error:
            raise self._failed(container, 0, _timed_out(container)) from error
        except NoAnswer as error:
            raise self._failed(container, error.status, _no_answer(container, error)) from error
        except Oversize as error:
            raise self._oversize(container, following, error) from error
        finally:
            self.times[container.name] = took = (time.perf_counter() - started) * 1000
            self.calls.append(Call(container.name, headers, body, answer, took))
        return self._checked(container, answer)

    def _checked(self, container: Container, answer: Answer) -> Answer:
        if not 200 <= answer.status < 300:
            raise self._failed(container, answer.status, answer.body.decode("utf-8", "replace"))
        if not answer.body:
            raise self._failed(container, answer.status, "the response of the container has an empty body")
        return answer

    def _failed(self, container: Container, status: int, original: str) -> ModelError:
        side = "client" if 400 <= status < 500 else "server"
        head = f"Received {side} error ({status}) from {container.name} with message "
        # The platform names the address of a CloudWatch log here.
        tail = f"See the log of container {container.name} for more information."
        room = 2048 - len(f'{head}"". {tail}'.encode())
        message = f'{head}"{shorten(original, room)}". {tail}'
        return self._error(message, container, status, original)

    def _oversize(self, container: Container, following: Container | None, error: Oversize) -> ModelError:
        """In the platform's words where they are known: between two containers."""
        head = f"Received response from {container.name} with status code {error.status}. However, the "
        if following:
            what = f"request payload from {container.name} to {following.name} is {error.size} bytes"
            message = f"{head}{what}, which has exceeded the maximum limit of 5 MB."
        else:
            limit = self.endpoint.limits.request
            message = f"{head}response is {error.size} bytes, which has exceeded the maximum limit of {limit} bytes."
        return self._error(message, container, error.status, message)

    def _error(self, message: str, container: Container, status: int, original: str) -> ModelError:
        stream = self.endpoint.log_stream(container.name)
        return ModelError(message, original_status=status, original=original, log_stream=stream)


def _timed_out(container: Container) -> str:
    return (
        f"Your invocation timed out while waiting for a response from container {container.name}. Review the latency "
        "metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
    )


def _no_answer(container: Container, error: NoAnswer) -> str:
    return f"An error occurred while handling request: {error} (container {container.name}, port {container.port})."
