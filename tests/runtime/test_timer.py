"""One timer for all calls of a run does what a timeout for each call would do."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sprint_agents.runtime.timer import CallTimer, TimedCall
from sprint_agents.testing import run_virtual


class TooLong(Exception):
    pass


async def call(timer: CallTimer, seconds: float) -> float:
    """Run for ``seconds`` under the timer; return the time at which it ended."""
    timed = TimedCall()
    timer.start(timed)
    kind: type[BaseException] | None = None
    try:
        await asyncio.sleep(seconds)
    except BaseException as error:
        kind = type(error)
        raise
    finally:
        if timer.stop(timed, kind):
            raise TooLong
    return asyncio.get_running_loop().time()


@given(calls=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), max_size=12))
def test_each_call_ends_when_a_timeout_of_its_own_would_end_it(calls: list[tuple[int, int]]) -> None:
    async def begin(timer: CallTimer, start: int, seconds: int) -> float:
        await asyncio.sleep(start)
        try:
            return await call(timer, seconds)
        except TooLong:
            return asyncio.get_running_loop().time()

    async def main() -> list[float]:
        timer = CallTimer(7.5)
        return await asyncio.gather(*(begin(timer, start, seconds) for start, seconds in calls))

    assert run_virtual(main()) == [start + min(seconds, 7.5) for start, seconds in calls]


def test_no_timer_is_left_when_no_call_is_under_way():
    async def main() -> None:
        timer = CallTimer(60)
        await asyncio.gather(call(timer, 1), call(timer, 2))
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="virtual time stands still at 2 s"):
        run_virtual(main())


def test_a_task_that_others_cancel_at_the_same_time_stays_cancelled():
    async def main() -> None:
        task = asyncio.create_task(call(CallTimer(5), 60))
        await asyncio.sleep(5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    run_virtual(main())


def test_a_call_that_waits_has_more_time():
    async def main() -> tuple[float, float]:
        timer, times = CallTimer(10), []
        for seconds in (3, 9):
            timed = TimedCall()
            timer.start(timed)
            await asyncio.sleep(4)
            timer.pause(timed)
            await asyncio.sleep(100)
            timer.resume(timed)
            kind = None
            start = asyncio.get_running_loop().time()
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError as error:
                kind = type(error)
            assert timer.stop(timed, kind) == (seconds == 9)
            times.append(asyncio.get_running_loop().time() - start)
        return times[0], times[1]

    assert run_virtual(main()) == (3, 6)
