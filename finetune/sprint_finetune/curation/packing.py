"""Packing: put the steps of a trace into stages (arXiv 2506.05745, section 3.2).

``stage(S) = 1`` if S has no parent, else ``max over parents p of (stage(p) + [p has an execution])``, where ``[…]`` is
1 if the condition holds and 0 otherwise. A child of parents without execution joins their stage. Everything that a step
builds on therefore comes before it: in an earlier stage, or earlier in the same plan.

For example, step 1 only plans, steps 2 and 3 build on it and have executions, and step 4 adds up their results::

    step   parents   execution   stage
    1      none      no          1
    2      1         yes         1 + 0 = 1              joins the stage of the plan that it builds on
    3      1         yes         1 + 0 = 1              runs in parallel with step 2
    4      2, 3      no          max(1 + 1, 1 + 1) = 2  must wait for both executions
"""

from collections.abc import Sequence

from .dag import Parents
from .lines import as_ranges, numbers_in
from .records import Dag, Extraction, Packed, Shape, Step

SHORTEST_EXECUTION = 3
"""An execution with fewer lines is folded into its plan."""


def stage_numbers(parents: Parents, executed: Sequence[bool]) -> list[int]:
    """Compute the stage of each step. ``executed`` says which steps have an execution. Parents come first.

    >>> stage_numbers([[], [1], [1], [2, 3]], [False, True, True, False])
    [1, 1, 1, 2]
    """
    stages: list[int] = []
    for named in parents:
        stages.append(max((stages[parent - 1] + executed[parent - 1] for parent in named), default=1))
    return stages


def fold(step: Step, *, shortest: int = SHORTEST_EXECUTION) -> Step:
    """Move an execution of fewer than ``shortest`` lines into the plan. Its prompt is dropped; no line is lost.

    >>> fold(Step(number=1, plan=((1, 1),), execution=((2, 3),), prompt="Add.")).plan
    (LineRange(first=1, last=3),)
    """
    execution = numbers_in(step.execution)
    if len(execution) >= shortest:
        return step
    plan = as_ranges(sorted([*numbers_in(step.plan), *execution]))
    return step.model_copy(update={"plan": plan, "execution": (), "prompt": None, "restates": False})


def pack(extraction: Extraction, dag: Dag, *, shortest: int = SHORTEST_EXECUTION) -> Packed:
    """Fold short executions and put the steps into stages. Within a stage the steps keep their order."""
    steps = tuple(fold(step, shortest=shortest) for step in extraction.steps)
    numbers = stage_numbers(dag.parents, [bool(step.execution) for step in steps])
    stages = tuple(
        tuple(step.number for step, number in zip(steps, numbers, strict=True) if number == stage)
        for stage in range(1, max(numbers, default=0) + 1)
    )
    return Packed(id=extraction.id, steps=steps, parents=dag.parents, stages=stages)


def shape_of(packed: Packed) -> Shape:
    """Count steps, stages, width and the parallelisation ratio of a packed trace, but not its violations."""
    widths = [sum(bool(packed.steps[number - 1].execution) for number in stage) for stage in packed.stages]
    return Shape(
        id=packed.id,
        steps=len(packed.steps),
        stages=len(packed.stages),
        width=max(widths, default=0),
        ratio=len(packed.steps) / len(packed.stages) if packed.stages else 1.0,
    )
