"""Dependencies between steps: a directed acyclic graph in which parents have lower numbers than their children."""

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from .records import Dag, Reason

Parents = Sequence[Sequence[int]]
"""``parents[k]`` are the parents of step ``k + 1``."""


class ExtractionFault(NamedTuple):
    """Why an extraction cannot be used: a reason for statistics, and an explanation."""

    reason: Reason
    detail: str


def dag_fault(parents: Mapping[int, Sequence[int]], *, steps: int) -> ExtractionFault | None:
    """Find a fault in the parents of ``steps`` steps, or return None.

    >>> dag_fault({1: [], 2: [1], 3: [2, 1]}, steps=3)
    >>> dag_fault({1: [2], 2: [1]}, steps=2).detail
    'these steps depend on one another in a circle: 1, 2, 1'
    """
    named = {parent for found in parents.values() for parent in found}
    if strange := sorted({*parents, *named} - {*range(1, steps + 1)}):
        return ExtractionFault("unknown_step", f"there is no step {strange[0]}: the steps are 1 to {steps}")
    if missing := [step for step in range(1, steps + 1) if step not in parents]:
        return ExtractionFault(
            "unknown_step", f"step {missing[0]} is not listed: list every step, with [] if it depends on none"
        )
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        circle: list[int] = error.args[1]
        return ExtractionFault("cycle", f"these steps depend on one another in a circle: {', '.join(map(str, circle))}")
    for step, found in parents.items():
        if later := [parent for parent in found if parent > step]:
            return ExtractionFault(
                "later_parent", f"step {step} names step {later[0]} as a parent, which comes after it"
            )
    return None


def unlinked_fault(dag: Dag) -> ExtractionFault | None:
    """Find fault with several steps of which none has a parent. That is rarely true, and a model's shortest answer."""
    if len(dag.parents) < 2 or any(dag.parents):
        return None
    return ExtractionFault(
        "unlinked",
        "no step has a parent, although a step that uses a result builds on the step that found it, and a conclusion "
        "builds on what it concludes from",
    )


def dag_of(trace_id: str, parents: Mapping[int, Sequence[int]]) -> Dag:
    """Make the record from parents without faults. Each parent is named once, in ascending order."""
    return Dag(id=trace_id, parents=tuple(tuple(sorted({*parents[step]})) for step in sorted(parents)))


def ancestors(parents: Parents) -> list[frozenset[int]]:
    """Return all steps that each step builds on, directly or indirectly.

    >>> [sorted(found) for found in ancestors([[], [1], [1], [2]])]
    [[], [1], [1], [1, 2]]
    """
    found: list[frozenset[int]] = []
    for named in parents:
        found.append(frozenset(named).union(*(found[parent - 1] for parent in named)))
    return found


def nearest(named: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Remove the parents that are also ancestors of other parents.

    >>> nearest([[], [1], [1, 2]])
    [(), (1,), (2,)]
    """
    kept: list[tuple[int, ...]] = []
    above: list[int] = []  # ancestors of each step, as a bit mask
    for parents in named:
        distant = _joined(above[parent - 1] for parent in parents)
        kept.append(tuple(sorted(parent for parent in {*parents} if not distant >> parent & 1)))
        above.append(_joined(1 << parent for parent in parents) | distant)
    return kept


def free_steps(parents: Parents) -> list[bool]:
    """Tell for each step whether at least one other step is independent of it.

    >>> free_steps([[], [1], [1], [2, 3]])
    [False, True, True, False]
    """
    above: list[int] = []
    for named in parents:
        above.append(_joined(1 << parent | above[parent - 1] for parent in named))
    below = [0] * len(parents)
    for step in range(len(parents), 0, -1):
        for parent in parents[step - 1]:
            below[parent - 1] |= 1 << step | below[step - 1]
    ordered = [a.bit_count() + b.bit_count() for a, b in zip(above, below, strict=True)]
    return [count < len(parents) - 1 for count in ordered]


def _joined(masks: Iterable[int]) -> int:
    joined = 0
    for mask in masks:
        joined |= mask
    return joined


def unordered_pairs(parents: Parents) -> list[tuple[int, int]]:
    """Return the pairs of steps that do not build on each other, which may therefore run in parallel.

    >>> unordered_pairs([[], [1], [1], [2]])
    [(2, 3), (3, 4)]
    """
    above = ancestors(parents)
    return [(a, b) for b in range(1, len(parents) + 1) for a in range(1, b) if a not in above[b - 1]]
