"""A container that goes and comes back behind the router."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from tests.servers import ECHO, Server, free_ports, running
from tools.chaos.client import Load
from tools.chaos.oracle import echoes
from tools.chaos.report import Given, Outcome, scenario

GONE = "SERVER_ERROR_FROM_MODEL"  # the runtime's word for a container that gives no answer


@scenario("a container behind the router is stopped or killed and comes back: 424 meanwhile, right 1 s after its /ping")
def container_restarted(given: Given) -> Outcome:
    outcome, (port,), slowest = Outcome(), free_ports(1), 0.0
    signals = (signal.SIGTERM, signal.SIGKILL) * max(1, given.times(10) // 2)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(ECHO, port=port))
        router = stack.enter_context(running("local_test", {"CONTAINERS": f"echo=http://127.0.0.1:{port}"}))
        with Load(router.port, echoes("sleep 0.005", 5000), clients=4, allowed=(GONE,)) as load:
            for number in signals:
                load.wait_for(50)
                _end(server, number)
                server = stack.enter_context(running(ECHO, port=port))
                begun = time.monotonic()
                load.wait_for(50)
                slowest = max(slowest, load.tally.recovery(begun))
    outcome.figures |= {"faults": len(signals), "refused": load.tally.refused}
    outcome.count(load.tally)
    outcome.expect(load.tally.refused > 0, "nobody noticed that the container was gone")
    outcome.within("recovery", slowest, 1)
    return outcome


def _end(server: Server, number: int) -> None:
    """In order, or at once with all that it has started."""
    if number == signal.SIGTERM:
        server.stop()
        return
    for pid in server.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    server.process.wait()
