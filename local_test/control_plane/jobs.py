"""Jobs: what transform and training jobs have in common, from the request that starts one to its end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError

from local_test.control_plane.errors import ApiError, InUse
from local_test.control_plane.hosting import HostingError
from local_test.control_plane.plane import Job, Plane
from local_test.control_plane.store import Fields, Kind, Resource

log = logging.getLogger(__name__)
LONGEST_REASON = 1024
UNDER_WAY = ("InProgress", "Stopping")

# Does a job's work until it is done or the event is set. Raises `HostingError`, whose message is the FailureReason.
Work = Callable[[Plane, Resource, threading.Event], None]


def start(plane: Plane, kind: Kind, given: Mapping[str, Any], work: Work, begun: str, ended: str) -> Resource:
    """Keep a job and do its work in a thread. `begun` and `ended` are the fields of its times."""
    with plane.store.lock:
        if taken := plane.store.get(kind, given[kind.name]):
            raise InUse(
                "Job name must be unique within an AWS account and region, and a job with this name already exists "
                f"({taken.arn})"
            )
        resource = plane.store.add(kind, given)
        plane.store.change(resource, **{kind.status: "InProgress"})
        stop = threading.Event()
        run = partial(_run, plane, resource, work, stop, begun, ended)
        thread = threading.Thread(target=run, name=resource.name, daemon=True)
        plane.jobs[resource.arn] = Job(thread, stop)
    thread.start()
    return resource


def stop(plane: Plane, kind: Kind, name: str) -> Fields:
    """Ask a job to end. Raises `ApiError` when it is over."""
    with plane.store.lock:
        resource = plane.store.find(kind, name)
        status = resource.fields[kind.status]
        if status not in UNDER_WAY:
            raise ApiError(f"The request was rejected because the {kind.word.replace('-', ' ')} is in status {status}.")
        plane.store.change(resource, **{kind.status: "Stopping"})
        plane.jobs[resource.arn].stop.set()
    return {}


def end_all(plane: Plane, within: float = 40.0) -> None:
    """Stop all jobs and wait until their containers are gone; for the server's end."""
    with plane.store.lock:
        jobs = list(plane.jobs.values())
    for job in jobs:
        job.stop.set()
    deadline = time.monotonic() + within
    for job in jobs:
        job.thread.join(max(0.0, deadline - time.monotonic()))


def _run(plane: Plane, resource: Resource, work: Work, stop: threading.Event, begun: str, ended: str) -> None:
    plane.store.change(resource, **{begun: time.time()})
    status, reason = "Failed", "InternalServerError: We encountered an internal error. Please try again."
    try:
        work(plane, resource, stop)
        status, reason = ("Stopped" if stop.is_set() else "Completed"), ""
    except (HostingError, ApiError) as error:
        status, reason = ("Stopped", "") if stop.is_set() else ("Failed", str(error)[:LONGEST_REASON])
    except BotoCoreError as error:  # the server ends
        log.warning("%s: %s", resource.arn, error)
    finally:  # whatever else it was rises, and is shown by the thread
        changed: Fields = {resource.kind.status: status, ended: time.time()}
        if reason:
            changed["FailureReason"] = reason
        plane.store.change(resource, **changed)
        with plane.store.lock:
            plane.jobs.pop(resource.arn, None)
        log.info("%s ended: %s %s", resource.arn, status, reason)
