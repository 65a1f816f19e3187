"""Deps and the other options of one run: what functions read, and what is refused."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from sprint_agents import Answer, Budget, Executor, Limits, Plan, RunContext, Sampling, Sprint, Subtask, Tool
from sprint_agents.errors import BudgetExceeded, ConfigurationError
from sprint_agents.run_context import takes_context
from sprint_agents.testing import FakeEngine

PLAN = '{"subtasks": [{"prompt": "count the doors"}]}'
CALL = '{"call": [{"tool": "count", "arguments": {"table": "doors"}}]}'


class Database:
    def __init__(self, **tables: int) -> None:
        self.tables = tables


def count(context: RunContext[Database], table: str) -> int:
    """Count rows."""
    return context.deps.tables[table]


async def count_later(context: "RunContext[Database | None]", table: str) -> int:
    """Count rows."""
    assert context.deps is not None
    return context.deps.tables[table]


def counting(tool: Callable[..., Any] = count, **options: Any) -> Sprint[Any, Any, Database]:
    engine = FakeEngine([PLAN, CALL, '{"result": "ok"}', '{"answer": "ok"}'])
    return Sprint(engine, executor=Executor(str, tools=[tool]), dialect="json", **options)


async def one_subtask(planning):
    stage = yield Plan.of("one", accept=accepts)
    yield Answer(value=str(stage.results))


def accepts(context: RunContext[Any], execution: Any) -> bool:
    return context.stage == 1 and context.number == execution.number


class TestDeps:
    @pytest.mark.parametrize("tool", [count, count_later])
    def test_a_tool_reads_them_and_the_model_does_not(self, tool: Callable[..., Any]) -> None:
        sprint = counting(Tool.of(tool, name="count"))
        run = sprint.run_sync("Count.", deps=Database(doors=3))
        (use,) = run.stages[0].executions[0].tool_uses
        assert (use.text, use.failed) == ("3", False)
        assert "context" not in sprint.executor.tools["count"].schema

    def test_every_function_of_a_run_gets_the_context(self) -> None:
        seen: list[RunContext[str]] = []

        def work(context: RunContext[str], subtask: Subtask) -> str:
            seen.append(context)
            return subtask.prompt

        async def check(context: RunContext[str], answer: str) -> bool:
            seen.append(context)
            return True

        sprint = Sprint(FakeEngine(""), policy=one_subtask, executor=work, checker=check)
        run = sprint.run_sync("task", deps="db", metadata={"user": 7})
        assert run.verified
        assert run.metadata == {"user": 7}
        assert [(one.deps, one.run_id, one.task, one.metadata) for one in seen] == [
            ("db", run.id, "task", {"user": 7})
        ] * 2
        assert [(one.stage, one.number) for one in seen] == [(1, 1), (None, None)]

    def test_inner_sprints_and_each_run_of_a_map_have_them(self) -> None:
        def work(context: RunContext[str], subtask: Subtask) -> str:
            return f"{context.deps}: {context.task}"

        inner = Sprint(FakeEngine(""), policy=one_subtask, executor=work)
        outer = Sprint(FakeEngine(""), policy=one_subtask, executor=inner)

        async def main() -> None:
            async with outer.map(["a", "b"], deps="db", metadata={"batch": 1}) as runs:
                found = [run async for run in runs]
            assert [run.answer for run in found] == ["[\"['db: one']\"]"] * 2
            assert [run.metadata for run in found] == [{"batch": 1}] * 2

        asyncio.run(main())
        with pytest.raises(ConfigurationError, match="deps= is 3: pass a str, which executor= reads"):
            outer.run_sync("task", deps=3)

    @pytest.mark.parametrize(
        ("deps", "message"),
        [
            ({}, "deps= is None: pass a Database, which tool 'count' reads as RunContext.deps"),
            ({"deps": "file.db"}, "deps= is of type str: pass a Database, which tool 'count' reads"),
        ],
    )
    def test_missing_or_wrong_ones_are_refused_before_the_run(self, deps: dict[str, Any], message: str) -> None:
        sprint = counting()
        with pytest.raises(ConfigurationError, match=message):
            sprint.run_sync("Count.", **deps)
        assert isinstance(sprint.engine, FakeEngine)
        assert sprint.engine.requests == ()

    def test_deps_type_declares_them(self) -> None:
        with pytest.raises(ConfigurationError, match="deps= is 3: pass a Database, which deps_type= reads"):
            Sprint(FakeEngine(""), deps_type=Database).run_sync("task", deps=3)


class Method:
    def bound(self, context: RunContext[int], number: int) -> int:
        return context.deps + number

    def __call__(self, context: RunContext, number: int) -> int:
        return number


@pytest.mark.parametrize(
    ("function", "takes"),
    [
        (count, True),
        (count_later, True),
        (Method().bound, True),
        (Method(), True),
        (partial(count), True),
        (partial(count, RunContext(deps=Database())), False),
        (lambda context: context, False),
        (len, False),
        (str, False),
    ],
)
def test_the_annotation_of_the_first_parameter_decides(function: Callable[..., Any], takes: bool) -> None:
    assert takes_context(function) is takes


class TestOptions:
    def test_they_replace_those_of_the_sprint_for_one_run(self) -> None:
        engine = FakeEngine('{"answer": "ok"}')
        executor = Executor(str, sampling=Sampling(temperature=0.5))
        sprint = Sprint(engine, executor=executor, dialect="json", budget=Budget(calls=5))
        with pytest.raises(BudgetExceeded):
            sprint.run_sync("task", budget=Budget(calls=0))
        sprint.run_sync("task", sampling=Sampling(temperature=0.25), seed=7, limits=Limits(plan_tokens=99))
        sprint.run_sync("task")
        first, second = engine.requests
        assert (first.request.sampling.temperature, first.request.sampling.seed) == (0.25, 7)
        assert first.request.max_tokens == 99
        assert second.request.sampling.seed is None

    def test_a_seed_is_also_that_of_agents_with_their_own_sampling(self) -> None:
        engine = FakeEngine([PLAN, '{"result": "ok"}', '{"answer": "ok"}'])
        executor = Executor(str, sampling=Sampling(temperature=0.5))
        Sprint(engine, executor=executor, dialect="json").run_sync("task", seed=7)
        settings = [one.request.sampling for one in engine.requests]
        assert [(one.temperature, one.seed) for one in settings][1] == (0.5, 7)
        assert executor.sampling == Sampling(temperature=0.5)

    @pytest.mark.parametrize(
        ("option", "error", "message"),
        [
            ({"bugdet": Budget()}, TypeError, "a run has no option 'bugdet': it has deps, budget"),
            ({"budget": 3}, ConfigurationError, "budget= is 3: pass a Budget or None"),
            ({"metadata": {"at": object()}}, ConfigurationError, "metadata= is not JSON"),
        ],
    )
    def test_wrong_ones_are_refused(self, option: dict[str, Any], error: type[Exception], message: str) -> None:
        sprint = Sprint(FakeEngine(""))
        for start in (sprint.run_sync, sprint.stream, lambda task, **given: sprint.map([task], **given)):
            with pytest.raises(error, match=message):
                start("task", **option)
