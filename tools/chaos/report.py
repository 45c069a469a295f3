"""What a scenario promises, whether that held, and the figures, as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.chaos.tally import Tally

Figure = int | float | str


class Skipped(Exception):
    """This machine cannot try it; the message says why."""


@dataclass(frozen=True)
class Given:
    """What a scenario may use. `scale`: 1.0 for the promised numbers, less for a shorter run."""

    artifacts: Path
    scratch: Path
    scale: float = 1.0
    image: str = ""

    def times(self, count: int) -> int:
        return max(2, round(count * self.scale))


@dataclass
class Outcome:
    """Figures, and each way in which the promise did not hold. What was only late is apart: a busy machine is."""

    figures: dict[str, Figure] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)

    def expect(self, held: bool, otherwise: str) -> None:
        if not held:
            self.broken.append(otherwise)

    def within(self, name: str, seconds: float, most: float) -> None:
        self.figures[f"{name}_ms"] = round(seconds * 1000, 1)
        if seconds > most:
            self.late.append(f"{name}: expected at most {most} s, took {seconds:.2f} s")

    def count(self, tally: Tally) -> None:
        """The load's figures. No answer may be lost or wrong."""
        self.figures |= counts(tally)
        self.expect(not tally.lost, f"{tally.lost} lost, such as {tally.examples[:3]}")
        self.expect(not tally.wrong, f"{tally.wrong} wrong, such as {tally.examples[:3]}")
        self.expect(tally.right > 0, "no right answer")


def counts(tally: Tally) -> dict[str, Figure]:
    return {
        "requests": tally.requests,
        "lost": tally.lost,
        "wrong": tally.wrong,
        "worst_ms": round(max(tally.took, default=0.0) * 1000),
    }


@dataclass(frozen=True)
class Scenario:
    """A fault: its name, what is promised, and how it is tried."""

    name: str
    promise: str
    run: Callable[[Given], Outcome]


SCENARIOS: list[Scenario] = []


def scenario(promise: str) -> Callable[[Callable[[Given], Outcome]], Callable[[Given], Outcome]]:
    """Enter a function as the scenario of its name."""

    def enter(run: Callable[[Given], Outcome]) -> Callable[[Given], Outcome]:
        SCENARIOS.append(Scenario(run.__name__.replace("_", "-"), promise, run))
        return run

    return enter


@dataclass(frozen=True)
class Result:
    """A scenario that was tried, or why it was not."""

    name: str
    promise: str
    held: bool
    seconds: float
    figures: Mapping[str, Figure]
    broken: list[str]
    skipped: str = ""

    @property
    def verdict(self) -> str:
        return f"skipped: {self.skipped}" if self.skipped else "held" if self.held else "BROKEN"


def markdown(results: list[Result]) -> str:
    lines = ["| fault | promise | held | measured |", "|---|---|---|---|"]
    for result in results:
        figures = ", ".join(f"{name.replace('_', ' ')} {_written(value)}" for name, value in result.figures.items())
        lines.append(f"| `{result.name}` | {result.promise} | {result.verdict} | {figures} |")
    return "\n".join(lines) + "\n"


def _written(value: Figure) -> str:
    return value if isinstance(value, str) else f"{value:,}"
