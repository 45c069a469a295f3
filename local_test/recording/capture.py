"""What data capture of an endpoint has written to S3, as exchanges: JSON lines of the platform's own shape."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from local_test.recording.exchanges import Answered, Asked, BadRecording, Exchange


def read_capture(path: Path) -> Iterator[Exchange]:
    """The exchanges of a file, or of every `.jsonl` below a directory in the order of their paths.

    Only answers of status 200 are captured, without Accept and without times. Raises `BadRecording` for lines of
    another shape, and for those that have the request or the answer only.
    """
    files = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise BadRecording(f"{path}: expected files that end in .jsonl, as data capture writes them, got none")
    for file in files:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield _exchange(json.loads(line))
                except (KeyError, TypeError, ValueError, RecursionError) as error:
                    raise BadRecording(
                        f"{file}, line {number}: expected a captured request with its answer, {error!r}"
                    ) from error


def _exchange(line: Mapping[str, Any]) -> Exchange:
    asked, answered = line["captureData"]["endpointInput"], line["captureData"]["endpointOutput"]
    # The client's Accept is not captured; the type that was answered is as good.
    request = Asked(asked["observedContentType"], answered["observedContentType"], _data(asked))
    return Exchange(
        str(line["eventMetadata"]["eventId"]), request, Answered(200, answered["observedContentType"], _data(answered))
    )


def _data(side: Mapping[str, Any]) -> bytes:
    data = str(side["data"])
    return base64.b64decode(data, validate=True) if side["encoding"] == "BASE64" else data.encode()
