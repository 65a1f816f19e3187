import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.nano.tasks import Countdown, recognise


@pytest.mark.parametrize(
    ("text", "numbers", "target"),
    [
        ("countdown 3 7 25 50 81", (3, 7, 25, 50), 81),
        ("  Countdown: 3, 7, 25, 50, 81 ", (3, 7, 25, 50), 81),
        ("Use 50, 25, 7, 3 to make 81.", (50, 25, 7, 3), 81),
        ("use 3 7 and 25 to reach 46", (3, 7, 25), 46),
    ],
)
def test_the_forms_that_are_understood(text, numbers, target):
    assert Countdown.parse(text) == Countdown(numbers=numbers, target=target)


@pytest.mark.parametrize("text", ["", "countdown", "countdown 3 7", "countdown three 7 9", "what is 3 7 25 46?"])
def test_anything_else_is_no_countdown(text):
    assert recognise(text) is None


@given(st.text(max_size=60))
def test_no_text_makes_the_parser_or_the_checker_raise(text):
    recognise(text)
    Countdown(numbers=(3, 7, 25), target=46).check(text)


def test_the_prompt_reads_back():
    task = Countdown(numbers=(3, 7, 25, 50), target=81)
    assert Countdown.parse(task.prompt) == Countdown(numbers=(50, 25, 7, 3), target=81)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("25+7*3", True),
        (" 25 + (7 * 3) ", True),
        ("(3*7)+25", True),
        ("25+7+3", False),  # another value
        ("25+21", False),  # another number
        ("25+7*3+0", False),
        ("46", False),
        ("25+7*3-7+7", False),  # a number twice
        ("25+7**3", False),
        ("25+7*True", False),
        ("__import__('os').getpid()", False),
        ("25/0+7*3", False),
        ("(" * 5000, False),
        ("no solution found", False),
        ("25+7*3\n+0", False),
        ("25+7×3", True),
        ("9" * 5000, False),
        ("25+7*3" + " " * 100_000 + "x", False),
    ],
)
def test_an_answer_must_use_every_number_once_and_reach_the_target(answer, right):
    assert Countdown(numbers=(3, 7, 25), target=46).check(answer) is right


def test_division_is_exact():
    assert Countdown(numbers=(1, 3, 3), target=1).check("3*1/3")
    assert Countdown(numbers=(8, 3, 8, 3), target=24).check("8/(3-8/3)")
