"""The rule extractor on hand-written traces, on traces of the built-in tasks, and on misleading texts."""

import asyncio
import itertools
import random

import pytest

from sprint_agents.nano.tasks import recognise
from sprint_finetune.curation import RuleExtractor, Trace
from sprint_finetune.curation.dag import unordered_pairs
from sprint_finetune.curation.extractor import steps_fault
from sprint_finetune.curation.labelled_traces import Agreement, LabelledTrace, measure_agreement
from sprint_finetune.curation.lines import lines_at, lines_of, numbers_in
from sprint_finetune.curation.packing import pack
from sprint_finetune.curation.rules.rule_extractor import read_steps
from sprint_finetune.curation.violations import violations_of
from sprint_finetune.nano import arithmetic, multiplication
from sprint_finetune.nano.traces import chain


def parallel(trace: Trace) -> set[tuple[str, str]]:
    """The pairs of lines whose steps may run in parallel, in the order of the trace."""
    extraction, dag = read_steps(trace)
    lines = lines_of(trace.trace).chain
    held = [lines_at(lines, numbers_in([*step.plan, *step.execution])) for step in extraction.steps]
    pairs = unordered_pairs(dag.parents)
    return {pair for a, b in pairs for pair in itertools.product(held[a - 1], held[b - 1])}


def test_there_are_thirty_traces_of_fifteen_to_eighty_lines(labelled: list[LabelledTrace]) -> None:
    assert len(labelled) >= 30
    for one in labelled:
        assert 15 <= len(lines_of(one.trace.trace).chain) <= 80, one.trace.id
    assert len({one.fields["topic"] for one in labelled}) >= 6


def test_what_is_called_independent_is_independent(labelled: list[LabelledTrace]) -> None:
    found = sum((measure_agreement(one, *read_steps(one.trace)) for one in labelled), Agreement(0, 0, 0, 0))
    assert found.claimed >= 150
    assert found.precision >= 0.95
    # Missing some parallelism is fine, but if almost none were found, the precision would be worthless.
    assert found.recall >= 0.4


def test_steps_cover_each_line_once_and_no_execution_needs_a_sibling(labelled: list[LabelledTrace]) -> None:
    for one in labelled:
        extraction, dag = read_steps(one.trace)
        assert steps_fault(extraction.steps, lines=len(lines_of(one.trace.trace).chain)) is None
        assert violations_of(one.trace, pack(extraction, dag)) == ()


def test_the_protocol_gives_what_the_function_gives(labelled: list[LabelledTrace]) -> None:
    async def through_protocol(trace: Trace) -> object:
        extraction = await RuleExtractor().steps(trace)
        return extraction, await RuleExtractor().dag(trace, extraction)

    assert asyncio.run(through_protocol(labelled[0].trace)) == read_steps(labelled[0].trace)


CASES = """We split into cases.
Case 1: n is even.
We count by hand.
There are 504 of them.
Case 2: n is odd.
We count by hand.
{}
In total we are done."""


@pytest.mark.parametrize(
    ("line", "independent"),
    [
        ("There are 17 of them.", True),
        ("2 * 17 = 34.", True),
        ("Twice 504 makes 1008.", False),
        ("By symmetry it's as many.", False),
        ("As in case 1, there are many.", False),
        ("The previous count can be used.", False),
        ("We found them already.", False),
    ],
)
def test_a_case_that_points_at_another_builds_on_it(line: str, independent: bool) -> None:
    trace = Trace(id="t", problem="How many n?", trace=CASES.format(line), answer="1")
    assert (("There are 504 of them.", line) in parallel(trace)) is independent


@pytest.mark.parametrize(
    "text",
    [
        "Let me start.\nTry x = 10: it gives 170.\nThat's too small.\nTry x = 12: it gives 228.\nThat's it.",
        "First compute a = 12.\nThis is easy.\nThen b = 2a = 24.\nThis is easy too.\nFinally c = a + b = 36.",
        "Case 1: n is even.\nI notice that n may be negative.\nFine.\nCase 2: n is odd.\nSo be it.\nHere we go.",
        "Set it up.\nThe sum is S = 40.\nIt follows.\nAlternatively, halve S.\nS/2 = 20.\nSo it's 20.",
    ],
)
def test_what_leads_to_what_follows_is_not_independent(text: str) -> None:
    assert parallel(Trace(id="t", problem="Which number?", trace=text, answer="1")) == set()


def test_a_table_for_people_is_one_step() -> None:
    text = "Look at the sides.\nSide 1: 20.\nSide 2: 12.\nSide 3: 6.\nThe sum is 38."
    assert parallel(Trace(id="t", problem="How many?", trace=text, answer="38")) == set()


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "\\boxed{1}",
        "Alternatively, do nothing.",
        "So 1.\nWait, let me double-check.",
        "Case 1:",
        "Case 1:\nCase 1:\nCase 2:",
        "a\n" * 400,
        ":\n-\n*\n#",
    ],
)
def test_odd_texts_are_covered(text: str) -> None:
    trace = Trace(id="t", problem="?", trace=text, answer="1")
    extraction, dag = read_steps(trace)
    assert steps_fault(extraction.steps, lines=len(lines_of(text).chain)) is None
    assert len(dag.parents) == len(extraction.steps)


