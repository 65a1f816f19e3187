"""Packing: put the steps of a trace into stages (PAPER, Packing).

``stage(S) = 1`` if S has no parent, else ``max over parents p of (stage(p) + [p has an execution])``. So a child of
plan-only parents joins their stage, and what a step builds on always stands before it: in an earlier stage, or earlier
in the plan of its own.
"""

from collections.abc import Sequence

from .dag import Parents
from .lines import as_ranges, numbers_in
from .records import Dag, Extraction, Packed, Shape, Step

SHORTEST_EXECUTION = 3
"""An execution of fewer lines is folded into its plan."""


def stage_numbers(parents: Parents, executed: Sequence[bool]) -> list[int]:
    """Compute the stage of each step; ``executed`` says which steps have an execution. Parents come first.

    >>> stage_numbers([[], [1], [1], [2, 3]], [False, True, True, False])
    [1, 1, 1, 2]
    """
    stages: list[int] = []
    for named in parents:
        stages.append(max((stages[parent - 1] + executed[parent - 1] for parent in named), default=1))
    return stages


def fold(step: Step, *, shortest: int = SHORTEST_EXECUTION) -> Step:
    """Make a step plan-only if its execution has fewer than ``shortest`` lines; its prompt goes, no line is lost.

    >>> fold(Step(number=1, plan=((1, 1),), execution=((2, 3),), prompt="Add.")).plan
    (LineRange(first=1, last=3),)
    """
    execution = numbers_in(step.execution)
    if len(execution) >= shortest:
        return step
    plan = as_ranges(sorted([*numbers_in(step.plan), *execution]))
    return step.model_copy(update={"plan": plan, "execution": (), "prompt": None, "restates": False})


def pack(extraction: Extraction, dag: Dag, *, shortest: int = SHORTEST_EXECUTION) -> Packed:
    """Fold short executions and put the steps into stages; within a stage they keep their order."""
    steps = tuple(fold(step, shortest=shortest) for step in extraction.steps)
    numbers = stage_numbers(dag.parents, [bool(step.execution) for step in steps])
    stages = tuple(
        tuple(step.number for step, number in zip(steps, numbers, strict=True) if number == stage)
        for stage in range(1, max(numbers, default=0) + 1)
    )
    return Packed(id=extraction.id, steps=steps, parents=dag.parents, stages=stages)


def shape_of(packed: Packed) -> Shape:
    """Count steps, stages, width and the parallelisation ratio of a packed trace; its violations are left out."""
    widths = [sum(bool(packed.steps[number - 1].execution) for number in stage) for stage in packed.stages]
    return Shape(
        id=packed.id,
        steps=len(packed.steps),
        stages=len(packed.stages),
        width=max(widths, default=0),
        ratio=len(packed.steps) / len(packed.stages) if packed.stages else 1.0,
    )
