"""The ways in which the soak starts, stops and resumes runs, each of which notes what it finds in a ``Watch``."""

import asyncio
import json
import logging
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import structlog

from sprint_agents import Run
from sprint_agents.errors import SprintError
from sprint_agents.events import RunFinished, RunStarted, StageFinished
from sprint_agents.testing import VirtualTimeLoop

from .case import Case
from .invariants import Outcome, difference, outcome_problems, record_problems, sent_problems
from .model import WORDS


@dataclass(slots=True)
class Watch:
    """Collects what happened in one case: its ``outcomes``, and the ``problems`` found."""

    case: Case
    random: Random
    path: Path
    outcomes: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])

    def ended(self, outcome: Outcome) -> Outcome:
        """Check the outcome of a run and count it."""
        self.problems += outcome_problems(outcome, self.case.budget)
        self.outcomes.append("answered" if isinstance(outcome, Run) else type(outcome).__name__)
        return outcome

    def compare(self, resumed: Outcome, whole: Outcome) -> None:
        """Compare a resumed run with an uninterrupted one, unless the model reads the odd errors of a server."""
        if self.case.servers and self.case.model.odd:
            return
        pending = any("fork_join_async" in kind for kind in self.case.kinds)
        self.problems += difference(resumed, whole, pending=pending)

    def moment(self) -> float:
        """Draw a time at which to stop a run, in seconds."""
        return self.random.random() * self.random.choice((0.01, 1.0, 5.0)) * self.case.functions.seconds


async def outcome_of(run: Awaitable[Run[Any, Any]]) -> Outcome:
    """Await a run; its error is its outcome."""
    try:
        return await run
    except SprintError as error:
        return error


async def plain(watch: Watch) -> None:
    """Let a run end."""
    case = watch.case
    watch.ended(await outcome_of(case.sprint.run(case.task)))
    watch.problems += sent_problems(case)


async def cancelled(watch: Watch, *, journal: Path | None = None) -> Outcome | None:
    """Cancel a run at some moment; return its outcome if it ended before."""
    case = watch.case
    task = asyncio.create_task(outcome_of(case.sprint.run(case.task, journal=journal)))
    await asyncio.wait([task], timeout=watch.moment())
    task.cancel()
    await asyncio.wait([task])
    if task.cancelled():
        watch.outcomes.append("cancelled")
        return None
    return watch.ended(task.result())


async def stopped(watch: Watch) -> None:
    """Cancel a run at some moment."""
    await cancelled(watch)
    watch.problems += sent_problems(watch.case)


async def streamed(watch: Watch, *, most: int = sys.maxsize) -> None:
    """Read the events of a run, at most so many."""
    events: list[Any] = []

    async def read() -> Run[Any, Any]:
        async with watch.case.sprint.stream(watch.case.task) as stream:
            async for event in stream:
                events.append(event)
                if len(events) >= most:
                    break
        return events[-1].run

    if most < sys.maxsize:
        with suppress(AttributeError, SprintError):
            await read()
        watch.outcomes.append("left")
        return
    outcome = watch.ended(await outcome_of(read()))
    kinds = [type(event) for event in events]
    if events and (kinds.count(RunStarted), kinds.count(RunFinished), kinds[-1]) != (1, 1, RunFinished):
        watch.problems.append(f"the events of a run are {[kind.__name__ for kind in kinds]}, it ended with {outcome!r}")
    finished = [event.stage.number for event in events if isinstance(event, StageFinished)]
    if len(finished) != len(set(finished)):
        watch.problems.append(f"stages finished twice: {finished}")


async def left(watch: Watch) -> None:
    """Leave the stream of a run early."""
    await streamed(watch, most=watch.random.randint(1, 30))


async def mapped(watch: Watch, *, most: int = sys.maxsize) -> None:
    """Run several tasks at once, and read so many of their runs."""
    tasks = [f"{watch.case.task} {number}" for number in range(watch.random.randint(1, 6))]
    found: list[str] = []
    async with watch.case.sprint.map(tasks, concurrency=watch.random.randint(1, 4)) as runs:
        async for run in runs:
            found.append(run.task)
            watch.problems += record_problems(run, watch.case.budget)
            watch.outcomes.append(run.error.type if run.error else "answered")
            if len(found) >= most:
                return
    if sorted(found) != sorted(tasks):
        watch.problems.append(f"map ran {tasks} and yielded {found}")


async def map_left(watch: Watch) -> None:
    """Leave a map early."""
    await mapped(watch, most=watch.random.randint(1, 3))


@dataclass(slots=True)
class Calls:
    """The calls of an executor that is a function, from here on; ``kept`` are the results that a journal has by now."""

    watch: Watch
    journal: Path
    kept: Counter[str] = field(default_factory=Counter[str])
    before: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.watch.case.functions.executed.copy()
        if self.journal.exists() and self.watch.case.calls_functions:
            lines = self.journal.read_bytes().splitlines()[1:]
            records = [record for line in lines if (record := _record(line)) is not None]
            self.kept = Counter(
                each["kept"]["execution"]["prompt"]
                for each in records
                if each["kind"] == "execution" and "failure" not in each["kept"]["execution"]
            )
            if any(each["kind"] == "reset" for each in records):
                self.kept.clear()

    def compare(self, whole: Counter[str]) -> None:
        """Check that no result that the journal has was computed again; a run needs the calls of ``whole`` in all."""
        made = self.watch.case.functions.executed - self.before
        for prompt, kept in self.kept.items():
            if made[prompt] and made[prompt] + kept > whole[prompt]:
                self.watch.problems.append(f"{prompt!r} has {kept} results in the journal, and was called again")


