"""Typed results on any engine: ``python examples/any_engine.py llama.cpp http://127.0.0.1:8080/v1``."""

import asyncio
import sys

from pydantic import BaseModel, Field

import sprint_agents.engines as engines
import sprint_integrations.pydantic_ai as hosted
from sprint_agents import Executor, Limits, Plan, Planner, Sprint, SprintError
from sprint_agents.policies import dag
from sprint_agents.testing import RecordedEngine

ENGINES = {  # by the kind, from a checkpoint, a URL, a model's name or a recording
    "local": lambda where: engines.LocalEngine(where),
    "llama.cpp": lambda where: engines.OpenAIEngine(where, model="default", server="llama.cpp"),
    "sglang": lambda where: engines.SGLangEngine(where),
    "pydantic-ai": lambda where: hosted.PydanticAIEngine(where),
    "recorded": RecordedEngine,
}


class Price(BaseModel):
    euros: int = Field(ge=0, le=99)


async def main(kind: str, where: str, tokens: str = "4000") -> None:
    plan = dag(lambda _: Plan.of("Guess the price of an apple.", "Guess the price of a pear."), replans=0)
    limits = Limits(execution_tokens=int(tokens), answer_tokens=int(tokens))
    async with ENGINES[kind](where) as engine:
        sprint = Sprint(engine, policy=plan, planner=Planner(Price), executor=Executor(Price), limits=limits)
        run = await sprint.run("What do an apple and a pear cost together?")
    print(f"{engine.name}: {run.answer} for", *run.stages[0].results)


if __name__ == "__main__":
    try:
        asyncio.run(main(*(sys.argv[1:] or ["recorded", "examples/recordings/any_engine.json"])))
    except SprintError as error:
        sys.exit(f"{type(error).__name__}: {error}")
