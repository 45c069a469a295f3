"""The containers that serve an endpoint, and which of them gets the next request while an update is under way."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from local_test.control_plane.hosting import Hosted
from local_test.endpoint import Endpoint


@dataclass(eq=False)
class Fleet:
    """Containers that an endpoint config made. `in_flight`: the requests they are answering; `Traffic` counts them."""

    instance: str  # an id like an instance's
    config: str  # the endpoint config's name
    directory: Path
    hosted: Hosted
    endpoint: Endpoint
    in_flight: int = 0


@dataclass(eq=False)
class Traffic:
    """The way of an endpoint's requests: to one fleet, and a share of them to its successor."""

    fleet: Fleet
    successor: Fleet | None = None
    percent: int = 0  # of the requests, to the successor
    _taken: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def take(self) -> Fleet:
        """The fleet of the next request, which counts as in flight until it is given back."""
        with self._changed:
            self._taken += 1
            whole, before = self._taken * self.percent // 100, (self._taken - 1) * self.percent // 100
            chosen = self.successor if self.successor and whole > before else self.fleet
            chosen.in_flight += 1
            return chosen

    def give_back(self, fleet: Fleet) -> None:
        with self._changed:
            fleet.in_flight -= 1
            self._changed.notify_all()

    def shift(self, successor: Fleet, percent: int) -> None:
        """Send `percent` of the requests to `successor`."""
        with self._changed:
            self.successor, self.percent = successor, percent

    def settle(self, fleet: Fleet) -> None:
        """Send every request to `fleet`."""
        with self._changed:
            self.fleet, self.successor, self.percent = fleet, None, 0

    def exchange(self, ill: Fleet, sound: Fleet) -> bool:
        """Let `sound` take the place of `ill`. Returns whether it still had one."""
        with self._changed:
            if self.fleet is not ill:
                return False
            self.fleet = sound
            return True

    def drain(self, fleet: Fleet, seconds: float) -> bool:
        """Wait until no request is in `fleet`. Returns whether that came about."""
        deadline = time.monotonic() + seconds
        with self._changed:
            return self._changed.wait_for(lambda: fleet.in_flight == 0, deadline - time.monotonic())
