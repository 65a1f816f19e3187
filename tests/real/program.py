"""Typed programs for every real engine. All texts are short: a slow core computes 30 tokens in a second."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from sprint_agents import Answer, Budget, Executor, Limits, Plan, Planner, Planning, Sampling, Sprint, Stage, Step
from sprint_agents.engine import Engine

Fruit = Literal["apple", "pear", "plum"]
FRUITS: tuple[Fruit, ...] = ("apple", "pear", "plum")
TASK = "What do an apple, a pear and a plum cost in all?"
GREEDY = Sampling(temperature=0)
LIMITS = Limits(stages=3, plan_tokens=200, execution_tokens=80, answer_tokens=80)


class Price(BaseModel):
    fruit: Fruit
    euros: int = Field(ge=0, le=9)


class Total(BaseModel):
    euros: int = Field(ge=0, le=99)


async def look_up(fruit: Fruit) -> int:
    """Look up what a fruit costs."""
    return len(fruit)


async def each_fruit(planning: Planning) -> AsyncGenerator[Step, Stage[Price]]:
    """Plan one subtask for each fruit, and let the model answer."""
    yield Plan.of(*(f"Find the price of the {fruit}." for fruit in FRUITS))
    stage = yield planning.ask("answer")
    yield Answer(value=stage.answer)


def prices(
    engine: Engine,
    *,
    tools: Sequence[Callable[..., Any]] = (),
    sampling: Sampling = GREEDY,
    budget: Budget | None = None,
    limits: Limits = LIMITS,
) -> Sprint[Total, Price]:
    return Sprint(
        engine,
        policy=each_fruit,
        planner=Planner(Total, attempts=3),
        executor=Executor(Price, tools=tools, tool_turns=2, attempts=2),
        limits=limits,
        budget=budget or Budget(),
        sampling=sampling,
    )
