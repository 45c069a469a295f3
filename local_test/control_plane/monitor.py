"""Endpoints whose containers end or stop answering get new ones, as the platform replaces an unhealthy instance."""

from __future__ import annotations

import logging
import time

from local_test.control_plane import deployment
from local_test.control_plane.fleet import Fleet
from local_test.control_plane.hosting import HostingError
from local_test.control_plane.plane import Plane
from local_test.control_plane.store import ENDPOINT

log = logging.getLogger("local_test.control_plane")

EVERY = 1.0  # seconds between two looks at what runs
PING_EVERY = 15.0  # seconds between two pings
ILL_AFTER = 3  # pings in a row
AGAIN_AFTER = 10.0  # seconds after a replacement that failed


class Monitor:
    """Watches all endpoints in service."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self._missed: dict[Fleet, int] = {}
        self._pinged = time.monotonic()
        self._not_before: dict[str, float] = {}
        self._replacing: set[str] = set()

    def run(self) -> None:
        """Until the control plane ends."""
        while not self.plane.closing.wait(EVERY):
            for name, fleet in self._in_service():
                waits = name in self._replacing or time.monotonic() < self._not_before.get(name, 0)
                if not waits and (reason := self._illness(fleet)):
                    self._replacing.add(name)
                    deployment.in_background(f"replace-{name}", self._replace, name, fleet, reason)
            if time.monotonic() - self._pinged >= PING_EVERY:
                self._pinged = time.monotonic()
                self._ping()

    def _in_service(self) -> list[tuple[str, Fleet]]:
        with self.plane.store.lock:
            return [
                (endpoint.name, traffic.fleet)
                for endpoint in self.plane.store.all(ENDPOINT)
                if endpoint.fields["EndpointStatus"] == "InService"
                and (traffic := self.plane.traffic.get(endpoint.name))
            ]

    def _illness(self, fleet: Fleet) -> str:
        if ended := fleet.hosted.ended():
            return f"{', '.join(ended)} ended"
        return "its pings are not answered" if self._missed.get(fleet, 0) >= ILL_AFTER else ""

    def _ping(self) -> None:
        fleets = [fleet for _, fleet in self._in_service()]
        self._missed = {fleet: self._missed.get(fleet, 0) + 1 for fleet in fleets if fleet.endpoint.unhealthy()}

    def _replace(self, name: str, fleet: Fleet, reason: str) -> None:
        log.warning("the containers of endpoint %s are started anew: %s", name, reason)
        self._missed.pop(fleet, None)
        try:
            deployment.replace(self.plane, name, fleet)
        except HostingError as error:
            self._not_before[name] = time.monotonic() + AGAIN_AFTER
            log.warning("the containers of endpoint %s did not come up again: %s", name, error)
        finally:
            self._replacing.discard(name)
