"""Engines hear of the end of each run, whatever ends it."""

import asyncio

import pytest

from sprint_agents import Executor, Run, Sprint, SprintError
from sprint_agents.testing import FakeEngine, Latency, run_virtual
from sprint_agents.wrapped_engine import WrappedEngine


class Heard(FakeEngine):
    """Notes the runs of its requests, and those that it hears the end of."""

    def __init__(self, model, **options):
        super().__init__(model, **options)
        self.began: set[str] = set()
        self.ended: list[str] = []

    async def complete(self, request):
        self.began.add(request.hints.run)
        async for chunk in super().complete(request):
            yield chunk

    async def end_run(self, run: str) -> None:
        self.ended.append(run)


def test_that_succeeds(model):
    engine = Heard(model(["first", "second"]))
    run_virtual(Sprint(WrappedEngine(engine)).run("question"))
    assert {*engine.ended} == engine.began
    assert len(engine.ended) == 1


def test_that_fails_or_is_cancelled(model):
    engine = Heard(model(["first", "second"]))
    slow = Heard(model(["first"]), latency=Latency(request=10.0))

    async def main() -> None:
        with pytest.raises(SprintError):
            await Sprint(engine, policy=fails).run("question")
        running = asyncio.create_task(Sprint(slow).run("question"))
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    async def fails(planning):
        yield planning.ask()
        raise ValueError("no more")

    run_virtual(main())
    assert {*engine.ended} == engine.began
    assert {*slow.ended} == slow.began
    assert len(slow.ended) == 1


def test_on_the_executors_own_engine_and_of_a_nested_sprint(model):
    planner, executors = Heard(model(["first", "second"])), Heard(model([]))
    run_virtual(Sprint(planner, executor=Executor(str, engine=executors)).run("question"))
    assert planner.ended == executors.ended
    assert {*planner.ended} == planner.began == executors.began
    outer, inner = Heard(model(["first", "second"])), Heard(model(["third"]))
    run_virtual(Sprint(outer, executor=Sprint(inner)).run("question"))
    assert len(outer.ended) == 1
    assert sorted(inner.ended) == sorted(inner.began)
    assert len(inner.ended) == 2


@pytest.mark.parametrize("error", [OSError("gone"), asyncio.CancelledError(), SystemExit(2)])
def test_an_engine_that_fails_at_it_loses_nothing(model, error):
    class Failing(Heard):
        async def end_run(self, run: str) -> None:
            raise error

    run: Run = run_virtual(Sprint(Failing(model(["first"]))).run("question"))
    assert run.answer
