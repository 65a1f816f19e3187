import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents import Budget, Limits
from sprint_agents.budget import LEAST_SHARE, Ledger
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


def test_a_part_does_not_count_what_the_whole_refuses():
    whole = Ledger(Budget(calls=1, subtasks=1))
    part = Ledger(Budget(), whole=whole)
    for take in (part.take_call, part.take_subtask):
        take()
        with pytest.raises(BudgetExceeded):
            take()
    assert (part.calls, part.subtasks) == (whole.calls, whole.subtasks) == (1, 1)


def test_limits_come_from_the_checkpoint():
    assert Limits.of(None).stages == 12
    limits = Limits.of(Manifest(model="m", stages=4, plan_tokens=50, execution_tokens=60))
    assert (limits.stages, limits.plan_tokens, limits.execution_tokens) == (4, 50, 60)


def test_siblings_share_what_is_left_and_keep_some_for_continuations():
    async def main() -> list[int]:
        ledger = Ledger(Budget(tokens=6400))
        executions = [asyncio.create_task(asyncio.sleep(0)) for _ in range(64)]
        for execution in executions:
            ledger.follow(execution)
        granted = [await ledger.reserve_tokens(8000, least=LEAST_SHARE) for _ in executions]
        await asyncio.gather(*executions)
        await asyncio.sleep(0)
        for reserved in granted:
            ledger.settle(reserved=reserved, used=0)
        assert await ledger.reserve_tokens(6400, least=LEAST_SHARE) == 6400  # all are done, so it is alone
        return granted

    granted = asyncio.run(main())
    assert granted[0] == 100
    assert granted == sorted(granted, reverse=True)
    assert granted[-1] >= 36
    assert 6400 - sum(granted) > 6400 // 3


def test_a_completion_continues_with_as_many_tokens_as_it_has():
    async def main() -> list[int]:
        ledger = Ledger(Budget(tokens=1000))
        for _ in range(9):
            await ledger.reserve_tokens(50)
        return [await ledger.reserve_tokens(8000, least=LEAST_SHARE, written=written) for written in (0, 200, 4000)]

    assert asyncio.run(main()) == [55, 200, 295]


def test_a_plan_that_is_being_written_leaves_tokens_for_its_subtasks():
    async def main() -> list[int]:
        ledger = Ledger(Budget(tokens=900))
        ledger.begin_plan()
        planner = await ledger.reserve_tokens(8000, least=LEAST_SHARE)
        ledger.settle(reserved=planner, used=planner)
        ledger.end_plan()
        return [planner, await ledger.reserve_tokens(8000, least=LEAST_SHARE)]

    assert asyncio.run(main()) == [100, 800]


@given(
    st.integers(0, 400),
    st.lists(st.tuples(st.integers(1, 200), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=12),
    st.lists(st.floats(0, 1), max_size=2),
)
def test_continued_completions_share_every_level_of_a_budget_without_overshoot(tokens, completions, shares):
    """Each completion needs so many tokens, yields so often in a request, and books into a ledger of this depth."""

    async def complete(ledger, needed, steps, levels):
        written = 0
        while written < needed:
            try:
                granted = await ledger.reserve_tokens(needed - written, least=LEAST_SHARE, written=written)
            except BudgetExceeded:
                break
            assert granted >= 1
            assert all(level.tokens_left >= 0 for level in levels)
            for _ in range(steps):
                await asyncio.sleep(0)
            written += granted
            ledger.settle(reserved=granted, used=granted)
        return written

    async def main():
        levels = [Ledger(Budget(tokens=tokens))]
        for share in shares:
            levels.append(levels[-1].share(share))
        tasks = []
        for needed, steps, depth in completions:
            task = asyncio.create_task(complete(levels[min(depth, len(levels) - 1)], needed, steps, levels))
            levels[min(depth, len(levels) - 1)].follow(task)
            tasks.append(task)
        written = await asyncio.wait_for(asyncio.gather(*tasks), 10)
        assert levels[0].tokens == sum(written) <= tokens
        if not shares:
            assert sum(written) == min(tokens, sum(needed for needed, _, _ in completions))
        assert [level.tokens_left for level in levels] == [
            min(lower.budget.tokens - lower.tokens for lower in levels[: depth + 1]) for depth in range(len(levels))
        ]

    asyncio.run(main())


def test_calls_that_may_not_suffice_for_continuations_are_kept():
    ledger = Ledger(Budget(tokens=320, calls=10))
    assert not ledger.may_continue
    assert Ledger(Budget(tokens=320, calls=11)).may_continue
    assert not ledger.share(0.5).may_continue
    assert Ledger(Budget(tokens=320)).may_continue