def _record(line: bytes) -> Any:
    """Return the record of a line; None if a kill has cut it off."""
    try:
        return json.loads(line)["record"]
    except ValueError:
        return None


async def resumed(watch: Watch) -> None:
    """Cancel a run with a journal several times, let it end, and compare it with an uninterrupted one."""
    case = watch.case
    outcome: Outcome | None = None
    for _ in range(watch.random.randint(1, 3)):
        outcome = await cancelled(watch, journal=watch.path)
        if outcome is not None:
            break
    calls = Calls(watch, watch.path)
    if outcome is None:
        outcome = watch.ended(await outcome_of(case.sprint.run(case.task, journal=watch.path)))
    whole, executed = await uninterrupted(case)
    watch.compare(outcome, whole)
    calls.compare(executed)
    if isinstance(outcome, Run):
        await read_again(watch, outcome)


async def read_again(watch: Watch, outcome: Run[Any, Any]) -> None:
    """Resume a finished run: it must send nothing and come to the same answer."""
    case = watch.case
    before = sum(engine.account().started for engine in case.fakes)
    again = await outcome_of(case.sprint.run(case.task, journal=watch.path))
    watch.compare(again, outcome)
    if sum(engine.account().started for engine in case.fakes) != before:
        watch.problems.append("a finished run sent requests when it was resumed")


async def cut(watch: Watch) -> None:
    """Cut a finished journal at some byte, resume it, and compare both runs."""
    case = watch.case
    whole = watch.ended(await outcome_of(case.sprint.run(case.task, journal=watch.path)))
    if not watch.path.exists():
        return  # it never began
    content = watch.path.read_bytes()
    watch.path.write_bytes(content[: watch.random.randrange(len(content) + 1)])
    calls, executed = Calls(watch, watch.path), case.functions.executed.copy()
    watch.compare(watch.ended(await outcome_of(case.sprint.run(case.task, journal=watch.path))), whole)
    calls.compare(executed)


async def uninterrupted(case: Case, task: str | None = None) -> tuple[Outcome, Counter[str]]:
    """Run the same case once more, without a journal; return its outcome and the calls of its executors."""
    twin = Case(case.seed, steady=case.steady)
    outcome = await outcome_of(twin.sprint.run(task or case.task))
    return outcome, twin.functions.executed


def synchronous(watch: Watch) -> None:
    """Let a run end outside of an event loop."""
    case = watch.case
    try:
        watch.ended(case.sprint.run_sync(case.task))
    except SprintError as error:
        watch.ended(error)


def quiet() -> None:
    """Let the library log nothing."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


class Killer:
    """Kills its own process at the given moment, counted from 1; never at 0."""

    def __init__(self, moment: int) -> None:
        self._left = moment

    def reached(self) -> None:
        """Count a moment."""
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


def _run_until_killed(seed: str, moment: int, folder: Path, tasks: Sequence[str]) -> None:
    """Run a case with journals in a process that kills itself."""
    quiet()
    case = Case(seed, steady=True, moment=Killer(moment).reached)

    async def run() -> None:
        await asyncio.gather(
            *(outcome_of(case.sprint.run(task, journal=folder / str(number))) for number, task in enumerate(tasks))
        )

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


async def killed(watch: Watch) -> None:
    """Start runs in another process that is killed, resume their journals, and compare them with uninterrupted runs."""
    case, folder = watch.case, watch.path.parent
    tasks = [f"{case.task} {word}" for word in WORDS[: watch.random.randint(2, 8)]]
    moment = watch.random.randint(1, 12 * len(tasks))
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["sprint_agents", "sprint_agents.engines.openai", "sprint_agents.testing"])
    process = processes.Process(target=_run_until_killed, args=(case.seed, moment, folder, tasks))
    process.start()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        watch.problems.append(f"the process ended with {process.exitcode}")
    watch.outcomes += ["killed" if process.exitcode else "ended before the kill"] * len(tasks)
    for number, task in enumerate(tasks):
        calls = Calls(watch, folder / str(number))
        resumed = await outcome_of(case.sprint.run(task, journal=folder / str(number)))
        watch.problems += outcome_problems(resumed, case.budget)
        whole, executed = await uninterrupted(case, task)
        watch.compare(resumed, whole)
        calls.compare(executed)


@dataclass(frozen=True, slots=True)
class Way:
    """A way to start, stop and resume runs, and how often it is tried; ``steady`` and ``real`` are as in ``Case``."""

    share: int
    run: Callable[[Watch], Any]
    steady: bool = False
    real: bool = False


WAYS = {
    "run": Way(30, plain),
    "cancelled": Way(15, stopped),
    "streamed": Way(8, streamed),
    "stream left": Way(7, left),
    "map": Way(8, mapped),
    "map left": Way(3, map_left),
    "run_sync": Way(4, synchronous, real=True),
    "cancelled and resumed": Way(12, resumed, steady=True),
    "journal cut and resumed": Way(9, cut, steady=True),
    "killed and resumed": Way(1, killed, steady=True),
}
