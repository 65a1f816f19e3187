"""A tool that a real model calls on real engines: it is executed, and the model reads what it returned."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from sprint_agents import Answer, Executor, Plan, Planning, Sprint, Stage, Step
from sprint_agents.engine import Chunk, Engine, Request

from .conftest import Place
from .program import FRUITS, GREEDY, LIMITS, Price, look_up


class CallsFirst:
    """Holds the model to a call in its first turn, since it is too weak to decide for one; it writes the arguments."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.held = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def complete(self, request: Request) -> AsyncGenerator[Chunk]:
        if request.schema and not self.held:
            schema = json.loads(request.schema)
            for turn in schema.get("anyOf", []):
                if "call" in turn["properties"]:
                    self.held += 1
                    request = replace(request, schema=json.dumps(schema | {"anyOf": [one_call(turn)]}))
        async for chunk in self._engine.complete(request):
            yield chunk


def one_call(turn: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a turn with calls, for one call and nothing else."""
    return turn | {"properties": {"call": turn["properties"]["call"] | {"maxItems": 1}}, "required": ["call"]}


async def one(planning: Planning) -> AsyncGenerator[Step, Stage[Price]]:
    stage = yield Plan.of("Look up the price of the apple.")
    yield Answer(value=str(stage.executions[0].value))


def test_a_call_is_executed_and_its_result_read(fast_place: Place) -> None:
    async def main() -> None:
        async with fast_place.make() as engine:  # type: ignore[attr-defined]
            if engine.capabilities.native_tools:
                pytest.skip("the model cannot be held to a native call")
            calling: Any = CallsFirst(engine)
            executor = Executor(Price, tools=[look_up], tool_turns=2, attempts=3)
            run = await Sprint(calling, policy=one, executor=executor, limits=LIMITS, sampling=GREEDY).run("Prices?")
            assert calling.held == 1
            (execution,) = run.stages[0].executions
            assert execution.tool_uses
            for use in execution.tool_uses:
                assert use.tool == "look_up"
                assert not use.failed
                assert json.loads(use.text) in {len(fruit) for fruit in FRUITS}
            await fast_place.idle(engine)

    asyncio.run(main())
