"""Counts as CloudWatch reads them from a log: its embedded metric format, one JSON object a line.

CloudWatch Logs makes metrics of such a line by itself, without an agent, a library or a permission.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from serving.metrics import BYTES_IN, BYTES_OUT, DROPPED, ENDS, ROWS, UNSEEN, Totals

NAMESPACE = "ModelServer"
_SCALARS = (
    ("Rows", "Count", ROWS),
    ("BytesIn", "Bytes", BYTES_IN),
    ("BytesOut", "Bytes", BYTES_OUT),
    ("UnknownCategories", "Count", UNSEEN),
    ("WorkerRestarts", "Count", ENDS),
    ("DroppedLogLines", "Count", DROPPED),
)


def documents(dimensions: Mapping[str, str], counted: Totals, now: float, extra: Mapping[str, int]) -> Iterator[str]:
    """What was counted in an interval, as one document, and one for each code that was refused with.

    `extra`: further counts by name. `now`: seconds since 1970.
    """
    statuses = {name: count for name, count in counted.named.items() if name.isdigit()}
    values: dict[str, tuple[str, Any]] = {
        "Requests": ("Count", sum(statuses.values())),
        "ClientErrors": ("Count", sum(count for code, count in statuses.items() if code.startswith("4"))),
        "ServerErrors": ("Count", sum(count for code, count in statuses.items() if code.startswith("5"))),
        **{name: (unit, counted.scalars[scalar]) for name, unit, scalar in _SCALARS},
        **{name: ("Count", count) for name, count in extra.items()},
    }
    if sum(counted.counts):
        values["Latency"] = ("Milliseconds", _distribution(counted))
    yield _document(dimensions, values, now)
    for code, count in sorted(counted.named.items()):
        if not code.isdigit():
            yield _document({**dimensions, "Code": code}, {"Refusals": ("Count", count)}, now)


def _document(dimensions: Mapping[str, str], values: Mapping[str, tuple[str, Any]], now: float) -> str:
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": name, "Unit": unit} for name, (unit, _) in values.items()],
    }
    metadata = {"Timestamp": int(now * 1000), "CloudWatchMetrics": [directive]}
    return json.dumps({"_aws": metadata, **dimensions, **{name: value for name, (_, value) in values.items()}})


def _distribution(counted: Totals) -> dict[str, Any]:
    """Milliseconds, each bucket's mean as often as it was counted: fewer than the 100 values that CloudWatch takes."""
    pairs = [
        (round(nanoseconds / count / 1e6, 4), count)
        for nanoseconds, count in zip(counted.nanoseconds, counted.counts, strict=True)
        if count
    ]
    values, counts = [value for value, _ in pairs], [count for _, count in pairs]
    total = round(sum(counted.nanoseconds) / 1e6, 3)
    return {
        "Values": values, "Counts": counts, "Max": max(values), "Min": min(values), "Count": sum(counts), "Sum": total,
    }  # fmt: skip
