"""The search for Countdown solutions: its tables and its answers are correct."""

import itertools

import pytest

from sprint_finetune.nano.countdown import problems
from sprint_finetune.nano.countdown_search import LARGEST, NO_VALUE, explore
from sprint_finetune.nano.splits import split_of


@pytest.fixture(scope="module")
def drawn():
    return list(itertools.islice(problems(seed=3, split="train", unsolvable=0.2), 60))


def explorations(drawn):
    return [exploration for _, searched in drawn for stage in searched for exploration in stage]


def test_every_row_of_a_table_is_true(drawn):
    rows = 0
    for exploration in explorations(drawn):
        for line in exploration.text.splitlines():
            if " : " not in line:
                continue
            rows += 1
            assert line.startswith(" ")
            pair, _, values = line.partition(" : ")
            a, b = sorted(map(int, pair.split()), reverse=True)
            for value, true in zip(values.split(), (a + b, a - b, a * b, a / b if b else None), strict=False):
                assert value == NO_VALUE or int(value) == true <= LARGEST
    assert rows > 1000


def test_every_equation_is_true(drawn):
    for exploration in explorations(drawn):
        first, *_, last = exploration.text.splitlines()
        if first == f"{exploration.opening} = {NO_VALUE}":
            a, sign, b = exploration.opening.split()
            value = eval(exploration.opening)
            assert not 0 < value <= LARGEST or value % 1 or (sign == "/" and value in (int(a), int(a) - int(b)))
            assert last == "none"
            continue
        found = [line for line in exploration.text.splitlines() if line.startswith("found ")]
        for equation in [first.split(" left ")[0], *(part for line in found for part in line[6:].split(" , "))]:
            left, right = equation.split("=")
            assert eval(left) == eval(right)
        assert last == (f"answer={exploration.found}" if exploration.found else "none")


def test_what_a_search_finds_is_an_answer(drawn):
    found = 0
    for task, searched in drawn:
        for exploration in itertools.chain.from_iterable(searched):
            if exploration.found:
                found += 1
                assert task.check(exploration.found)
    assert found > 20


def test_a_search_ends_with_the_stage_that_finds_an_answer(drawn):
    for _, searched in drawn:
        assert not any(exploration.found for stage in searched[:-1] for exploration in stage)


def test_an_exploration_ends_where_it_meets_the_target():
    exploration = explore((25, 7, 3), (1, "*", 2), 46)
    assert exploration.text == (
        "7 * 3 = 21 left 21 25 for 46\n 21 25 : 46 4 x x 46 yes\nfound 46 = 25 + 21 , 21 = 7 * 3\nanswer=25+(7*3)\n"
    )


def test_the_split_does_not_depend_on_the_order_of_numbers():
    held_out = [task for task, _ in itertools.islice(problems(seed=3, split="held_out"), 5)]
    shuffled = [task.model_copy(update={"numbers": tuple(reversed(task.numbers))}) for task in held_out]
    assert all(split_of(task) == "held_out" for task in shuffled)
