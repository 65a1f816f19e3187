"""Seeded Countdown problems, each with its search and the solution that traces are written from."""

import random
from collections.abc import Iterator, Sequence

from sprint_agents.nano.tasks import Countdown
from sprint_finetune.training.calls import Piece

from .countdown_search import Exploration, explore, openings
from .splits import Split, split_of
from .traces import Solution, SolutionStage, SolutionSubtask

LARGEST_NUMBERS = (25, 50)
"""Each problem draws its numbers up to one of these limits. Smaller numbers leave more products below ``LARGEST``."""

TARGETS = range(10, 101)

PHASES: tuple[str, ...] = ("+-", "*/")
"""The operations of the openings in each stage of a search."""

PLAN_OPENINGS = ("Sums and differences first:\n", "Nothing found. Products and quotients next:\n")
"""The first line of each stage's plan, parallel to ``PHASES``."""

NOTHING = "no solution found"


def search(task: Countdown) -> list[list[Exploration]]:
    """Return the explorations of each stage. The first stage that reaches the target is the last."""
    numbers = tuple(sorted(task.numbers, reverse=True))
    stages: list[list[Exploration]] = []
    for ops in PHASES:
        stages.append([explore(numbers, step, task.target) for step in openings(numbers, ops)])
        if any(exploration.found for exploration in stages[-1]):
            break
    return stages


def solution_of(task: Countdown, searched: Sequence[Sequence[Exploration]]) -> Solution:
    """Turn a finished search into the solution that traces are written from.

    The answer repeats the expression of the line that found it, so a model can copy it.
    """
    stages = tuple(
        SolutionStage(
            lead,
            tuple(
                SolutionSubtask(
                    exploration.opening, (Piece(exploration.text, True),), found=exploration.found is not None
                )
                for exploration in explorations
            ),
        )
        for lead, explorations in zip(PLAN_OPENINGS, searched, strict=False)
    )
    found = next((e.found for explorations in searched for e in explorations if e.found), None)
    return Solution(task, stages, f"\\boxed{{{found}}}" if found else NOTHING, found is not None)


def problems(
    *,
    seed: int | str,
    split: Split,
    counts: Sequence[int] = (3, 4),
    unsolvable: float = 0.0,
) -> Iterator[tuple[Countdown, list[list[Exploration]]]]:
    """Draw an endless sequence of problems of one split, each with its search.

    Numbers and target are uniform over the problems that the search solves. ``counts`` lists how many numbers a
    problem may have; each count is equally likely. A share of ``unsolvable`` problems has no solution.
    """
    rng = random.Random(f"{seed}:{split}")
    while True:
        count, largest, solvable = rng.choice(counts), rng.choice(LARGEST_NUMBERS), rng.random() >= unsolvable
        while True:
            numbers = rng.choices(range(1, largest + 1), k=count)
            task = Countdown(numbers=tuple(numbers), target=rng.choice(TARGETS))
            if split_of(task) != split:
                continue
            stages = search(task)
            if solvable == any(exploration.found for exploration in stages[-1]):
                yield task, stages
                break
