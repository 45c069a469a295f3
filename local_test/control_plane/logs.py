"""The containers' logs in CloudWatch Logs: shipped line by line as they are written, and nothing is changed in them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError

from local_test.control_plane.errors import ApiError
from local_test.control_plane.plane import Plane
from local_test.control_plane.store import CONFIG, ENDPOINT
from local_test.endpoint import Endpoint, stream_of

ENDPOINTS = "/aws/sagemaker/Endpoints"  # and the endpoint's name
TRANSFORM_JOBS = "/aws/sagemaker/TransformJobs"
TRAINING_JOBS = "/aws/sagemaker/TrainingJobs"
INSTANCE = "local"  # in place of an instance's id
EVERY = 0.5  # seconds

log = logging.getLogger(__name__)
_MOST_EVENTS, _MOST_BYTES = 1000, 900_000  # of a call; the service takes 10,000 and a megabyte
_OVERHEAD = 26  # bytes that the service counts for each event
_LONGEST = 250_000  # bytes of an event


@dataclass
class Tail:
    """A file that grows, or will come, read from where the last reading ended, also after it was removed."""

    path: Path
    _file: IO[bytes] | None = None
    _part: bytes = b""  # of a line that is not complete

    def lines(self, *, last: bool = False) -> list[str]:
        """The lines that were completed since; with `last` also what no newline ends. Blank ones are no event."""
        if not self._file:
            with suppress(FileNotFoundError):
                self._file = self.path.open("rb")
        if self._file:
            self._part += self._file.read()
        *whole, self._part = self._part.split(b"\n")
        if last:
            whole.append(self._part)
            self._part = b""
        pieces = (line[at : at + _LONGEST] for line in whole for at in range(0, len(line), _LONGEST))
        return [piece.decode("utf-8", "replace") for piece in pieces if piece.strip()]

    def close(self) -> None:
        if self._file:
            self._file.close()


@dataclass
class Shipper:
    """What puts lines into log streams, which it makes."""

    client: Any  # boto3 is untyped
    _made: set[tuple[str, str]] = field(default_factory=set)

    def ship(self, group: str, stream: str, lines: list[str]) -> None:
        if lines and (group, stream) not in self._made:
            self._make(group, stream)
        for events in _batches(lines):
            self.client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)

    def _make(self, group: str, stream: str) -> None:
        with suppress(self.client.exceptions.ResourceAlreadyExistsException):
            self.client.create_log_group(logGroupName=group)
        with suppress(self.client.exceptions.ResourceAlreadyExistsException):
            self.client.create_log_stream(logGroupName=group, logStreamName=stream)
        self._made.add((group, stream))


@contextmanager
def follow(plane: Plane, group: str, files: Mapping[str, Path]) -> Iterator[None]:
    """Ship the files, by the names of their streams, until the block ends: then what is left, too."""
    done = threading.Event()
    thread = threading.Thread(target=_follow, args=(plane, group, files, done), name=f"logs of {group}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(10)


def _follow(plane: Plane, group: str, files: Mapping[str, Path], done: threading.Event) -> None:
    tails = {stream: Tail(path) for stream, path in files.items()}
    try:
        shipper = Shipper(plane.client("logs"))
        last = False
        while not last:
            last = done.wait(EVERY)
            if plane.closing.is_set():
                return
            for stream, tail in tails.items():
                shipper.ship(group, stream, tail.lines(last=last))
    except (BotoCoreError, ClientError) as error:
        log.warning("the logs of %s are shipped no more: %s", group, error)
    finally:
        for tail in tails.values():
            tail.close()


def follow_endpoints(plane: Plane) -> None:
    """Ship the logs of all endpoints' containers until the control plane ends; for a thread of its own.

    They are the files `endpoints/NAME/INSTANCE/HOSTNAME.log`. Those of containers that never came up are among them,
    and the last lines of those that were removed.
    """
    shipper = Shipper(plane.client("logs"))
    tails: dict[Path, Tail] = {}
    while not plane.closing.wait(EVERY):
        present = set((plane.directory / "endpoints").glob("*/*/*.log"))
        for path in present - tails.keys():
            tails[path] = Tail(path)
        for path in list(tails):
            gone = path not in present
            try:
                shipper.ship(*_stream_of(plane, path), tails[path].lines(last=gone))
            except (BotoCoreError, ClientError) as error:
                log.warning("lines of %s were lost: %s", path, error)
            if gone:
                tails.pop(path).close()
    for tail in tails.values():
        tail.close()


def _stream_of(plane: Plane, path: Path) -> tuple[str, str]:
    """The log group and stream of a container's log."""
    endpoint = path.parent.parent.name
    return f"{ENDPOINTS}/{endpoint}", stream_of(f"{_variant(plane, endpoint)}/{INSTANCE}", path.stem)


def _variant(plane: Plane, name: str) -> str:
    if endpoint := plane.store.get(ENDPOINT, name):
        with suppress(ApiError):  # a config may go before its endpoint
            config = plane.store.recall(CONFIG, endpoint.fields["EndpointConfigName"])
            return str(config.fields["ProductionVariants"][0]["VariantName"])
    return Endpoint.variant


def _batches(lines: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Events in the order of their lines, as many as a call may have."""
    now = int(time.time() * 1000)
    batch: list[dict[str, Any]] = []
    size = 0
    for line in lines:
        length = len(line.encode()) + _OVERHEAD
        if batch and (len(batch) == _MOST_EVENTS or size + length > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append({"timestamp": now, "message": line})
        size += length
    if batch:
        yield batch
