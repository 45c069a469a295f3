"""How it ends."""

from __future__ import annotations

import threading
import time

from local_test.check.calls import NoReply, Reply
from local_test.check.case import Case, Seen, doubtful, fine, wrong
from local_test.check.subject import Situation

GRACE = 30.0  # seconds from SIGTERM to SIGKILL
KILLED = 128 + 9
UNDER_WAY = 2 * 1024 * 1024  # bytes of the request that is served when SIGTERM comes


def sigterm(case: Case) -> Seen:
    """A large request is under way, so that what a stop does to it is seen."""
    with case.subject.start(Situation(case.port + 6)) as running:
        case.wait_until_healthy(running)
        body = case.asking.repeated(UNDER_WAY)
        answers: list[Reply | NoReply] = []

        def ask() -> None:
            try:
                answers.append(case.ask(running, {"Content-Type": case.asking.content_type or "text/csv"}, body))
            except NoReply as error:
                answers.append(error)

        client = threading.Thread(target=ask)
        client.start()
        time.sleep(0.05)
        began = time.monotonic()
        code = running.terminate(GRACE)
        seconds = time.monotonic() - began
        client.join(5)
    if code is None or code == KILLED:
        return wrong(f"still running {GRACE:.0f} s after SIGTERM")
    if not answers or isinstance(answers[0], NoReply):
        return wrong(f"the request that was under way was lost: {answers[0] if answers else 'no answer'}")
    said = f"exit code {code} after {seconds:.1f} s, and the request under way was answered with {answers[0].status}"
    return fine(said) if code == 0 else doubtful(said)


EXAMINED = {"sigterm": sigterm}
