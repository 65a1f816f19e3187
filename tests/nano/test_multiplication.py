import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.nano.tasks import Multiplication, recognise


@pytest.mark.parametrize(
    "text", ["multiply 347 28", "Multiply 28 by 347.", "MULTIPLY: 347, 28", "multiply 347x28", "multiply 28 * 347"]
)
def test_the_forms_that_are_understood(text):
    task = recognise(text)
    assert isinstance(task, Multiplication)
    assert task.factors == (28, 347)
    assert task.prompt == "Multiply 28 by 347."
    assert Multiplication.parse(task.prompt).prompt == task.prompt


@pytest.mark.parametrize(
    "text", ["multiply", "multiply 34728", "multiply 3 4 5", "multiply -3 4", "multiply 3 " + "9" * 30]
)
def test_anything_else_is_no_multiplication(text):
    assert recognise(text) is None


@given(st.text(max_size=60))
def test_no_text_makes_the_parser_or_the_checker_raise(text):
    Multiplication.parse(text)
    Multiplication.parse(f"multiply {text}")
    Multiplication(first=347, second=28).check(text)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_an_answer_is_the_product(first, second):
    task = Multiplication(first=first, second=second)
    assert task.check(str(first * second))
    assert task.check(f"{first * second:,}")
    assert not task.check(str(first * second + 1))
