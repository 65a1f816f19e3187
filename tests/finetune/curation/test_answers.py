"""Whether the answer of a trace is right, and which check decides it."""

import asyncio

import pytest

from sprint_finetune.curation import Rejection, Trace
from sprint_finetune.curation.answers import check_answer, stated_answer


def trace(text: str, *, answer: str = "42", problem: str = "6*7?") -> Trace:
    return Trace(id="t", problem=problem, trace=text, answer=answer)


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("So \\boxed{41}, no: \\boxed{42}.", "42"),
        ("\\boxed{41}\n</think>\nIt is \\boxed{42}.", "42"),
        ("\\boxed{42}\n</think>\nThat was it.", "42"),
        ("Thus.\nThe final answer is $42$.", "$42$"),
        ("Answer: 42", "42"),
        ("The answer is : 42 .", "42"),
        ("I multiply.\n</think>\n42", "42"),
        ("I multiply.\n</think>\nIt is 42.\nSurely.", None),
        ("It is 42.", None),
        ("The answer is 42.\nNo.\nReally.\nIt is not.", None),
    ],
)
def test_the_stated_answer(text: str, stated: str | None) -> None:
    assert stated_answer(trace(text)) == stated


@pytest.mark.parametrize(
    ("given", "by"),
    [
        (trace("\\boxed{ 42 }"), "text"),
        (trace("\\boxed{41}"), "wrong_answer"),
        (trace("no more words"), "no_answer"),
        (trace("\\boxed{(25-3)*2+2}", problem="Use 25, 3, 2 to make 44."), "wrong_answer"),
        (trace("\\boxed{(25-3)*2}", problem="Use 25, 3, 2 to make 44.", answer="2*(25-3)"), "task"),
        (trace("\\boxed{no solution found}", problem="Use 1, 2, 3 to make 99.", answer="no solution found"), "text"),
        (
            trace("None.\n</think>\nno solution found", problem="Use 1, 2, 3 to make 99.", answer="no solution found"),
            "text",
        ),
        (trace("\\boxed{9715}", problem="Multiply 28 by 347.", answer="9715"), "wrong_answer"),
    ],
)
def test_who_decides(given: Trace, by: str, verifier) -> None:
    result = asyncio.run(check_answer(given, verifier))
    assert (result.reason if isinstance(result, Rejection) else result.by) == by
    # math-verify is not asked if the task's checker or equal text decides.
    assert (verifier.asked == []) is (by != "wrong_answer" or given.problem != "6*7?")


def test_a_comparison_that_takes_too_long_rejects_the_trace() -> None:
    class Undecided:
        async def equal(self, reference: str, stated: str) -> None:
            return None

    result = asyncio.run(check_answer(trace("\\boxed{41}"), Undecided()))
    assert isinstance(result, Rejection)
    assert result.reason == "undecided_answer"
