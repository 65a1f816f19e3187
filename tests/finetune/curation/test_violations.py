"""Dependency violations: values that an execution uses but cannot see."""

from collections.abc import Sequence

from sprint_finetune.curation import Trace
from sprint_finetune.curation.packing import pack
from sprint_finetune.curation.records import Dag, Extraction, Step, Violation
from sprint_finetune.curation.violations import violations_of

LINES = [
    "Two parts with 360 each.",
    "Part one:",
    "It has 9*8*7 = 504.",
    "Part two:",
    "It uses {}.",
    "It ends.",
]


def found(
    use: str, *, parents: Sequence[Sequence[int]] = ((), (1,), (1,)), problem: str = "How many?"
) -> list[Violation]:
    trace = Trace(id="t", problem=problem, trace="\n".join(LINES).format(use), answer="1")
    steps = (
        Step(number=1, plan=((1, 1),)),
        Step(number=2, plan=((2, 2),), execution=((3, 3),)),
        Step(number=3, plan=((4, 4),), execution=((5, 6),)),
    )
    dag = Dag(id="t", parents=tuple(map(tuple, parents)))
    return [*violations_of(trace, pack(Extraction(id="t", steps=steps), dag, shortest=1))]


def test_a_value_that_only_a_sibling_has_is_a_violation() -> None:
    assert found("the 504 again") == [Violation(step=3, part="execution", source=2, value="504")]


def test_what_the_executor_can_see_is_none() -> None:
    assert found("the 360 again") == []
    assert found("the 504 again", problem="How many of 504?") == []
    assert found("the 504 again", parents=((), (1,), (1, 2))) == []
    assert found("7*72 = 504 of its own") == []


def test_a_plan_that_tells_what_its_own_stage_finds_is_one() -> None:
    lines = ["Start.", "Part one:", "It has 9*8*7 = 504.", "It ends.", "Now take the 504."]
    trace = Trace(id="t", problem="How many?", trace="\n".join(lines), answer="1")
    steps = (
        Step(number=1, plan=((1, 1),)),
        Step(number=2, plan=((2, 2),), execution=((3, 4),)),
        Step(number=3, plan=((5, 5),)),
    )
    packed = pack(Extraction(id="t", steps=steps), Dag(id="t", parents=((), (1,), (1,))), shortest=1)
    assert violations_of(trace, packed) == (Violation(step=3, part="plan", source=2, value="504"),)


def test_problems_of_our_own_tasks_are_no_exception() -> None:
    assert found("the 504 again", problem="Multiply 12 by 42.") == [
        Violation(step=3, part="execution", source=2, value="504")
    ]


def test_what_the_row_of_a_table_makes_is_its_own() -> None:
    lines = ["Two parts.", "Part one:", "It has 9*8*7 = 504.", "Part two:", "{}", "It ends."]

    def values(line: str) -> list[str]:
        steps = (
            Step(number=1, plan=((1, 1),)),
            Step(number=2, plan=((2, 2),), execution=((3, 3),)),
            Step(number=3, plan=((4, 4),), execution=((5, 6),)),
        )
        trace = Trace(id="t", problem="How many of 63 8?", trace="\n".join(lines).format(line), answer="1")
        packed = pack(Extraction(id="t", steps=steps), Dag(id="t", parents=((), (1,), (1,))), shortest=1)
        return [violation.value for violation in violations_of(trace, packed)]

    assert values(" 63 8 : 71 55 504 x 504 yes") == []
    assert values(" 504 8 : 512 496 x 63") == values("63 to 8 : 504") == ["504"]
