"""Work out nested arithmetic with a planner and executors that are plain code, without a model.

The policy is the planner: each stage works out all innermost groups at the same time, and the next stage's expression
has their values instead. The executor is a Python function. A ``checker`` works the answer out in another way.

    python examples/nested_arithmetic.py "[(12 + 7) * 2 - 5] * (9 - 4)"
"""

import ast
import asyncio
import re
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from operator import add, mul, sub

from sprint_agents import Answer, Engine, Plan, Planner, Planning, Run, Sprint, Stage, Step, Subtask
from sprint_agents.nano.tasks import Arithmetic
from sprint_agents.testing import FakeEngine

EXPRESSION = "[(12 + 7) * 2 - 5] * (9 - 4)"
GROUP = re.compile(r"[(\[]([^()\[\]]+)[)\]]")
OPERATIONS: Mapping[type[ast.operator], Callable[[int, int], int]] = {ast.Add: add, ast.Sub: sub, ast.Mult: mul}


async def innermost_first(planning: Planning) -> AsyncGenerator[Step, Stage[int]]:
    """Replace the innermost groups by their values, stage after stage."""
    expression = planning.task
    while groups := GROUP.findall(expression):
        stage = yield Plan.of(*groups, text=f"The innermost groups of {expression}:")
        for group, value in zip(groups, stage.results, strict=True):
            expression = re.sub(rf"[(\[]{re.escape(group)}[)\]]", str(value), expression, count=1)
    stage = yield Plan.of(expression, text="Only numbers are left:")
    yield Answer(value=stage.results[0])


def evaluate(expression: str) -> int:
    """Return the value of whole numbers with + - and * between them."""
    return _value(ast.parse(expression.strip(), mode="eval").body)


def carry_out(subtask: Subtask) -> int:
    """Work out one group."""
    return evaluate(subtask.prompt)


def _value(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=sign, right=right) if operation := OPERATIONS.get(type(sign)):
            return operation(_value(left), _value(right))
        case _:
            raise ValueError(f"{ast.unparse(node)} has more than whole numbers with + - and *")


async def main(engine: Engine | None = None, *, expression: str = EXPRESSION) -> Run[int, int]:
    """Work out ``expression``, print each stage, and return the run."""
    # Plans, results and answer all come from code: this engine only counts tokens.
    sprint = Sprint(
        engine or FakeEngine([]),
        policy=innermost_first,
        planner=Planner(int),
        executor=carry_out,
        failure="fail_fast",
        checker=lambda answer: Arithmetic(expression=expression).check(str(answer)),
    )
    run = await sprint.run(expression)
    for stage in run.stages:
        print("; ".join(f"{execution.prompt} = {execution.value}" for execution in stage.executions))
    print(f"{run.answer} ({'right' if run.verified else 'wrong'})")
    return run


if __name__ == "__main__":
    asyncio.run(main(expression=" ".join(sys.argv[1:]) or EXPRESSION))
