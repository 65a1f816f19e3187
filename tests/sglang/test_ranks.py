"""A server with two data-parallel ranks, where runs are sessions.

It forgets requests without a connection, as SGLang 0.5.18 and 0.5.19 do.
"""

import asyncio
import itertools
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sprint_agents import Answer, Limits, Plan, Planning, Run, Sprint, Stage, State, Step
from sprint_agents.engines.sglang import SGLangEngine, SGLangServer
from sprint_agents.errors import PolicyError

from .conftest import START_TIMEOUT, started
from .counters import SECONDS_TO_SETTLE, Counters
from .runs import GREEDY, assert_written_is_read_once, computed, held_out, most_of_its_own
from .test_cache import context, finish
from .test_cancellation import cancel_some

RUNS = 6
CANCELLATIONS = 100
CACHE = 16384
TEXT = "48+24=72\n" * 300
ONE_RANK = {"routed_dp_rank": 1}
"""The second one, so that sessions have to be closed there as well."""
_numbers = itertools.count(1000)


@pytest.fixture(scope="module")
def ranks(checkpoint: Path) -> Iterator[SGLangServer]:
    cores = f"0-{(os.cpu_count() or 1) - 1}"
    environment = {
        "PYTHONPATH": str(Path(__file__).with_name("forgetful")),
        "SGLANG_CPU_OMP_THREADS_BIND": f"{cores}|{cores}",
    }
    settings = ("--dp-size", "2", "--enable-session-radix-cache", "--max-total-tokens", str(CACHE))
    with started(checkpoint, *settings, environment=environment) as server:
        yield server


def test_a_run_stays_where_its_prefix_is(ranks: SGLangServer, checkpoint: Path) -> None:
    async def main() -> None:
        async with Counters(ranks.url) as counters, SGLangEngine(ranks.url, tokenizer=checkpoint) as engine:
            await counters.forget()
            before = await counters.ranks()
            async with Sprint(engine, sampling=GREEDY, settles=False).map(
                held_out(RUNS, seed=6), concurrency=RUNS
            ) as finished:
                runs: list[Run] = [run async for run in finished]
            await counters.idle()
            after = await counters.ranks()
            assert [run.error for run in runs if run.error] == []
            # On the other rank an executor would have to compute all that it shares with the planner.
            assert_written_is_read_once(runs, most=await most_of_its_own(engine))
            work = [b.computed_prompt_tokens - a.computed_prompt_tokens for a, b in zip(before, after, strict=True)]
            assert sum(work) == sum(run.usage.recomputed_tokens for run in runs)
            assert min(work) > 0  # both had some

    asyncio.run(main())


def test_cancelled_requests_end(ranks: SGLangServer, checkpoint: Path) -> None:
    dice = random.Random(1)

    async def main() -> None:
        async with Counters(ranks.url) as counters, SGLangEngine(ranks.url, tokenizer=checkpoint) as engine:
            done = 0
            while done < CANCELLATIONS:
                done += await cancel_some(engine, dice, most=CANCELLATIONS - done)
                await counters.idle(within=SECONDS_TO_SETTLE)

    asyncio.run(main())


async def fill(engine: SGLangEngine) -> None:
    """Use the whole cache of a rank for contexts that no run refers to."""
    used = 0
    while used < CACHE:
        _, end = await finish(engine, await context(engine, next(_numbers), tokens=3000), max_tokens=0)
        used += end.prompt_tokens


async def solve(engine: SGLangEngine, task: str, between: Callable[[], Awaitable[object]]) -> list[int]:
    """Run two stages over ``TEXT``, with something between them; return what the executor of each computed."""

    async def policy(planning: Planning) -> AsyncGenerator[Step, Stage[Any]]:
        yield Plan.of("48+24", text=TEXT)
        await between()
        yield Plan.of("24+12")
        yield Answer(value="done")

    run = await Sprint(engine, policy=policy, sampling=GREEDY, limits=Limits(execution_tokens=4)).run(task)
    return [tokens for stage in run.stages for tokens in computed(stage)]


async def nothing() -> None:
    pass


async def fail() -> None:
    raise ValueError("no second stage")


def test_a_run_keeps_its_tokens_until_it_ends(ranks: SGLangServer, checkpoint: Path) -> None:
    """A run that waits, while others fill the cache, finds its tokens there, and one that has ended does not."""
    waits, ends, fails, is_cancelled = (f"Use 48, 24, 12, 2 to make {goal}." for goal in range(37, 41))

    async def main() -> None:
        begun, filled = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            begun.set()
            await filled.wait()

        async with (
            Counters(ranks.url) as counters,
            SGLangEngine(ranks.url, tokenizer=checkpoint, extra=ONE_RANK) as engine,
            asyncio.TaskGroup() as tasks,
        ):
            await counters.forget()
            waiting = tasks.create_task(solve(engine, waits, wait))
            await begun.wait()
            begun.clear()
            await solve(engine, ends, nothing)
            with pytest.raises(PolicyError):
                await solve(engine, fails, fail)
            left = tasks.create_task(solve(engine, is_cancelled, wait))
            await begun.wait()
            left.cancel()
            await asyncio.wait([left])
            await fill(engine)
            filled.set()
            first, second = await waiting
            assert first > len(TEXT) / 2
            assert second < first / 20
            for task in (ends, fails, is_cancelled):
                again, _ = await solve(engine, task, nothing)
                assert again > first / 2
            await counters.idle()

    asyncio.run(main())


def test_the_session_of_a_client_that_died_is_closed_in_time(ranks: SGLangServer, checkpoint: Path) -> None:
    async def main() -> None:
        async with (
            Counters(ranks.url) as counters,
            SGLangEngine(ranks.url, tokenizer=checkpoint, extra=ONE_RANK, session_timeout=0.1) as engine,
        ):
            await counters.forget()
            never_ended = State(engine)
            await never_ended.append(TEXT)
            await never_ended.generate(max_tokens=1)
            cached = len(never_ended.context)
            async with asyncio.timeout(START_TIMEOUT):
                while cached > len(never_ended.context) / 2:
                    await fill(engine)
                    _, end = await finish(engine, never_ended.context, max_tokens=0)
                    cached = end.cached_tokens
            await counters.idle()

    asyncio.run(main())
