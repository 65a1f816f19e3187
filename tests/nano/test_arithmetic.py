import ast
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.nano.arithmetic import Expression
from sprint_agents.nano.tasks import Arithmetic, recognise

numbers = st.integers(1, 60).map(str)
expressions = st.recursive(
    numbers,
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda parts: f"({''.join(parts)})"),
    max_leaves=12,
)


def python_value(text):
    """Evaluate with Python's own parser, over fractions."""

    class Exact(ast.NodeTransformer):
        def visit_Constant(self, node):
            return ast.Call(ast.Name("Fraction", ast.Load()), [node], [])

    tree = ast.fix_missing_locations(Exact().visit(ast.parse(text, mode="eval")))
    return eval(compile(tree, "", "eval"), {"Fraction": Fraction})


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("arithmetic (12+7)*(9-4)-18", "(12 + 7) * (9 - 4) - 18"),
        ("Compute (12 + 7) * (9 - 4) - 18.", "(12 + 7) * (9 - 4) - 18"),
        ("  ARITHMETIC: 7/2 ", "7 / 2"),
        ("compute {((1+2)*3)+[4-1]}", "[(1 + 2) * 3] + (4 - 1)"),
        ("compute (((5)))-(2)", "5 - 2"),
    ],
)
def test_the_forms_that_are_understood(text, expression):
    assert Arithmetic.parse(text) == recognise(text) == Arithmetic(expression=expression)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "arithmetic",
        "arithmetic two plus two",
        "compute 1+",
        "compute (1+2",
        "compute (1+2]",
        "compute 1 2",
        "compute -3+4",
        "compute 1/(2-2)",
        "compute " + "9" * 20 + "+1",
        "compute " + "(" * 5000,
        "compute " + "(" * 60 + "1+2" + ")" * 60,
        "compute " + "1+" * 190 + "1",  # with its spaces longer than what is read back
        "compute ١+٢",  # noqa: RUF001
    ],
)
def test_anything_else_is_no_arithmetic(text):
    assert recognise(text) is None


@given(expressions)
def test_an_expression_has_the_value_that_python_gives_it(text):
    try:
        value = python_value(text)
    except ZeroDivisionError:
        assert Arithmetic.parse(f"compute {text}") is None
    else:
        task = Arithmetic.parse(f"compute {text}")
        assert task.value == value
        assert task.check(str(value))
        assert not task.check(str(value + 1))


@given(expressions)
def test_what_is_written_reads_back(text):
    expression = Expression.parse(text)
    assert Expression.parse(str(expression)) == expression


def test_steps_take_inner_groups_first_then_products_from_the_left():
    expression = Expression.parse("1+2*3/2-(8-(2+3))")
    assert [str(step) for step in expression.steps()] == [
        "2 + 3 = 5",
        "8 - 5 = 3",
        "2 * 3 = 6",
        "6 / 2 = 3",
        "1 + 3 = 4",
        "4 - 3 = 1",
    ]


@given(st.text(max_size=60))
def test_no_text_makes_the_parser_or_the_checker_raise(text):
    Arithmetic.parse(text)
    Arithmetic.parse(f"compute {text}")
    Arithmetic(expression="7/2").check(text)


@pytest.mark.parametrize(
    ("answer", "right"),
    [("77", True), (" 77 ", True), ("154/2", True), ("78", False), ("77.0", False), ("", False), ("77/0", False)],
)
def test_an_answer_is_the_value(answer, right):
    assert Arithmetic(expression="(12+7)*(9-4)-18").check(answer) is right
