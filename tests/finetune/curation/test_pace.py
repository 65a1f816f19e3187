"""No minute has more requests or tokens than the limits allow."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprint_agents.errors import ConfigurationError
from sprint_agents.testing import VirtualTimeLoop
from sprint_finetune.curation import Pace


def run(work: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)


@settings(max_examples=50)
@given(
    requests=st.none() | st.integers(1, 5),
    tokens=st.none() | st.integers(50, 200),
    asked=st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50)), max_size=20),
)
def test_no_minute_has_too_much(requests: int | None, tokens: int | None, asked: list[tuple[float, int]]) -> None:
    async def main() -> list[tuple[float, int]]:
        pace, sent = Pace(requests=requests, tokens=tokens), list[tuple[float, int]]()

        async def send(size: int) -> None:
            passage = await pace.enter(tokens=size)
            sent.append((passage.at, size))

        async with asyncio.TaskGroup() as group:
            for wait, size in asked:
                group.create_task(send(size))
                await asyncio.sleep(wait)
        return sent

    sent = run(main())
    assert [size for _, size in sent] == [size for _, size in asked]  # in order
    for at, _ in sent:
        minute = [size for other, size in sent if at - 60 + 1e-6 < other <= at]
        assert requests is None or len(minute) <= requests
        assert tokens is None or sum(minute) <= tokens


def test_a_short_answer_lets_the_next_one_through_and_a_pause_holds_all() -> None:
    async def main() -> list[float]:
        pace, clock = Pace(tokens=100), asyncio.get_running_loop().time
        times = [clock()]
        passage = await pace.enter(tokens=90)
        waiting = asyncio.ensure_future(pace.enter(tokens=80))
        await asyncio.sleep(5)
        pace.correct(passage, tokens=20)
        times.append((await waiting).at)
        pace.pause(120)
        times.append((await pace.enter(tokens=1)).at)
        times.append((await pace.enter(tokens=1_000)).at)  # more than the limit: alone in its minute
        return [time - times[0] for time in times[1:]]

    assert run(main()) == [5.0, 125.0, 185.0]


def test_a_limit_is_at_least_one() -> None:
    with pytest.raises(ConfigurationError, match="requests"):
        Pace(requests=0)
