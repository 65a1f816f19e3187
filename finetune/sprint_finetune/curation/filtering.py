"""Which packed traces are worth learning from (PAPER, Filtering)."""

from pydantic import BaseModel, ConfigDict, Field

from .records import Rejection, Shape


class Criteria(BaseModel):
    """What a packed trace must meet; the answer was checked before anything was extracted.

    ``ratio`` is the least steps per stage, ``stages`` the most stages, as in the paper. Steps count even if they are
    plan only, so ``width`` asks for a stage with so many executions as well: without two there is nothing parallel (0
    for the paper's criteria alone). ``violations``, if given, is the most dependency violations; they are counted in
    any case.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ratio: float = Field(default=1.5, ge=1)
    stages: int = Field(default=11, ge=1)
    width: int = Field(default=2, ge=0)
    violations: int | None = Field(default=None, ge=0)


def rejection_of(shape: Shape, criteria: Criteria) -> Rejection | None:
    """Say why a packed trace is left out; None if it is kept.

    >>> rejection_of(Shape(id="a", steps=4, stages=3, width=1, ratio=4 / 3), Criteria()).detail
    '4 steps in 3 stages: 1.33 a stage, at least 1.50 is asked for'
    """
    if shape.stages > criteria.stages:
        detail = f"{shape.stages} stages, at most {criteria.stages} are allowed"
        return Rejection(id=shape.id, stage="filter", reason="too_many_stages", detail=detail)
    if shape.ratio < criteria.ratio:
        detail = (
            f"{shape.steps} steps in {shape.stages} stages: {shape.ratio:.2f} a stage, "
            f"at least {criteria.ratio:.2f} is asked for"
        )
        return Rejection(id=shape.id, stage="filter", reason="low_ratio", detail=detail)
    if shape.width < criteria.width:
        detail = f"no stage has more than {shape.width} executions, at least {criteria.width} are asked for"
        return Rejection(id=shape.id, stage="filter", reason="not_parallel", detail=detail)
    if criteria.violations is not None and len(shape.violations) > criteria.violations:
        first = shape.violations[0]
        detail = (
            f"{len(shape.violations)} dependency violations, at most {criteria.violations} are allowed: "
            f"step {first.step} uses {first.value!r}, which step {first.source} makes beside it"
        )
        return Rejection(id=shape.id, stage="filter", reason="violations", detail=detail)
    return None
