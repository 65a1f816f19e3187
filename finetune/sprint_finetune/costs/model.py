"""The seconds that a run takes on an engine whose steps were measured.

An engine computes in steps, and each running sequence gets one token of a step. A wide step takes longer than a narrow
one, but not as many times as long as it is wide: that is what planning gains. So the time of a run follows from its
lengths (``RunShape``) and from the time of a step by its width.

Wall time would be different in each process, with every other program on the machine. A reward and a choice between
modes must not depend on that, so both are computed from this model.
"""

from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sprint_agents.step_costs import StepCosts

from .shapes import RunShape, StageShape


class CostModel(BaseModel):
    """Seconds of a decode step by its width, and seconds for each token that is read.

    Between two measured widths the time is interpolated linearly, and beyond the widest it grows as between the last
    two. ``python benchmarks/decode_step.py`` measures an engine.

    >>> costs = CostModel(step={1: 0.002, 4: 0.004}, read=0.0001)
    >>> costs.step_seconds(2), round(costs.chain_seconds(100), 3)
    (0.0026666666666666666, 0.2)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: Mapping[int, float]
    """Seconds of a step by the number of sequences in it."""
    read: float = Field(default=0.0, ge=0)
    """Seconds for each token of a prompt, or of a result that is joined."""

    @model_validator(mode="after")
    def _measured_at_one(self) -> Self:
        if 1 not in self.step or min(self.step) < 1 or min(self.step.values()) <= 0:
            raise ValueError("step needs the seconds of a step of width 1, all widths above 0 and all seconds above 0")
        return self

    def step_seconds(self, width: int) -> float:
        """Return the seconds of a step in which ``width`` sequences get a token."""
        return StepCosts(seconds=self.step).at(width)

    def chain_seconds(self, tokens: int) -> float:
        """Return the seconds of ``tokens`` written one after the other, by one sequence."""
        return tokens * self.step_seconds(1)

    def seconds(self, shape: RunShape) -> float:
        """Return the seconds of a run that is alone on the engine; O(tokens of the critical path times width).

        What the planner has read before, such as earlier results, stays in the engine's cache. An execution reads a few
        tokens more than the planner, which are not counted.
        """
        read = shape.prompt_tokens + sum(
            branch.tokens for stage in shape.stages for branch in stage.branches if branch.joins
        )
        return self.read * read + sum(self._stage_seconds(stage) for stage in shape.stages)

    def _stage_seconds(self, stage: StageShape) -> float:
        counts: dict[int, int] = {}
        for width in widths_of(stage):
            counts[width] = counts.get(width, 0) + 1
        return sum(count * self.step_seconds(width) for width, count in counts.items())


def widths_of(stage: StageShape) -> list[int]:
    """Return how many sequences get a token in each step of a stage.

    >>> from sprint_finetune.costs import BranchShape
    >>> branches = (BranchShape(plan_tokens=2, tokens=1), BranchShape(plan_tokens=4, tokens=3))
    >>> widths_of(StageShape(tokens=4, branches=branches))
    [1, 1, 2, 1, 1, 1, 1]
    """
    ends = _ends(stage)
    widths = [0] * max([stage.tokens, *ends])
    for step in range(stage.tokens):
        widths[step] += 1
    for branch, end in zip(stage.branches, ends, strict=True):
        for step in range(end - branch.tokens, end):
            widths[step] += 1
    return [width for width in widths if width]


def _ends(stage: StageShape) -> Sequence[int]:
    """Return the step after which each branch has ended; one that waits for others starts after the last of them."""
    ends: dict[int, int] = {}

    def end_of(index: int) -> int:
        if index not in ends:
            branch = stage.branches[index]
            start = max([min(branch.plan_tokens, stage.tokens), *map(end_of, branch.after)])
            ends[index] = start + branch.tokens
        return ends[index]

    return [end_of(index) for index in range(len(stage.branches))]


NANO_ON_CPU = CostModel(step={1: 0.0020, 4: 0.0039, 12: 0.0058, 32: 0.0097}, read=0.0001)
"""sprint-nano on the embedded engine, one thread of a CPU (``python benchmarks/decode_step.py --threads 1``)."""
