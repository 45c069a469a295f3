"""Nothing half-made is left: what a step makes is deleted again when a later one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.endpoint.errors import PipelineError, explain
from pipeline.endpoint.session import say

Undo = Callable[[str, Callable[[], object]], None]
FINDS_IT = "python -m pipeline delete finds it"


@contextmanager
def leaving_nothing() -> Iterator[Undo]:
    """Inside, name what will be made and how to delete it: whatever is raised, all of it is deleted, last first."""
    made: list[tuple[str, Callable[[], object]]] = []
    try:
        yield lambda what, delete: made.append((what, delete))
    except BaseException:
        if made:
            say("this failed; deleting what was made (Ctrl-C leaves the rest)")
        _delete_all(made)
        raise


def _delete_all(made: list[tuple[str, Callable[[], object]]]) -> None:
    while made:
        what, delete = made[-1]
        try:
            _delete(what, delete)
        except KeyboardInterrupt:
            say(f"left: {', '.join(what for what, _ in reversed(made))}; {FINDS_IT}")
            raise
        made.pop()


def _delete(what: str, delete: Callable[[], object]) -> None:
    """Delete, and only say so when it cannot be done: the first error is the one to raise."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        delete()
    except (BotoCoreError, ClientError) as error:
        say(f"{what} is left: {explain(error)}; {FINDS_IT}")
    except PipelineError as error:
        say(f"{what} is left: {error}; {FINDS_IT}")
