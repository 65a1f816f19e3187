"""Every built-in policy on the embedded engine with the shipped model: it ends, and leaves nothing running."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprint_agents import Budget, Limits, Sampling, Sprint
from sprint_agents.engines import LocalEngine
from sprint_agents.errors import SprintError
from sprint_agents.nano import nano_path
from sprint_agents.policies import BUILT_IN, first_success, interleaved, race, self_consistency, sequential

pytestmark = pytest.mark.local

TASK = "countdown 3 7 25 46"

POLICIES = {
    **BUILT_IN,
    "first_success": first_success(interleaved, lambda execution: "answer" in execution.text),
    "race": race(interleaved, sequential),
}


@pytest.fixture(scope="module")
def engine():
    engine = LocalEngine(nano_path(), threads=1)
    yield engine
    asyncio.run(engine.aclose())


def sprint(engine, policy, **options):
    """Make it small: the policies are under test, not the model."""
    limits = Limits(stages=3, plan_tokens=80, execution_tokens=30, chain_tokens=50, answer_tokens=10)
    return Sprint(engine, policy=policy, limits=limits, budget=Budget(tokens=1500), **options)


async def outcome(sprint):
    """The run, finished or not: a small model with few tokens may well come to nothing."""
    async with sprint.map([TASK]) as runs:
        return await anext(aiter(runs))


def check_idle(engine):
    account = engine.statistics()
    assert account.running == account.waiting == account.pinned_tokens == 0
    assert account.started == account.finished + account.aborted + account.failed


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_comes_to_an_end_on_a_real_engine(engine, name):
    before = engine.statistics()
    run = asyncio.run(outcome(sprint(engine, POLICIES[name])))
    account = engine.statistics()
    started = account.started - before.started
    generated = account.generated_tokens - before.generated_tokens
    if account.aborted == before.aborted:
        assert run.usage.calls == started > 0
    else:  # a request that was not sent yet when its reader left
        assert run.usage.calls >= started > 0
    assert run.usage.total_tokens == generated
    assert sum(stage.usage.total.generated_tokens for stage in run.stages) <= run.usage.total_tokens
    check_idle(engine)


def test_attempts_with_a_seed_differ_and_come_back(engine):
    def texts():
        sampling = Sampling(temperature=2.5, seed=3)
        run = asyncio.run(sprint(engine, self_consistency(4), sampling=sampling).run(TASK))
        return [execution.text for execution in run.stages[0].executions]

    first = texts()
    assert len(set(first)) > 1
    assert texts() == first


@settings(max_examples=15)
@given(name=st.sampled_from(sorted(POLICIES)), at=st.integers(0, 60))
def test_leaving_at_any_event_leaves_nothing_running(engine, name, at):
    async def main():
        try:
            async with sprint(engine, POLICIES[name]).stream(TASK) as events:
                count = 0
                async for _ in events:
                    count += 1
                    if count > at:
                        break
        except SprintError:
            pass
        check_idle(engine)

    asyncio.run(main())
