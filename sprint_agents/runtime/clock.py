"""The clock of a run: the times in its events and its record.

Invariants:

- All times of a run are seconds from its start, on the event loop's clock, so they never fall and can be simulated.
- A sprint that carries out a subtask has the clock of the run to which it belongs.
- A resumed run continues where its journal ends: time in which no process worked on it does not count.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypedDict


class Stamp(TypedDict):
    """What every event has: its run, and its time."""

    run_id: str
    at: float


@dataclass(frozen=True, slots=True)
class RunClock:
    """A clock that shows 0 at the start of a run, which was at ``origin`` on the wall clock.

    ``time`` is the clock of the event loop, which showed ``zero`` at the start of the run.
    """

    origin: datetime
    time: Callable[[], float]
    zero: float

    @classmethod
    def start(cls, *, origin: datetime | None = None, passed: float = 0.0) -> "RunClock":
        """Start the clock of a run; of a resumed one with the origin and the seconds that its journal has."""
        time = asyncio.get_running_loop().time
        return cls(origin or datetime.now(UTC), time, time() - passed)

    def now(self) -> float:
        """Return the seconds from the start of the run."""
        return self.time() - self.zero


@dataclass(frozen=True, slots=True)
class AnswerTime:
    """The last ``seconds`` of a run, which are kept for its answer; they begin at ``begins`` on its clock."""

    clock: RunClock
    begins: float
    seconds: float

    @classmethod
    def of(cls, clock: RunClock, *, seconds: float | None, kept: float) -> "AnswerTime | None":
        """Return the time that is ``kept`` of so many ``seconds`` from now; None if none is."""
        return cls(clock, clock.now() + seconds - kept, kept) if seconds is not None and kept else None

    @property
    def left(self) -> float:
        """The seconds until it begins, which are negative afterwards."""
        return self.begins - self.clock.now()
