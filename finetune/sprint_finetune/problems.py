"""Seeded Countdown problems, split by problem: a held-out problem is never trained on, whatever the seed."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import Literal

from sprint_agents.tasks.countdown import Countdown

from .search import Exploration, explore, openings

Split = Literal["train", "held_out"]

LARGEST_NUMBERS = (25, 50)
"""Each problem draws its numbers up to one of these: smaller numbers leave more to multiply."""

TARGETS = range(10, 101)
HELD_OUT_SHARE = 0.05

PHASES: tuple[str, ...] = ("+-", "*/")
"""The stages of a search: the operations of its openings."""


def split_of(task: Countdown) -> Split:
    """Return the split that a problem belongs to, by a hash of its numbers and target."""
    key = f"{sorted(task.numbers)}:{task.target}".encode()
    share = int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64
    return "held_out" if share < HELD_OUT_SHARE else "train"


def search(task: Countdown) -> list[list[Exploration]]:
    """Return the explorations of each stage, up to the stage that meets the target."""
    numbers = tuple(sorted(task.numbers, reverse=True))
    stages: list[list[Exploration]] = []
    for ops in PHASES:
        stages.append([explore(numbers, step, task.target) for step in openings(numbers, ops)])
        if any(exploration.found for exploration in stages[-1]):
            break
    return [stage for stage in stages if stage]


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
