"""Rewards of rollouts, and their advantages within a group: being right counts, and of right runs being quick."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from sprint_agents.rollouts import Rollout


class Scored(BaseModel):
    """A rollout, whether its answer is right, and the seconds that it takes by the cost model.

    ``problem`` is the index of its problem, and ``member`` its number in the group of that problem. ``width`` is the
    most subtasks of a stage. ``rollout`` is None if the run wrote nothing that can be learned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: int
    member: int
    right: bool
    seconds: float
    tokens: int
    width: int
    rollout: Rollout | None


def rewards(group: Sequence[Scored], *, rho: float) -> list[float]:
    """Return ``right * (1 + rho * (1 - seconds / median seconds of the group))`` for each rollout, at least 0.

    A right run at the median gets 1, one in no time 1 + rho, and a wrong run 0. A slow right run is never worse than a
    wrong one. The paper of ThreadWeaver (arXiv 2512.07843) compares the critical path with all tokens of a run; seconds
    by a cost model also see that a wide step takes longer.

    >>> slow, quick, wrong = (
    ...     Scored(problem=0, member=n, right=n < 2, seconds=seconds, tokens=9, width=1, rollout=None)
    ...     for n, seconds in enumerate((4.0, 1.0, 2.0))
    ... )
    >>> rewards([slow, quick, wrong], rho=0.5)
    [0.5, 1.25, 0.0]
    """
    median = statistics.median(one.seconds for one in group)
    return [max(0.0, 1 + rho * (1 - one.seconds / median)) if one.right else 0.0 for one in group]


def advantages(values: Sequence[float]) -> list[float]:
    """Subtract the group's mean. Dividing by the deviation, as GRPO does, would blow up small differences in seconds.

    >>> advantages([0.5, 1.25, 0.0])[1] > 0, advantages([1.0, 1.0])
    (True, [0.0, 0.0])
    """
    mean = statistics.fmean(values)
    return [value - mean for value in values]


Learned = tuple[Scored, float]
"""A rollout, and the factor of its tokens' gradients."""


def to_learn(
    groups: Iterable[Sequence[Scored]], *, method: Literal["p-grpo", "expert-iteration"], rho: float
) -> list[Learned]:
    """Return what an iteration learns: rollouts with an advantage, or the quickest right one of each problem."""
    learned: list[Learned] = []
    for group in groups:
        if method == "expert-iteration":
            right = [one for one in group if one.right and one.rollout is not None]
            learned += [(min(right, key=lambda one: one.seconds), 1.0)] if right else []
        else:
            gains = advantages(rewards(group, rho=rho))
            learned += [(one, gain) for one, gain in zip(group, gains, strict=True) if one.rollout is not None and gain]
    return learned
