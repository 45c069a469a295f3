"""One input object of a transform job on its way through the model's containers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from local_test.control_plane.filters import FilterError, Processing, processing
from local_test.control_plane.hosting import HostingError
from local_test.control_plane.records import MIB, BadObject, assemble, pack, split, unpack
from local_test.endpoint import Endpoint, Invocation, Limits
from local_test.errors import ModelError
from serving.payload import Payload

AGAIN_AFTER = 0.2  # seconds
MOST_AT_ONCE = 100  # MB: of MaxConcurrentTransforms payloads together
STRATEGIES = {"MULTI_RECORD": "MultiRecord", "SINGLE_RECORD": "SingleRecord"}  # as models and as the API have them
LARGEST = 100 * MIB  # bytes of an answer; a batch has no limit of its own between containers
Say = Callable[[str], None]  # adds a line to the job's data log


@dataclass(frozen=True)
class Plan:
    """How a transform job treats its objects: what the request says, completed by the model and the defaults."""

    split_type: str
    compression: str
    assemble_with: str
    strategy: str  # MultiRecord or SingleRecord
    max_payload: int  # bytes; 0 for no limit
    concurrent: int
    seconds: float  # of one invocation
    retries: int
    processing: Processing


def make_plan(given: Mapping[str, Any], offered: Mapping[str, Any], say: Say) -> Plan:
    """The plan of a CreateTransformJob, with what /execution-parameters offered. Raises `FilterError`.

    0 says for MaxConcurrentTransforms that the model or the default decides, and for MaxPayloadInMB that there is no
    limit.
    """
    source, client = given["TransformInput"], given.get("ModelClientConfig", {})
    concurrent = int(given.get("MaxConcurrentTransforms") or offered.get("MaxConcurrentTransforms") or 1)
    strategy = given.get("BatchStrategy") or STRATEGIES.get(str(offered.get("BatchStrategy")), "MultiRecord")
    payload = int(given["MaxPayloadInMB"] if "MaxPayloadInMB" in given else offered.get("MaxPayloadInMB", 6))
    if "MaxConcurrentTransforms" not in given and payload:  # together they must fit, whoever said what
        concurrent = max(1, min(concurrent, MOST_AT_ONCE // payload))
    names = {value: key for key, value in STRATEGIES.items()}
    say(f"MaxConcurrentTransforms={concurrent}, MaxPayloadInMB={payload}, BatchStrategy={names[strategy]}")
    return Plan(
        split_type=source.get("SplitType", "None"),
        compression=source.get("CompressionType", "None"),
        assemble_with=given["TransformOutput"].get("AssembleWith", "None"),
        strategy=strategy,
        max_payload=payload * MIB,
        concurrent=concurrent,
        seconds=float(client.get("InvocationsTimeoutInSeconds", 600)),
        retries=int(client.get("InvocationsMaxRetries", 3)),
        processing=processing_of(given),
    )


def processing_of(given: Mapping[str, Any]) -> Processing:
    """A request's DataProcessing. Raises `FilterError` for what AWS refuses."""
    source, target, asked = given["TransformInput"], given["TransformOutput"], given.get("DataProcessing", {})
    split_type, assemble_with = source.get("SplitType", "None"), target.get("AssembleWith", "None")
    if asked.get("JoinSource") == "Input" and split_type != assemble_with:
        raise FilterError(
            f"JoinSource Input requires SplitType and AssembleWith to be the same, got {split_type} and "
            f"{assemble_with}."
        )
    return processing(asked, source.get("ContentType", ""), target.get("Accept", ""))


class Failed(HostingError):
    """An object without an output. The message is the FailureReason; `why` is what the data log says."""

    def __init__(self, side: str, *why: str) -> None:
        super().__init__(f"{side}: See job logs for more information")
        self.why = why


class Stopped(HostingError):
    """The job was asked to stop."""


@dataclass(frozen=True)
class Sender:
    """Sends payloads through the containers, `workers` of them at a time."""

    endpoint: Endpoint
    plan: Plan
    workers: Executor
    stop: threading.Event

    def transform(self, name: str, content: bytes, say: Say) -> bytes:
        """The content of the `.out` object. Raises `Failed` when one record has no answer, and `Stopped`."""
        plan = self.plan
        try:
            records = split(unpack(content, plan.compression), plan.split_type)
            answers = list(self._answers(name, records))
            return assemble(answers, plan.assemble_with)
        except (BadObject, FilterError) as error:
            failed = Failed("ClientError", str(error))
            _explain(say, name, failed)
            raise failed from error
        except Failed as failed:
            _explain(say, name, failed)
            raise

    def _answers(self, name: str, records: list[bytes]) -> Iterator[bytes]:
        """In the order of the records."""
        process = self.plan.processing
        sent = [process.sent(record) for record in records]
        payloads = list(pack(sent, self.plan.strategy, self.plan.max_payload))
        waiting = [self.workers.submit(self._send, f"{name}-{n}", b"".join(one)) for n, one in enumerate(payloads)]
        at = 0
        try:
            for payload, future in zip(payloads, waiting, strict=True):
                whole = records[at : at + len(payload)]
                at += len(payload)
                yield process.written(whole, future.result(), by_line=self.plan.split_type == "Line")
        finally:
            for future in waiting:
                future.cancel()

    def _send(self, request_id: str, body: bytes) -> bytes:
        """One payload's answer. A model that fails or is silent is asked again, one that refuses is not."""
        endpoint = replace(self.endpoint, limits=Limits(request=LARGEST, between=LARGEST, seconds=self.plan.seconds))
        payload = Payload(body, self.plan.processing.content_type, self.plan.processing.accept)
        for left in range(self.plan.retries, -1, -1):
            if self.stop.is_set():
                raise Stopped("stopped")
            try:
                return Invocation(endpoint, request_id, {}).run(payload).body
            except ModelError as error:
                refused = 400 <= error.original_status < 500
                if refused or not left:
                    side = "ClientError" if refused else "AlgorithmError"
                    status = f"{side}: {error.original_status}" if error.original_status else side
                    raise Failed(side, status, "", "Message:", error.original, "", error.message) from error
                time.sleep(AGAIN_AFTER)
        raise AssertionError("unreachable")


def _explain(say: Say, name: str, failed: Failed) -> None:
    for paragraph in failed.why:
        for line in paragraph.splitlines() or [""]:
            say(f"{name}: {line}")
