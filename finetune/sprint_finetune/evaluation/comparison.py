"""Solve every case with every method, in turns, so that a disturbance affects all methods.

Every other case is solved in the opposite order, so no method always begins. A method is a ``Sprint`` with a name:
whatever a ``Sprint`` can do can be compared.
"""

import itertools
from asyncio import TaskGroup
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from sprint_agents import Run, Sprint
from sprint_agents.arguments import at_least

from .cases import Case, digest_of
from .checks import Check, Checker, grader
from .outcomes import Outcome, OutcomeFile
from .setups import describe_check, describe_method

Methods = Mapping[str, Sprint[Any, Any]]
"""Ways to solve a case, by name."""


async def compare(
    methods: Methods,
    cases: Sequence[Case],
    *,
    out: OutcomeFile,
    seeds: Sequence[int] = (0,),
    check: Check | None = None,
    check_seconds: float = 60.0,
    on_outcome: Callable[[Outcome], object] = lambda _: None,
    concurrency: int = 1,
) -> None:
    """Run each case with each seed and each method, unless ``out`` already has the outcome, and add the outcomes to it.

    A failed run is an outcome with an ``error``. One that failed because the engine was unavailable is repeated when
    the comparison is started again, as is a run that a killed process left unfinished.

    Args:
        methods: the ways to solve a case, by name. The seed of a repetition replaces that of their sampling.
        cases: the problems.
        out: an open file of outcomes.
        seeds: one repetition of each case for each of them; they differ only where the model samples.
        check: decides which answers are right, async or not; by default ``grader``. What it raises is in the outcome.
        check_seconds: how long a check may take.
        on_outcome: called with each new outcome.
        concurrency: the number of runs at once. With 1, each run has an idle engine, so wall times are latencies and
            comparable within a case. More yield the same answers and token counts sooner, but no wall times. These
            runs have journals, from which they resume; in a timed run, writing one would cost time.

    Raises:
        ConfigurationError: ``out`` has an outcome of another case or of other settings under the same name.
        EngineError: a server does not answer at the start.
    """
    at_least(1, concurrency=concurrency)
    checked = describe_check(check, seconds=check_seconds)
    setups = {name: await describe_method(sprint) | checked for name, sprint in methods.items()}
    named = [*methods.items()]
    tried = [
        _Trial(name, sprint, case, seed, setups[name] | {"case": case.digest})
        for turn, (case, seed) in enumerate(itertools.product(cases, seeds))
        for name, sprint in (reversed(named) if turn % 2 else named)
    ]
    todo = iter([trial for trial in tried if not _is_done(trial, out)])
    async with AsyncExitStack() as opened:
        used = check or await opened.enter_async_context(grader())
        checker = opened.enter_context(Checker(used, seconds=check_seconds))
        work = _Work(todo, out, checker, on_outcome, timed=concurrency == 1)
        async with TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(work.run())


@dataclass(frozen=True, slots=True)
class _Trial:
    """One case, once, with one method."""

    method: str
    sprint: Sprint[Any, Any]
    case: Case
    seed: int
    setup: Mapping[str, str]
    """What the outcome depends on."""

    @property
    def name(self) -> str:
        """A name that no other trial has."""
        return digest_of([self.method, self.case.id, self.seed, {**self.setup}])


def _is_done(trial: _Trial, out: OutcomeFile) -> bool:
    outcome = out.outcomes.get((trial.method, trial.case.id, trial.seed))
    if outcome is None:
        return False
    out.check_same(outcome, setup=trial.setup)
    return not outcome.is_no_fault


@dataclass(slots=True)
class _Work:
    """The trials that are left, which several workers share."""

    todo: Iterator[_Trial]
    out: OutcomeFile
    checker: Checker
    on_outcome: Callable[[Outcome], object]
    timed: bool = field(kw_only=True)

    async def run(self) -> None:
        """Solve one trial after the other."""
        for trial in self.todo:
            journal = None if self.timed else self.out.journal(trial.name)
            outcome = await self._solve(trial, journal)
            self.out.add(outcome)
            if journal is not None and not outcome.is_no_fault:
                journal.unlink(missing_ok=True)
            self.on_outcome(outcome)

    async def _solve(self, trial: _Trial, journal: Path | None) -> Outcome:
        journals = None if journal is None else [journal]
        async with trial.sprint.map([trial.case.task], concurrency=1, journals=journals, seed=trial.seed) as runs:
            (run,) = [run async for run in runs]
        answer = _text_of(run)
        correct, error = (False, None) if answer is None else await self.checker.verdict(trial.case, answer)
        return Outcome.of(
            run,
            answer=answer,
            method=trial.method,
            case=trial.case.id,
            seed=trial.seed,
            setup=trial.setup,
            correct=correct,
            check_error=error,
            timed=self.timed,
        )


def _text_of(run: Run[Any]) -> str | None:
    """Return the answer as text, JSON if it has another type; None if the run failed."""
    if run.error is not None:
        return None
    return run.answer if isinstance(run.answer, str) else to_json(run.answer).decode()
