"""What a running chain leaves in its state directory: who runs, where, and the logs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from local_test.process import Process, stop
from serving.inside import inside
from serving.run_dir import held

FILE = "chain.json"
_GONE_WITHIN = 3.0  # seconds


class ChainError(Exception):
    """The chain cannot do what was asked. The message says why, and the next step."""


@dataclass(frozen=True)
class State:
    """A state directory."""

    directory: Path

    def log(self, name: str) -> Path:
        return inside(self.directory, f"{name}.log")

    def tail(self, name: str, lines: int, without: str | None = None) -> str:
        """The last `lines` of a log, of those in which `without` does not occur."""
        try:
            found = self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join([line for line in found if not (without and without in line)][-lines:])

    def load(self) -> tuple[str, list[Process]]:
        """The endpoint's name and the processes, in the order they were started; none when nothing was."""
        try:
            raw = json.loads((self.directory / FILE).read_text(encoding="utf-8"))
            return str(raw["endpoint"]), [Process(**entry) for entry in raw["processes"]]
        except FileNotFoundError:
            return "", []
        except (ValueError, KeyError, TypeError) as error:
            raise ChainError(
                f"{self.directory / FILE} is damaged ({error!r}): stop the processes, remove it"
            ) from error

    def save(self, endpoint: str, processes: Sequence[Process]) -> None:
        whole = {"endpoint": endpoint, "processes": [asdict(process) for process in processes]}
        written = self.directory / f"{FILE}.new"
        try:
            written.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
            written.replace(self.directory / FILE)
        except OSError:  # on a full disk; nobody would remember them
            stop(processes)
            raise

    def clear(self) -> None:
        (self.directory / FILE).unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one command at a time changes what runs. Raises `ChainError` when another one is at it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ChainError(f"another command is starting or stopping the chain of {self.directory}") from error
            yield

    @contextlib.contextmanager
    def claimed(self) -> Iterator[int]:
        """A descriptor by which servers keep the directory to themselves: those that inherit it, to their end.

        Raises `ChainError` when others have it, who are not among the processes that are seen from here. A process that
        was killed has it for a moment more, until its last thread is gone.
        """
        deadline = time.monotonic() + _GONE_WITHIN
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    descriptor = stack.enter_context(held(self.directory.resolve()))
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise ChainError(
                            f"servers that are not seen from here use {self.directory}, in another container perhaps: "
                            "stop them there, or give --state another directory"
                        ) from error
                    time.sleep(0.02)
            yield descriptor
