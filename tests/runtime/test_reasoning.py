"""Hidden reasoning, which some servers send apart from the text, is shown in events."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

from sprint_agents import Sprint
from sprint_agents.engine import Chunk, Request
from sprint_agents.events import Event, ExecutorWrote, PlannerWrote
from sprint_agents.testing import FakeEngine


class Reasoning(FakeEngine):
    """Thinks before each completion."""

    async def complete(self, request: Request) -> AsyncGenerator[Chunk, None]:
        first = True
        async for chunk in super().complete(request):
            yield replace(chunk, reasoning="hm" if first else "")
            first = False


def test_reasoning_is_in_the_events() -> None:
    replies = {
        "planner, stage 1": '{"subtasks": ["a", "b"]}',
        "executor": '{"result": "x"}',
        "planner, stage 2": '{"answer": "y"}',
    }

    async def watch() -> list[Event]:
        async with Sprint(Reasoning(replies), dialect="json").stream("Think.") as events:
            return [event async for event in events]

    written = [event for event in asyncio.run(watch()) if isinstance(event, PlannerWrote | ExecutorWrote)]
    assert [event.kind for event in written if event.reasoning].count("planner_wrote") == 2
    assert [event.kind for event in written if event.reasoning].count("executor_wrote") == 2
