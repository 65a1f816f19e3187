"""Mistakes that an editor reports: each comment names the rule that pyright must give."""

from sprint_agents import Executor, Hooks, Planner, Sprint, Subtask
from sprint_agents.testing import FakeEngine
from sprint_agents.tools import Tool


@Tool.of
def count(word: str) -> int:
    """Count letters."""
    return len(word)


def by_name(name: str) -> str:
    return name


engine = FakeEngine("")
answer = Sprint(engine, planner=Planner(int)).run_sync("task").answer

answer.upper()  # reportAttributeAccessIssue
count(3)  # reportArgumentType
Executor(int, attempts="3")  # reportArgumentType
Executor(int, tools=[3])  # reportArgumentType
Executor(3)  # reportArgumentType
Executor(str, "be brief")  # reportCallIssue
Sprint(engine, executor=by_name)  # reportArgumentType
Sprint(engine, planner=Executor(int))  # reportArgumentType
Sprint(engine, deps_type=int).run_sync("task", deps="3")  # reportArgumentType
Sprint(engine).run_sync("task", seed="3")  # reportArgumentType
Sprint(engine).run_sync("task", bugdet=None)  # reportCallIssue
Sprint(engine).run_sync("task", review=by_name)  # reportArgumentType
Sprint(engine, hooks=Hooks(before_execution=by_name))  # reportArgumentType
Planner(int, validator=by_name)  # reportArgumentType
Tool.of(by_name, approve=by_name)  # reportArgumentType
Sprint(engine, checker=lambda subtask: subtask == Subtask(number=1, prompt="a"), planner=int)  # reportArgumentType
