"""A server with pages of 16 tokens, which serves what others wait for first."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from sprint_agents import Run, Sprint
from sprint_agents.context import Context
from sprint_agents.engine import Chunk, Hints, Request, Sampling
from sprint_agents.engines.sglang import SGLangEngine, SGLangServer

from .conftest import started
from .counters import Counters
from .runs import GREEDY, assert_written_is_read_once, held_out, most_of_its_own

PAGE = 16
AT_ONCE = 8
RUNS = 4


@pytest.fixture(scope="module")
def paged(checkpoint: Path) -> Iterator[SGLangServer]:
    settings = ("--page-size", str(PAGE), "--max-running-requests", str(AT_ONCE), "--enable-priority-scheduling")
    with started(checkpoint, *settings) as server:
        yield server


def test_an_executor_reads_whole_pages_for_the_others(paged: SGLangServer, checkpoint: Path) -> None:
    async def main() -> None:
        async with Counters(paged.url) as counters, SGLangEngine(paged.url, tokenizer=checkpoint) as engine:
            assert engine.capabilities.page_tokens == PAGE
            await counters.forget()
            before = await counters.load()
            async with Sprint(engine, sampling=GREEDY, settles=False).map(
                held_out(RUNS, seed=9), concurrency=RUNS
            ) as finished:
                runs: list[Run] = [run async for run in finished]
            await counters.idle()
            after = await counters.load()
            assert [run.error for run in runs if run.error] == []
            # Each executor computes its own tokens, and the page in which they begin once more.
            assert_written_is_read_once(runs, most=await most_of_its_own(engine) + PAGE)
            computed = after.computed_prompt_tokens - before.computed_prompt_tokens
            assert computed == sum(run.usage.recomputed_tokens for run in runs)

    asyncio.run(main())


def test_what_others_wait_for_is_served_first(paged: SGLangServer, checkpoint: Path) -> None:
    async def main() -> None:
        async with (
            Counters(paged.url) as counters,
            SGLangEngine(paged.url, tokenizer=checkpoint, extra={"sampling_params": {"ignore_eos": True}}) as engine,
            AsyncExitStack() as stack,
        ):

            async def ask(name: str, *, critical: bool = True) -> AsyncGenerator[Chunk]:
                context = Context().extend(await engine.encode("48+24="), "48+24=")
                hints = Hints(run="run", critical=critical)
                request = Request(id=name, context=context, max_tokens=4000, sampling=Sampling(), hints=hints)
                stream = await stack.enter_async_context(aclosing(engine.complete(request)))
                await anext(stream)
                return stream

            await counters.idle()
            first, *_ = [await ask(f"running-{number}") for number in range(AT_ONCE)]
            async with asyncio.TaskGroup() as group:
                last = group.create_task(ask("last-----", critical=False))
                await until_there_are(AT_ONCE + 1, counters)
                next_one = group.create_task(ask("next-----"))
                await until_there_are(AT_ONCE + 2, counters)
                await first.aclose()
                stream = await next_one
                assert not last.done()
                await stream.aclose()
                await (await last).aclose()
        async with Counters(paged.url) as counters:
            await counters.idle()

    asyncio.run(main())


async def until_there_are(requests: int, counters: Counters) -> None:
    async with asyncio.timeout(60):
        while (await counters.load()).requests < requests:
            pass
