"""Types that an editor shows: each comment is the type that pyright must reveal."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated, Literal, reveal_type

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from sprint_agents import Answer, Executor, Plan, Planner, Planning, Run, RunContext, Sprint, Stage, Step, Subtask
from sprint_agents.dialects.completions import ToolCall
from sprint_agents.testing import FakeEngine
from sprint_agents.tools import Tool


class Finding(BaseModel):
    title: str
    score: float


@dataclass
class Report:
    findings: list[Finding]


class Entry(TypedDict):
    name: str


@Tool.of
async def search(query: str, *, limit: int = 5) -> list[str]:
    """Search."""
    return [query] * limit


def count(word: str) -> int:
    """Count letters."""
    return len(word)


def measure(subtask: Subtask) -> int:
    return len(subtask.prompt)


async def measure_later(subtask: Subtask) -> float:
    return len(subtask.prompt) / 2


async def findings(planning: Planning) -> AsyncGenerator[Step, Stage[Finding]]:
    stage = yield Plan.of("read the first part", "read the second part")
    reveal_type(stage.results)  # list[Finding]
    reveal_type(stage.failures)  # list[Execution[Finding]]
    yield Answer(value=Report(stage.results))


engine = FakeEngine("")

# Agents: models, dataclasses, plain types, and type forms that are not classes.
reveal_type(Planner())  # Planner[str]
reveal_type(Planner(Report))  # Planner[Report]
reveal_type(Executor(Finding, tools=[search, count], attempts=3))  # Executor[Finding]
reveal_type(Executor(list[Finding]))  # Executor[list[Finding]]
reveal_type(Executor(Entry))  # Executor[Entry]
reveal_type(Planner(int | None))  # Planner[int | None]
reveal_type(Planner(Finding | Report))  # Planner[Finding | Report]
reveal_type(Planner(Literal["yes", "no"]))  # Planner[Literal['yes', 'no']]
reveal_type(Executor(Annotated[int, Field(gt=0)]))  # Executor[int]

# Tools keep the signature of their function.
reveal_type(search.name)  # str
reveal_type(search("a", limit=3))  # CoroutineType[Any, Any, list[str]]

# Sprints: the types of the answer and of the results.
reveal_type(Sprint(engine))  # Sprint[str, str, Any]
reveal_type(Sprint(engine, planner=Planner(int)))  # Sprint[int, str, Any]
reveal_type(Sprint(engine, executor=measure))  # Sprint[str, int, Any]
reveal_type(Sprint(engine, executor=measure_later))  # Sprint[str, float, Any]
reveal_type(Sprint(engine, executor=Sprint(engine, planner=Planner(Report))))  # Sprint[str, Report, Any]


# Deps: what a run is given, and what functions read.
class Database:
    def rows(self, table: str) -> int:
        return len(table)


def rows(context: RunContext[Database], table: str) -> int:
    """Count rows."""
    reveal_type(context.deps)  # Database
    return context.deps.rows(table)


async def measure_rows(context: RunContext[Database], subtask: Subtask) -> int:
    return context.deps.rows(subtask.prompt)


async def refuse_small(context: RunContext[Database], number: int) -> None: ...


async def review(context: RunContext[Database], plan: Plan) -> Plan | None: ...


def approve(call: ToolCall) -> bool | str:
    return call.tool == "rows"


reveal_type(Planner(int, validator=refuse_small))  # Planner[int]
reveal_type(Tool.of(count, approve=approve)("word"))  # int
reveal_type(Sprint(engine).run_sync("task", review=review))  # Run[str, str]
with_deps = Sprint(engine, executor=Executor(int, tools=[rows]), deps_type=Database)
reveal_type(with_deps)  # Sprint[str, int, Database]
reveal_type(with_deps.run_sync("task", deps=Database(), seed=1).answer)  # str
reveal_type(Sprint(engine, executor=measure_rows))  # Sprint[str, int, Database]


async def main() -> None:
    sprint = Sprint(engine, policy=findings, planner=Planner(Report), executor=Executor(Finding))
    run = await sprint.run("task")
    reveal_type(run)  # Run[Report, Finding]
    reveal_type(run.answer)  # Report
    reveal_type(run.stages[0].results)  # list[Finding]
    reveal_type(run.stages[0].executions[0].value)  # Finding | None
    reveal_type((await Sprint(engine, planner=Planner(int | None)).run("task")).answer)  # int | None
    reveal_type(Sprint(engine, planner=Planner(Entry)).run_sync("task").answer["name"])  # str
    async with sprint.map(["a", "b"]) as runs:
        async for one in runs:
            reveal_type(one)  # Run[Report, Finding]


def total(run: Run[Report]) -> float:
    return sum(finding.score for finding in run.answer.findings)


if __name__ == "__main__":
    asyncio.run(main())
