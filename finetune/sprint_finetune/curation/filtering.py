"""The criteria by which packed traces are kept or rejected (arXiv 2506.05745, section 3.2)."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from .records import Rejection, Sample, Shape
from .rules.tasks import reads_as_task


class Criteria(BaseModel):
    """Criteria for keeping a packed trace. Its answer has been checked before.

    ``ratio`` is the minimum number of steps per stage and ``stages`` the maximum number of stages, as in the paper. The
    ratio also counts steps without execution, so ``width`` additionally requires a stage with so many executions. With
    fewer than two, a trace has no parallelism. ``width=0`` leaves only the paper's criteria. ``violations`` is the
    maximum number of dependency violations, unlimited if None; they are counted in any case.

    A sample must also gain: its strict sequential tokens are at most ``share`` of those of its chain, counted in words.
    ``tasks`` requires every prompt to read as a task, so that an executor knows where to begin.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ratio: float = Field(default=1.5, ge=1)
    stages: int = Field(default=11, ge=1)
    width: int = Field(default=2, ge=0)
    violations: int | None = Field(default=None, ge=0)
    share: float = Field(default=0.85, gt=0)
    tasks: bool = True


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


def rejection_of_sample(sample: Sample, prompts: Sequence[str], criteria: Criteria) -> Rejection | None:
    """Return the rejection of a written sample with these prompts, or None if it is kept."""
    strange = [prompt for prompt in prompts if not reads_as_task(prompt)] if criteria.tasks else []
    if strange:
        detail = f"{len(strange)} of {len(prompts)} prompts set no task, such as {strange[0][:80]!r}"
        return Rejection(id=sample.id, stage="filter", reason="no_task", detail=detail)
    if (share := share_of(sample)) > criteria.share:
        detail = (
            f"it has {share:.2f} of the sequential tokens of its chain, but at most {criteria.share:.2f} are allowed"
        )
        return Rejection(id=sample.id, stage="filter", reason="low_gain", detail=detail)
    return None


def share_of(sample: Sample) -> float:
    """Return the strict sequential tokens of a sample, divided by those of its chain."""
    return sample.metrics.sequential_tokens_strict / max(sample.chain_metrics.sequential_tokens_strict, 1)
