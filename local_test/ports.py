"""Free TCP ports, of those that no system gives to outgoing connections: such a one may be taken a moment later."""

from __future__ import annotations

import random
import socket

HOST = "127.0.0.1"
_FIRST, _LAST = 10_000, 32_000  # Linux's outgoing connections begin at 32768, those of others above


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback that nobody listens on, in ascending order."""
    found: set[int] = set()
    while len(found) < count:
        if is_free(port := random.randint(_FIRST, _LAST)):  # noqa: S311 - no secret
            found.add(port)
    return sorted(found)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
