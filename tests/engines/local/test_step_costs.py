"""The costs of an embedded engine's decode steps: its own, or those that it is given."""

import asyncio

import pytest

from sprint_agents import Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.nano import nano_path
from sprint_agents.step_costs import StepCosts

pytestmark = pytest.mark.local

COSTS = StepCosts(seconds={1: 2, 4: 4, 12: 6})


def solve(*, costs=None):
    async def main():
        engine = LocalEngine(nano_path(), threads=1, step_costs=costs)
        assert engine.capabilities.step_costs is costs
        async with engine:
            return engine.capabilities.step_costs, await Sprint(engine).run("countdown 3 7 25 46")

    return asyncio.run(main())


@pytest.mark.parametrize("costs", [COSTS, StepCosts(seconds={1: 1})])
def test_given_costs_decide_how_many_executions_run_at_once(costs):
    known, run = solve(costs=costs)
    assert known is costs
    assert run.stages[0].concurrency >= costs.width(chance=0.4)


def test_the_costs_of_a_small_model_on_a_cpu_are_known_once_it_is_loaded():
    costs, run = solve()
    assert costs is not None
    assert costs.width(chance=0.4) == 3
    assert run.stages[0].concurrency >= 3
