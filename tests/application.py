"""One application, for every engine: a plan, tools with typed arguments, typed results and a typed answer, in JSON.

A random model may write it too, if it is held to the schemas: all texts are short, and it draws almost evenly.
"""

from collections.abc import AsyncGenerator
from typing import Any, Literal

from pydantic import BaseModel, Field

from sprint_agents import Answer, Executor, Limits, Plan, Planner, Planning, Run, Sampling, Sprint, Stage, Step
from sprint_agents.engine import Engine

SIDES = ("left", "right")


class Finding(BaseModel):
    side: Literal["left", "right"]
    doors: int = Field(ge=0, le=9)


class Verdict(BaseModel):
    open: bool
    doors: int | None = None


async def look(side: Literal["left", "right"], *, steps: Literal[1, 2, 3] = 1) -> list[int]:
    """Look to one side, some steps away."""
    return [len(side)] * steps


async def both_sides(planning: Planning) -> AsyncGenerator[Step, Stage[Finding]]:
    stage = yield Plan.of("look left", "look right")
    while stage.answer is None:
        stage = yield planning.ask(width=3)
    yield Answer(value=stage.answer)


def application(engine: Engine) -> Sprint[Verdict, Finding]:
    return Sprint(
        engine,
        policy=both_sides,
        planner=Planner(Verdict, attempts=6, instructions="Count the doors."),
        executor=Executor(Finding, tools=[look], tool_turns=2, attempts=6),
        dialect="json",
        limits=Limits(stages=3, plan_tokens=300, execution_tokens=300, answer_tokens=300),
        sampling=Sampling(temperature=4.0, seed=5),
    )


def check(run: Run[Any, Any]) -> None:
    """Types hold, whatever was written."""
    assert isinstance(run.answer, Verdict)
    first = run.stages[0]
    assert [execution.prompt for execution in first.executions] == ["look left", "look right"]
    for stage in run.stages:
        for execution in stage.executions:
            assert isinstance(execution.value, Finding) or execution.failure is not None
            if execution.failure is not None:  # it called its tool again and again, or never came to an end
                assert execution.failure.type in ("InvalidResult", "WidthExceeded")
            for use in execution.tool_uses:
                assert use.tool == "look"
                assert not use.failed, use
    assert any(execution.succeeded for stage in run.stages for execution in stage.executions)
