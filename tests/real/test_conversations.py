"""A run that continues a finished one: a real server has the tokens of the first in its cache."""

import asyncio
from collections.abc import AsyncGenerator

from sprint_agents import Answer, Limits, Plan, Planner, Planning, Run, Sprint, Stage, Step, Subtask
from sprint_agents.usage import CallUsage

from .conftest import Place
from .program import FRUITS, GREEDY, Fruit

LIMITS = Limits(answer_tokens=80)


async def market(planning: Planning) -> AsyncGenerator[Step, Stage[str]]:
    """Have a program look at each fruit, and let the model answer."""
    if planning.task.startswith("Which"):
        yield Plan.of(*(f"Look at the {fruit}." for fruit in FRUITS))
    stage = yield planning.ask("answer")
    yield Answer(value=stage.answer)


def describe(subtask: Subtask) -> str:
    return f"{subtask.prompt} It is green, a little sour, and costs {subtask.number} euros for a bag of ten."


def of_answer(run: Run[Fruit, str]) -> CallUsage:
    return run.stages[-1].calls[-1].usage


def test_the_cache_has_the_tokens_of_the_first_run(place: Place) -> None:
    async def main() -> None:
        async with place.make() as engine:  # type: ignore[attr-defined]
            planner = Planner[Fruit](Fruit, attempts=3)
            sprint = Sprint(engine, policy=market, planner=planner, executor=describe, limits=LIMITS, sampling=GREEDY)
            first = await sprint.run("Which fruit is the cheapest?")
            second = await sprint.run("And is there another one?", after=first)
            before, after = of_answer(first), of_answer(second)
            assert second.transcript.startswith(first.transcript)
            assert after.prompt_tokens > before.prompt_tokens + before.generated_tokens
            assert after.cached_tokens >= 0.9 * (before.prompt_tokens + before.generated_tokens)
            await place.idle(engine)

    asyncio.run(main())
