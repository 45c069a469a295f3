"""Counts as Prometheus reads them: its text exposition format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate

from serving.metrics import BOUNDS, BYTES_IN, BYTES_OUT, DROPPED, ENDS, ROWS, UNSEEN, Totals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SCALARS = (
    ("request_bytes_total", BYTES_IN, "Bytes of request bodies, as their Content-Length says."),
    ("response_bytes_total", BYTES_OUT, "Bytes of response bodies."),
    ("rows_total", ROWS, "Rows of requests that were answered 200."),
    ("unknown_categories_total", UNSEEN, "Cells with a category that training has not seen."),
    ("worker_restarts_total", ENDS, "Workers that ended, each of which a new one replaces."),
    ("log_lines_dropped_total", DROPPED, "Log lines that standard error did not take."),
)


def exposition(stage: str, totals: Totals, refused_by_nginx: Mapping[str, int], ready: int) -> str:
    """All metrics of a container. `refused_by_nginx`: how often, by code; `ready`: workers that answer."""
    label = f'stage="{stage}"'
    statuses = {name: count for name, count in totals.named.items() if name.isdigit()}
    refusals = {name: count for name, count in totals.named.items() if not name.isdigit()}
    lines = [
        *_family("requests_total", "counter", "Requests that a worker answered, by status."),
        *(_sample("requests_total", f'{label},code="{code}"', count) for code, count in sorted(statuses.items())),
        *_family("refusals_total", "counter", "Refusals by workers, by the code in their bodies."),
        *(_sample("refusals_total", f'{label},code="{code}"', count) for code, count in sorted(refusals.items())),
        *_family("nginx_refusals_total", "counter", "Requests that nginx refused, or no worker answered."),
        *(_sample("nginx_refusals_total", f'{label},code="{code}"', n) for code, n in sorted(refused_by_nginx.items())),
        *_histogram(label, totals),
        *_family("workers_ready", "gauge", "Workers that have loaded the model."),
        _sample("workers_ready", label, ready),
    ]
    for name, scalar, told in _SCALARS:
        lines += [*_family(name, "counter", told), _sample(name, label, totals.scalars[scalar])]
    return "\n".join([*lines, ""])


def _histogram(label: str, totals: Totals) -> Iterable[str]:
    name = "request_duration_seconds"
    yield from _family(name, "histogram", "Seconds that a worker took for a request.")
    for bound, count in zip((*BOUNDS, "+Inf"), accumulate(totals.counts), strict=True):
        yield _sample(f"{name}_bucket", f'{label},le="{bound}"', count)
    yield _sample(f"{name}_sum", label, sum(totals.nanoseconds) / 1e9)
    yield _sample(f"{name}_count", label, sum(totals.counts))


def _family(name: str, kind: str, told: str) -> list[str]:
    return [f"# HELP model_server_{name} {told}", f"# TYPE model_server_{name} {kind}"]


def _sample(name: str, labels: str, value: float) -> str:
    return f"model_server_{name}{{{labels}}} {value}"
