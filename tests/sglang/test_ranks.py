"""A server with two data-parallel ranks that forgets requests without a connection, as SGLang 0.5.18 and 0.5.19 do."""

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from sprint_agents import Run, Sprint
from sprint_agents.engines.sglang import SGLangEngine, SGLangServer

from .conftest import started
from .counters import SECONDS_TO_SETTLE, Counters
from .runs import GREEDY, assert_written_is_read_once, held_out, most_of_its_own
from .test_cancellation import cancel_some

RUNS = 6
CANCELLATIONS = 100


@pytest.fixture(scope="module")
def ranks(checkpoint: Path) -> Iterator[SGLangServer]:
    cores = f"0-{(os.cpu_count() or 1) - 1}"
    environment = {
        "PYTHONPATH": str(Path(__file__).with_name("forgetful")),
        "SGLANG_CPU_OMP_THREADS_BIND": f"{cores}|{cores}",
    }
    with started(checkpoint, "--dp-size", "2", environment=environment) as server:
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
