"""The criteria by which packed traces are kept or rejected (arXiv 2506.05745, section 3.2)."""

from pydantic import BaseModel, ConfigDict, Field

from .records import Rejection, Shape


class Criteria(BaseModel):
    """Criteria for keeping a packed trace. Its answer has been checked before.

    ``ratio`` is the minimum number of steps per stage and ``stages`` the maximum number of stages, as in the paper. The
    ratio also counts steps without execution, so ``width`` additionally requires a stage with so many executions. With
    fewer than two, a trace has no parallelism. ``width=0`` leaves only the paper's criteria. ``violations`` is the
    maximum number of dependency violations, unlimited if None; they are counted in any case.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ratio: float = Field(default=1.5, ge=1)
    stages: int = Field(default=11, ge=1)
    width: int = Field(default=2, ge=0)
    violations: int | None = Field(default=None, ge=0)


def rejection_of(shape: Shape, criteria: Criteria) -> Rejection | None:
    """Return the rejection of a packed trace, or None if it is kept.

    >>> rejection_of(Shape(id="a", steps=4, stages=3, width=1, ratio=4 / 3), Criteria()).detail
    '4 steps in 3 stages: 1.33 per stage, but at least 1.50 are required'
    """
    if shape.stages > criteria.stages:
        detail = f"{shape.stages} stages, but at most {criteria.stages} are allowed"
        return Rejection(id=shape.id, stage="filter", reason="too_many_stages", detail=detail)
    if shape.ratio < criteria.ratio:
        detail = (
            f"{shape.steps} steps in {shape.stages} stages: {shape.ratio:.2f} per stage, "
            f"but at least {criteria.ratio:.2f} are required"
        )
        return Rejection(id=shape.id, stage="filter", reason="low_ratio", detail=detail)
    if shape.width < criteria.width:
        detail = f"no stage has more than {shape.width} executions, but at least {criteria.width} are required"
        return Rejection(id=shape.id, stage="filter", reason="not_parallel", detail=detail)
    if criteria.violations is not None and len(shape.violations) > criteria.violations:
        first = shape.violations[0]
        detail = (
            f"{len(shape.violations)} dependency violations, but at most {criteria.violations} are allowed: "
            f"step {first.step} uses {first.value!r}, which step {first.source} makes in the same stage"
        )
        return Rejection(id=shape.id, stage="filter", reason="violations", detail=detail)
    return None
