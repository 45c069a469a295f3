"""A SageMaker endpoint's serial pipeline: its containers one after the other, by the platform's rules."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from local_test.container import Answer, Container, NoAnswer, Oversize, TimedOut
from local_test.errors import ModelError
from serving.payload import Payload

WITHIN = 60.0  # seconds for the whole chain
BETWEEN = 5 * 1024 * 1024  # bytes from one container to the next
ANSWER = 25 * 1024 * 1024  # bytes from the last container
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
SEE = "See the container's log for more information."


@dataclass(frozen=True)
class Invocation:
    """The last container's answer, and how many milliseconds each container took."""

    answer: Payload
    attributes: str
    milliseconds: Mapping[str, float]


@dataclass(frozen=True)
class Endpoint:
    """An endpoint by its name and the containers behind it, in order."""

    name: str
    containers: tuple[Container, ...]

    @classmethod
    def parse(cls, name: str, containers: str) -> Endpoint:
        """Read `NAME=http://HOST:PORT,...`. Raises `ValueError`."""
        found = []
        for part in containers.split(","):
            container, _, url = part.strip().partition("=")
            address = urlsplit(url)
            if not container or address.scheme != "http" or not address.hostname or not address.port:
                raise ValueError(f"CONTAINERS: expected NAME=http://HOST:PORT,..., got {part!r}")
            found.append(Container(container, address.hostname, address.port))
        return cls(name, tuple(found))

    def invoke(self, payload: Payload, forwarded: Mapping[str, str]) -> Invocation:
        """Hand each container what the one before it answered. Raises `ModelError` naming the one that failed.

        The client's Accept goes to the last container only; `forwarded` headers to each.
        """
        deadline = time.monotonic() + WITHIN
        took: dict[str, float] = {}
        content_type, body = payload.content_type, payload.body
        for position, container in enumerate(self.containers):
            last = position == len(self.containers) - 1
            headers = {**forwarded, **_given({"Content-Type": content_type, "Accept": payload.accept if last else ""})}
            begun = time.monotonic()
            answer = self._call(container, body, headers, deadline, position)
            took[container.name] = (time.monotonic() - begun) * 1000
            content_type, body = answer.headers.get("content-type", ""), answer.body
        return Invocation(Payload(body, content_type), answer.headers.get(ATTRIBUTES.lower(), ""), took)

    def unhealthy(self) -> dict[str, str]:
        """The containers whose `/ping` is not 200 within 2 seconds, and why."""
        wrong = {}
        for container in self.containers:
            try:
                if (status := container.ping(time.monotonic() + 2)) != 200:
                    wrong[container.name] = f"answers {status}"
            except NoAnswer as error:
                wrong[container.name] = str(error)
        return wrong

    def _call(
        self, container: Container, body: bytes, headers: Mapping[str, str], deadline: float, position: int
    ) -> Answer:
        following = self.containers[position + 1 :]
        try:
            answer = container.post(body, headers, deadline, BETWEEN if following else ANSWER)
        except TimedOut as error:
            text = (
                f"Your invocation timed out while waiting for a response from container {container.name}. Review the "
                "latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
            )
            raise self._failed(
                container, 0, text, f'Received server error (0) from {container.name} with message "{text}"'
            ) from error
        except Oversize as error:
            raise self._oversize(container, error, following) from error
        except NoAnswer as error:
            raise self._failed(container, 503, str(error)) from error
        if answer.status != 200:
            raise self._failed(container, answer.status, answer.body.decode("utf-8", "replace"))
        if not answer.body:
            raise self._failed(container, answer.status, "it answered 200 with an empty body")
        return answer

    def _oversize(self, container: Container, error: Oversize, following: Sequence[Container]) -> ModelError:
        if not following:
            return self._failed(container, error.status, f"its answer is {error.size} bytes, expected at most {ANSWER}")
        text = (
            f"Received response from {container.name} with status code {error.status}. However, the request payload from "
            f"{container.name} to {following[0].name} is {error.size} bytes, which has exceeded the maximum limit of 5 MB."
        )
        return self._failed(container, error.status, text, text)

    def _failed(self, container: Container, status: int, original: str, message: str = "") -> ModelError:
        side = "client" if 400 <= status < 500 else "server"
        message = message or f'Received {side} error ({status}) from {container.name} with message "{original}". {SEE}'
        stream = f"arn:aws:logs:local:000000000000:log-group:/aws/sagemaker/Endpoints/{self.name}:{container.name}"
        return ModelError(
            message, container=container.name, original_status=status, original=original, log_stream=stream
        )


def _given(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if value}
