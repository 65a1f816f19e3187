"""Each problem in its quicker mode: what the planner writes if it thinks first, plans only what pays, and stops early.

- A Countdown problem begins with a few guesses (``countdown_guesses``). If one is right, the planner answers at once.
  Otherwise it plans the search, and an execution that finds the answer settles the stage, as ``sprint.json`` says: the
  planner reads it and those that precede it in the plan, and the others are cut off.
- Any other problem is worked out in one chain or planned, whichever takes fewer seconds by the cost model.

The planner decides by the problem and by its own guesses, so both are before its eyes when it begins its plan.
"""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sprint_agents.nano.tasks import Countdown
from sprint_finetune.costs import NANO_ON_CPU, BranchShape, CostModel, RunShape, StageShape

from .countdown_guesses import guess, solve, wrong
from .countdown_search import Term
from .traces import Solution, SolutionStage, chain, completions, in_chain, planner

GUESSES = 4
"""The most guesses before a plan."""

FOUND = 0.25
"""The share of searches in the training data that a guess makes unnecessary. Drills have more guesses."""

Ends = Literal["in order", "first", "all"]
"""What ends a stage: the first find in the plan's order, the first find, or the end of all executions."""

Count = Callable[[str], int]
"""Counts the tokens of a text."""


def guessed(solution: Solution, rng: random.Random, *, misses: int, found: bool, right: Term | None = None) -> Solution:
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
    solution: Solution, rng: random.Random, count: Count, *, costs: CostModel = NANO_ON_CPU
) -> Solution:
    """Return a solution as the planner should write it. ``rng`` draws how many guesses are wrong."""
    if isinstance(solution.task, Countdown):
        found = solution.solved and rng.random() < FOUND
        return settled(guessed(solution, rng, misses=rng.randrange(GUESSES) if found else GUESSES, found=found))
    chained = in_chain(solution)
    return min((chained, solution), key=lambda mode: costs.seconds(shape_of(mode, count)))


def settled(solution: Solution) -> Solution:
    """Let the planner read no execution that comes after the first one, in the plan's order, to find the answer."""
    stages: list[SolutionStage] = []
    for stage in solution.stages:
        first = next((number for number, one in enumerate(stage.subtasks, 1) if one.found), None)
        stages.append(replace(stage, joined=None if first is None else frozenset(range(1, first + 1))))
    return replace(solution, stages=tuple(stages))


def ended(solution: Solution, rng: random.Random) -> Solution:
    """End the stages of a solution in one of the ways in which runs end them.

    Half of the solutions are ``settled``. In a quarter the planner reads all executions, and in another one the first
    find and some of those that found nothing, as if the find had been the first to finish among many.
    """
    way = rng.random()
    if way < 0.75:
        return settled(solution) if way < 0.5 else solution
    stages: list[SolutionStage] = []
    for stage in solution.stages:
        finds = [number for number, one in enumerate(stage.subtasks, 1) if one.found]
        share = rng.random()
        others = {number for number in range(1, len(stage.subtasks) + 1) if rng.random() < share}
        joined = frozenset({*others.difference(finds), finds[0]}) if finds else None
        stages.append(replace(stage, joined=joined))
    return replace(solution, stages=tuple(stages))


def shape_of(solution: Solution, count: Count, *, ends: Ends = "in order", at_once: int | None = None) -> RunShape:
    """Return the lengths of a run that writes a solution.

    ``ends`` says when a find ends its stage, and at most ``at_once`` executions run at the same time, in the order of
    their prompts, as in a run whose engine knows its costs.
    """
    *plans, (answer,) = completions(solution)
    stages: list[StageShape] = []
    for stage, (*parts, stop) in zip(solution.stages, plans, strict=True):
        closed = [*itertools.accumulate(map(count, parts))]
        timed = zip(closed, stage.subtasks, strict=True)
        works = [_Work(start, count(one.text) + 1, one.found) for start, one in timed]
        branches = _branches(works, at_once=at_once or len(works), ends=ends)
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


def _branches(works: Sequence[_Work], *, at_once: int, ends: Ends) -> tuple[BranchShape, ...]:
    """Time the executions of a stage. A find cuts off those that it makes unnecessary, but not the plan.

    An execution that waits for a free place comes ``after`` the one that frees it.
    """
    done: list[int] = []
    after: list[tuple[int, ...]] = []
    for work in works:
        running = sorted((end, other) for other, end in enumerate(done) if end > work.start)
        frees = running[len(running) - at_once][1] if len(running) >= at_once else None
        after.append(() if frees is None else (frees,))
        done.append(max(work.start, 0 if frees is None else done[frees]) + work.tokens)
    finds = [index for index, work in enumerate(works) if work.found]
    branches: list[BranchShape] = []
    for index, work in enumerate(works):
        if ends == "first":
            cut = min((done[find] for find in finds), default=done[index])
        else:
            cut = min((done[find] for find in finds if find < index), default=done[index])
            cut = done[index] if ends == "all" else cut
        written = max(0, min(work.tokens, cut - done[index] + work.tokens))
        joins = ends == "all" or not finds or (index <= finds[0] if ends == "in order" else done[index] <= cut)
        waits = after[index] if written else ()
        branches.append(BranchShape(plan_tokens=work.start, tokens=written, after=waits, joins=joins))
    return tuple(branches)
