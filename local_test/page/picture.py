"""The chain as it is drawn: who is healthy, which run it serves, and whose the time is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from local_test.endpoint import Endpoint
from local_test.page.history import ROUTER, WHOLE, Body, Record
from local_test.page.latency import FEW, Histogram
from local_test.page.probe import Health, Interface, Seen

COLOURS = 6


@dataclass(frozen=True)
class Part:
    """Whose time it is. `share`: of the whole chain's time, in percent; `part`: the number of its colour."""

    name: str
    share: float
    part: int


@dataclass(frozen=True)
class Timing(Part):
    """A part over the last minutes, in milliseconds."""

    count: int
    p50: float
    p90: float
    p99: float

    @property
    def few(self) -> bool:
        return self.count < FEW


@dataclass(frozen=True)
class Overview:
    """All that the page says of the chain now."""

    containers: Sequence[Seen]
    timings: Sequence[Timing]  # the router, the containers in their order, the whole
    passed: Sequence[Body | None]  # what the last request carried: to each container, and back
    runs: Mapping[str, Interface]  # an interface for each training run that is served

    @property
    def health(self) -> Health:
        found = {container.health for container in self.containers}
        return next((worst for worst in (Health.FAILING, Health.STARTING) if worst in found), Health.HEALTHY)

    def timing(self, name: str) -> Timing | None:
        return next((timing for timing in self.timings if timing.name == name), None)

    @property
    def parts(self) -> list[Timing]:
        """Those that the whole is made of."""
        return [timing for timing in self.timings if timing.name != WHOLE]


def overview(
    endpoint: Endpoint, seen: Sequence[Seen], records: Sequence[Record], latencies: Mapping[str, Histogram]
) -> Overview:
    names = [ROUTER, *(container.name for container in endpoint.containers), WHOLE]
    total = latencies[WHOLE].total if WHOLE in latencies else 0.0
    timings = [_timing(name, n % COLOURS, latencies[name], total) for n, name in enumerate(names) if name in latencies]
    runs: dict[str, Interface] = {}
    for one in seen:
        if one.interface.contract:
            runs.setdefault(one.interface.contract.hash, one.interface)
    return Overview(seen, timings, _passed(len(seen), records), runs)


def parts_of(record: Record) -> list[Part]:
    """A request's time: the router's own, and that of each container in its order."""
    whole = record.milliseconds or 1.0
    hops = [Part(h.container, 100 * h.milliseconds / whole, n % COLOURS) for n, h in enumerate(record.hops, 1)]
    return [Part(ROUTER, 100 * record.own_milliseconds / whole, 0), *hops]


def _timing(name: str, part: int, histogram: Histogram, total: float) -> Timing:
    share = 100 * histogram.total / total if total else 0.0
    return Timing(name, share, part, histogram.count, *(histogram.percentile(of) for of in (0.5, 0.9, 0.99)))


def _passed(containers: int, records: Sequence[Record]) -> list[Body | None]:
    """Of the last request that reached a container."""
    last = next((record for record in records if record.hops), None)
    if last is None:
        return [None] * (containers + 1)
    bodies: list[Body | None] = [hop.sent for hop in last.hops]
    return bodies + [None] * (containers - len(bodies)) + [last.answered]


def addresses(records: Iterable[Record]) -> Callable[[Record], str]:
    """Where the page of each of them is: at its id alone if it is the last that has it."""
    newest: dict[str, int] = {}
    for record in records:
        newest.setdefault(record.request_id, record.number)

    def address(record: Record) -> str:
        found: dict[str, str | int] = {"id": record.request_id}
        if newest.get(record.request_id) != record.number:
            found["number"] = record.number
        return f"/requests?{urlencode(found)}"

    return address
