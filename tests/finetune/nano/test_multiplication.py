"""Multiplication traces: every line is true except slips, which are detected and corrected."""

import itertools
import re

import pytest

from sprint_agents.nano.tasks import Multiplication, understand
from sprint_finetune.nano.export import NANO
from sprint_finetune.nano.multiplication import PLACES, problems, solve


@pytest.fixture(scope="module")
def drawn():
    return list(itertools.islice(problems(seed=5, split="train"), 60))


def equations(text):
    """Every `a + b` or `a * b` and the result in the text. A running total continues the previous one."""
    for line in text.splitlines()[:-1]:
        for chain in re.sub(r"check|[a-zA-Z-]+ |:.*", "", line).split(","):
            left, *totals = chain.split("=")
            for total in totals:
                yield left.strip(), int(total.split("+")[0])
                left = total


def value_of(placed):
    """The number that `units 6 tens 7` names."""
    words = placed.split()
    return sum(int(digit) * 10 ** PLACES.index(place) for place, digit in zip(words[::2], words[1::2], strict=True))


def test_every_line_is_true(drawn):
    count = 0
    for work in drawn:
        for stage in work.stages:
            for subtask in stage.subtasks:
                for left, right in equations(subtask.text):
                    count += 1
                    assert eval(left) == right
    assert count > 2000


def test_partial_products_and_their_sum_are_right(drawn):
    for work in drawn:
        small, large = work.task.factors
        partials, (total,) = (stage.subtasks for stage in work.stages)
        made = []
        for subtask in partials:
            factor, digit, place = re.fullmatch(r"[A-Z] = (\d+) \* (\d) ([a-z-]+)", subtask.prompt).groups()
            made.append(value_of(subtask.text.splitlines()[-1].partition(" = ")[2]))
            assert int(factor) == small
            assert made[-1] == small * int(digit) * 10 ** PLACES.index(place)
            assert subtask.text.count(" yes\n") == 1
        assert sum(made) == small * large
        assert total.text.endswith(f" = {small * large}\n")
        for line, factor in zip(work.stages[0].lead.splitlines(), (small, large), strict=True):
            number, _, placed = line.partition(" : ")
            assert int(number) == value_of(placed) == factor


def test_problems_lie_in_the_range_that_is_said(drawn):
    for work in drawn:
        assert understand(work.task.prompt, NANO) == (work.task.prompt, work.task)
    assert {len(str(number)) for work in drawn for number in work.task.factors} == {2, 3, 4}


def test_a_slip_is_not_learned_and_is_mended():
    slipped = 0
    for work in itertools.islice(problems(seed=5, split="train", slips=0.5), 60):
        for subtask, right in zip(work.stages[0].subtasks, solve(work.task).stages[0].subtasks, strict=True):
            wrong = [piece.text for piece in subtask.pieces if not piece.learned]
            assert subtask.text.count(" no\n") == len(wrong) <= 1
            assert subtask.text.endswith(right.text)
            slipped += len(wrong)
    assert slipped > 50


def test_a_product_of_too_many_places_has_no_trace():
    with pytest.raises(ValueError, match="products may have 7 digits"):
        solve(Multiplication(first=1000, second=1000))
