"""Hooks around requests, executions and stages: what they see, and what happens if one fails."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from sprint_agents import Answer, Budget, Hooks, Plan, RunContext, Sprint
from sprint_agents.errors import ConfigurationError, DeadlineExceeded, ExecutionFailed, FunctionError
from sprint_agents.hooks import PendingRequest
from sprint_agents.plan import Ask, Execution, Stage, Step, Subtask
from sprint_agents.policies import Planning, Policy
from sprint_agents.testing import FakeEngine, run_virtual
from sprint_agents.usage import EngineCall

Model = Callable[..., Any]
NAMES = ("before_request", "after_request", "before_execution", "after_execution", "before_stage", "after_stage")


def failing(name: str, *, when: Callable[[RunContext[Any]], bool] = lambda context: True) -> Hooks:
    def hook(context: RunContext[Any], value: object) -> None:
        if when(context):
            raise ValueError("the log is full")

    return Hooks(**{name: hook})


def test_they_are_awaited_in_order_with_what_they_are_about(model: Model) -> None:
    seen: list[tuple[str, int | None, int | None, type]] = []

    def make(name: str) -> Callable[..., Any]:
        async def hook(context: RunContext[str], value: object) -> None:
            await asyncio.sleep(0)
            assert context.deps == "db"
            seen.append((name, context.stage, context.number, type(value)))

        return hook

    hooks = Hooks(**{name: make(name) for name in NAMES})
    run = Sprint(FakeEngine(model(["one"])), hooks=hooks).run_sync("task", deps="db")
    assert [(name, stage) for name, stage, number, _ in seen if number is None] == [
        (name, stage) for stage in (1, 2) for name in ("before_stage", "before_request", "after_request", "after_stage")
    ]
    assert [name for name, _, number, _ in seen if number == 1] == [
        "before_execution",
        "before_request",
        "after_request",
        "after_execution",
    ]
    kinds = {name: kind for name, _, _, kind in seen}
    assert kinds["before_request"] is PendingRequest
    assert kinds["after_request"] is EngineCall
    assert (kinds["before_execution"], kinds["before_stage"]) == (Subtask, Ask)
    assert issubclass(kinds["after_execution"], Execution)
    assert issubclass(kinds["after_stage"], Stage)
    assert run.stages[0].diagnostics == ()


@pytest.mark.parametrize("name", ["before_stage", "before_request"])
def test_one_that_fails_before_what_the_planner_does_ends_the_run(model: Model, name: str) -> None:
    engine = FakeEngine(model(["one"]))
    hooks = failing(name, when=lambda context: context.stage == 2)
    with pytest.raises(FunctionError, match=f"the hook {name} failed, ValueError: the log is full") as failed:
        Sprint(engine, hooks=hooks).run_sync("task")
    assert failed.value.run is not None
    assert failed.value.run.stages[0].executions[0].succeeded
    assert (engine.account().running, len(engine.requests)) == (0, 2)


@pytest.mark.parametrize("name", ["before_execution", "before_request"])
def test_one_that_fails_before_what_an_executor_does_fails_the_execution(model: Model, name: str) -> None:
    hooks = failing(name, when=lambda context: context.number == 2)
    run = Sprint(FakeEngine(model(["one", "two"])), hooks=hooks).run_sync("task")
    first, second = run.stages[0].executions
    assert first.succeeded
    assert second.failure is not None
    assert (second.failure.type, second.failure.message) == (
        "FunctionError",
        f"the hook {name} failed, ValueError: the log is full",
    )
    with pytest.raises(ExecutionFailed, match=r"subtask 1\.2 failed"):
        Sprint(FakeEngine(model(["one", "two"])), hooks=hooks, failure="fail_fast").run_sync("task")


@pytest.mark.parametrize("name", ["after_request", "after_execution", "after_stage"])
def test_one_that_fails_afterwards_is_a_diagnostic(model: Model, name: str) -> None:
    run = Sprint(FakeEngine(model(["one", "two"])), hooks=failing(name)).run_sync("task")
    assert run.answer == "done"
    assert [execution.succeeded for execution in run.stages[0].executions] == [True, True]
    faults = [fault for fault in run.stages[0].diagnostics if fault.kind == "hook_failed"]
    assert {fault.message for fault in faults} == {f"the hook {name} failed, ValueError: the log is full"}
    assert {fault.number for fault in faults} == {
        "after_request": {None, 1, 2},
        "after_execution": {1, 2},
        "after_stage": {None},
    }[name]


def test_one_that_hangs_ends_with_its_time(model: Model) -> None:
    async def hook(subtask: Subtask) -> None:
        if subtask.number == 1:
            await asyncio.Event().wait()

    async def main() -> None:
        run = await Sprint(FakeEngine(model(["one", "two"])), hooks=Hooks(before_execution=hook)).run("task")
        first, second = run.stages[0].executions
        assert first.failure is not None
        assert "the hook before_execution failed, FunctionError: it took longer than 600 s" in first.failure.message
        assert second.succeeded
        assert len(asyncio.all_tasks()) == 1

    run_virtual(main())


async def waits(planning: Planning) -> AsyncGenerator[Step, Stage[str]]:
    yield Plan.of("a", "b")
    yield Answer(value="done")


async def joins(planning: Planning) -> AsyncGenerator[Step, Stage[str]]:
    yield Plan.of("a", "b", wait=False)
    yield planning.join()
    yield Answer(value="done")


async def gives_up(planning: Planning) -> AsyncGenerator[Step, Stage[str]]:
    yield Plan.of("a", "b", wait=False)
    await asyncio.sleep(1)
    yield Answer(value="done")


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        (waits, "after_execution"),
        (joins, "after_execution"),
        (waits, "after_stage"),
        (joins, "after_stage"),
        (gives_up, "after_stage"),
    ],
)
def test_what_has_finished_is_kept_if_the_run_ends_while_one_looks_at_it(
    policy: Policy, name: str, tmp_path: Path
) -> None:
    calls: list[str] = []

    async def hook(value: object) -> None:
        await asyncio.Event().wait()

    async def execute(subtask: Subtask) -> str:
        calls.append(subtask.prompt)
        return subtask.prompt

    def make(hooks: Hooks | None) -> Sprint[Any, Any]:
        return Sprint(FakeEngine("unused"), policy=policy, executor=execute, hooks=hooks, budget=Budget(seconds=5))

    with pytest.raises(DeadlineExceeded) as ended:
        run_virtual(make(Hooks(**{name: hook})).run("task", journal=tmp_path / "journal"))
    assert ended.value.run is not None
    assert ended.value.run.stages[0].results == ["a", "b"]
    resumed = run_virtual(make(None).run("task", journal=tmp_path / "journal"))
    assert resumed.stages[0].results == ["a", "b"]
    assert sorted(calls) == ["a", "b"]


def test_a_resumed_run_calls_none_for_what_it_replays(model: Model, tmp_path: Path) -> None:
    seen: list[str] = []
    hooks = Hooks(after_stage=lambda stage: seen.append("stage"), after_execution=lambda one: seen.append("execution"))
    sprint = Sprint(FakeEngine(model(["one"])), hooks=hooks)
    sprint.run_sync("task", journal=tmp_path / "journal")
    assert seen == ["execution", "stage", "stage"]
    sprint.run_sync("task", journal=tmp_path / "journal")
    assert len(seen) == 3


def test_wrong_ones_are_refused(model: Model) -> None:
    with pytest.raises(ConfigurationError, match="before_stage= of Hooks is 3: pass a function or None"):
        Hooks(before_stage=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="deps= is None: pass an int, which the hook after_stage reads"):
        Sprint(FakeEngine(""), hooks=Hooks(after_stage=wants_a_number)).run_sync("task")


def wants_a_number(context: RunContext[int], stage: Stage[Any]) -> None: ...
