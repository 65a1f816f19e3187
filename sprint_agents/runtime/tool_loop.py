"""Call the tools that an executor's turn asks for, all at the same time."""

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from sprint_agents.agents import Executor
from sprint_agents.dialects.completions import ToolCall
from sprint_agents.dialects.prompts import ToolOutcome
from sprint_agents.events import ToolCalled, ToolFinished
from sprint_agents.plan import ToolUse

from .session import Session


async def use_tools(
    session: Session, executor: Executor[Any], calls: Sequence[ToolCall], *, stage: int, number: int, first: int
) -> list[ToolUse]:
    """Make the ``calls`` of one turn and return what became of them, in order; ``first`` is the number of the first.

    What goes wrong in a call is its text; a tool never ends an execution.
    """
    uses = [_use(session, executor, call, stage=stage, number=number, at=at) for at, call in enumerate(calls, first)]
    if len(uses) == 1:
        return [await uses[0]]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(use) for use in uses]
    return [task.result() for task in tasks]


async def _use(
    session: Session, executor: Executor[Any], call: ToolCall, *, stage: int, number: int, at: int
) -> ToolUse:
    if session.listening:
        session.emit(ToolCalled(stage=stage, number=number, call=at, tool=call.tool, arguments=call.arguments))
    clock = asyncio.get_running_loop()
    started = clock.time()
    tool = executor.tools.get(call.tool)
    if tool is None:
        there_are = f"use one of {', '.join(executor.tools)}" if executor.tools else "there are none, give the result"
        outcome = ToolOutcome(call.tool, to_json(f"there is no tool {call.tool!r}: {there_are}").decode(), failed=True)
    else:
        outcome = await tool.use(call.arguments, seconds=executor.tool_timeout)
    use = ToolUse(
        tool=call.tool,
        arguments=call.arguments,
        text=outcome.text,
        failed=outcome.failed,
        seconds=clock.time() - started,
    )
    if session.listening:
        session.emit(
            ToolFinished(
                stage=stage,
                number=number,
                call=at,
                tool=use.tool,
                text=use.text,
                failed=use.failed,
                seconds=use.seconds,
            )
        )
    return use
