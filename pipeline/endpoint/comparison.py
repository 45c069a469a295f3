"""Whether the endpoint answers as a transform job did, to the bit."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.endpoint import answers, payloads, runtime
from pipeline.endpoint.batch_files import Rows
from pipeline.endpoint.errors import PipelineError
from pipeline.endpoint.sending import Sending
from pipeline.endpoint.session import Clients
from serving.payload import CSV

SHOWN = 10


@dataclass(frozen=True)
class Difference:
    """`row` is its number in the file, counted from 1 below the header."""

    row: int
    endpoint: str
    batch: str

    def __str__(self) -> str:
        return f"row {self.row}: the endpoint says {self.endpoint}, the batch {self.batch}"


def compare(clients: Clients, endpoint: str, rows: Rows, output: Path, accept: str, sample: int) -> list[Difference]:
    """Ask the endpoint for a sample of the rows. Raises `PipelineError` when a row has no batch answer."""
    records = list(rows.records())
    batch = answers.rows(output.read_bytes(), answers.media_type(accept))
    if len(batch) != len(records):
        raise PipelineError(
            f"{rows.file} has {len(records)} rows, {output} {len(batch)} answers", "see the job's log: --json names it"
        )
    chosen = sample_of(len(records), sample)
    live = ask(clients, endpoint, rows, [records[at] for at in chosen], accept)
    return [
        Difference(at + 1, one.decode("utf-8", "replace"), batch[at].decode("utf-8", "replace"))
        for at, one in zip(chosen, live, strict=True)
        if one != batch[at]
    ]


def sample_of(rows: int, most: int) -> list[int]:
    """Positions spread over the file by chance, the same ones each time."""
    return sorted(random.Random(rows).sample(range(rows), min(rows, most)))  # noqa: S311 - no secret


def ask(clients: Clients, endpoint: str, rows: Rows, records: Sequence[bytes], accept: str) -> list[bytes]:
    """The endpoint's answers. With the file's header, so that columns in a wrong order are found."""
    body = rows.header + b"".join(record if record.endswith(b"\n") else record + b"\n" for record in records)
    said = f"; header={'present' if rows.header else 'absent'}" if rows.media == CSV else ""
    request: Mapping[str, Any] = {"EndpointName": endpoint, "ContentType": rows.media + said, "Accept": accept}
    sending = Sending(runtime.new_client(clients, 4), f"the sample of {rows.file}", dict(request))
    batches = payloads.batches(io.BytesIO(body), rows.media, payloads.Limits(), bool(rows.header))
    return [row for answer in sending.bodies(batches) for row in answers.rows(answer, sending.media)]


def summary(differences: Sequence[Difference], compared: int) -> dict[str, Any]:
    return {
        "rows": compared,
        "different": len(differences),
        "first": [{"row": one.row, "endpoint": one.endpoint, "batch": one.batch} for one in differences[:SHOWN]],
    }
