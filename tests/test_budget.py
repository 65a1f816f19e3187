import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents import Budget, Limits
from sprint_agents.budget import Ledger
from sprint_agents.errors import BudgetExceeded
from sprint_agents.manifest import Manifest


@given(
    st.integers(0, 100),
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40), st.integers(0, 3)), min_size=1, max_size=20),
)
def test_reservations_never_exceed_the_budget_and_no_request_waits_for_ever(tokens, requests):
    async def request(ledger, wanted, used, steps):
        try:
            granted = await ledger.reserve_tokens(wanted)
        except BudgetExceeded:
            return 0
        assert ledger.tokens_left >= 0
        assert 1 <= granted <= wanted
        for _ in range(steps):
            await asyncio.sleep(0)
        spent = min(used, granted)
        ledger.settle(reserved=granted, used=spent)
        return spent

    async def main():
        ledger = Ledger(Budget(tokens=tokens))
        spent = await asyncio.gather(*(request(ledger, *one) for one in requests))
        assert ledger.tokens == sum(spent) <= tokens
        assert ledger.tokens_left == tokens - sum(spent)

    asyncio.run(main())


def test_a_request_waits_for_what_its_siblings_may_return():
    async def main():
        ledger = Ledger(Budget(tokens=10))
        first = await ledger.reserve_tokens(10)
        second = asyncio.create_task(ledger.reserve_tokens(8))
        await asyncio.sleep(0)
        assert not second.done()
        ledger.settle(reserved=first, used=2)
        assert await second == 8

    asyncio.run(main())


def test_a_cancelled_waiter_blocks_no_other():
    async def main():
        ledger = Ledger(Budget(tokens=10))
        first = await ledger.reserve_tokens(10)
        waiting = [asyncio.create_task(ledger.reserve_tokens(4)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        ledger.settle(reserved=first, used=0)
        assert await waiting[1] == 4

    asyncio.run(main())


def test_calls_and_subtasks_are_counted_before_they_start():
    ledger = Ledger(Budget(calls=1, subtasks=0))
    ledger.take_call()
    with pytest.raises(BudgetExceeded, match=r"1 calls is spent: raise Budget\(calls"):
        ledger.take_call()
    with pytest.raises(BudgetExceeded, match="0 subtasks is spent"):
        ledger.take_subtask()


def test_limits_come_from_the_checkpoint():
    assert Limits.of(None).stages == 12
    limits = Limits.of(Manifest(model="m", stages=4, plan_tokens=50, execution_tokens=60))
    assert (limits.stages, limits.plan_tokens, limits.execution_tokens) == (4, 50, 60)
