"""What an invocation leaves for later: gathered while requests are answered, and shipped by a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from local_test.control_plane.plane import Plane

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class Gathered(Generic[T]):
    """Items that are handed to `ship` together, about every `seconds`. A control plane's first one starts a thread."""

    ship: Callable[[Plane, list[T]], None]
    seconds: float
    _items: list[tuple[Plane, T]] = field(default_factory=list)
    _shipping: list[Plane] = field(default_factory=list)  # those that have a thread
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, plane: Plane, item: T) -> None:
        with self._lock:
            self._items.append((plane, item))
            if any(one is plane for one in self._shipping):
                return
            self._shipping.append(plane)
        threading.Thread(target=self._run, args=(plane,), name=self.ship.__module__, daemon=True).start()

    def _run(self, plane: Plane) -> None:
        while not plane.closing.wait(self.seconds):
            self._ship(plane)
        with self._lock:
            self._shipping = [one for one in self._shipping if one is not plane]

    def _ship(self, plane: Plane) -> None:
        with self._lock:
            items = [item for owner, item in self._items if owner is plane]
            self._items = [(owner, item) for owner, item in self._items if owner is not plane]
        if not items:
            return
        try:
            self.ship(plane, items)
        except (BotoCoreError, ClientError) as error:
            log.warning("%d items were lost: %s", len(items), error)
