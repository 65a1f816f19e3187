"""The lengths of a run: how many tokens its planner and its executors write, and what waits for what."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from sprint_agents import Run
from sprint_agents.errors import Superseded

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class BranchShape(BaseModel):
    """An execution: it starts when the planner has written ``plan_tokens`` of its plan, and writes ``tokens``.

    It waits for the executions with the indices ``after`` in its stage. The planner reads it if it ``joins``: one that
    was cancelled, because another settled the stage, does not.
    """

    model_config = _FROZEN

    plan_tokens: int
    tokens: int
    after: tuple[int, ...] = ()
    joins: bool = True


class StageShape(BaseModel):
    """A stage: the planner writes ``tokens``, and the next stage begins when it and all branches are done."""

    model_config = _FROZEN

    tokens: int
    branches: tuple[BranchShape, ...] = ()


class RunShape(BaseModel):
    """The lengths of a run, in tokens. ``prompt_tokens`` are those that precede the first plan."""

    model_config = _FROZEN

    prompt_tokens: int
    stages: tuple[StageShape, ...]

    @classmethod
    def of(cls, run: Run[Any, Any]) -> "RunShape | None":
        """Return the shape of a recorded run, or None if no model wrote anything in it."""
        stages: list[StageShape] = []
        for stage in run.stages:
            places = {execution.number: index for index, execution in enumerate(stage.executions)}
            branches = tuple(
                BranchShape(
                    plan_tokens=execution.plan_tokens,
                    tokens=execution.usage.generated_tokens,
                    after=tuple(places[number] for number in execution.after if number in places),
                    joins=execution.failure is None or execution.failure.type != Superseded.__name__,
                )
                for execution in stage.executions
            )
            written = sum(call.usage.generated_tokens for call in stage.calls if call.role != "prefix")
            stages.append(StageShape(tokens=written, branches=branches))
        first = next((call.usage.prompt_tokens for stage in run.stages for call in stage.calls), 0)
        shape = cls(prompt_tokens=first, stages=tuple(stages))
        return shape if shape.total_tokens else None

    @property
    def total_tokens(self) -> int:
        """All tokens that are written."""
        return sum(stage.tokens + sum(branch.tokens for branch in stage.branches) for stage in self.stages)

    @property
    def width(self) -> int:
        """The most branches of a stage."""
        return max((len(stage.branches) for stage in self.stages), default=0)
