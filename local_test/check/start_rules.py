"""How it starts: with `serve`, on which ports, beside another, without a model, with fewer rights."""

from __future__ import annotations

import contextlib
import time

from local_test.check.calls import NoReply, ping
from local_test.check.case import Case, Seen, doubtful, fine, last_line, wrong
from local_test.check.subject import CannotStart, NotHere, Running, Situation

WITHOUT_MODEL = 10.0  # seconds for which something without a model is watched, at least
UNPRIVILEGED = "10001:10001"


def serve(case: Case) -> Seen:
    try:
        running = case.hosted()
    except CannotStart as error:
        case.told = True
        return wrong(f"with SAGEMAKER_BIND_TO_PORT={case.port}: {error}")
    with contextlib.suppress(NotHere):
        if case.port not in running.listening():
            return wrong(f"listens on port {case.port} of the loopback only, where nobody outside of it can ask")
    return fine(f"healthy after {case.started_after:.1f} s on port {case.port}")


def default_port(case: Case) -> Seen:
    return _starts(case, Situation(None), "healthy on 8080")


def one_port(case: Case) -> Seen:
    running = case.hosted()
    others = sorted(running.listening() - {case.port})
    allowed = [port for port in others if case.port <= port <= case.port + 9]
    if others == allowed:
        return fine("the given port" + (f", and {allowed} of the safe range" if allowed else " and no other"))
    return wrong(f"also listens on {', '.join(str(port) for port in others if port not in allowed)}")


def neighbours(case: Case) -> Seen:
    first = case.hosted()
    found = _starts(case, Situation(case.port + 1, beside=first), "both are healthy")
    try:
        ping(first.port)
    except NoReply as error:
        return wrong(f"the second took the first one's place: {error}")
    return found


def ping_means_ready(case: Case) -> Seen:
    case.hosted()
    watched = max(WITHOUT_MODEL, 1.5 * case.started_after)
    with case.subject.start(Situation(case.port + 2, model=False)) as running:
        deadline = time.monotonic() + watched
        while time.monotonic() < deadline:
            if (code := running.exit_code()) is not None:
                said = f"without a model it ends with exit code {code}"
                return wrong(f"{said}, as if nothing had happened") if code == 0 else fine(said)
            if _is_healthy(running):
                return doubtful("without a model /ping is 200; right only where the model is in the image")
            time.sleep(0.1)
    return fine(f"not 200 within {watched:.0f} s without a model")


def read_only_model(case: Case) -> Seen:
    if not case.subject.mounts:
        raise NotHere("this needs Docker")
    try:
        case.hosted()
    except CannotStart:
        writable = _starts(case, Situation(case.port + 3, writable_model=True), "")
        if writable.verdict == "ok":
            return wrong("it starts only when it may write into /opt/ml/model")
        raise
    return fine("mounted read-only in every rule here")


def other_user(case: Case) -> Seen:
    return _optional(case, Situation(case.port + 4, user=UNPRIVILEGED), f"healthy as {UNPRIVILEGED}")


def read_only_root(case: Case) -> Seen:
    return _optional(case, Situation(case.port + 5, read_only=True), "healthy")


def logs(case: Case) -> Seen:
    running = case.hosted()
    return fine(last_line(running)[:80]) if running.log().strip() else doubtful("nothing was written since the start")


def _starts(case: Case, situation: Situation, said: str) -> Seen:
    try:
        with case.subject.start(situation) as running:
            case.wait_until_healthy(running)
    except CannotStart as error:
        return wrong(str(error))
    return fine(said)


def _optional(case: Case, situation: Situation, said: str) -> Seen:
    """For what SageMaker does not ask for. Not examined where it does not even start with all rights."""
    case.hosted()
    found = _starts(case, situation, said)
    return found if found.verdict == "ok" else doubtful(found.text)


def _is_healthy(running: Running) -> bool:
    try:
        return ping(running.port).status == 200
    except NoReply:
        return False


EXAMINED = {
    "serve": serve,
    "default-port": default_port,
    "one-port": one_port,
    "neighbours": neighbours,
    "ping-means-ready": ping_means_ready,
    "read-only-model": read_only_model,
    "logs": logs,
    "other-user": other_user,
    "read-only-root": read_only_root,
}
