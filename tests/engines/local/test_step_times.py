"""The costs of decode steps: measured while the engine works, or given."""

import asyncio

import pytest

from sprint_agents import Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.engines.local.step_times import StepTimes
from sprint_agents.nano import nano_path
from sprint_agents.step_costs import StepCosts

pytestmark = pytest.mark.local

COSTS = StepCosts(seconds={1: 2, 4: 4, 12: 6})


def test_the_fastest_of_several_steps_counts_and_a_narrower_one_costs_no_more():
    times = StepTimes()
    for _ in range(20):
        for width, seconds in ((1, 0.002), (2, 0.009), (4, 0.004)):
            times.add(width, seconds)
    assert times.costs is None  # after 60 steps
    for width, seconds in ((1, 0.001), (1, 5.0), (7, 0.001), (7, 0.001)):
        times.add(width, seconds)
    assert times.costs == StepCosts(seconds={1: 0.001, 2: 0.004, 4: 0.004})  # too few of width 7
    before = times.costs
    for _ in range(63):
        times.add(7, 0.006)
    assert times.costs is before
    times.add(7, 0.006)
    assert times.costs == StepCosts(seconds={1: 0.001, 2: 0.001, 4: 0.001, 7: 0.001})


def test_one_width_alone_says_nothing():
    times = StepTimes()
    for _ in range(200):
        times.add(1, 0.001)
    assert times.costs is None


def test_an_engine_learns_its_costs_while_it_works():
    async def main():
        async with LocalEngine(nano_path(), threads=1) as engine:
            assert engine.capabilities.step_costs is None
            sprint = Sprint(engine)
            first = await sprint.run("countdown 3 7 25 46")
            second = await sprint.run("countdown 3 7 25 46")
            return first, second, engine.capabilities

    first, second, capabilities = asyncio.run(main())
    assert capabilities.step_costs is not None
    assert first.stages[0].concurrency is None
    assert second.stages[0].concurrency >= 1


def test_given_costs_are_not_measured():
    async def main():
        async with LocalEngine(nano_path(), threads=1, step_costs=COSTS) as engine:
            runs = [await Sprint(engine).run("countdown 3 7 25 46") for _ in range(2)]
            return runs, engine.capabilities.step_costs

    runs, costs = asyncio.run(main())
    assert costs is COSTS
    assert [run.stages[0].concurrency for run in runs] == [COSTS.width(chance=0.2)] * 2
