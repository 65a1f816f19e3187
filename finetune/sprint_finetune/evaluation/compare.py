"""Solve every case by every method, in turns, so that what disturbs one disturbs all."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

from sprint_agents import Run

from .cases import Case
from .methods import Method
from .outcomes import Outcome, OutcomeFile

Check = Callable[[Case, str], Awaitable[bool | None]]
"""Whether an answer is right; None where it cannot be told."""


async def by_program(case: Case, answer: str) -> bool | None:
    """Check an answer by what the case itself knows."""
    return case.check(answer)


async def compare(
    methods: Sequence[Method],
    cases: Sequence[Case],
    *,
    seeds: Sequence[int],
    out: OutcomeFile,
    check: Check = by_program,
    heard: Callable[[Outcome], object] = lambda _: None,
    concurrency: int = 1,
) -> None:
    """Add to ``out`` what it lacks: each case, each seed, each method.

    One run at a time, on an idle engine, wall times are latencies and compare within a case. With a greater
    ``concurrency`` the same answers and token counts come sooner, and no wall times are kept. A run that fails is an
    outcome with its ``error``.
    """
    todo = iter(
        [
            (case, seed, method)
            for case in cases
            for seed in seeds
            for method in methods
            if (method.name, case.id, seed) not in out.outcomes
        ]
    )
    async with asyncio.TaskGroup() as workers:
        for _ in range(concurrency):
            workers.create_task(_work(todo, out, check, heard, alone=concurrency == 1))


async def _work(
    todo: Iterator[tuple[Case, int, Method]],
    out: OutcomeFile,
    check: Check,
    heard: Callable[[Outcome], object],
    *,
    alone: bool,
) -> None:
    for case, seed, method in todo:
        outcome = await _solve(method, case, seed, check, alone=alone)
        out.add(outcome)
        heard(outcome)


async def _solve(method: Method, case: Case, seed: int, check: Check, *, alone: bool) -> Outcome:
    run: Run[str]
    async with method.sprint(seed=seed).map([case.task], concurrency=1) as runs:
        (run,) = [run async for run in runs]
    correct = False if run.error else await check(case, run.answer)
    return Outcome.of(run, method=method.name, case=case.id, seed=seed, correct=correct, alone=alone)
