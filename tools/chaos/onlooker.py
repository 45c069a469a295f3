"""`python -m tools.chaos.onlooker PORT SECONDS`: a few callers who wait for nobody but the server.

The many clients that overload a server share one process, and see each answer when their turn comes. These see it when
it is there. Prints a JSON list: the seconds that each refusal took.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

CALLERS = 8  # most of them wait: what is not refused stands in line for seconds
PAUSE = 0.02  # seconds between two requests


def look(port: int, seconds: float) -> list[float]:
    """Ask until the time is over."""
    times: list[float] = []
    end = time.monotonic() + seconds
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=70)
    while time.monotonic() < end:
        begun = time.monotonic()
        connection.request("POST", "/invocations", b"sleep 0.02 onlooker", {"Content-Type": "text/plain"})
        response = connection.getresponse()
        body = response.read()
        if response.status == 503 and json.loads(body)["code"] == "overloaded":
            times.append(time.monotonic() - begun)
        time.sleep(PAUSE)
    connection.close()
    return times


if __name__ == "__main__":
    with ThreadPoolExecutor(CALLERS) as pool:
        seen = [pool.submit(look, int(sys.argv[1]), float(sys.argv[2])) for _ in range(CALLERS)]
    print(json.dumps([seconds for one in seen for seconds in one.result()]))
