"""Whether the answer of a trace is right, and which check decides it."""

import asyncio

import pytest

from sprint_agents.errors import MissingExtra
from sprint_agents.subprocesses import Subprocesses
from sprint_finetune.curation import Rejection, Trace
from sprint_finetune.curation import answers as answers_module
from sprint_finetune.curation.answers import MathVerifier, check_answer, stated_answer
from sprint_finetune.curation.records import Verdict


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


def test_math_verify_compares_values_and_is_killed_when_its_time_is_over() -> None:
    pytest.importorskip("math_verify")

    async def compare() -> None:
        async with MathVerifier(processes=1, seconds=8.0) as verifier:
            assert await verifier.equal("\\frac{5}{12}", "5/12") is True
            assert await verifier.equal("2\\sqrt{2}", "\\sqrt{8}") is True
            assert await verifier.equal("15", "16") is False
            assert await verifier.equal("9^{9^{9^{9}}}", "3") is None
            # A new process has replaced it, and answers are not mixed up.
            assert await verifier.equal("0.5", "\\frac12") is True
            verdict = await check_answer(trace("\\boxed{84/2}"), verifier)
            assert verdict == Verdict(id="t", stated="84/2", by="math-verify")

    asyncio.run(compare())


def test_without_math_verify_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers_module, "find_spec", lambda name: None)

    async def compare() -> None:
        async with MathVerifier() as verifier:
            await verifier.equal("1", "2")

    with pytest.raises(MissingExtra, match="math-verify"):
        asyncio.run(compare())


def test_a_process_that_dies_is_an_undecided_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers_module, "find_spec", lambda name: object())

    async def compare() -> bool | None:
        verifier = MathVerifier(processes=1)
        monkeypatch.setattr(verifier, "_processes", Subprocesses("sprint_finetune.no_such_module"))
        async with verifier:
            return await verifier.equal("1", "2")

    assert asyncio.run(compare()) is None
