"""Each problem in its quicker mode: what the planner writes if it thinks first, plans only what pays, and stops early.

- A Countdown problem begins with a few guesses (``countdown_guesses``). If one is right, the planner answers at once.
  Otherwise it plans the search, and an execution that finds the answer settles the stage: the planner reads it and what
  ended before, and the others are cut off.
- Any other problem is worked out in one chain or planned, whichever takes fewer seconds by the cost model.

The planner decides by the problem and by its own guesses, so both are before its eyes when it begins its plan.
"""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sprint_agents.nano.tasks import Countdown
from sprint_finetune.costs import NANO_ON_CPU, BranchShape, CostModel, RunShape, StageShape

from .countdown_guesses import guess, solve, wrong
from .countdown_search import Term
from .traces import Solution, chain, completions, in_chain, planner

GUESSES = 4
"""The most guesses before a plan."""

FOUND = 0.25
"""The share of searches in the training data that a guess makes unnecessary. Drills have more guesses."""

Count = Callable[[str], int]
"""Counts the tokens of a text."""


def guessed(
    solution: Solution, rng: random.Random, *, misses: int, found: bool, right: Term | None = None
) -> Solution:
    """Put guesses at a Countdown problem before its plan: ``misses`` wrong ones and, if it is ``found``, the right one.

    The right guess is ``right``, or else drawn from all solutions.

    Raises:
        ValueError: the guess cannot be right, because the problem has no solution.
    """
    assert isinstance(solution.task, Countdown)
    numbers, target = sorted(solution.task.numbers, reverse=True), solution.task.target
    thought = [piece for _ in range(misses) for piece in guess(wrong(numbers, target, rng), target)]
    if not found:
        return replace(solution, thought=tuple(thought))
    term = right or solve(numbers, target, rng)
    if term is None:
        raise ValueError(f"{solution.task.prompt!r} has no solution, so no guess is right")
    thought += guess(term, target)
    return replace(solution, thought=tuple(thought), stages=(), answer=f"\\boxed{{{term.expression}}}")


def in_quicker_mode(
    solution: Solution, rng: random.Random, count: Count, *, costs: CostModel = NANO_ON_CPU, at_once: int | None = None
) -> Solution:
    """Return a solution as the planner should write it. ``rng`` draws how many guesses are wrong.

    ``at_once`` bounds the executions that run at the same time, as the runtime does if it knows the engine's costs.
    """
    if isinstance(solution.task, Countdown):
        found = solution.solved and rng.random() < FOUND
        solution = guessed(solution, rng, misses=rng.randrange(GUESSES) if found else GUESSES, found=found)
        return settled(solution, count, at_once=at_once)
    chained = in_chain(solution)
    return min((chained, solution), key=lambda mode: costs.seconds(shape_of(mode, count)))


def settled(solution: Solution, count: Count, *, at_once: int | None = None) -> Solution:
    """Cut off the executions that still run when one of their stage has found what was searched for."""
    shape = shape_of(solution, count, at_once=at_once)
    stages = (
        replace(stage, joined=frozenset(number for number, branch in enumerate(lengths.branches, 1) if branch.joins))
        for stage, lengths in zip(solution.stages, shape.stages, strict=False)
    )
    return replace(solution, stages=tuple(stages))


def shape_of(solution: Solution, count: Count, *, at_once: int | None = None, early: bool = True) -> RunShape:
    """Return the lengths of a run that writes a solution. With ``early``, a find cuts off what still runs.

    At most ``at_once`` executions run at the same time, in the order of their prompts.
    """
    *plans, (answer,) = completions(solution)
    stages: list[StageShape] = []
    for stage, (*parts, stop) in zip(solution.stages, plans, strict=True):
        closed = [*itertools.accumulate(map(count, parts))]
        works = [
            _Work(start, count(one.text) + 1, one.found) for start, one in zip(closed, stage.subtasks, strict=True)
        ]
        branches = _branches(works, at_once=at_once or len(works), early=early)
        stages.append(StageShape(tokens=closed[-1] + count(stop), branches=branches))
    question = count(planner(solution).pieces[0].text)
    return RunShape(prompt_tokens=question, stages=(*stages, StageShape(tokens=count(answer))))


def chain_shape(solution: Solution, count: Count) -> RunShape:
    """Return the lengths of the sequential twin's run."""
    question, opened, *written = chain(solution).pieces
    tokens = sum(count(piece.text) for piece in written)
    return RunShape(prompt_tokens=count(question.text) + count(opened.text), stages=(StageShape(tokens=tokens),))


@dataclass(frozen=True, slots=True)
class _Work:
    """An execution: its prompt is closed after ``start`` tokens of the planner, and it writes ``tokens``."""

    start: int
    tokens: int
    found: bool


def _branches(works: Sequence[_Work], *, at_once: int, early: bool) -> tuple[BranchShape, ...]:
    """Time the executions of a stage. A find cuts off those that still run, but not the plan.

    An execution that waits for a free place comes ``after`` the one that frees it.
    """
    ends: list[int] = []
    after: list[tuple[int, ...]] = []
    for work in works:
        running = sorted((end, other) for other, end in enumerate(ends) if end > work.start)
        frees = running[len(running) - at_once][1] if len(running) >= at_once else None
        after.append(() if frees is None else (frees,))
        ends.append(max(work.start, 0 if frees is None else ends[frees]) + work.tokens)
    finds = [end for end, work in zip(ends, works, strict=True) if work.found]
    first = min(finds) if finds and early else max(ends, default=0)
    branches: list[BranchShape] = []
    for work, end, waits in zip(works, ends, after, strict=True):
        started = end - work.tokens
        written = max(0, min(work.tokens, first - started))
        branches.append(
            BranchShape(plan_tokens=work.start, tokens=written, after=waits if written else (), joins=end <= first)
        )
    return tuple(branches)
