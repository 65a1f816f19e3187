"""The costs of decode steps that an embedded engine is given."""

import asyncio

import pytest

from sprint_agents import Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.nano import nano_path
from sprint_agents.step_costs import StepCosts

pytestmark = pytest.mark.local

COSTS = StepCosts(seconds={1: 2, 4: 4, 12: 6})


@pytest.mark.parametrize(("costs", "concurrency"), [(COSTS, COSTS.width(chance=0.2)), (None, None)])
def test_given_costs_bound_the_executions_of_a_stage_that_may_end_early(costs, concurrency):
    async def main():
        async with LocalEngine(nano_path(), threads=1, step_costs=costs) as engine:
            assert engine.capabilities.step_costs is costs
            return await Sprint(engine).run("countdown 3 7 25 46")

    run = asyncio.run(main())
    assert run.stages[0].concurrency == concurrency
