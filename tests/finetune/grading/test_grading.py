"""Grading: which answers are right, in all their forms, and how an answer is found in a text."""

import asyncio

import pytest

from sprint_agents.errors import MissingExtra
from sprint_agents.subprocesses import Subprocesses
from sprint_finetune.evaluation import Case, grader
from sprint_finetune.grading import MathVerifier, grade, stated_in
from sprint_finetune.grading import verifier as verifier_module

from .pairs import DIFFERENT, SAME


def test_answers_that_are_the_same_and_those_that_are_not() -> None:
    pytest.importorskip("math_verify")

    async def graded() -> list[tuple[str, str, bool | None]]:
        async with MathVerifier(seconds=60) as verifier:
            return [
                (reference, stated, (await grade("?", reference=reference, stated=stated, verifier=verifier)).right)
                for reference, stated in (*SAME, *DIFFERENT)
            ]

    results = asyncio.run(graded())
    assert len(SAME) >= 80
    assert len(DIFFERENT) >= 60
    assert [pair for *pair, right in results[: len(SAME)] if right is not True] == []
    assert [pair for *pair, right in results[len(SAME) :] if right is True] == []


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("So \\boxed{41}, no: \\boxed{42}.", "42"),
        ("So \\fbox{41}", "41"),
        ("$\\boxed{1 + \\sqrt{19}}$ and $\\boxed{1 - \\sqrt{19}}$.", "1 + \\sqrt{19}, 1 - \\sqrt{19}"),
        ("\\boxed{3}, \\boxed{5}, and \\boxed{7}.", "3, 5, 7"),
        ("\\boxed{16}\n\\boxed{16}", "16"),
        ("\\boxed{\\text{(D)}}", "\\text{(D)}"),
        ("8 + 15\n#### 23", "23"),
        ("**Answer: 23**", "23"),
        ("**Final Answer:** 23", "23"),
        ("Therefore, the answer is likely 7.", "7"),
        ("It is 42.", None),
        (f"So \\boxed{{41}}. {chr(92) * 100_000}", "41"),
        (f"The answer is 7.\n{'option ' * 10_000}", "7"),
        (f"The answer is{' ' * 100_000}7!", "7!"),
        (f"{'so it is ' * 20_000}7", "7"),
    ],
)
def test_the_answer_that_a_text_states(text: str, stated: str | None) -> None:
    assert stated_in(text) == stated


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("**Answer: A**", "A"),
        ("ANSWER: C", "C"),
        ("The answer is **B**.", "B"),
        ("So the answer is B. 11 carbons.", "B"),
        ("So the correct answer is option C, 6.3e-7 M.", "C"),
        ("I'll go with option C (5.645 x 10^-26) as the closest answer.", "C"),
        ("It is probably A, but D. No, the answer is D.", "D"),
        ("Despite the shift, option C seems the most plausible.", "C"),
        ("I think the intended answer is A. So I'll go with A.", "A"),
        ("so it is about 44%, so D.", "D"),
        ("The closest is **D (~0.32)**, so \\boxed{D} (~0.32).", "D"),
        ("The answer is \\boxed{\\text{(B)}}.", "B"),
        ("### Final Answer:\n10^62\n\nANSWER: A", "A"),
        ("(B)", "B"),
        ("The right choice is D: Star1 and Star4.", "D"),
        (f"So the answer is{' ' * 100_000}C.", "C"),
    ],
)
def test_the_letter_that_a_text_states(text: str, letter: str) -> None:
    async def right() -> bool | None:
        async with grader() as check:
            return await check(Case(id="1", task="Which?", answer=letter), text)

    assert asyncio.run(right()) is True


def test_an_option_may_be_named_by_its_letter_or_its_text() -> None:
    problem = "How many carbons? A) 9 B) 10 C) 11"

    async def graded(reference: str, stated: str) -> bool | None:
        async with MathVerifier() as verifier:
            return (await grade(problem, reference=reference, stated=stated, verifier=verifier)).right

    assert asyncio.run(graded("C", "11")) is True
    assert asyncio.run(graded("C", "10")) is False
    assert asyncio.run(graded("11", "(C)")) is True
    assert asyncio.run(graded("11", "B")) is False


def test_a_comparison_is_killed_when_its_time_is_over() -> None:
    pytest.importorskip("math_verify")

    async def compared() -> None:
        async with MathVerifier(processes=1, seconds=8.0) as verifier:
            assert await verifier.equal("9^{9^{9^{9}}}", "x") is None
            # A new process has replaced it, and answers are not mixed up.
            assert await verifier.equal("\\sqrt{8}", "2\\sqrt{2}") is True

    asyncio.run(compared())


def test_without_math_verify_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier_module, "find_spec", lambda name: None)

    async def compared() -> None:
        async with MathVerifier() as verifier:
            assert await verifier.equal("1/2", "0.5") is True  # numbers need no parser
            await verifier.equal("x", "y")

    with pytest.raises(MissingExtra, match="math-verify"):
        asyncio.run(compared())


def test_a_process_that_dies_leaves_the_answer_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    async def compared() -> bool | None:
        verifier = MathVerifier(processes=1)
        monkeypatch.setattr(verifier, "_processes", Subprocesses("sprint_finetune.no_such_module"))
        async with verifier:
            return await verifier.equal("x", "y")

    assert asyncio.run(compared()) is None


def test_numbers_beyond_all_bounds_are_compared_as_text() -> None:
    async def compared(reference: str, stated: str) -> bool | None:
        async with MathVerifier(seconds=20) as verifier:
            return (await grade("?", reference=reference, stated=stated, verifier=verifier)).right

    assert asyncio.run(compared("7" * 5_000, "7" * 5_000)) is True
    assert asyncio.run(compared("7" * 5_000, "7" * 4_999 + "8")) is not True