@pytest.mark.parametrize("slips", [0.0, 0.5])
def test_the_subtasks_of_our_own_tasks_are_found(slips: float) -> None:
    """Extraction and packing find the generator's stages of arithmetic and multiplication."""
    tasks = [
        ("Compute [(12 + 7) * 2 - 5] * (9 - 4).", arithmetic.solve),
        ("Compute (3 + 2) * (9 - 4) + (8 - 6).", arithmetic.solve),
        ("Multiply 347 by 28.", multiplication.solve),
        ("Multiply 4728 by 39.", multiplication.solve),
    ]
    for (problem, solve), seed in itertools.product(tasks, range(3)):
        solved = solve(recognise(problem), slips=slips, rng=random.Random(seed))  # type: ignore[operator]
        text = "".join(piece.text for piece in chain(solved).pieces[2:]).partition("</think>")[0]
        extraction, dag = read_steps(Trace(id="t", problem=problem, trace=text, answer="1"))
        packed = pack(extraction, dag, shortest=1)
        executions = [sum(bool(packed.steps[step - 1].execution) for step in stage) for stage in packed.stages]
        assert [count for count in executions if count] == [len(stage.subtasks) for stage in solved.stages], text


PARTS = """Two values are needed:
Now A = 3 * 4 + 1
3 * 4 + 1 : 3 * 4 = 12
12 + 1 : 12 + 1 = 13
so A = 13
Now B = {}
I work it out.
It takes a while.
so B = 40
Add them:
Now C = 13 + 40
This is the last.
13 + 40 = 53
so C = 53"""


@pytest.mark.parametrize(
    ("formula", "stages"),
    [
        ("5 * 8", [2, 1]),
        ("13 + 27", [1, 1, 1]),  # 13 is what A came to
        ("A + 27", [1, 1, 1]),
    ],
)
@pytest.mark.parametrize("problem", ["How many?", "Multiply 5 by 8."])
def test_parts_with_names_run_side_by_side_unless_one_needs_another(
    problem: str, formula: str, stages: list[int]
) -> None:
    trace = Trace(id="t", problem=problem, trace=PARTS.format(formula), answer="53")
    extraction, dag = read_steps(trace)
    packed = pack(extraction, dag)
    assert [sum(packed.steps[step - 1].restates for step in stage) for stage in packed.stages] == stages
    assert violations_of(trace, packed) == ()


@pytest.mark.parametrize(
    "text",
    [
        "Now A = 12.\nThat is easy.\nNow B = 3.\nThat is easy.\nso A = 12\nso B = 3",
        "Now A = 3 * 4 = 12\nFine.\nso A = 12",
        "Now A = 3 * 4\nFine.\nNow B = 2 * 9\nFine.\nSo it's 12 and 18.",
        "48 - 12 = 36 left over.\nFine.\n36 - 12 = 24 left over.\nFine.\nSo 24.",
    ],
)
def test_what_only_looks_like_a_name_is_no_part(text: str) -> None:
    extraction, _ = read_steps(Trace(id="t", problem="How many?", trace=text, answer="1"))
    assert all(step.prompt is None for step in extraction.steps)


def test_another_form_of_an_equation_builds_on_it() -> None:
    text = "There is one equation for a.\nWe expand both sides.\nSo we get a = 3b + 6.\n"
    text += "Alternatively, we can write:\na = 3(b + 2)."
    trace = Trace(id="t", problem="Find a in terms of b if a - 6 = 3b.", trace=text, answer="3b + 6")
    assert parallel(trace) == set()


def test_a_sentence_that_announces_a_formula_does_not_end_a_case() -> None:
    text = (
        "Two cases.\nCase 1: x - 4 = 12.\nSolving for x, add 4 to both sides:\nx = 12 + 4\nSo x = 16.\n"
        "Case 2: x - 4 = -12.\nSolving for x, add 4 to both sides:\nx = -12 + 4\nSo x = -8."
    )
    trace = Trace(id="t", problem="Solve |x - 4| = 12.", trace=text, answer="16, -8")
    assert ("Case 1: x - 4 = 12.", "Case 2: x - 4 = -12.") in parallel(trace)


def test_a_question_that_opens_another_search_ends_a_part() -> None:
    text = (
        "Try a difference of 1.\nIf m = n + 1: 7n = 97.\nNot an integer.\nIf m = n - 1: 7n = 103.\nNot an integer.\n"
        "So no solutions for 1.\nHow about a difference of 2?\nSubstitute that.\nIf m = n + 2: 7n = 94.\nNo integer.\n"
        "If m = n - 2: 7n = 106.\nNo integer."
    )
    found = parallel(Trace(id="t", problem="Find m - n if 3m + 4n = 100.", trace=text, answer="3"))
    assert not any("m = n + 2" in late and "m = n - 1" in early for early, late in found)


