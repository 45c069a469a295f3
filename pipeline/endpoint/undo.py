"""Nothing half-made is left: what a step makes is deleted again when a later one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pipeline.endpoint.errors import PipelineError, explain
from pipeline.endpoint.session import say

Undo = Callable[[str, Callable[[], object]], None]


@contextmanager
def leaving_nothing() -> Iterator[Undo]:
    """Inside, name what will be made and how to delete it: whatever is raised, all of it is deleted, last first."""
    with ExitStack() as stack:

        def undo(what: str, delete: Callable[[], object]) -> None:
            stack.callback(_delete, what, delete)

        try:
            yield undo
        except BaseException:
            say("this failed; deleting what was made (Ctrl-C leaves the rest)")
            raise
        stack.pop_all()


def _delete(what: str, delete: Callable[[], object]) -> None:
    """Delete, and only say so when it cannot be done: the first error is the one to raise."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        delete()
    except (BotoCoreError, ClientError) as error:
        say(f"{what} is left: {explain(error)}; python -m pipeline delete finds it")
    except PipelineError as error:
        say(f"{what} is left: {error}; python -m pipeline delete finds it")
