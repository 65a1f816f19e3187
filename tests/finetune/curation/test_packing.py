"""Packing: the paper's formula, compared with an independent definition."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_finetune.curation.dag import ancestors, dag_of, unordered_pairs
from sprint_finetune.curation.lines import as_ranges, numbers_in
from sprint_finetune.curation.packing import fold, pack, shape_of, stage_numbers
from sprint_finetune.curation.records import Dag, Extraction, Step


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[list[int]], list[bool]]:
    count = draw(st.integers(1, 9))
    parents = [draw(st.lists(st.integers(1, step), unique=True)) if step else [] for step in range(count)]
    return parents, draw(st.lists(st.booleans(), min_size=count, max_size=count))


@st.composite
def extractions(draw: st.DrawFn) -> tuple[Extraction, Dag]:
    """Steps with arbitrary lines that cover a trace, and their dependencies."""
    parents, _ = draw(graphs())
    owners = draw(
        st.lists(
            st.tuples(st.integers(1, len(parents)), st.sampled_from(["plan", "execution", "comments"])), max_size=40
        )
    )
    owners += [(step, "plan") for step in range(1, len(parents) + 1)]
    steps = []
    for number in range(1, len(parents) + 1):
        parts = {
            part: as_ranges(line for line, owner in enumerate(owners, 1) if owner == (number, part))
            for part in ("plan", "execution", "comments")
        }
        steps.append(Step(number=number, prompt="Do it." if parts["execution"] else None, **parts))
    return Extraction(id="t", steps=tuple(steps)), dag_of("t", dict(enumerate(parents, 1)))


def chains(step: int, parents: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """All chains of ancestors of a step, from a root down to one of its parents."""
    if not parents[step - 1]:
        yield []
    for parent in parents[step - 1]:
        for chain in chains(parent, parents):
            yield [*chain, parent]


@given(graphs())
def test_a_stage_counts_the_executions_on_the_longest_chain_above(graph: tuple[list[list[int]], list[bool]]) -> None:
    parents, executed = graph
    expected = [
        1 + max(sum(executed[step - 1] for step in chain) for chain in chains(number, parents))
        for number in range(1, len(parents) + 1)
    ]
    assert stage_numbers(parents, executed) == expected


@given(graphs())
def test_a_child_of_plan_only_parents_joins_their_stage(graph: tuple[list[list[int]], list[bool]]) -> None:
    parents, executed = graph
    stages = stage_numbers(parents, executed)
    for stage, named in zip(stages, parents, strict=True):
        if named and not any(executed[parent - 1] for parent in named):
            assert stage == max(stages[parent - 1] for parent in named)


@given(extractions(), st.integers(1, 5))
def test_packed_stages_are_in_topological_order_and_hold_every_line_once(
    made: tuple[Extraction, Dag], shortest: int
) -> None:
    extraction, dag = made
    packed = pack(extraction, dag, shortest=shortest)
    assert sorted(step for stage in packed.stages for step in stage) == [step.number for step in extraction.steps]
    assert all(stage for stage in packed.stages)
    stage_of = {step: number for number, stage in enumerate(packed.stages) for step in stage}
    for step, parents in enumerate(packed.parents, 1):
        for parent in parents:
            if packed.steps[parent - 1].execution:
                assert stage_of[parent] < stage_of[step]
            else:
                assert stage_of[parent] <= stage_of[step]
                assert parent < step
    lines = [line for step in extraction.steps for line in lines_of_step(step)]
    assert sorted(line for step in packed.steps for line in lines_of_step(step)) == sorted(lines)
    assert all(not step.execution or len(numbers_in(step.execution)) >= shortest for step in packed.steps)


def lines_of_step(step: Step) -> list[int]:
    return numbers_in([*step.plan, *step.execution, *step.comments])


@pytest.mark.parametrize(("lines", "folded"), [(2, True), (3, False)])
def test_an_execution_of_fewer_than_three_lines_is_folded(lines: int, folded: bool) -> None:
    step = Step(number=1, plan=((1, 1),), execution=((3, 2 + lines),), comments=((2, 2),), prompt="Add them.")
    packed = fold(step)
    assert (packed.execution == ()) is folded
    assert packed.prompt == (None if folded else "Add them.")
    assert sorted(lines_of_step(packed)) == sorted(lines_of_step(step))


def test_folding_comes_before_stages() -> None:
    steps = (
        Step(number=1, plan=((1, 1),), execution=((2, 3),), prompt="short"),
        Step(number=2, plan=((4, 4),), execution=((5, 7),), prompt="long"),
        Step(number=3, plan=((8, 8),)),
    )
    packed = pack(Extraction(id="t", steps=steps), Dag(id="t", parents=((), (1,), (2,))))
    assert packed.stages == ((1, 2), (3,))


def test_the_ratio_is_steps_over_stages() -> None:
    steps = tuple(Step(number=number, execution=((4 * number - 3, 4 * number),)) for number in range(1, 6))
    shape = shape_of(pack(Extraction(id="t", steps=steps), Dag(id="t", parents=((), (), (), (1, 2), (3,)))))
    assert (shape.steps, shape.stages, shape.width, shape.ratio) == (5, 2, 3, 2.5)


@given(graphs())
def test_unordered_pairs_are_those_that_no_chain_joins(graph: tuple[list[list[int]], list[bool]]) -> None:
    parents, _ = graph
    above = ancestors(parents)
    every = {(a, b) for b in range(1, len(parents) + 1) for a in range(1, b)}
    joined = {(a, b) for a, b in every if any(a in chain for chain in chains(b, parents))}
    assert {*unordered_pairs(parents)} == every - joined
    assert all(step not in above[step - 1] for step in range(1, len(parents) + 1))
