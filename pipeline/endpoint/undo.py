"""Nothing half-made is left: what a step makes is deleted again when a later one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from pipeline.endpoint.errors import PipelineError, explain
from pipeline.endpoint.session import say

DELETE = "python -m pipeline delete"
FINDS_IT = f"{DELETE} finds it"


class Undo(Protocol):
    """Takes what will be made, and how to delete it. `uses`: while it stays, it needs what was made before it."""

    def __call__(self, what: str, delete: Callable[[], object], *, uses: bool = False) -> None: ...


@dataclass(frozen=True)
class _Made:
    what: str
    delete: Callable[[], object]
    uses: bool


@contextmanager
def leaving_nothing() -> Iterator[Undo]:
    """Inside, name what will be made and how to delete it: whatever is raised, all of it is deleted, last first."""
    made: list[_Made] = []

    def undo(what: str, delete: Callable[[], object], *, uses: bool = False) -> None:
        made.append(_Made(what, delete, uses))

    try:
        yield undo
    except BaseException:
        if made:
            say("this failed; deleting what was made (Ctrl-C leaves the rest)")
        _delete_all(made)
        raise


def _delete_all(made: list[_Made]) -> None:
    while made:
        try:
            gone = _delete(made[-1])
        except KeyboardInterrupt:
            say(f"left: {_names(made)}; {FINDS_IT}")
            raise
        last = made.pop()
        if last.uses and not gone:
            say(f"what it uses stays with it: {_names(made)}; it may cost until that is deleted: {DELETE}")
            return


def _names(made: list[_Made]) -> str:
    return ", ".join(one.what for one in reversed(made))


def _delete(one: _Made) -> bool:
    """Delete, and only say so when it cannot be done: the first error is the one to raise."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        one.delete()
    except (BotoCoreError, ClientError, PipelineError) as error:
        told = error if isinstance(error, PipelineError) else explain(error)
        say(f"{one.what} is left: {told}; {FINDS_IT}")
        return False
    return True
