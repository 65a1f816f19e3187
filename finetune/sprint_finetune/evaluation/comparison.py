"""Solve every case with every method, in turns, so that a disturbance affects all methods.

Every other case is solved in the opposite order, so no method always begins.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from sprint_agents import Run
from sprint_finetune.grading import MathVerifier, grade, stated_in
from sprint_finetune.grading.letters import is_letter

from .cases import Case
from .methods import Method
from .outcomes import Outcome, OutcomeFile

Check = Callable[[Case, str], Awaitable[bool | None]]
"""Decides whether an answer is correct; None if that cannot be decided."""


async def by_program(case: Case, answer: str) -> bool | None:
    """Check an answer with ``Case.check``."""
    return case.check(answer)


@asynccontextmanager
async def grader() -> AsyncGenerator[Check]:
    """Open the check that curation and the command line use too (``sprint_finetune.grading``).

    It finds the answer in what the model wrote, and compares it with the reference of the case by value.
    """
    async with MathVerifier() as verifier:

        async def check(case: Case, answer: str) -> bool | None:
            reference = case.answer
            stated = stated_in(answer, letters=reference is not None and is_letter(reference)) or answer
            return (await grade(case.task, reference=reference, stated=stated, verifier=verifier)).right

        yield check


async def compare(
    methods: Sequence[Method],
    cases: Sequence[Case],
    *,
    seeds: Sequence[int],
    out: OutcomeFile,
    check: Check | None = None,
    on_outcome: Callable[[Outcome], object] = lambda _: None,
    concurrency: int = 1,
) -> None:
    """Run each case with each seed and each method, unless ``out`` already has the outcome, and add the outcomes to it.

    With ``concurrency=1``, each run has an idle engine, so wall times are latencies and comparable within a case.
    Greater concurrency yields the same answers and token counts sooner, but no wall times. A failed run is an outcome
    with an ``error``. ``check`` decides which answers are right, by default ``grader``.
    """
    todo = iter(
        [
            (case, seed, method)
            for turn, (case, seed) in enumerate(itertools.product(cases, seeds))
            for method in (reversed(methods) if turn % 2 else methods)
            if (method.name, case.id, seed) not in out.outcomes
        ]
    )
    async with AsyncExitStack() as opened:
        used = check or await opened.enter_async_context(grader())
        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(_work(todo, out, used, on_outcome, alone=concurrency == 1))


async def _work(
    todo: Iterator[tuple[Case, int, Method]],
    out: OutcomeFile,
    check: Check,
    on_outcome: Callable[[Outcome], object],
    *,
    alone: bool,
) -> None:
    for case, seed, method in todo:
        outcome = await _solve(method, case, seed, check, alone=alone)
        out.add(outcome)
        on_outcome(outcome)


async def _solve(method: Method, case: Case, seed: int, check: Check, *, alone: bool) -> Outcome:
    run: Run[str]
    async with method.sprint(seed=seed).map([case.task], concurrency=1) as runs:
        (run,) = [run async for run in runs]
    correct = False if run.error else await check(case, run.answer)
    return Outcome.of(run, method=method.name, case=case.id, seed=seed, correct=correct, alone=alone)
