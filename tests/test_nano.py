"""The whole system with the shipped model, the embedded engine and held-out problems, whose answers are checked."""

import asyncio
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprint_agents import Sampling, Sprint, Trajectory
from sprint_agents.engines import LocalEngine
from sprint_agents.events import PlannerWrote, SubtaskStarted
from sprint_agents.nano import nano_path
from sprint_finetune.nano import arithmetic, multiplication
from sprint_finetune.nano.countdown import problems

pytestmark = pytest.mark.local

TWIN = Path(__file__).parents[1] / "finetune" / "models" / "sprint-nano-rft"


@pytest.fixture(scope="module")
def engine():
    engine = LocalEngine(nano_path(), threads=1)
    yield engine
    asyncio.run(engine.aclose())


def held_out(count, *, numbers, seed=11):
    drawn = itertools.islice(problems(seed=seed, split="held_out", counts=(numbers,)), count)
    return [task.prompt for task, _ in drawn]


def worked_out(family, count):
    return [work.task.prompt for work in itertools.islice(family.problems(seed=11, split="held_out"), count)]


def solve(engine, tasks, **options):
    async def main():
        async with Sprint(engine, **options).map(tasks, concurrency=4) as runs:
            return [run async for run in runs]

    return asyncio.run(main())


def test_it_solves_held_out_problems(engine):
    """A smoke test, greedy, so that it ends the same each time; ``sprint-finetune evaluate`` measures the accuracy."""
    for tasks in (
        held_out(4, numbers=3),
        held_out(4, numbers=4),
        worked_out(multiplication, 4),
        worked_out(arithmetic, 4),
    ):
        runs = solve(engine, tasks, sampling=Sampling(temperature=0))
        assert all(run.error is None for run in runs)
        assert sum(run.verified is True for run in runs) >= 3


def test_a_run_plans_forks_and_joins_on_one_cache(engine):
    (task,) = held_out(1, numbers=4)
    (run,) = solve(engine, [task])
    first = run.stages[0]
    assert len(first.executions) > 4
    assert run.usage.sequential_tokens_strict < run.usage.total_tokens
    # An executor computes its header and the last token before it, nothing of what the planner read and wrote.
    header = len(asyncio.run(engine.encode("\n<execution_1.1>\n")))
    for stage in run.stages:
        for execution in stage.executions:
            assert execution.usage.prompt_tokens - execution.usage.cached_tokens <= header + 1
    trajectory = Trajectory.from_text(run.transcript)
    assert [len(stage.subtasks) for stage in trajectory.stages] == [
        len(stage.executions) for stage in run.stages if stage.executions
    ]


def test_the_sequential_policy_runs_on_the_same_weights(engine):
    runs = solve(engine, held_out(4, numbers=3), policy="sequential")
    assert any(run.verified for run in runs)
    assert all(run.usage.width == 0 for run in runs)


def test_the_twin_thinks_in_one_chain():
    async def main():
        async with (
            LocalEngine(TWIN, threads=1) as engine,
            Sprint(engine, policy="sequential").map(worked_out(multiplication, 4), concurrency=4) as runs,
        ):
            return [run async for run in runs]

    runs = asyncio.run(main())
    assert sum(run.verified is True for run in runs) >= 2
    assert all(run.usage.width == 0 for run in runs)


def test_executors_start_while_the_planner_still_writes(engine):
    (task,) = held_out(1, numbers=4)

    async def main():
        async with Sprint(engine).stream(task) as events:
            return [event async for event in events]

    events = asyncio.run(main())
    started = next(index for index, event in enumerate(events) if isinstance(event, SubtaskStarted))
    assert any(isinstance(event, PlannerWrote) and event.stage == 1 for event in events[started:])


@settings(max_examples=12)
@given(at=st.integers(0, 400), numbers=st.sampled_from([3, 4]))
def test_cancelling_at_any_event_leaves_nothing_running(engine, at, numbers):
    (task,) = held_out(1, numbers=numbers)

    async def main():
        async with Sprint(engine).stream(task) as events:
            count = 0
            async for _ in events:
                count += 1
                if count > at:
                    break
        account = engine.statistics()
        assert account.running == account.waiting == account.pinned_tokens == 0
        assert account.started == account.finished + account.aborted + account.failed

    asyncio.run(main())
