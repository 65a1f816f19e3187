"""Seeded Countdown problems with their searches, and the split of every task.

A held-out problem is never trained on, whatever the seed.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import Literal

from sprint_agents.nano.tasks import Countdown, Task

from .search import Exploration, explore, openings
from .traces import Piece, Solved, Stage, Subtask

Split = Literal["train", "held_out"]

Family = Literal["countdown", "arithmetic", "multiplication"]
"""A kind of tasks, as ``sprint_agents.nano.tasks.FAMILIES`` names it."""

LARGEST_NUMBERS = (25, 50)
"""Each problem draws its numbers up to one of these: smaller numbers leave more to multiply."""

TARGETS = range(10, 101)
HELD_OUT_SHARE = 0.05

PHASES: tuple[str, ...] = ("+-", "*/")
"""The stages of a search: the operations of its openings."""

PLAN_OPENINGS = ("Sums and differences first:\n", "Nothing found. Products and quotients next:\n")
"""How the plan of each stage opens, beside ``PHASES``."""

NOTHING = "no solution found"


def split_of(task: Task) -> Split:
    """Return the split that a problem belongs to, by a hash of what it asks."""
    key = f"{sorted(task.numbers)}:{task.target}" if isinstance(task, Countdown) else task.prompt
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return "held_out" if share < HELD_OUT_SHARE else "train"


def search(task: Countdown) -> list[list[Exploration]]:
    """Return the explorations of each stage, up to the stage that meets the target."""
    numbers = tuple(sorted(task.numbers, reverse=True))
    stages: list[list[Exploration]] = []
    for ops in PHASES:
        stages.append([explore(numbers, step, task.target) for step in openings(numbers, ops)])
        if any(exploration.found for exploration in stages[-1]):
            break
    return stages


def solved(task: Countdown, searched: Sequence[Sequence[Exploration]]) -> Solved:
    """Write a search as the work that traces are made of.

    The answer's expression stands as in the line that found it, so it can be copied.
    """
    stages = tuple(
        Stage(
            lead,
            tuple(
                Subtask(exploration.opening, (Piece(exploration.text, True),), found=exploration.found is not None)
                for exploration in explorations
            ),
        )
        for lead, explorations in zip(PLAN_OPENINGS, searched, strict=False)
    )
    found = next((e.found for explorations in searched for e in explorations if e.found), None)
    return Solved(task, stages, f"\\boxed{{{found}}}" if found else NOTHING, found is not None)


def problems(
    *,
    seed: int | str,
    split: Split,
    counts: Sequence[int] = (3, 4),
    unsolvable: float = 0.0,
) -> Iterator[tuple[Countdown, list[list[Exploration]]]]:
    """Draw problems of one split without end, each with its search.

    Numbers and target are uniform over the problems that the search solves; ``counts`` are the possible counts of
    numbers, drawn evenly, and a share of ``unsolvable`` has no solution.
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
