"""Data capture: what an endpoint was asked and answered, as JSON lines in the S3 of its config's choice.

A pipeline is captured as a whole: what the first container got, and what the last one answered.
"""

from __future__ import annotations

import json
import random
import uuid
from base64 import b64encode
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local_test.control_plane.gathering import Gathered
from local_test.control_plane.objects import split_url
from local_test.control_plane.plane import Invoked, Observer, Plane
from local_test.control_plane.store import CONFIG, ENDPOINT, Fields

SHIPPED_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class Captured:
    """A line, and the prefix below which it is written."""

    prefix: str
    kms_key: str
    line: str


def ship(plane: Plane, captured: list[Captured]) -> None:
    """Write one object for each prefix."""
    lines: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in captured:
        lines[one.prefix, one.kms_key].append(one.line)
    s3 = plane.client("s3")
    for (prefix, key), some in lines.items():
        bucket, below = split_url(prefix)
        name = f"{datetime.now(UTC):%M-%S-%f}"[:-3] + f"-{uuid.uuid4()}.jsonl"
        encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}
        s3.put_object(Bucket=bucket, Key=f"{below}/{name}", Body="".join(some).encode(), **encryption)


_gathered = Gathered(ship, SHIPPED_EVERY)


def record(plane: Plane, invoked: Invoked) -> None:
    """Keep an invocation when its endpoint's config says so and chance has it; it is written within seconds."""
    config = _config(plane, invoked.endpoint)
    if not config.get("EnableCapture") or invoked.status != 200:
        return
    if random.random() * 100 >= config["InitialSamplingPercentage"]:  # noqa: S311 - a sample is no secret
        return
    now = datetime.now(UTC)
    prefix = f"{config['DestinationS3Uri'].rstrip('/')}/{invoked.endpoint}/{invoked.variant}/{now:%Y/%m/%d/%H}"
    _gathered.add(plane, Captured(prefix, config.get("KmsKeyId", ""), _line(config, invoked, now)))


OBSERVERS: tuple[Observer, ...] = (record,)


def _config(plane: Plane, endpoint: str) -> Mapping[str, Any]:
    if not (found := plane.store.get(ENDPOINT, endpoint)):
        return {}
    config = plane.store.recall(CONFIG, found.fields["EndpointConfigName"])  # it may go before the endpoint
    captured: Mapping[str, Any] = config.fields.get("DataCaptureConfig", {})
    return captured


def _line(config: Mapping[str, Any], invoked: Invoked, now: datetime) -> str:
    modes = {option["CaptureMode"] for option in config.get("CaptureOptions", ())}
    data: Fields = {}
    if modes & {"Input", "InputAndOutput"}:
        data["endpointInput"] = _side("INPUT", invoked.request_type, invoked.request_body, config)
    if modes & {"Output", "InputAndOutput"}:
        data["endpointOutput"] = _side("OUTPUT", invoked.response_type, invoked.response_body, config)
    metadata = {"eventId": invoked.event_id, "inferenceTime": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
    whole = {"captureData": data, "eventMetadata": metadata, "eventVersion": "0"}
    return json.dumps(whole, ensure_ascii=False) + "\n"


def _side(mode: str, content_type: str, body: bytes, config: Mapping[str, Any]) -> Fields:
    encoding, data = _encoded(content_type, body, config.get("CaptureContentTypeHeader", {}))
    return {"observedContentType": content_type, "mode": mode, "data": data, "encoding": encoding}


def _encoded(content_type: str, body: bytes, named: Mapping[str, Any]) -> tuple[str, str]:
    """As it is, when the config names the type as one of text; else base64."""
    media = content_type.partition(";")[0].strip().lower()
    for encoding, names in (("CSV", "CsvContentTypes"), ("JSON", "JsonContentTypes")):
        if media in (name.lower() for name in named.get(names, ())):
            try:
                return encoding, body.decode()
            except UnicodeDecodeError:
                break
    return "BASE64", b64encode(body).decode()