def test_a_part_that_prepares_the_next_one_comes_before_it() -> None:
    rows = (
        "Column 2: [1, 0, -1].\n= i - 2i\nSo it is -i.\nSimilarly, the next entry needs row 1.\nRow 1: [i, -1, 2i].\n"
    )
    text = f"We multiply.\n{rows}Column 3: [-2i, -1, i].\n= 2 + 1 - 2\nSo it is 1."
    assert parallel(Trace(id="t", problem="Multiply the matrices.", trace=text, answer="1")) == set()


def test_several_ways_to_do_something_are_no_second_way() -> None:
    text = "We look at 1 + 2 - 3.\nIts value is 0.\nLet me consider different ways to place parentheses in 1 + 2 - 3.\n"
    text += "1 + (2 - 3) = 0.\n(1 + 2) - 3 = 0.\nSo 0 = 0.\nBoth are 0 = 0."
    assert parallel(Trace(id="t", problem="Place parentheses in 1 + 2 - 3.", trace=text, answer="0")) == set()


TOPPINGS = """He wants two different toppings, and the order doesn't matter.
The formula for combinations is C(n, k) = n! / (k! (n - k)!).
So C(8, 2) = 40320 / 1440.
That division gives 28.
So the answer is 28.
{}
So both ways give 28 pizzas."""


@pytest.mark.parametrize(
    "way",
    [
        "Another way to think about it is that there are 8 choices, and then 7 choices.\nThat gives 8 * 7 = 56.\n"
        "Each pair is counted twice.\n56 / 2 = 28.",
        "Alternatively, maybe I can count the pairs of the 8 toppings.\nA is in 7 pairs, B in 6 more, and so on.\n"
        "The sum is 7 + 6 + 5 + 4 + 3 + 2 + 1 = 28.",
        "Wait, does that make sense?\nIf there are 8 toppings, the first has 7 partners.\nThe second has 6 new ones.\n"
        "So the total is 7 + 6 + 5 + 4 + 3 + 2 + 1 = 28.",
        "Let me verify this by listing the pairs of the 8 toppings.\nThe first has 7 partners, the second 6 new ones.\n"
        "So the total is 7 + 6 + 5 + 4 + 3 + 2 + 1 = 28.",
    ],
)
def test_a_second_way_to_the_answer_runs_beside_the_first(way: str) -> None:
    problem = "How many pizzas with two different toppings are there, if there are 8 toppings?"
    trace = Trace(id="t", problem=problem, trace=TOPPINGS.format(way), answer="28")
    assert ("That division gives 28.", way.splitlines()[-1]) in parallel(trace)
    prompts = [step.prompt or "" for step in read_steps(trace)[0].steps if step.execution]
    assert len(prompts) == 2
    assert not any("28" in prompt for prompt in prompts)


@pytest.mark.parametrize(
    "check",
    [
        "Let me verify by plugging x = 8 back into the equation.\n3 * 8 = 24, and 24 + 2 = 26.\nSo x = 8.",
        "But let me double-check the steps.\n26 - 2 = 24.\n24 / 3 = 8.\nSo x = 8.",
        "But let me double-check.\nDivide 3x = 24 by 3.\n24 / 3 = 8.\nSo x = 8.",
        "Another way: since x = 8, we have 3x = 24.\n24 + 2 = 26.\nSo x = 8.",
        "Alternatively, take the number 24 and divide it.\n24 / 6 = 4 and 4 * 2 = 8.\nSo x = 8.",
        "Alternatively, the problem is hard.\nBut the answer is fine.\nTherefore, x = 8.",
    ],
)
def test_what_starts_from_the_answer_is_no_second_way(check: str) -> None:
    text = (
        f"We have 3x + 2 = 26.\nFirst, subtract 2 from both sides.\n3x = 24.\nSo x = 24 / 3 = 8.\n{check}\nYes, x = 8."
    )
    assert parallel(Trace(id="t", problem="Solve 3x + 2 = 26.", trace=text, answer="8")) == set()


def test_a_way_that_starts_from_bounds_needs_them() -> None:
    text = (
        "Which integers have |x - 2| <= 5.6?\nLet me solve it.\nThat means x >= -3.6 and x <= 7.6.\n"
        "So x goes from -3 to 7.\nThe count is 7 + 4 = 11.\nSo there are 11 of them.\nLet me count in another way.\n"
        "The integers from -3 to 7 have the distance 7 + 3 = 10.\nAdding the first, 10 + 1 = 11.\nThat matches 11."
    )
    pairs = parallel(Trace(id="t", problem="How many integers x have |x - 2| <= 5.6?", trace=text, answer="11"))
    assert ("The count is 7 + 4 = 11.", "Adding the first, 10 + 1 = 11.") in pairs
    assert not any(early == "So x goes from -3 to 7." for early, _ in pairs)
