"""Work out nested arithmetic with a planner and executors that are plain code: no model is asked.

The policy is the planner: a stage works out all innermost groups at the same time, and its results stand in the
expression of the next stage. The executor is a Python function. The library knows the task, so it checks the answer.

    python examples/nested_arithmetic.py "[(12 + 7) * 2 - 5] * (9 - 4)"
"""

import ast
import asyncio
import re
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from operator import add, mul, sub

from sprint_agents import Answer, Engine, Plan, Planner, Planning, Run, Sprint, Stage, Step, Subtask
from sprint_agents.testing import FakeEngine

EXPRESSION = "[(12 + 7) * 2 - 5] * (9 - 4)"
GROUP = re.compile(r"[(\[]([^()\[\]]+)[)\]]")
OPERATIONS: Mapping[type[ast.operator], Callable[[int, int], int]] = {ast.Add: add, ast.Sub: sub, ast.Mult: mul}


async def innermost_first(planning: Planning) -> AsyncGenerator[Step, Stage[int]]:
    """Replace the innermost groups by their values, stage after stage."""
    expression = planning.task.removeprefix("Compute ").removesuffix(".")
    while groups := GROUP.findall(expression):
        stage = yield Plan.of(*groups, text=f"Of {expression} the innermost groups:")
        for group, value in zip(groups, stage.results, strict=True):
            expression = re.sub(rf"[(\[]{re.escape(group)}[)\]]", str(value), expression, count=1)
    stage = yield Plan.of(expression, text="No group is left:")
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
            raise ValueError(f"{ast.unparse(node)} is more than whole numbers with + - and *")


async def main(engine: Engine | None = None, *, expression: str = EXPRESSION) -> Run[int, int]:
    """Work out ``expression``, print each stage, and return the run."""
    # What no model writes needs no model: this engine counts tokens, and is never asked for any.
    sprint = Sprint(
        engine or FakeEngine([]),
        policy=innermost_first,
        planner=Planner(int),
        executor=carry_out,
        failure="fail_fast",
    )
    run = await sprint.run(f"arithmetic {expression}")
    for stage in run.stages:
        print("; ".join(f"{execution.prompt} = {execution.value}" for execution in stage.executions))
    print(f"{run.answer} ({'right' if run.verified else 'wrong'})")
    return run


if __name__ == "__main__":
    asyncio.run(main(expression=" ".join(sys.argv[1:]) or EXPRESSION))
